"""Own tasks' files, and TASKS.yaml, under random edits: rows that fit their task, or a message that names the file."""

from pathlib import Path

import pytest
from hypothesis import strategies as st

from masklater.errors import UserError
from masklater.judge.own_data import read_own
from masklater.judge.task_file import read_task_file
from tests.fuzz.fuzz import EXAMPLES, fuzz
from tests.judge.folders import write
from tests.judge.test_own_data import own
from tests.judge.test_task_file import WHOLE

MORE = """
far: {kind: token, files: {train: "hf:a/b:c@d#e", dev: {x: "hf:a/b#e"}}, columns: {word: w, label: l}, metrics: [accuracy]}
odd:
  kind: pair
  files: {train: {path: a.csv, columns: {first: [a, d], second: b, label: c}, where: {e: 1}}, dev: b.csv}
  columns: {first: a, second: b, label: c}
  rename: {x: y}
  no_label: "-"
"""
SCRAPS = ["\t", "\n", "\r", "\0", "\ufeff", '"', ",", "label", "text", "a", "-1", "1e3", "nan", "O", "B-", "# x", "-DOCSTART-", "1-2", "{", "[" * 3000, "null", ": ", "- ", "&a", "*a", "!!x", "yes", "hf:", "#", "9" * 5000]  # fmt: skip
FILES = {
    "a.csv": ("classification", 'text,label\n"kan, lot",a\nnet,b\nmir,a\n'),
    "b.csv": ("regression", "text,label\nkan,1\nnet,2.5\n"),
    "a.tsv": ("classification", "text\tlabel\nkan\ta\nnet\tb\n"),
    "a.jsonl": ("classification", '{"text": "kan", "label": 1}\n{"text": "net", "label": 0}\n'),
    "a.conll": ("token", "EU\tB-ORG\nis\tO\n\nPeter\tB-PER\n"),
    "a.conllu": ("token", "# text = x\n1\tkan\t_\tNOUN\n2\tlot\t_\tVERB\n\n"),
}


def edits(content: bytes) -> st.SearchStrategy[bytes]:
    piece = st.sampled_from(SCRAPS).map(str.encode) | st.binary(max_size=6)
    parts = st.tuples(st.integers(0, len(content)), st.integers(0, 12), st.lists(piece, max_size=3).map(b"".join))
    return parts.map(lambda edit: content[: edit[0]] + edit[2] + content[edit[0] + edit[1] :])


@EXAMPLES
@pytest.mark.parametrize("name", FILES)
def test_any_edit_of_a_file_of_rows(examples: int, name: str, tmp_path: Path) -> None:
    kind, content = FILES[name]
    path = tmp_path / name

    def check(edited: bytes) -> None:
        path.write_bytes(edited)
        try:
            data = read_own(own(path, kind))
        except UserError as error:
            assert str(path) in error.problem and error.remedy
            return
        train = data.splits["train"]
        labels = train.labels_W if kind == "token" else train.labels
        assert len(train) and (kind == "regression" or set(labels) <= set(range(len(data.task.classes))))
        assert kind != "regression" or ((labels >= data.task.lowest).all() and (labels <= data.task.highest).all())

    fuzz("own tasks' files", max(10, examples // 4), check, edits(content.encode()))


@EXAMPLES
def test_any_edit_of_a_file_of_tasks(examples: int, tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv", "a.conll", "b.conllu"):
        write(tmp_path / name, "")
    path = tmp_path / "tasks.yaml"

    def check(edited: bytes) -> None:
        path.write_bytes(edited)
        try:
            assert read_task_file(path)
        except UserError as error:
            assert str(path) in error.problem

    fuzz("files of tasks", max(20, examples), check, edits((WHOLE + MORE).encode()))
