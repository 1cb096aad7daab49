"""Rows of a task, read from GLUE's files: the classic tsv layout with its quirks, and cut-down copies of it.

Fields are split at tabs and never unquoted, lines end at a line feed only, columns are found by their names.
`TaskData.notes` says where the files differ from the official ones. A line that cannot be read raises an error that
names the line.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import UnionType

import numpy as np
from numpy.typing import NDArray

from masklater.errors import DamagedDataError, UserError
from masklater.hub import refuse_pointer
from masklater.judge.tasks import MISMATCHED, Task

MAX_FILE_BYTES = 2**30
"""A larger file is refused, because files are read as a whole."""
NOT_UTF8 = (
    "If it is in another encoding (utf-16, cp1252, gb18030), make it UTF-8: iconv -f cp1252 -t utf-8 FILE > NEW. If it "
    "is packed (gzip, zstd), unpack it. Else restore it from a copy."
)
NUMBER = re.compile(r"[0-9]+([.][0-9]*)?")
SUBSET_SEED = 0
"""The seed that draws the rows of --max-train-rows: the same rows for every run, whatever the run's own seed."""


@dataclass(frozen=True)
class Split:
    """Rows of one file."""

    texts: tuple[list[str], ...]  # one or two columns
    labels: NDArray[np.float64]  # numbers of classes, or scores
    left_out: int = 0  # lines without a label, or broken where the official file is

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows_N: NDArray[np.int64]) -> "Split":
        """Return some of the rows."""
        return Split(tuple([text[row] for row in rows_N] for text in self.texts), self.labels[rows_N])

    def lines(self) -> Iterator[str]:
        """Yield each row as one text, to be hashed."""
        for row in zip(*self.texts, self.labels.tolist(), strict=True):
            yield "\x00".join(map(str, row))


@dataclass(frozen=True)
class WordSplit:
    """Sentences of one file, each word with a label. Sentence n has labels starts_N1[n] to starts_N1[n + 1]."""

    words: list[list[str]]
    labels_W: NDArray[np.int64]  # numbers of classes
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.words)

    @property
    def starts_N1(self) -> NDArray[np.int64]:
        """Where each sentence's labels begin, and where the last sentence's labels end."""
        return np.concatenate([[0], np.cumsum([len(words) for words in self.words])]).astype(np.int64)

    def take(self, rows_N: NDArray[np.int64]) -> "WordSplit":
        """Return some of the sentences."""
        starts_N1 = self.starts_N1
        labels = [self.labels_W[starts_N1[row] : starts_N1[row + 1]] for row in rows_N]
        return WordSplit([self.words[row] for row in rows_N], np.concatenate(labels))

    def lines(self) -> Iterator[str]:
        """Yield each sentence as one text, to be hashed."""
        labels = iter(self.labels_W.tolist())
        for words in self.words:
            yield "\x00".join(f"{word}\x01{next(labels)}" for word in words)


Rows = Split | WordSplit


@dataclass(frozen=True)
class TaskData:
    """A task's rows by split (train, and one or several dev splits), and how they differ from the official ones."""

    task: Task
    splits: Mapping[str, Rows]
    notes: tuple[str, ...]
    sha256: str  # of all texts and labels in order, so that it does not depend on the file layout
    max_train_rows: int | None = None

    def limited(self, max_train_rows: int | None) -> "TaskData":
        """Return the same task with at most `max_train_rows` training rows, drawn once for all runs."""
        train = self.splits["train"]
        if max_train_rows is None or len(train) <= max_train_rows:
            return self
        order_N = np.random.default_rng(SUBSET_SEED).permutation(len(train))
        kept_N = np.sort(order_N[:max_train_rows])
        note = f"trained on {max_train_rows:,} of {len(train):,} rows (--max-train-rows)"
        return replace(
            self,
            splits={**self.splits, "train": train.take(kept_N)},
            notes=(*self.notes, note),
            max_train_rows=max_train_rows,
        )


def make_task_data(task: Task, splits: Mapping[str, Rows], remarks: Sequence[str] = ()) -> TaskData:
    """Return a task's rows with notes on them, compared with the official counts."""
    notes = list(remarks)
    for name, official in task.rows.items():
        if name not in splits:
            notes.append(f"no {name} split")
            continue
        split = splits[name]
        if split.left_out:
            notes.append(f"{split.left_out:,} unusable lines of {name} left out")
        if len(split) != official:
            notes.append(f"{name} is not the official split: {len(split):,} rows, officially {official:,}")
    return TaskData(task, splits, tuple(notes), hash_rows(splits))


