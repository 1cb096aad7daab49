"""TASKS.yaml: what it makes, and every mistake in one message."""

from pathlib import Path

import pytest

from masklater.errors import FaultsError, UserError
from masklater.judge.own_task import TWO, TaskFile
from masklater.judge.task_file import find_tasks, read_task_file
from masklater.judge.tasks import TASKS
from tests.judge.folders import write

WHOLE = """
topics:
  kind: classification
  files: {train: a.csv, dev: b.csv}
  columns: {text: headline, label: topic}
  labels: [sport, 7]
  metrics: [f1, accuracy]
  rows: {train: 9, dev: 4}
likeness: {kind: regression, files: {train: [a.csv, b.csv], dev: b.csv}, columns: {first: a, second: b, label: c}, range: [1, 5]}
nli: {kind: pair, files: {train: a.csv, dev: b.csv}, columns: {first: a, second: b, label: c}}
ner: {kind: token, files: {train: a.conll, dev: {en: b.conllu, hi: a.conll}}, metrics: [entity_f1], rows: {en: 3}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.csv", "b.csv", "a.conll", "b.conllu"):
        write(tmp_path / name, "")
    return tmp_path


def test_a_file_of_every_kind(folder: Path) -> None:
    (folder / "tasks.yaml").write_text(WHOLE)
    topics, likeness, nli, ner = read_task_file(folder / "tasks.yaml")
    assert (topics.kind, topics.labels, topics.metrics) == ("classification", ("sport", "7"), ("f1", "accuracy"))
    columns = {"text": "headline", "label": "topic"}
    assert topics.train == (TaskFile(folder / "a.csv", columns),)
    assert topics.dev == {"dev": TaskFile(folder / "b.csv", columns)}
    assert topics.rows == {"train": 9, "dev": 4} and topics.columns == columns
    assert likeness.range == (1.0, 5.0) and len(likeness.train) == 2 and likeness.metrics == ("pearson", "spearman")
    assert nli.metrics == ("accuracy",) and nli.labels == () and nli.rows == {}
    assert {name: file.path for name, file in ner.dev.items()} == {
        "dev_en": folder / "b.conllu", "dev_hi": folder / "a.conll",
    }  # fmt: skip
    assert ner.rows == {"dev_en": 3}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("kind: pair", "kind: triple"), "nli.kind is 'triple': a task's kind is one of these. Write classification, pair, regression or token."),
        (("kind: pair", "kynd: pair"), "nli.kind is missing: a task's kind"),
        (("nli: {kind: pair", "nli: {metric: [f1], kind: pair"), "nli.metric is ['f1']: there is no such key here. Did you mean metrics?"),
        (("dev: b.csv}\n  columns", "dev: c.csv}\n  columns"), "topics.files.dev is 'c.csv': there is no file"),
        (("files: {train: a.conll,", "files: {train: a.csv,"), "ner.files.train is 'a.csv': a file of this kind ends in .conll,"),
        (("train: [a.csv, b.csv]", "train: []"), "likeness.files.train is []: this is the name of a file"),
        (("dev: {en: b.conllu,", "dev: {train: b.conllu,"), "ner.files.dev is 'train': a dev file's name is another"),
        (("dev: {en: b.conllu,", "dev: {e n: b.conllu,"), "ner.files.dev is 'e n': a dev file's name is letters"),
        (("{text: headline,", "{"), "topics.columns is {'label': 'topic'}: columns names text, label, neither more nor fewer"),
        (("{text: headline,", "{text: topic,"), "each column is used once"),
        (("metrics: [entity_f1]", "metrics: [entity_f1], columns: {label: 0}"), "ner.columns.label is 0: a column of such a file is a number, from 1"),
        (("metrics: [entity_f1], ", ""), "ner.metrics is missing: metrics is a list, the first of which chooses epochs. Choose from accuracy or entity_f1."),
        (("labels: [sport, 7]", "labels: [yes, no]"), "topics.labels is [True, False]: labels lists every label once"),
        (("labels: [sport, 7]", "labels: [a, a]"), "topics.labels is ['a', 'a']: labels lists every label once"),
        (("  labels: [sport, 7]\n", ""), "topics.metrics is ['f1', 'accuracy']: f1 is that of the second of two labels"),
        (("rows: {train: 9, dev: 4}", "rows: {train: 0}"), "topics.rows.train is 0: a count is a positive whole number"),
        (("rows: {en: 3}", "rows: {dev: 3}"), "ner.rows.dev is 3: there is no such key here. Known here: train, en, hi."),
        (("range: [1, 5]", "range: [5, 1]"), "likeness.range is [5, 1]: range is the lowest and the highest label"),
        (("range: [1, 5]", "range: [1, .nan]"), "likeness.range is [1, nan]: range is"),
        (("nli: {", "rte: {"), "rte is 'rte': the name means something else to --tasks"),
        (("nli: {", "n li: {"), "n li is 'n li': a task's name is letters, digits"),
    ],
)  # fmt: skip
def test_a_mistake(change: tuple[str, str], fault: str, folder: Path) -> None:
    assert change[0] in WHOLE
    (folder / "tasks.yaml").write_text(WHOLE.replace(*change, 1))
    with pytest.raises(FaultsError) as raised:
        read_task_file(folder / "tasks.yaml")
    assert fault in str(raised.value)
    assert all(each.remedy for each in raised.value.faults)


PAIRS = """\
nli:
  kind: regression
  range: [0, 1]
  files: {train: a.csv, dev: {path: b.csv, columns: %s}}
  columns: %s
