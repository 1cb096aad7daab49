"""Data sets of the hub as files of own tasks. A folder that `datasets` loads stands in for the hub; no network."""

import json
import sys
from pathlib import Path
from typing import Any

import datasets
import pytest

from masklater.corpus.hub_rows import HubRows
from masklater.errors import DamagedDataError, FaultsError, UserError
from masklater.judge.data import TaskData
from masklater.judge.data_set import read_data_set
from masklater.judge.own_data import read_own
from masklater.judge.sweep import sweep
from masklater.judge.task_file import read_task_file
from tests.judge.folders import sentences
from tests.judge.test_sweep import ONE
from tests.stand_in_hub import stand_in_for_data_sets

NAMES = ["sport", "art", "trade"]
TAGS = ["O", "B-PER", "I-PER"]
PAIRS = {"first": sentences(12, 1), "second": sentences(12, 2)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """TASKS.yaml's folder, in which `topics` and `words` are data sets with classes that have names."""
    rows = datasets.Dataset.from_dict(
        {**PAIRS, "topic": [number % 3 for number in range(11)] + [-1]},
        features=datasets.Features(
            {name: datasets.Value("string") for name in PAIRS} | {"topic": datasets.ClassLabel(names=NAMES)}
        ),
    )
    words = datasets.Dataset.from_dict(
        {"tokens": [["Peter", "is"], [], ["Anna", "Lot", "too"]], "tags": [[1, 0], [], [1, 2, 0]]},
        features=datasets.Features(
            {
                "tokens": datasets.List(datasets.Value("string")),
                "tags": datasets.List(datasets.ClassLabel(names=TAGS)),
            }
        ),
    )
    for name, made in (("topics", rows), ("words", words)):
        (tmp_path / name).mkdir()
        for split in ("train", "validation"):
            made.to_parquet(tmp_path / name / f"{split}.parquet")
    return tmp_path


def task(folder: Path, text: str) -> TaskData:
    (folder / "tasks.yaml").write_text(text)
    (own,) = read_task_file(folder / "tasks.yaml")
    return read_own(own)


TOPICS = """
topics:
  kind: pair
  files: {train: "hf:topics#train", dev: hf:topics#validation}
  columns: {first: first, second: second, label: topic}
  no_label: -1
"""


def test_classes_keep_their_names_and_their_order(folder: Path) -> None:
    data = task(folder, TOPICS)
    assert data.task.classes == tuple(NAMES)  # not the alphabet's
    assert data.splits["train"].labels.tolist() == [number % 3 for number in range(11)]
    assert data.splits["train"].texts == (PAIRS["first"][:-1], PAIRS["second"][:-1])
    assert data.notes == (
        "1 rows of train left out, their label being -1", "1 rows of dev left out, their label being -1",
        "11 of 11 rows of dev stand in train too",
    )  # fmt: skip
    renamed = task(folder, TOPICS + "  rename: {art: sport}\n")
    assert renamed.task.classes == ("sport", "trade")
    assert renamed.splits["dev"].labels.tolist() == [number % 3 // 2 for number in range(11)]
    listed = task(folder, TOPICS + "  labels: [art, sport, trade]\n")
    assert listed.splits["dev"].labels.tolist() == [[1, 0, 2][number % 3] for number in range(11)]
    some = task(folder, TOPICS.replace("hf:topics#validation", '{path: "hf:topics#validation", where: {topic: art}}'))
    assert len(some.splits["dev"]) == 4 and set(some.splits["dev"].labels) == {1}


def test_one_that_was_saved_is_the_same(folder: Path) -> None:
    loaded = datasets.load_dataset(str(folder / "topics"))
    loaded.save_to_disk(folder / "saved")
    one, other = (task(folder, TOPICS.replace("hf:topics", name)) for name in ("hf:topics", "hf:saved"))
    assert other.task.classes == tuple(NAMES)
    with pytest.raises(UserError, match=r"hf:saved:de#train: .*saved was saved by datasets, without configurations"):
        task(folder, TOPICS.replace("hf:topics", "hf:saved:de"))
    for split in ("train", "dev"):
        assert other.splits[split].texts == one.splits[split].texts
        assert other.splits[split].labels.tolist() == one.splits[split].labels.tolist()


def test_the_same_rows_as_of_a_file(folder: Path) -> None:
    lines = [json.dumps({"text": text, "label": "ab"[i % 2]}) for i, text in enumerate(PAIRS["first"])]
    (folder / "lines").mkdir()
    (folder / "lines/train.jsonl").write_text("\n".join(lines))
    text = "own: {kind: classification, files: {train: FILE, dev: FILE}, columns: {text: text, label: label}}"
    one, other = (task(folder, text.replace("FILE", name)) for name in ("lines/train.jsonl", "hf:lines#train"))
    assert one.sha256 == other.sha256 and one.task.classes == other.task.classes == ("a", "b")
    with pytest.raises(DamagedDataError, match=r"hf:lines#train.*: no column topic; it has text, label"):
        task(folder, text.replace("FILE", "hf:lines#train").replace("label: label", "label: topic"))


def test_columns_that_are_known_when_they_are_read() -> None:
    """As `datasets` has it of some files."""

    class Unread(list[dict[str, Any]]):
        column_names = features = None

    rows = HubRows("hf:lines#train", "train", None, Unread([{"text": "a"}, {"txt": "b"}]), None)
    read = read_data_set(rows, ("text",))
    assert next(read) == ("hf:lines#train, row 1", {"text": "a"})
    with pytest.raises(DamagedDataError, match=r"hf:lines#train, row 2: no column text; it has txt"):
        next(read)


WORDS = """
names:
  kind: token
  files: {train: "hf:words#train", dev: {near: hf:words#validation}}
  columns: {word: tokens, label: tags}
  metrics: [entity_f1]
"""


def test_words_are_lists(folder: Path) -> None:
    data = task(folder, WORDS)
    train = data.splits["train"]
    assert train.words == [["Peter", "is"], ["Anna", "Lot", "too"]]  # type: ignore[union-attr]
    assert data.task.classes == tuple(TAGS)
    assert train.labels_W.tolist() == [1, 0, 1, 2, 0]  # type: ignore[union-attr]
    with pytest.raises(UserError, match="each column is used once"):
        task(folder, WORDS.replace("tokens", "tags"))
    with pytest.raises(DamagedDataError, match=r"hf:topics#train, row 1: first and topic are no lists of the same"):
        task(folder, WORDS.replace("hf:words", "hf:topics").replace("tokens", "first").replace("tags", "topic"))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (("#train", ""), r"topics.files.train is 'hf:topics': a data set is named with its split"),
        (("hf:topics#train", "hf:a@b@c#train"), r"topics.files.train is 'hf:a@b@c#train': a data set is named"),
        (("#validation", "#test"), r"hf:topics#test has no split 'test'; it has train, validation\n.*behind #"),
        (("label: topic", "label: theme"), r"hf:topics#train: no column theme; it has first, second, topic"),
        (("  no_label: -1\n", ""), r"hf:topics#train, row 12: the label is '-1'; the training data has sport, art"),
        (("hf:topics#train", "hf:nobody/nothing#train"), r"hf:nobody/nothing#train cannot be opened: "),
        (("no_label: -1", "no_label: yes"), r"topics.no_label is True: no_label is what stands where"),
        (("no_label: -1", "rename: [a]"), r"topics.rename is \['a'\]: rename is a mapping of labels"),
        (("  no_label: -1\n", "  range: [0, 1]\n"), r"topics.range is \[0, 1\]: there is no such key here"),
        (("hf:topics#train", "hf:topics@v1#train"), r"hf:topics@v1#train: .*topics is a folder, which has no revisions"),
    ],
)  # fmt: skip
def test_bad_input_is_one_message(change: tuple[str, str], what: str, folder: Path) -> None:
    assert change[0] in TOPICS
    with pytest.raises(UserError, match=what) as raised:
        task(folder, TOPICS.replace(*change, 1))
    assert raised.value.remedy or isinstance(raised.value, FaultsError)


