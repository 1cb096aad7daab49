"""The rows of an own task, and the Task made from them: classes, or a regression's range, as in the training data."""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from masklater.corpus.hub_rows import HubRows, find_hub_rows
from masklater.errors import DamagedDataError, UserError
from masklater.judge.conll import read_sentences
from masklater.judge.data import Rows, Split, TaskData, WordSplit, make_task_data
from masklater.judge.data_set import class_names, read_data_set
from masklater.judge.entities import LABEL
from masklater.judge.own_task import HubSplit, OwnTask, TaskFile
from masklater.judge.readers import Record, read_table
from masklater.judge.tasks import Task

NUMBER = re.compile(r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{1,2})?")
ALL_DIFFERENT = 20
"""From this number of rows on, a different label in every row is taken for a mistake."""

Labelled = tuple[str, str]
"""A label, and its place for messages."""


def read_own(own: OwnTask) -> TaskData:
    """Read a task's files.

    Raises:
        UserError: A file is missing or cannot be read.
        DamagedDataError: A line cannot be used, or the files hold nothing to learn; the message names the place.
    """
    train = tuple(_open(file, own.key) for file in own.train)
    own = replace(own, train=train, dev={split: _open(file, own.key) for split, file in own.dev.items()})
    return _read_tagged(own) if own.kind == "token" else _read_rows(own)


def _open(file: TaskFile, key: str) -> TaskFile:
    """Find a dataset and the commit that it is read from; a file must exist."""
    if isinstance(file.path, HubSplit):
        return replace(file, path=find_hub_rows(file.path.name, file.path.folder))
    if isinstance(file.path, Path) and not file.path.is_file():
        raise UserError(f"there is no file {file.path}", f"Put it there as it was published, or leave {key} out.")
    return file


@dataclass
class _Rows:
    """The content of a split's files, and how many rows were left out or are odd."""

    texts: tuple[list[str], ...]
    labels: list[Labelled] = field(default_factory=list)
    blank: int = 0
    empty: int = 0
    unlabelled: int = 0

    def remarks(self, split: str, no_label: str | None) -> Iterator[str]:
        if self.blank:
            yield f"{self.blank:,} blank lines of {split} passed over"
        if self.empty:
            yield f"{self.empty:,} rows of {split} have an empty text"
        if self.unlabelled:
            yield f"{self.unlabelled:,} rows of {split} left out, their label being {no_label or 'empty'}"


def _read_rows(own: OwnTask) -> TaskData:
    rows = {split: _read_split(own, files) for split, files in _files(own)}
    remarks = [remark for split, each in rows.items() for remark in each.remarks(split, own.no_label)]
    task, number_of = _task_of(own, rows["train"].labels)
    splits = {
        split: Split(each.texts, np.array([number_of(*label) for label in each.labels], dtype=np.float64))
        for split, each in rows.items()
    }
    return make_task_data(task, splits, [*remarks, *_repeats(own, splits)])


def _repeats(own: OwnTask, splits: Mapping[str, Rows]) -> Iterator[str]:
    """Yield remarks on rows that are both trained on and scored on: their scores show what was learned by heart."""
    scored = {split: list(splits[split].lines()) for split in own.dev}
    trained = set().union(*scored.values()).intersection(splits["train"].lines())  # train may be large, and is not kept
    for split, lines in scored.items():
        if repeated := sum(line in trained for line in lines):
            yield f"{repeated:,} of {len(lines):,} rows of {split} stand in train too"


def _read_split(own: OwnTask, files: tuple[TaskFile, ...]) -> _Rows:
    texts = [name for name in own.columns if name != "label"]
    rows = _Rows(tuple([] for _ in texts))
    for file in files:
        columns = {name: _names(file.columns[name]) for name in (*texts, "label")}
        for where, record in _records(file, tuple(name for names in columns.values() for name in names)):
            if record is None:
                rows.blank += 1
                continue
            (label_column,) = columns["label"]
            label = _label_of(record[label_column], where, label_column, own.no_label)
            if label is None:
                rows.unlabelled += 1
                continue
            row = [" ".join(read_value(record[each], where, each, False) for each in columns[name]) for name in texts]
            rows.empty += not all(map(str.strip, row))
            for column, value in zip(rows.texts, row, strict=True):
                column.append(value)
            rows.labels.append((own.rename.get(label, label), where))
    _refuse_empty(rows.labels, files)
    return rows


