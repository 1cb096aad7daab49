"""TASKS.yaml: own tasks as data. Read whole: every mistake in it is in one message (docs/how-to/judge.md)."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masklater.errors import MISSING, Fault, FaultsError, UserError
from masklater.judge.metrics import METRICS, TAG_METRICS
from masklater.judge.tasks import TASKS, Task, choose_tasks
from masklater.recipe.tree import read_yaml

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
COLUMNS = (".conll", ".conllu", ".txt", ".bio", ".iob", ".iob2")
OF_NUMBERS = ("pearson", "spearman")
OF_CLASSES = tuple(name for name in METRICS if name not in OF_NUMBERS)


@dataclass(frozen=True)
class Kind:
    """One kind of task."""

    columns: tuple[tuple[str, ...], ...]  # the names that are asked for, in one of these ways
    suffixes: tuple[str, ...]
    metrics: tuple[str, ...]
    default_metrics: tuple[str, ...]  # none: one has to be chosen
    own_key: str  # beside kind, files, columns, metrics and rows


ONE, TWO = ("text", "label"), ("first", "second", "label")
KINDS = {
    "classification": Kind((ONE,), TABLES, OF_CLASSES, ("accuracy",), "labels"),
    "pair": Kind((TWO,), TABLES, OF_CLASSES, ("accuracy",), "labels"),
    "regression": Kind((ONE, TWO), TABLES, OF_NUMBERS, OF_NUMBERS, "range"),
    "token": Kind((("word", "label"),), COLUMNS, tuple(TAG_METRICS), (), "labels"),
}
"""The table: what a task may be. A class for a text, or for two; a number for either; a class for each word."""


@dataclass(frozen=True)
class OwnTask:
    """A task as TASKS.yaml describes it; its rows are not read yet."""

    key: str
    kind: str
    train: tuple[Path, ...]
    dev: dict[str, Path]  # by split: "dev", or "dev_NAME" of several
    columns: dict[str, str | int]  # of token tasks numbers from 1; where one is not given, the file's kind says it
    labels: tuple[str, ...]  # in the order of their numbers; empty: as the training data has them
    metrics: tuple[str, ...]
    rows: dict[str, int]  # official counts, by split
    range: tuple[float, float] | None = None

    @property
    def title(self) -> str:
        """Its name in tables."""
        return self.key


def read_task_file(path: Path) -> tuple[OwnTask, ...]:
    """Read TASKS.yaml.

    Raises:
        UserError: It cannot be read.
        FaultsError: It has mistakes; all of them are listed.
    """
    tree = read_yaml(path, "a file of tasks", "names to tasks", "docs/how-to/judge.md")
    if not tree:
        raise UserError(f"{path} holds no task", "See docs/how-to/judge.md.")
    faults: list[Fault] = []
    tasks = [_read(name, entry, path.parent, faults) for name, entry in tree.items()]
    if faults:
        raise FaultsError(str(path), faults)
    return tuple(task for task in tasks if task is not None)


def find_tasks(text: str) -> tuple[Task | OwnTask, ...]:
    """Find the tasks that `judge --tasks` names: those of files, `glue`, and tasks of GLUE by name.

    Raises:
        UserError: There is no such file or name, a task is named twice, or a file cannot be read.
        FaultsError: A file has mistakes.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    files = [part for part in parts if Path(part).suffix.lower() in {".yaml", ".yml"}]
    names = [part for part in parts if part not in files]
    found: list[Task | OwnTask] = []
    if names == ["glue"]:
        found += TASKS.values()
    elif names or not files:
        for name in names:
            if name.lower().replace("-", "") not in TASKS:
                where = (
                    "is a file, and own tasks stand in a file that ends in .yaml"
                    if Path(name).is_file()
                    else "is no task of GLUE's"
                )
                raise UserError(
                    f"--tasks {text}: {name} {where}",
                    f"Give a file such as tasks.yaml, glue for all nine, or some of {', '.join(TASKS)}, with commas.",
                )
        found += choose_tasks(",".join(names))
    for file in files:
        found += read_task_file(Path(file))
    keys = [task.key for task in found]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise UserError(f"--tasks {text} names {', '.join(twice)} more than once", "Name each task once.")
    return tuple(found)


