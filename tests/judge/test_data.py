"""Reading GLUE: the quirks of the real files, on made-up folders; row counts and columns of the real ones."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from masklater.errors import DamagedDataError, UserError
from masklater.judge.data import read_split, read_task
from masklater.judge.hub import read_from_hub
from masklater.judge.tasks import MISMATCHED, TASKS, choose_tasks
from tests.conftest import DATA
from tests.judge.folders import SENTENCES, make_glue, write

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"there is no {DATA}")


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.key)
def test_every_task_of_the_classic_layout(glue_folder: Path, task) -> None:
    data = read_task(glue_folder, task)
    assert list(data.splits) == list(task.rows)
    train = data.splits["train"]
    assert len(train) == SENTENCES and len(train.texts) == len(task.texts)
    assert train.texts[0][0].strip() == 'a "quoted kan, and an open one: "lot'  # no csv quoting
    assert all(text for column in train.texts for text in column)
    if task.regression:
        assert train.labels[1] == 1.1 and train.labels[5] == 5.0
    else:
        assert sorted(set(train.labels)) == list(range(len(task.classes)))
    assert data.notes == tuple(
        f"{name} is not the official split: {len(split):,} rows, officially {task.rows[name]:,}"
        for name, split in data.splits.items()
    )


def test_labels_by_name_and_by_number_are_the_same(tmp_path: Path) -> None:
    rte = TASKS["rte"]
    write(
        tmp_path / "names.tsv", "index\tsentence1\tsentence2\tlabel", "0\ta\tb\tentailment", "1\ta\tb\tnot_entailment"
    )
    write(tmp_path / "numbers.tsv", "sentence2\tlabel\tsentence1", "b\t0\ta", "b\t1\ta\r")
    by_name, by_number = (read_split(tmp_path / f"{kind}.tsv", rte) for kind in ("names", "numbers"))
    assert by_name.texts == by_number.texts == (["a", "a"], ["b", "b"])
    assert by_name.labels.tolist() == by_number.labels.tolist() == [0, 1]


def test_cola_with_a_header(tmp_path: Path) -> None:
    write(tmp_path / "dev.tsv", "sentence\tlabel", "one kan\t1")
    assert read_split(tmp_path / "dev.tsv", TASKS["cola"]).texts == (["one kan"],)


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    strange = "one\x85two\u2028three\x0bfour"  # str.splitlines would cut here
    write(tmp_path / "dev.tsv", "sentence\tlabel", f"{strange}\t1")
    assert read_split(tmp_path / "dev.tsv", TASKS["sst2"]).texts == ([strange],)


def test_rows_without_agreement_are_left_out_and_said(tmp_path: Path) -> None:
    make_glue(tmp_path)
    path = tmp_path / "MNLI/dev_matched.tsv"
    path.write_text(path.read_text() + "9\ta\tb\tneutral\tneutral\t-\n")
    data = read_task(tmp_path, TASKS["mnli"])
    assert len(data.splits["dev"]) == 12 and "1 unusable lines of dev left out" in data.notes


def test_mnli_without_its_second_dev_split(tmp_path: Path) -> None:
    make_glue(tmp_path)
    (tmp_path / "MNLI/dev_mismatched.jsonl").unlink()
    data = read_task(tmp_path, TASKS["mnli"])
    assert list(data.splits) == ["train", "dev"] and f"no {MISMATCHED} split" in data.notes


def test_broken_lines_of_qqp_are_left_out_and_said(tmp_path: Path) -> None:
    make_glue(tmp_path)
    path = tmp_path / "QQP/train.tsv"
    path.write_text(path.read_text() + "77\t1\t2\ta question broken\nover two lines\tanother\t0\n")
    data = read_task(tmp_path, TASKS["qqp"])
    assert len(data.splits["train"]) == SENTENCES and "2 unusable lines of train left out" in data.notes


@pytest.mark.parametrize(
    ("damage", "where", "what"),
    [
        (b"x\tkan\tlot\tentailment\nshort\tline\n", "line 27", "2 fields; the first line has 4"),
        (b"x\tkan\tlot\tmaybe\n", "line 26", "the label is 'maybe'"),
        (b"x\tkan\tlot\t2\n", "line 26", "the label is '2'"),
        (b"x\tkan\t\xff\tentailment\n", "line 26", "not UTF-8"),
    ],
)
def test_damage_names_file_and_line(tmp_path: Path, damage: bytes, where: str, what: str) -> None:
    path = make_glue(tmp_path) / "RTE/train.tsv"
    path.write_bytes(path.read_bytes() + damage)
    with pytest.raises(DamagedDataError, match=r"train\.tsv") as raised:
        read_task(tmp_path, TASKS["rte"])
    assert where in raised.value.problem and what in raised.value.problem


def test_a_score_out_of_range_names_the_line(tmp_path: Path) -> None:
    write(tmp_path / "dev.tsv", "sentence1\tsentence2\tscore", "a\tb\t5.0", "a\tb\t5.1")
    with pytest.raises(DamagedDataError, match=r"line 3: the label is .5\.1.; a score is a number from 0 to 5"):
        read_split(tmp_path / "dev.tsv", TASKS["stsb"])


def test_missing_columns_files_and_folders(tmp_path: Path) -> None:
    write(tmp_path / "RTE/train.tsv", "index\tsentence1\tlabel", "0\ta\t1")
    with pytest.raises(UserError, match="line 1: no column sentence2; it has index, sentence1, label"):
        read_task(tmp_path, TASKS["rte"])
    write(tmp_path / "WNLI/train.tsv", "sentence1\tsentence2\tlabel", "a\tb\t1")
    with pytest.raises(UserError, match="WNLI has no dev split"):
        read_task(tmp_path, TASKS["wnli"])
    with pytest.raises(UserError, match=r"there is no folder .*QQP"):
        read_task(tmp_path, TASKS["qqp"])
    write(tmp_path / "empty.tsv", "sentence\tlabel")
    with pytest.raises(UserError, match="holds no rows"):
        read_split(tmp_path / "empty.tsv", TASKS["sst2"])
    write(tmp_path / "dev.jsonl", '{"premise": "a", "label": "neutral"}')
    with pytest.raises(
        UserError, match="line 1: no field sentence2 or hypothesis of the right kind; it has premise, label"
    ):
        read_split(tmp_path / "dev.jsonl", TASKS["mnli"])


def test_the_hash_follows_the_rows_and_not_the_layout(tmp_path: Path) -> None:
    one, other = (
        read_task(make_glue(tmp_path / "a"), TASKS["rte"]),
        read_task(make_glue(tmp_path / "b"), TASKS["rte"]),
    )
    path = tmp_path / "b/RTE/dev.tsv"
    assert one.sha256 == other.sha256
    path.write_text(path.read_text().replace("entailment", "not_entailment", 1).replace("not_not_", "not_"))
    assert read_task(tmp_path / "b", TASKS["rte"]).sha256 != one.sha256


def test_fewer_training_rows_are_a_fixed_sample_and_said(glue_folder: Path) -> None:
    whole = read_task(glue_folder, TASKS["rte"])
    one, other = whole.limited(7), whole.limited(7)
    assert one.splits["train"].texts == other.splits["train"].texts and len(one.splits["train"]) == 7
    assert set(zip(*one.splits["train"].texts, strict=True)) <= set(zip(*whole.splits["train"].texts, strict=True))
    assert one.notes[-1] == "trained on 7 of 24 rows (--max-train-rows)" and one.splits["dev"] is whole.splits["dev"]
    assert whole.limited(24) is whole and whole.limited(None) is whole


def test_tasks_by_name() -> None:
    assert choose_tasks("all") == tuple(TASKS.values()) and len(TASKS) == 9
    assert [task.key for task in choose_tasks("STS-B, cola")] == ["cola", "stsb"]
    with pytest.raises(UserError, match="names snli"):
        choose_tasks("snli,cola")
    with pytest.raises(UserError, match="names sst2, rte more than once"):  # never silently reduced to one
        choose_tasks("rte,SST-2,rte,cola,sst2")


def test_hub_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"masklater\[data\]"):
        read_from_hub(TASKS["rte"])


def test_hub_gives_the_rows_that_files_give(monkeypatch: pytest.MonkeyPatch, glue_folder: Path) -> None:
    """A stand-in for the library: it answers as `load_dataset("nyu-mll/glue", ...)` does."""
    mnli = read_task(glue_folder, TASKS["mnli"])
    names = {"train": "train", "dev": "validation_matched", MISMATCHED: "validation_mismatched"}

    def load_dataset(name: str, task: str) -> dict[str, object]:
        assert (name, task) == ("nyu-mll/glue", "mnli")
        columns = {
            names[split]: {
                "premise": rows.texts[0],
                "hypothesis": rows.texts[1],
                "label": rows.labels.astype(int).tolist(),
            }
            for split, rows in mnli.splits.items()
        }
        return {split: type("Rows", (), {"__getitem__": lambda self, key, c=c: c})() for split, c in columns.items()}

    library = ModuleType("datasets")
    library.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", library)
    hub = read_from_hub(TASKS["mnli"])
    assert hub.sha256 == mnli.sha256 and hub.notes == mnli.notes


@needs_data
@pytest.mark.parametrize("key", ["cola", "sst2", "mrpc", "stsb", "rte", "wnli"])
def test_real_row_counts_are_official(key: str) -> None:
    data = read_task(DATA / "glue", TASKS[key])
    assert {name: len(split) for name, split in data.splits.items()} == TASKS[key].rows
    assert data.notes == ()


@needs_data
def test_real_dev_splits_without_training_data() -> None:
    for key, file in (("qnli", "QNLI/dev.tsv"), ("mnli", "MNLI/dev_matched.jsonl")):
        assert len(read_split(DATA / "glue" / file, TASKS[key])) == TASKS[key].rows["dev"]
        with pytest.raises(UserError, match="has no train split"):
            read_task(DATA / "glue", TASKS[key])


@needs_data
@pytest.mark.parametrize("key", ["mnli", "qnli", "qqp"])
def test_real_subsets_say_that_they_are_not_official(key: str) -> None:
    data = read_task(DATA / "glue_subsets", TASKS[key])
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 8999, "dev": 1000}
    assert f"train is not the official split: 8,999 rows, officially {TASKS[key].rows['train']:,}" in data.notes
    assert np.isin(data.splits["train"].labels, range(len(TASKS[key].classes))).all()
