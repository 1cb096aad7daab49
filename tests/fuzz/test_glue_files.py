"""GLUE files under random edits: every row is a task's own, or file and line are named."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st

from masklater.errors import UserError
from masklater.judge import data as data_module
from masklater.judge.data import read_split
from masklater.judge.tasks import TASKS, Task
from tests.fuzz.fuzz import EXAMPLES, fuzz
from tests.judge.folders import make_glue

SCRAPS = [
    "\t", "\n", "\r", "\0", "\ufeff", "\u2028", '"', "label", "sentence1", "0", "1", "2", "-1", "5.1", "1e3", "nan", "inf",
    "1_0", "٣", "²", "entailment", "9" * 5000, "{", "[" * 3000, '{"label": 1, "label": 0}', "- ", "a text",
]  # fmt: skip


def files_of(task: Task, folder: Path) -> list[Path]:
    return sorted(path for path in (folder / task.title).iterdir() if path.suffix in {".tsv", ".jsonl"})


@EXAMPLES
@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.key)
def test_any_edit_of_any_file(examples: int, task: Task, tmp_path: Path) -> None:
    files = files_of(task, make_glue(tmp_path / "glue", train=6, dev=4))
    contents = {path.suffix: path.read_bytes() for path in files}
    suffix = st.sampled_from(sorted(contents))
    piece = st.sampled_from(SCRAPS).map(str.encode) | st.binary(max_size=6)
    edits = suffix.flatmap(
        lambda kind: st.tuples(
            st.just(kind),
            st.integers(0, len(contents[kind])),
            st.integers(0, 12) | st.integers(0, len(contents[kind])),
            st.lists(piece, max_size=3).map(b"".join),
        )
    )

    def check(edit: tuple[str, int, int, bytes]) -> None:
        kind, at, length, new = edit
        path = tmp_path / f"edited{kind}"
        path.write_bytes(contents[kind][:at] + new + contents[kind][at + length :])
        try:
            split = read_split(path, task)
        except UserError as error:
            assert str(path) in error.problem and error.remedy
            return
        assert len(split) and all(len(column) == len(split) for column in split.texts)
        if task.regression:
            assert ((split.labels >= 0) & (split.labels <= task.highest)).all()
        else:
            assert np.isin(split.labels, range(len(task.classes))).all()

    fuzz("GLUE files", max(10, examples // 4), check, edits)


def test_what_only_looks_like_a_label(tmp_path: Path) -> None:
    sst2, stsb = TASKS["sst2"], TASKS["stsb"]
    for label in ("9" * 5000, "²", "٣", "01", "1.0", "+1"):
        (tmp_path / "a.tsv").write_text(f"sentence\tlabel\na\t1\nb\t{label}\n")
        with pytest.raises(UserError, match=r"a\.tsv, line 3: the label is"):
            read_split(tmp_path / "a.tsv", sst2)
    for label in ("nan", "inf", "1_0", "٣", "-0.1", "1e0", ""):
        (tmp_path / "b.tsv").write_text(f"sentence1\tsentence2\tscore\na\tb\t1.5\na\tb\t{label}\n")
        with pytest.raises(UserError, match=r"b\.tsv, line 3: the label is"):
            read_split(tmp_path / "b.tsv", stsb)


@pytest.mark.parametrize(
    "line",
    ["[" * 100_000, '{"sentence": "a", "label": 1, "label": 0}', '{"sentence": 5, "label": 1}', '{"sentence": "a", "label": true}',
     '{"sentence": null, "label": 1}'],
)  # fmt: skip
def test_json_that_is_no_row(line: str, tmp_path: Path) -> None:
    sst2 = TASKS["sst2"]
    (tmp_path / "a.jsonl").write_text(json.dumps({"sentence": "a", "label": 1}) + "\n" + line + "\n")
    with pytest.raises(UserError, match=r"a\.jsonl, line 2"):
        read_split(tmp_path / "a.jsonl", sst2)


def test_a_file_too_large_to_be_one_of_glue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "a.tsv").open("wb") as file:
        file.truncate(data_module.MAX_FILE_BYTES + 1)
    with pytest.raises(UserError, match=r"a\.tsv has 1,073,741,825 bytes"):
        read_split(tmp_path / "a.tsv", TASKS["cola"])