def test_without_its_library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"hf:topics#train needs datasets.*\n.*masklater\[data\]"):
        task(folder, TOPICS)


def test_files_of_words_and_data_sets_do_not_mix(folder: Path) -> None:
    (folder / "a.conll").write_text("EU\tB-ORG\n")
    with pytest.raises(FaultsError, match=r"files.dev.near is 'a.conll': of a task of words, either all files are"):
        task(folder, WORDS.replace("hf:words#validation", "a.conll"))
    with pytest.raises(FaultsError, match=r"names.columns is missing: columns says where word, label stand"):
        task(folder, WORDS.replace("  columns: {word: tokens, label: tags}\n", ""))


def test_the_commit_is_in_the_record(folder: Path, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = datasets.load_dataset
    asked = stand_in_for_data_sets(monkeypatch, lambda: load(str(folder / "topics"), streaming=True))
    (folder / "tasks.yaml").write_text(TOPICS.replace("hf:topics#", "hf:owner/name:short@v2#"))
    sweep(str(encoder_folder), None, folder / "scores", read_task_file(folder / "tasks.yaml"), ONE)
    assert asked[:2] == [("owner/name", "v2"), ("owner/name", "short", {"revision": "c" * 40, "streaming": True})]
    record = json.loads((folder / "scores/runs.jsonl").read_text().splitlines()[0])
    assert record["definition"]["files"] == {
        "train": [f"hf:owner/name:short@v2#train, commit {'c' * 40}"],
        "dev": [f"hf:owner/name:short@v2#validation, commit {'c' * 40}"],
    }
    assert record["definition"]["labels"] == NAMES and record["definition"]["no_label"] == "-1"
