"""Ready tables on made-up files in exactly the layout in which each was published."""

import json
from pathlib import Path

import pytest

from masklater.errors import UserError
from masklater.judge.data import TaskData
from masklater.judge.own_data import read_own
from masklater.judge.sweep import sweep
from masklater.judge.task_file import READY, find_tasks, read_task_file
from tests.judge.folders import write
from tests.judge.test_sweep import ONE

SUPERGLUE = {
    "BoolQ": ({"question": "is kan lot", "passage": "Kan -- Kan is lot.", "idx": 0}, (True, False)),
    "CB": ({"premise": "B: kan. A: lot", "hypothesis": "kan", "idx": 0}, ("neutral", "contradiction", "entailment")),
    "RTE": ({"premise": "kan lot", "hypothesis": "kan", "idx": 0}, ("entailment", "not_entailment")),
    "WiC": (
        {"word": "kan", "sentence1": "A kan is.", "sentence2": "The kan.", "idx": 0, "start1": 2, "start2": 4,
         "end1": 5, "end2": 7, "version": 1.1},
        (False, True),
    ),
}  # fmt: skip
"""The fields of a row of each folder, and its labels."""


def make_superglue(folder: Path) -> None:
    for name, (fields, labels) in SUPERGLUE.items():
        for split in ("train", "val"):
            write(folder / f"{name}/{split}.jsonl", *(json.dumps({**fields, "label": label}) for label in labels))
        write(folder / f"{name}/test.jsonl", json.dumps(fields))  # without labels


def read(folder: Path, name: str) -> TaskData:
    (own,) = find_tasks(name, str(folder))
    return read_own(own)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "first", "labels", "rows"),
    [
        ("boolq", ["is kan lot", "Kan -- Kan is lot."], ["true", "false"], (9427, 3270)),
        ("cb", ["B: kan. A: lot", "kan"], ["neutral", "contradiction", "entailment"], (250, 56)),
        ("superglue-rte", ["kan lot", "kan"], ["entailment", "not_entailment"], (2490, 277)),
        ("wic", ["kan A kan is.", "The kan."], ["false", "true"], (5428, 638)),
    ],
)
def test_superglue(name: str, first: list[str], labels: list[str], rows: tuple[int, int], tmp_path: Path) -> None:
    make_superglue(tmp_path)
    data = read(tmp_path, name)
    for split in ("train", "dev"):
        there = data.splits[split]
        assert [column[0] for column in there.texts] == first  # type: ignore[union-attr]
        assert [data.task.classes[int(label)] for label in there.labels] == labels  # type: ignore[union-attr]
    assert data.task.rows == dict(zip(("train", "dev"), rows, strict=True))
    assert data.task.metrics == (("accuracy", "macro_f1") if name == "cb" else ("accuracy",))


def snli(label: str, number: int) -> str:
    """A line of snli_1.0_train.jsonl."""
    said = {
        "annotator_labels": [label], "captionID": f"{number}.jpg#0", "gold_label": label, "pairID": f"{number}.jpg#0r1n",
        "sentence1": "Kan lot.", "sentence1_binary_parse": "( Kan lot )", "sentence1_parse": "(ROOT (NP Kan))",
        "sentence2": f"Lot {number}.", "sentence2_binary_parse": "( Lot )", "sentence2_parse": "(ROOT (NP Lot))",
    }  # fmt: skip
    return json.dumps(said)


def test_snli_without_the_pairs_that_have_no_label(tmp_path: Path) -> None:
    labels = ("neutral", "-", "entailment", "contradiction", "-")
    for split in ("train", "dev", "test"):
        write(tmp_path / f"snli_1.0/snli_1.0_{split}.jsonl", *(snli(label, i) for i, label in enumerate(labels)))
    data = read(tmp_path, "snli")
    assert data.splits["dev"].labels.tolist() == [1, 0, 2]  # type: ignore[union-attr]
    assert data.splits["train"].texts[1] == ["Lot 0.", "Lot 2.", "Lot 3."]  # type: ignore[union-attr]
    assert data.notes[0] == "2 rows of train left out, their label being -"
    assert data.notes[2:4] == (
        "3 of 3 rows of dev stand in train too",
        "train is not the official split: 3 rows, officially 549,367",
    )


LANGUAGES = ["ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh"]