def hash_rows(splits: Mapping[str, Rows]) -> str:
    """Return the SHA-256 of all texts and labels in order."""
    digest = hashlib.sha256()
    for name, split in splits.items():
        digest.update(f"{name}\x00{len(split)}\n".encode())
        for line in split.lines():
            digest.update(f"{line}\n".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def read_task(folder: Path, task: Task) -> TaskData:
    """Read one task of a GLUE folder.

    Raises:
        UserError: The task is missing.
        DamagedDataError: A line cannot be read; the message names the file and the line.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", "Name the folder that holds CoLA, SST-2 and so on.")
    place = folder / task.title
    if not place.is_dir():
        raise UserError(f"there is no folder {place}", f"Put the task's files there, or leave {task.key} out.")
    splits = {}
    for name in task.rows:
        path = next((place / file for file in task.files(name) if (place / file).is_file()), None)
        if path is not None:
            splits[name] = read_split(path, task)
        elif name != MISMATCHED:
            wanted = " or ".join(task.files(name))
            raise UserError(
                f"{place} has no {name} split", f"Put {wanted} there, or leave {task.key} out with --tasks."
            )
    return make_task_data(task, splits)


def read_split(path: Path, task: Task) -> Split:
    """Read one file.

    Raises:
        DamagedDataError: A line cannot be read, or there are none.
    """
    texts: list[list[str]] = [[] for _ in task.texts]
    labels: list[float] = []
    left_out = 0
    for number, row in (_json_rows if path.suffix == ".jsonl" else _tab_rows)(path, task):
        if row is None or row[-1] == task.no_label:
            left_out += 1
            continue
        labels.append(parse_label(row[-1], task, f"{path}, line {number}"))
        for column, text in zip(texts, row, strict=False):  # the label is the last field, with no column here
            column.append(text)
    if not labels:
        raise DamagedDataError(f"{path} holds no rows", "Restore it from a copy.")
    return Split(tuple(texts), np.array(labels, dtype=np.float64), left_out)


def parse_label(text: str, task: Task, where: str) -> float:
    """Return the number of a class given by name or number, or a score.

    Raises:
        DamagedDataError: The label is not one of the task's.
    """
    label = text.strip()
    if task.regression:
        if NUMBER.fullmatch(label) and 0 <= float(label) <= task.highest:
            return float(label)
        rule = f"a score is a number from 0 to {task.highest:g}"
    else:
        if label in task.classes:
            return task.classes.index(label)
        if label in map(str, range(len(task.classes))):
            return int(label)
        rule = f"{task.title}'s labels are {', '.join(task.classes)}, or 0 to {len(task.classes) - 1}"
    raise DamagedDataError(f"{where}: the label is {text!r}; {rule}", "Restore the file from a copy.")


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield numbered lines without their ends; bytes that are not UTF-8 are an error. A byte-order mark is dropped."""
    try:
        if (size := path.stat().st_size) > MAX_FILE_BYTES:
            raise DamagedDataError(
                f"{path} has {size:,} bytes; the largest file of GLUE has 80 million, and {MAX_FILE_BYTES:,} are read "
                "at most",
                "Is it the right file?",
            )
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "Make it readable.") from None
    refuse_pointer(str(path), content)
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").split(b"\n"), start=1):
        try:
            yield number, line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError as error:
            raise DamagedDataError(f"{path}, line {number}: byte {error.start} of it is not UTF-8", NOT_UTF8) from None


def _tab_rows(path: Path, task: Task) -> Iterator[tuple[int, list[str] | None]]:
    """Yield the texts and the label of each line; None for a broken line where the official file has some."""
    columns: list[int] = []
    width = 0
    for number, line in numbered_lines(path):
        fields = line.split("\t")
        if number == 1:
            columns, has_header = _find_columns(path, task, fields)
            width = len(fields)
            if has_header:
                continue
        if len(fields) == width:
            yield number, [fields[column] for column in columns]
        elif task.broken_rows:
            yield number, None
        else:
            raise DamagedDataError(
                f"{path}, line {number}: {len(fields)} fields; the first line has {width}",
                "Was the file cut short, or edited? Restore it from a copy.",
            )


def _find_columns(path: Path, task: Task, first: list[str]) -> tuple[list[int], bool]:
    """Return the places of the texts and the label, and whether the first line is a header."""
    wanted = (*task.texts, task.label)
    found = [next((first.index(name) for name in names if name in first), None) for names in wanted]
    if None not in found:
        return [place for place in found if place is not None], True
    headless = task.without_header
    if len(first) == len(headless) and first[headless.index(task.label[0])].strip() in {"0", "1"}:
        return [headless.index(names[0]) for names in wanted], False
    missing = [" or ".join(names) for names, place in zip(wanted, found, strict=True) if place is None]
    raise DamagedDataError(
        f"{path}, line 1: no column {', no column '.join(missing)}; it has {', '.join(first)[:200]}",
        "Name the columns as the official file does.",
    )


def _json_rows(path: Path, task: Task) -> Iterator[tuple[int, list[str] | None]]:
    """Yield the texts and the label of each JSON object."""
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_pairs_hook=json_object)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, dict):
            raise DamagedDataError(f"{path}, line {number}: no JSON object", "Restore the file from a copy.")
        row = []
        for names in (*task.texts, task.label):
            kinds = str | int | float if names is task.label else str
            name = next((name for name in names if _is_a(kinds, record.get(name))), None)
            if name is None:
                raise DamagedDataError(
                    f"{path}, line {number}: no field {' or '.join(names)} of the right kind; "
                    f"it has {', '.join(record)[:200]}",
                    "Name the fields as the official file does.",
                )
            row.append(str(record[name]))
        yield number, row


def _is_a(kinds: UnionType | type, value: object) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)  # a bool is an int to Python


def json_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make a JSON object's dict, for `json.loads`; a repeated key is an error, because its meaning is unclear."""
    record = dict(pairs)
    if len(record) < len(pairs):
        raise ValueError("a key stands twice")
    return record