"""


def test_the_order_in_which_columns_are_listed_means_nothing(folder: Path) -> None:
    found = []
    for columns in ("{label: l, second: b, first: a}", "{first: a, second: b, label: l}"):
        (folder / "tasks.yaml").write_text(PAIRS % (columns, columns))
        found.append(read_task_file(folder / "tasks.yaml")[0])
    assert found[0] == found[1] and list(found[0].columns) == list(found[0].train[0].columns) == [*TWO]
    assert list(found[0].dev["dev"].columns) == [*TWO]


def test_columns_of_a_file_are_for_what_the_tasks_are(folder: Path) -> None:
    (folder / "tasks.yaml").write_text(PAIRS % ("{text: a, label: l}", "{first: a, second: b, label: l}"))
    with pytest.raises(FaultsError, match=r"nli\.files\.dev\.columns is .*: columns of a file are for what"):
        read_task_file(folder / "tasks.yaml")


def test_all_mistakes_are_in_one_message(tmp_path: Path) -> None:
    (tmp_path / "tasks.yaml").write_text(
        "a: 5\nb: {kind: token, files: 3, columns: [], metrics: 2, rows: []}\nc: {kind: pair}\n"
    )
    with pytest.raises(FaultsError, match=r"tasks\.yaml has 7 faults") as raised:
        read_task_file(tmp_path / "tasks.yaml")
    assert [fault.where for fault in raised.value.faults] == [
        "a", "b.files", "b.columns", "b.metrics", "b.rows", "c.files", "c.columns",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "what"),
    [("", "holds no task|is a mapping"), ("- a\n", "is a mapping of names to tasks; this is list"), ("a: 1\na: 2\n", "the key 'a' stands twice"), ("a: [", "not readable as YAML")],
)  # fmt: skip
def test_what_is_no_file_of_tasks(text: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "tasks.yaml").write_text(text)
    with pytest.raises(UserError, match=what):
        read_task_file(tmp_path / "tasks.yaml")


def test_tasks_by_file_and_by_name(folder: Path) -> None:
    (folder / "tasks.yaml").write_text(WHOLE)
    own = str(folder / "tasks.yaml")
    assert find_tasks("glue") == tuple(TASKS.values())
    assert [task.key for task in find_tasks(f"rte, {own},CoLA")] == ["cola", "rte", "topics", "likeness", "nli", "ner"]
    with pytest.raises(UserError, match="names likeness, ner, nli, topics more than once"):
        find_tasks(f"{own},{own}")
    with pytest.raises(UserError, match="squad is no task that comes with masklater"):
        find_tasks("squad")
    with pytest.raises(UserError, match=r"a\.csv is a file, and own tasks stand in a file that ends in \.yaml"):
        find_tasks(str(folder / "a.csv"))
    with pytest.raises(UserError, match="names no task"):
        find_tasks(" ,")