def _label_of(value: Any, where: str, column: str, no_label: str | None) -> str | None:
    """Return the label of a row as text; None where it is what marks a row without a label."""
    label = "" if value is None else read_value(value, where, column, True).strip()
    if no_label is not None and (label == no_label or _as_number(label) == _as_number(no_label) is not None):
        return None
    if not label or (isinstance(value, float) and not math.isfinite(value)):
        shown = label or ("null" if value is None else "empty")
        remedy = f"Mend the row, or leave such rows out with `{_no_label_line(label)}`."
        if value is None:
            remedy += " Behind hf:, NA, None and null in a csv are null; a csv that is named itself keeps them."
        raise DamagedDataError(f"{where}: {column} is {shown}, which is no label", remedy)
    return label


def _no_label_line(label: str) -> str:
    """Return the line of TASKS.yaml that leaves such rows out."""
    return f"no_label: {json.dumps(label, ensure_ascii=False)}"  # quoted, as YAML takes - or None for something else


def _as_number(label: str) -> float | None:
    return float(label) if NUMBER.fullmatch(label) else None


def _names(column: str | int | tuple[str, ...]) -> tuple[str, ...]:
    return column if isinstance(column, tuple) else (str(column),)


def _records(file: TaskFile, columns: tuple[str, ...]) -> Iterator[Record]:
    """Yield the selected rows of a file."""
    wanted = tuple(dict.fromkeys([*columns, *file.where]))
    if isinstance(file.path, HubRows):
        records = read_data_set(file.path, wanted)
    else:
        assert isinstance(file.path, Path)  # a data set has been opened
        records = read_table(file.path, wanted)
    for where, record in records:
        if record is None or all(_as_text(record[column]) == value for column, value in file.where.items()):
            yield where, record


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).strip()


def _read_tagged(own: OwnTask) -> TaskData:
    words: dict[str, list[list[str]]] = {}
    labels: dict[str, list[Labelled]] = {}
    for split, files in _files(own):
        words[split], labels[split] = [], []
        for sentence, tags, where in (each for file in files for each in _sentences(file)):
            words[split].append(sentence)
            labels[split] += [(tag, where) for tag in tags]
        _refuse_empty(labels[split], files)
    if "entity_f1" in own.metrics:
        _refuse_other_schemes(labels)
    task, number_of = _task_of(own, labels["train"])
    splits = {
        split: WordSplit(words[split], np.array([number_of(*label) for label in labels[split]], dtype=np.int64))
        for split in labels
    }
    return make_task_data(task, splits, list(_repeats(own, splits)))


def _sentences(file: TaskFile) -> Iterator[tuple[list[str], list[str], str]]:
    """Yield words, their labels, and their place. Rows of a dataset without words are skipped."""
    if isinstance(file.path, Path):
        for words, tags, first in read_sentences(file.path, {name: int(str(at)) for name, at in file.columns.items()}):
            yield words, tags, f"{file.path}, in the sentence from line {first} on"
        return
    word, label = str(file.columns["word"]), str(file.columns["label"])
    for where, record in _records(file, (word, label)):
        words, tags = (record or {})[word], (record or {})[label]
        if not isinstance(words, list) or not isinstance(tags, list) or len(words) != len(tags):
            raise DamagedDataError(
                f"{where}: {word} and {label} are no lists of the same length", "Name columns that hold such lists."
            )
        if words:
            values = [read_value(each, where, word, False).strip() for each in words]
            yield values, [read_value(each, where, label, True).strip() for each in tags], where


def _files(own: OwnTask) -> Iterator[tuple[str, tuple[TaskFile, ...]]]:
    yield "train", own.train
    yield from ((split, (file,)) for split, file in own.dev.items())


def read_value(value: Any, where: str, column: str, is_label: bool) -> str:
    """Return a value as text. A label may also be a number or a truth value; a text may only be text."""
    if isinstance(value, bool) and is_label:
        return str(value).lower()
    if isinstance(value, str) or (is_label and isinstance(value, int | float)):
        return str(value)
    rule = "a label is text or a number" if is_label else "a text is text"
    shown = "null" if value is None else repr(str(value)[:60])
    raise DamagedDataError(f"{where}: {column} is {shown}, {rule}", "Mend the row, or name another column.")


def _refuse_empty(labels: list[Labelled], files: tuple[TaskFile, ...]) -> None:
    if not labels:
        raise DamagedDataError(f"{' and '.join(map(str, files))} holds no rows", "Name a file that holds some.")


def _refuse_other_schemes(labels: dict[str, list[Labelled]]) -> None:
    for label, where in (labelled for split in labels.values() for labelled in split):
        if not LABEL.fullmatch(label):
            raise DamagedDataError(
                f"{where}: the label is {label!r}; entity_f1 counts labels such as B-PER, I-PER and O",
                "Is it the right column? For labels of another kind write metrics: [accuracy].",
            )