def test_xnli_is_trained_in_one_language_and_scored_in_fifteen(tmp_path: Path) -> None:
    write(
        tmp_path / "XNLI-MT-1.0/multinli/multinli.train.en.tsv",
        "premise\thypo\tlabel",
        'kan "lot\tkan\tneutral', "net\tmir\tcontradictory", "rer\trer\tentailment",
    )  # fmt: skip
    lines = []
    for language in LANGUAGES:
        for label in ("neutral", "contradiction"):
            said = {
                "annotator_labels": [label], "genre": "facetoface", "gold_label": label, "language": language,
                "match": "True", "pairID": "1", "promptID": "1", "sentence1": f"kan {language}",
                "sentence1_tokenized": "kan", "sentence2": "lot", "sentence2_tokenized": "lot",
            }  # fmt: skip
            lines.append(json.dumps(said))
    write(tmp_path / "XNLI-1.0/xnli.dev.jsonl", *lines)
    data = read(tmp_path, "xnli")
    assert data.splits["train"].labels.tolist() == [1, 2, 0]  # type: ignore[union-attr]
    assert data.task.main == "accuracy_en" and {*data.splits} == {"train", *(f"dev_{one}" for one in LANGUAGES)}
    for language in LANGUAGES:
        split = data.splits[f"dev_{language}"]
        assert split.texts[0] == [f"kan {language}"] * 2  # type: ignore[union-attr]
        assert split.labels.tolist() == [1, 2]  # type: ignore[union-attr]
    assert data.task.definition["files"]["dev_hi"][0].endswith("xnli.dev.jsonl, where language is hi")
    write(tmp_path / "XNLI-1.0/xnli.dev.jsonl", *lines[:-2])
    with pytest.raises(UserError, match=r"xnli\.dev\.jsonl, where language is zh holds no rows"):
        read(tmp_path, "xnli")


def test_paws_x(tmp_path: Path) -> None:
    for language in ("en", "de", "es", "fr", "ja", "ko", "zh"):
        train = "train" if language == "en" else "translated_train"
        for name in (train, "dev_2k", "test_2k"):
            lines = ("1\t\"kan'' lot\tlot kan\t0", f"2\tnet {language}\tnet\t1")
            write(tmp_path / f"x-final/{language}/{name}.tsv", "id\tsentence1\tsentence2\tlabel", *lines)
    data = read(tmp_path, "paws-x")
    assert data.task.main == "accuracy_en" and data.task.metrics == ("accuracy", "f1")
    assert data.splits["dev_ko"].texts[0] == ["\"kan'' lot", "net ko"]  # type: ignore[union-attr]
    assert data.splits["dev_ko"].labels.tolist() == [0, 1]  # type: ignore[union-attr]


def test_masakhaner(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        write(tmp_path / f"swa/{name}.txt", "Rais O", "wa O", "Kenya B-LOC", "", "Uhuru B-PER", "Kenyatta I-PER", "")
    data = read(tmp_path, "masakhaner-swa")
    assert data.splits["dev"].words == [["Rais", "wa", "Kenya"], ["Uhuru", "Kenyatta"]]  # type: ignore[union-attr]
    assert data.task.classes == ("B-LOC", "B-PER", "I-PER", "O") and data.task.main == "entity_f1"
    languages = {task.key.removeprefix("masakhaner-") for task in find_tasks("masakhaner", str(tmp_path))}
    assert len(languages) == 21 and {"amh", "swa", "yor", "zul"} <= languages


def test_a_table_is_all_its_tasks_and_a_missing_one_is_a_fault_of_its_own(tmp_path: Path, encoder_folder: Path) -> None:
    assert [task.key for task in find_tasks("superglue", "x")] == ["boolq", "cb", "superglue-rte", "wic"]
    assert [task.key for task in find_tasks("wic,rte", "x")] == ["rte", "wic"]
    make_superglue(tmp_path)
    (tmp_path / "CB/val.jsonl").unlink()
    result = sweep(str(encoder_folder), str(tmp_path), tmp_path / "scores", find_tasks("cb,wic", str(tmp_path)), ONE)
    assert [*result.scores["tasks"]] == ["wic"] and result.faults == {
        "cb": f"there is no file {tmp_path / 'CB/val.jsonl'}"
    }
    record = json.loads((tmp_path / "scores/runs.jsonl").read_text().splitlines()[0])
    assert record["definition"]["columns"]["first"] == ["word", "sentence1"]


@pytest.mark.parametrize(
    ("text", "data", "what"),
    [
        ("snli", None, "the files of snli are read from a folder, and --data names none"),
        ("cb,wic", "hub", "the files of cb, wic are read from a folder, and --data is hub"),
        ("superglue,cb", "x", "names cb more than once"),
        ("copa", "x", "copa is no task that comes with masklater"),
    ],
)
def test_names_and_folders_that_do_not_fit(text: str, data: str | None, what: str) -> None:
    with pytest.raises(UserError, match=what):
        find_tasks(text, data)


@pytest.mark.parametrize("path", READY.glob("*.yaml"), ids=lambda path: path.stem)
def test_a_table_is_a_file_of_tasks_without_mistakes(path: Path, tmp_path: Path) -> None:
    tasks = read_task_file(path, tmp_path)
    assert tasks and all(file.path.is_relative_to(tmp_path) for task in tasks for file in task.train)  # type: ignore
