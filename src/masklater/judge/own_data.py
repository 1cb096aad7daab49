"""The rows of an own task, and the Task they make: classes, and a regression's ends, as the training data has them."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from masklater.errors import DamagedDataError
from masklater.judge.conll import read_sentences
from masklater.judge.data import Split, TaskData, WordSplit, make_task_data
from masklater.judge.entities import LABEL
from masklater.judge.readers import read_table
from masklater.judge.task_file import OwnTask
from masklater.judge.tasks import Task

NUMBER = re.compile(r"[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]{1,2})?")
ALL_DIFFERENT = 20
"""From so many rows on, a label of its own in each is taken for a mistake."""

Labelled = tuple[str, str]
"""A label, and where it stands."""


def read_own(own: OwnTask) -> TaskData:
    """Read a task's files.

    Raises:
        UserError: One cannot be read.
        DamagedDataError: A line cannot be used, or the files hold nothing to learn; the message names the place.
    """
    return _read_tagged(own) if own.kind == "token" else _read_rows(own)


def _read_rows(own: OwnTask) -> TaskData:
    names = tuple(own.columns)
    texts: dict[str, tuple[list[str], ...]] = {}
    labels: dict[str, list[Labelled]] = {}
    remarks: list[str] = []
    for split, paths in _files(own):
        texts[split], labels[split] = tuple([] for name in names if name != "label"), []
        blank = empty = 0
        for where, record in (row for path in paths for row in read_table(path, tuple(map(str, own.columns.values())))):
            if record is None:
                blank += 1
                continue
            values = [
                read_value(record[str(own.columns[name])], where, str(own.columns[name]), name == "label")
                for name in names
            ]
            row = [value for name, value in zip(names, values, strict=True) if name != "label"]
            empty += not all(map(str.strip, row))
            for column, value in zip(texts[split], row, strict=True):
                column.append(value)
            labels[split].append((values[names.index("label")].strip(), where))
        if blank:
            remarks.append(f"{blank:,} blank lines of {split} passed over")
        if empty:
            remarks.append(f"{empty:,} rows of {split} have an empty text")
        _refuse_empty(labels[split], paths)
    task, number_of = _task_of(own, labels["train"])
    splits = {
        split: Split(texts[split], np.array([number_of(*label) for label in labels[split]], dtype=np.float64))
        for split in labels
    }
    return make_task_data(task, splits, remarks)


def _read_tagged(own: OwnTask) -> TaskData:
    words: dict[str, list[list[str]]] = {}
    labels: dict[str, list[Labelled]] = {}
    columns = {name: int(column) for name, column in own.columns.items()}
    for split, paths in _files(own):
        words[split], labels[split] = [], []
        for path in paths:
            for sentence, tags, first in read_sentences(path, columns):
                words[split].append(sentence)
                labels[split] += [(tag, f"{path}, in the sentence from line {first} on") for tag in tags]
        _refuse_empty(labels[split], paths)
    if "entity_f1" in own.metrics:
        _refuse_other_schemes(labels)
    task, number_of = _task_of(own, labels["train"])
    splits = {
        split: WordSplit(words[split], np.array([number_of(*label) for label in labels[split]], dtype=np.int64))
        for split in labels
    }
    return make_task_data(task, splits)


def _files(own: OwnTask) -> Iterator[tuple[str, tuple[Path, ...]]]:
    yield "train", own.train
    yield from ((split, (path,)) for split, path in own.dev.items())


def read_value(value: Any, where: str, column: str, is_label: bool) -> str:
    """A value as text. A label may be a number or a truth value too; a text may be nothing but text."""
    if isinstance(value, bool) and is_label:
        return str(value).lower()
    if isinstance(value, str) or (is_label and isinstance(value, int | float)):
        return str(value)
    rule = "a label is text or a number" if is_label else "a text is text"
    raise DamagedDataError(f"{where}: {column} is {str(value)[:60]!r}, {rule}", "Mend the row, or name another column.")


def _refuse_empty(labels: list[Labelled], paths: tuple[Path, ...]) -> None:
    if not labels:
        raise DamagedDataError(f"{' and '.join(map(str, paths))} holds no rows", "Name a file that holds some.")


def _refuse_other_schemes(labels: dict[str, list[Labelled]]) -> None:
    for label, where in (labelled for split in labels.values() for labelled in split):
        if not LABEL.fullmatch(label):
            raise DamagedDataError(
                f"{where}: the label is {label!r}; entity_f1 counts labels such as B-PER, I-PER and O",
                "Is it the right column? For labels of another kind write metrics: [accuracy].",
            )


def _task_of(own: OwnTask, train: list[Labelled]) -> tuple[Task, Callable[[str, str], float]]:
    """The task that the training data makes, and how a label becomes a number."""
    ends = (0.0, 1.0)
    classes: tuple[str, ...] = ()
    if own.kind == "regression":
        ends = own.range or _ends_of(train)
    else:
        classes = own.labels or _classes_of(train)
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
            "files": {split: [str(path) for path in paths] for split, paths in _files(own)},
            "columns": own.columns,
            "labels": list(classes),
            "metrics": list(own.metrics),
            "range": list(ends) if own.kind == "regression" else None,
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
            raise DamagedDataError(f"{where}: the label is {label!r}; {which} {listed}", remedy)
        return numbers[label]

    return task, number_of


def _classes_of(train: list[Labelled]) -> tuple[str, ...]:
    """The labels that there are, in the order of their numbers if they are numbers, else of the alphabet."""
    labels = {label for label, _ in train}
    where = train[0][1]
    if "" in labels:
        where = next(place for label, place in train if not label)
        raise DamagedDataError(f"{where}: the label is empty", "Mend the row, or name another column.")
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


def _ends_of(train: list[Labelled]) -> tuple[float, float]:
    numbers = [read_number(label, where, None) for label, where in train]
    if min(numbers) == max(numbers):
        raise DamagedDataError(
            f"{train[0][1]}: the label is {numbers[0]:g}, as everywhere in train: there is nothing to learn",
            "Is it the right column?",
        )
    return min(numbers), max(numbers)


def read_number(label: str, where: str, ends: tuple[float, float] | None) -> float:
    """A label as a number, which lies between the ends where they are given."""
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
