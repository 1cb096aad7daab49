"""What an own task is: its kind, its files and what of them is read. Its rows are not read yet."""

from dataclasses import dataclass, field
from pathlib import Path

from masklater.corpus.hub_rows import HubRows
from masklater.judge.metrics import METRICS, TAG_METRICS

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
COLUMNS = (".conll", ".conllu", ".txt", ".bio", ".iob", ".iob2")
OF_NUMBERS = ("pearson", "spearman")
OF_CLASSES = tuple(name for name in METRICS if name not in OF_NUMBERS)

Columns = dict[str, str | int | tuple[str, ...]]
"""Names of columns, or, of a file of words, numbers from 1; several whose texts are joined. By what they are for."""


@dataclass(frozen=True)
class Kind:
    """One kind of task."""

    columns: tuple[tuple[str, ...], ...]  # the names that are asked for, in one of these ways
    suffixes: tuple[str, ...]
    metrics: tuple[str, ...]
    default_metrics: tuple[str, ...]  # none: one has to be chosen
    own_keys: tuple[str, ...]  # beside kind, files, columns, metrics and rows


ONE, TWO = ("text", "label"), ("first", "second", "label")
CLASSES = ("labels", "rename", "no_label")
KINDS = {
    "classification": Kind((ONE,), TABLES, OF_CLASSES, ("accuracy",), CLASSES),
    "pair": Kind((TWO,), TABLES, OF_CLASSES, ("accuracy",), CLASSES),
    "regression": Kind((ONE, TWO), TABLES, OF_NUMBERS, OF_NUMBERS, ("range",)),
    "token": Kind((("word", "label"),), COLUMNS, tuple(TAG_METRICS), (), ("labels",)),
}
"""The table: what a task may be. A class for a text, or for two; a number for either; a class for each word."""


@dataclass(frozen=True)
class HubSplit:
    """A split of a data set that has not been looked for yet."""

    name: str  # hf:OWNER/NAME[:CONFIG][@REVISION]#SPLIT
    folder: Path  # folders of that name are looked for here

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class TaskFile:
    """A file, or a split of a data set, and what of it is read."""

    path: Path | HubSplit | HubRows  # the last one once it has been opened
    columns: Columns
    where: dict[str, str] = field(default_factory=dict)  # rows of which this holds alone

    def __str__(self) -> str:
        """Say which rows it stands for: the path, the commit of a data set, the condition."""
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
    columns: Columns  # where a file has none of its own; of words, where one is not given, the file's kind says it
    labels: tuple[str, ...]  # in the order of their numbers; empty: as the training data has them
    metrics: tuple[str, ...]
    rows: dict[str, int]  # official counts, by split
    range: tuple[float, float] | None = None
    rename: dict[str, str] = field(default_factory=dict)  # labels that files call otherwise
    no_label: str | None = None  # stands where there is no label: such rows are left out

    @property
    def title(self) -> str:
        """Its name in tables."""
        return self.key