def _read(name: str, entry: Any, folder: Path, faults: list[Fault]) -> OwnTask | None:
    """Build one task, or add to the faults."""
    if not NAME.fullmatch(name):
        rule = "a task's name is letters, digits, '.', '_' and '-', beginning with a letter or digit"
        faults.append(Fault(name, name, rule, "Rename it."))
    if name.lower() in {*TASKS, "all", "glue", "hub"}:
        faults.append(Fault(name, name, "the name means something else to --tasks", "Rename it."))
    if not isinstance(entry, Mapping):
        faults.append(
            Fault(name, entry, "a task is a mapping of kind, files, columns and so on", "See docs/how-to/judge.md.")
        )
        return None
    given = _Entry(name, entry, faults)
    kind_name = str(entry.get("kind"))
    kind = KINDS.get(kind_name)
    if kind is None:
        given.fault("kind", "a task's kind is one of these", f"Write {_listed(KINDS)}.")
        return None
    given.refuse_unknown(("kind", "files", "columns", "metrics", "rows", kind.own_key))
    train, dev = _files(given, kind, folder)
    labels = _labels(given)
    return OwnTask(
        key=name,
        kind=kind_name,
        train=train,
        dev=dev,
        columns=_columns(given, kind, kind_name == "token"),
        labels=labels,
        metrics=_metrics(given, kind, labels),
        rows=_rows(given, dev),
        range=_range(given),
    )


@dataclass(frozen=True)
class _Entry:
    """A task's part of the file, and where its faults go."""

    name: str
    tree: Mapping[str, Any]
    faults: list[Fault]

    def fault(self, key: str, rule: str, remedy: str, value: object = None) -> None:
        if value is None:
            value = self.tree.get(key, MISSING)
        self.faults.append(Fault(f"{self.name}.{key}", value, rule, remedy))

    def refuse_unknown(self, known: tuple[str, ...], within: str | None = None) -> None:
        tree = self.tree if within is None else self.tree.get(within, {})
        for key in tree:
            if key not in known:
                close = difflib.get_close_matches(key, known, n=1)
                remedy = f"Did you mean {close[0]}?" if close else f"Known here: {', '.join(known)}."
                self.fault(key if within is None else f"{within}.{key}", "there is no such key here", remedy, tree[key])


def _files(given: _Entry, kind: Kind, folder: Path) -> tuple[tuple[Path, ...], dict[str, Path]]:
    files = given.tree.get("files")
    if not isinstance(files, Mapping):
        given.fault("files", "files is a mapping of train and dev", "Write files: {train: FILE, dev: FILE}.")
        return (), {}
    given.refuse_unknown(("train", "dev"), "files")

    def path_of(where: str, value: object) -> Path:
        if not isinstance(value, str) or not value.strip():
            given.fault(
                where,
                "this is the name of a file",
                "Write one, from TASKS.yaml's folder on.",
                MISSING if value is None else value,
            )
            return folder
        path = folder / value
        if path.suffix.lower() not in kind.suffixes:
            given.fault(where, f"a file of this kind ends in {_listed(kind.suffixes)}", "Rename or convert it.", value)
        elif not path.is_file():
            given.fault(where, f"there is no file {path}", "Names are from TASKS.yaml's folder on.", value)
        return path

    train, dev = files.get("train"), files.get("dev")
    listed = train if isinstance(train, list) and train else [train]
    paths = tuple(path_of("files.train", each) for each in listed)
    if isinstance(dev, Mapping) and dev:
        for name in dev:
            if not NAME.fullmatch(name):
                given.fault("files.dev", "a dev file's name is letters, digits, '.', '_' and '-'", "Rename it.", name)
        return paths, {f"dev_{name}": path_of(f"files.dev.{name}", each) for name, each in dev.items()}
    return paths, {"dev": path_of("files.dev", dev)}


