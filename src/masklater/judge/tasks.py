"""The definition of a task, and the nine tasks of GLUE (Wang et al., ICLR 2019, arXiv 1804.07461) in one table.

Own tasks come from a file (`task_file.py`), and become a Task once their rows are read (`own_data.py`). GLUE's row
counts are those of the official train and dev files. Class names are in the order of their numbers, as in `datasets`.
The main metric, by which epochs and grid points are chosen, is the first of `metrics`: Matthews for CoLA, Pearson for
STS-B, accuracy for all others.
"""

from dataclasses import dataclass, field
from typing import Any

from masklater.errors import UserError

MISMATCHED = "dev_mismatched"
"""MNLI's second dev split, from genres that are not in the training data. A copy without it is scored without it."""


@dataclass(frozen=True)
class Task:
    """What is learned and how it is scored; for GLUE's tasks, also where it is in the files."""

    key: str  # as in --tasks; of GLUE's, its name in `datasets`
    title: str  # as in tables, and the folder of the classic layout
    texts: tuple[tuple[str, ...], ...]  # for each of the one or two texts, the names its column goes by
    label: tuple[str, ...]  # the names the label's column goes by
    classes: tuple[str, ...]  # empty: regression
    metrics: tuple[str, ...]
    rows: dict[str, int]  # by split
    without_header: tuple[str, ...] = ()  # columns of files that have no header
    broken_rows: bool = False  # the official files hold lines that no reader can use
    no_label: str | None = None  # marks rows on which annotators did not agree: such rows are not part of GLUE
    lowest: float = 0.0  # of a regression's labels
    highest: float = 5.0
    in_average: bool | None = True  # None: there is no average
    tagging: bool = False  # every word has a class, not the row
    dev: tuple[str, ...] = ()  # dev splits of an own task: "dev", or several "dev_NAME"; the first one chooses
    definition: dict[str, Any] = field(default_factory=dict)  # of an own task, as its records keep it

    @property
    def regression(self) -> bool:
        """True where a number is predicted, not a class."""
        return not self.classes

    @property
    def main(self) -> str:
        """The metric by which epochs and grid points are chosen."""
        return score_name(self.metrics[0], self.dev[0] if self.dev else "dev")

    @property
    def two_dev_splits(self) -> bool:
        """Whether there is a dev split from other genres than the training data, as MNLI's."""
        return MISMATCHED in self.rows

    def files(self, split: str) -> tuple[str, ...]:
        """Return the file names under which a split is looked for; the first existing file is read."""
        names = [split]
        if split == "dev" and self.two_dev_splits:
            names = ["dev_matched", "dev"]
        return tuple(f"{name}.{kind}" for name in names for kind in ("tsv", "jsonl"))


def score_name(metric: str, split: str) -> str:
    """Return a metric's name on a dev split: its own on `dev`, `accuracy_mismatched` on `dev_mismatched`."""
    return metric + split.removeprefix("dev")


SENTENCE_PAIR = (("sentence1",), ("sentence2",))
ENTAILMENT = ("entailment", "not_entailment")

_NINE = (
    Task(
        key="cola",
        title="CoLA",
        texts=(("sentence",),),
        label=("label",),
        classes=("unacceptable", "acceptable"),
        metrics=("matthews",),
        rows={"train": 8551, "dev": 1043},
        without_header=("source", "label", "star", "sentence"),
    ),
    Task(
        key="sst2",
        title="SST-2",
        texts=(("sentence",),),
        label=("label",),
        classes=("negative", "positive"),
        metrics=("accuracy",),
        rows={"train": 67349, "dev": 872},
    ),
    Task(
        key="mrpc",
        title="MRPC",
        texts=(("#1 String", "sentence1"), ("#2 String", "sentence2")),
        label=("Quality", "label"),
        classes=("not_equivalent", "equivalent"),
        metrics=("accuracy", "f1"),
        rows={"train": 3668, "dev": 408},
    ),
    Task(
        key="stsb",
        title="STS-B",
        texts=SENTENCE_PAIR,
        label=("score", "label"),
        classes=(),
        metrics=("pearson", "spearman"),
        rows={"train": 5749, "dev": 1500},
    ),
    Task(
        key="qqp",
        title="QQP",
        texts=(("question1",), ("question2",)),
        label=("is_duplicate", "label"),
        classes=("not_duplicate", "duplicate"),
        metrics=("accuracy", "f1"),
        rows={"train": 363846, "dev": 40430},
        broken_rows=True,
    ),
    Task(
        key="mnli",
        title="MNLI",
        texts=(("sentence1", "premise"), ("sentence2", "hypothesis")),
        label=("gold_label", "label"),
        classes=("entailment", "neutral", "contradiction"),
        metrics=("accuracy",),
        rows={"train": 392702, "dev": 9815, MISMATCHED: 9832},
        no_label="-",
    ),
    Task(
        key="qnli",
        title="QNLI",
        texts=(("question",), ("sentence",)),
        label=("label",),
        classes=ENTAILMENT,
        metrics=("accuracy",),
        rows={"train": 104743, "dev": 5463},
    ),
    Task(
        key="rte",
        title="RTE",
        texts=SENTENCE_PAIR,
        label=("label",),
        classes=ENTAILMENT,
        metrics=("accuracy",),
        rows={"train": 2490, "dev": 277},
    ),
    Task(
        key="wnli",
        title="WNLI",
        texts=SENTENCE_PAIR,
        label=("label",),
        classes=("not_entailment", "entailment"),
        metrics=("accuracy",),
        rows={"train": 635, "dev": 71},
        in_average=False,
    ),
)

TASKS = {task.key: task for task in _NINE}
"""GLUE's table: tasks by their keys, in the order in which they are run and shown."""


def choose_tasks(text: str) -> tuple[Task, ...]:
    """Return the tasks that `--tasks` names, in the table's order.

    Raises:
        UserError: A name is not among them, or a task is named twice.
    """
    if text.strip() == "all":
        return tuple(TASKS.values())
    names = [name.strip().lower().replace("-", "") for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in TASKS]
    if unknown or not names:
        what = f"--tasks names {', '.join(unknown)}" if unknown else "--tasks names no task"
        raise UserError(what, f"Choose from {', '.join(TASKS)}, with commas between, or all.")
    if twice := [name for name in TASKS if names.count(name) > 1]:
        raise UserError(f"--tasks {text} names {', '.join(twice)} more than once", "Name each task once.")
    return tuple(task for key, task in TASKS.items() if key in names)