def _task_of(own: OwnTask, train: list[Labelled]) -> tuple[Task, Callable[[str, str], float]]:
    """Return the task that the training data makes, and the function from a label to a number."""
    ends = (0.0, 1.0)
    classes: tuple[str, ...] = ()
    if own.kind == "regression":
        ends = own.range or _ends_of(train)
    else:
        classes = own.labels or _classes_named(own)
        if not classes:
            classes = _classes_of(train)
            if own.kind != "token":
                _refuse_written_in_two_ways(train)
    task = Task(
        key=own.key,
        title=own.title,
        texts=(),
        label=(),
        classes=classes,
        metrics=own.metrics,
        rows={split: own.rows[split] for split in ("train", *own.dev) if split in own.rows},
        lowest=ends[0],
        highest=ends[1],
        in_average=None,
        tagging=own.kind == "token",
        dev=tuple(own.dev),
        definition={
            "kind": own.kind,
            "files": {split: [str(file) for file in files] for split, files in _files(own)},
            "columns": own.columns,
            "labels": list(classes),
            "metrics": list(own.metrics),
            "range": list(ends) if own.kind == "regression" else None,
            **({"rename": own.rename} if own.rename else {}),
            **({"no_label": own.no_label} if own.no_label is not None else {}),
        },
    )
    if own.kind == "regression":
        return task, lambda label, where: read_number(label, where, own.range)
    numbers = {label: number for number, label in enumerate(classes)}

    def number_of(label: str, where: str) -> float:
        if label not in numbers:
            listed = ", ".join(classes[:20]) + (", ..." if len(classes) > 20 else "")
            which = "labels lists" if own.labels else "the training data has"
            remedy = "Mend the row, or list every label in TASKS.yaml: labels: [...]."
            if own.kind != "token":
                remedy += f" If it marks rows without a label: {_no_label_line(label)}."
            raise DamagedDataError(f"{where}: the label is {label!r}; {which} {listed}", remedy)
        return numbers[label]

    return task, number_of


def _classes_named(own: OwnTask) -> tuple[str, ...]:
    """Return the classes in the order of their numbers if all training data are datasets that name them, else ()."""
    names = [
        class_names(file.path, str(file.columns["label"])) if isinstance(file.path, HubRows) else ()
        for file in own.train
    ]
    if not all(names):
        return ()
    called = dict.fromkeys(own.rename.get(name, name) for each in names for name in each if name != own.no_label)
    return tuple(called) if len(called) > 1 else ()


def _classes_of(train: list[Labelled]) -> tuple[str, ...]:
    """Return the labels that occur, in numerical order if they are numbers, else in alphabetical order."""
    labels = {label for label, _ in train}
    where = train[0][1]
    if len(labels) == 1:
        raise DamagedDataError(
            f"{where}: the label is {labels.pop()!r}, as everywhere in train: there is nothing to learn",
            "Is it the right column?",
        )
    if len(labels) == len(train) >= ALL_DIFFERENT:
        raise DamagedDataError(
            f"{where}: the label is {train[0][0][:60]!r}, and each row of train has one of its own",
            "Is it the right column?",
        )
    whole = all(re.fullmatch(r"-?[0-9]{1,9}", label) for label in labels)
    return tuple(sorted(labels, key=lambda label: (int(label), label) if whole else label))


def _refuse_written_in_two_ways(train: list[Labelled]) -> None:
    """Refuse labels that differ in case, or in how a number is written: files of two origins have 1 and 1.0."""
    labels: dict[str | float, str] = {}
    for label, where in train:
        number = _as_number(label)
        same = labels.setdefault(label.casefold() if number is None else number, label)
        if same != label:
            raise DamagedDataError(
                f"{where}: the label is {label!r}, and elsewhere in train {same!r}",
                f"If it is one class, write rename: {{{json.dumps(label, ensure_ascii=False)}: "
                f"{json.dumps(same, ensure_ascii=False)}}}. If there are two, list every label: labels: [...].",
            )


def _ends_of(train: list[Labelled]) -> tuple[float, float]:
    numbers = [read_number(label, where, None) for label, where in train]
    if min(numbers) == max(numbers):
        raise DamagedDataError(
            f"{train[0][1]}: the label is {numbers[0]:g}, as everywhere in train: there is nothing to learn",
            "Is it the right column?",
        )
    return min(numbers), max(numbers)


def read_number(label: str, where: str, ends: tuple[float, float] | None) -> float:
    """Return a label as a number, which must lie between the ends where they are given."""
    if not NUMBER.fullmatch(label):
        raise DamagedDataError(
            f"{where}: the label is {label[:60]!r}, which is no number", "Mend the row, or name another column."
        )
    number = float(label)
    if ends is not None and not ends[0] <= number <= ends[1]:
        raise DamagedDataError(
            f"{where}: the label is {label}, and range is from {ends[0]:g} to {ends[1]:g}",
            "Mend the row, or the range.",
        )
    return number