def _columns(given: _Entry, kind: Kind, numbers: bool) -> dict[str, str | int]:
    columns = given.tree.get("columns", {} if numbers else None)
    ways = " or ".join(", ".join(way) for way in kind.columns)
    if not isinstance(columns, Mapping):
        given.fault("columns", f"columns says where {ways} stand", f"Write columns: {{{kind.columns[0][0]}: ...}}.")
        return {}
    given.refuse_unknown(tuple(dict.fromkeys(name for way in kind.columns for name in way)), "columns")
    if not numbers and tuple(sorted(columns)) not in {tuple(sorted(way)) for way in kind.columns}:
        given.fault("columns", f"columns names {ways}, neither more nor fewer", "Name the file's columns for them.")
    for name, value in columns.items():
        if numbers and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000):
            given.fault(f"columns.{name}", "a column of such a file is a number, from 1", "Count the columns.", value)
        if not numbers and (not isinstance(value, str) or not value):
            given.fault(f"columns.{name}", "a column is named as the file's first line names it", "Quote it.", value)
    named = [value for value in columns.values() if isinstance(value, str | int)]
    if len(set(named)) < len(named):
        given.fault("columns", "each column is used once", "Name another column.")
    return dict(columns)


def _labels(given: _Entry) -> tuple[str, ...]:
    labels = given.tree.get("labels")
    if labels is None:
        return ()
    rule = (
        "labels lists every label once, as text or whole numbers, in the order of their numbers; there are at least 2"
    )
    whole = isinstance(labels, list) and all(
        isinstance(label, str | int) and not isinstance(label, bool) and str(label).strip() for label in labels
    )
    texts = tuple(str(label).strip() for label in labels) if whole else ()
    if len(texts) < 2 or len(set(texts)) < len(texts):
        given.fault("labels", rule, "Quote yes, no, on, off, true and false, which YAML takes for something else.")
        return ()
    return texts


def _metrics(given: _Entry, kind: Kind, labels: tuple[str, ...]) -> tuple[str, ...]:
    metrics = given.tree.get("metrics", list(kind.default_metrics) or None)
    if not isinstance(metrics, list) or not metrics or any(metric not in kind.metrics for metric in metrics):
        given.fault(
            "metrics", "metrics is a list, the first of which chooses epochs", f"Choose from {_listed(kind.metrics)}."
        )
        return ()
    if len(set(metrics)) < len(metrics):
        given.fault("metrics", "each metric is named once", "Remove one of them.")
    if "f1" in metrics and len(labels) != 2:
        rule = "f1 is that of the second of two labels, which have to be listed"
        given.fault("metrics", rule, "Write labels: [OTHER, POSITIVE], or metrics: [macro_f1].")
    return tuple(metrics)


def _rows(given: _Entry, dev: dict[str, Path]) -> dict[str, int]:
    rows = given.tree.get("rows", {})
    splits = {split.removeprefix("dev_"): split for split in ("train", *dev)}
    if not isinstance(rows, Mapping):
        given.fault(
            "rows",
            "rows is a mapping of official counts",
            f"Write rows: {{{', '.join(f'{name}: N' for name in splits)}}}.",
        )
        return {}
    given.refuse_unknown(tuple(splits), "rows")
    for name, value in rows.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            given.fault(f"rows.{name}", "a count is a positive whole number", "Write the official one, or none.", value)
    return {splits[name]: value for name, value in rows.items() if name in splits}


def _range(given: _Entry) -> tuple[float, float] | None:
    ends = given.tree.get("range")
    if ends is None or given.tree["kind"] != "regression":
        return None
    if (
        not isinstance(ends, list)
        or len(ends) != 2
        or any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends)
        or not -1e30 < ends[0] < ends[1] < 1e30
    ):
        given.fault("range", "range is the lowest and the highest label there can be", "Write range: [0, 5].")
        return None
    return float(ends[0]), float(ends[1])


def _listed(names: Any) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else str(last)
