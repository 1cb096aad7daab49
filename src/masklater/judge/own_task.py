"""The definition of an own task: its kind, its files and which parts are read. Its rows are not read yet."""

from dataclasses import dataclass, field
from pathlib import Path

from masklater.corpus.hub_rows import HubRows
from masklater.judge.metrics import METRICS, TAG_METRICS

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
COLUMNS = (".conll", ".conllu", ".txt", ".bio", ".iob", ".iob2")
OF_NUMBERS = ("pearson", "spearman")
OF_CLASSES = tuple(name for name in METRICS if name not in OF_NUMBERS)

Columns = dict[str, str | int | tuple[str, ...]]
"""For each use, a column: its name or, in a file of words, its number from 1. Texts of several names are joined."""


@dataclass(frozen=True)
class Kind:
    """One kind of task."""

    columns: tuple[tuple[str, ...], ...]  # the names that are required, in one of these ways
    suffixes: tuple[str, ...]
    metrics: tuple[str, ...]
    default_metrics: tuple[str, ...]  # empty: one has to be chosen
    own_keys: tuple[str, ...]  # besides kind, files, columns, metrics and rows


ONE, TWO = ("text", "label"), ("first", "second", "label")
CLASSES = ("labels", "rename", "no_label")
KINDS = {
    "classification": Kind((ONE,), TABLES, OF_CLASSES, ("accuracy",), CLASSES),
    "pair": Kind((TWO,), TABLES, OF_CLASSES, ("accuracy",), CLASSES),
    "regression": Kind((ONE, TWO), TABLES, OF_NUMBERS, OF_NUMBERS, ("range", "no_label")),
    "token": Kind((("word", "label"),), COLUMNS, tuple(TAG_METRICS), (), ("labels",)),
}
"""The kinds of tasks: a class for one text or two; a number for one text or two; a class for each word."""


@dataclass(frozen=True)
class HubSplit:
    """A split of a dataset that has not been looked up yet."""

    name: str  # hf:OWNER/NAME[:CONFIG][@REVISION]#SPLIT
    folder: Path  # folders named in `name` are looked for here

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class TaskFile:
    """A file, or a split of a dataset, and the parts that are read."""

    path: Path | HubSplit | HubRows  # the last one once it has been opened
    columns: Columns
    where: dict[str, str] = field(default_factory=dict)  # only rows with these values

    def __str__(self) -> str:
        """Return which rows are read: the path, the commit of a dataset, the condition."""
        named = str(self.path)
        if isinstance(self.path, HubRows):
            named = self.path.shown + (f", commit {self.path.commit}" if self.path.commit else "")
        return named + "".join(f", where {column} is {value}" for column, value in self.where.items())


@dataclass(frozen=True)
class OwnTask:
    """A task as TASKS.yaml describes it."""

    key: str
    kind: str
    train: tuple[TaskFile, ...]
    dev: dict[str, TaskFile]  # by split: "dev", or "dev_NAME" of several
    columns: Columns  # for files without their own; for words, the file's format gives defaults
    labels: tuple[str, ...]  # in the order of their numbers; empty: as the training data has them
    metrics: tuple[str, ...]
    rows: dict[str, int]  # official counts, by split
    range: tuple[float, float] | None = None
    rename: dict[str, str] = field(default_factory=dict)  # labels that have another name in files
    no_label: str | None = None  # marks a row without a label: such rows are left out

    @property
    def title(self) -> str:
        """Its name in tables."""
        return self.key
