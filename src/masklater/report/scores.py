"""The parts of a SCORES folder that a report needs: the content of scores.json."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, model_validator

from masklater.errors import UserError
from masklater.record import read_record

SCORE_AGAIN = "Score the encoder again."


class _Part(BaseModel):
    """A part of scores.json that a report reads; other fields are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class SeedSpread(_Part):
    """One metric over the seeds, in percent."""

    median: float
    min: float
    max: float
    count: int


class TaskScore(_Part):
    """The metrics of one task."""

    metric: dict[str, SeedSpread]
    main: str
    note: str | None = None
    in_average: bool | None = True  # whether GLUE's average counts it; None: it is not a GLUE task
    data_sha256: str | None = None  # of its texts and labels; None: scored by an earlier version

    @model_validator(mode="after")
    def _main_is_there(self) -> Self:
        if self.main not in self.metric:
            raise ValueError(f"main is {self.main}, and metric holds {', '.join(self.metric) or 'nothing'}")
        return self

    @property
    def spread(self) -> SeedSpread:
        """The spread of the main metric."""
        return self.metric[self.main]


class ScoredEncoder(_Part):
    """The encoder that was scored: a folder, and the RUN it was exported from where that is known.

    Names are as the user gave them. Names that are not absolute are relative to the working directory of that command.
    """

    path: str
    sha256: str
    run: str | None = None
    step: int | None = None  # of the run, when its encoder was exported
    training_sha256: str | None = None  # of the run up to that step; None: no run, or scored by an earlier version


class Average(_Part):
    """An average, and the number of tasks it is over."""

    value: float
    tasks: int


class Scores(_Part):
    """The content of scores.json."""

    encoder: ScoredEncoder
    settings: dict[str, Any] = {}
    tasks: dict[str, TaskScore]
    average: Average | None = None

    @property
    def averaged(self) -> set[str]:
        """The tasks that the average is over."""
        return {key for key, task in self.tasks.items() if task.in_average}


class Pairs(_Part):
    """The content of a file that `masklater blimp RUN --out RUN/blimp.json` wrote: the score on minimal pairs."""

    accuracy: float  # percent of the pairs
    pairs: int
    step: int  # the step of the run when it was scored
    pairs_sha256: str | None = None  # of the sentences; None: scored by an earlier version
    training_sha256: str | None = None  # of the run up to that step; None: scored by an earlier version


@dataclass(frozen=True)
class Difference:
    """A run's main metric minus the baseline's, in percentage points."""

    median: float  # of the medians
    lowest: float  # between any two seeds
    highest: float


def difference(run: TaskScore, baseline: TaskScore) -> Difference | None:
    """Return the difference from the baseline on one task; None where the two name different main metrics."""
    if run.main != baseline.main:
        return None
    own, other = run.spread, baseline.spread
    return Difference(own.median - other.median, own.min - other.max, own.max - other.min)


def together(each: Sequence[Scores]) -> Scores:
    """Combine the scores of several pre-training seeds: means of medians, lowest and highest over all runs."""
    if len(each) == 1:
        return each[0]
    tasks: dict[str, list[TaskScore]] = {}
    for task, score in (item for scores in each for item in scores.tasks.items()):
        if task not in tasks or tasks[task][0].main == score.main:
            tasks.setdefault(task, []).append(score)
    averages = [scores.average for scores in each if scores.average]
    same = len(averages) == len(each) and all(one.averaged == each[0].averaged for one in each)
    return Scores(
        encoder=each[0].encoder,
        settings=each[0].settings,
        tasks={
            task: TaskScore(
                metric={found[0].main: _pooled(found)},
                main=found[0].main,
                note=_notes(found),
                in_average=found[0].in_average,
            )
            for task, found in tasks.items()
        },
        average=Average(value=fmean(one.value for one in averages), tasks=averages[0].tasks) if same else None,
    )


def _pooled(found: Sequence[TaskScore]) -> SeedSpread:
    spreads = [score.spread for score in found]
    return SeedSpread(
        median=fmean(spread.median for spread in spreads),
        min=min(spread.min for spread in spreads),
        max=max(spread.max for spread in spreads),
        count=sum(spread.count for spread in spreads),
    )


def _notes(found: Sequence[TaskScore]) -> str | None:
    return "; ".join(dict.fromkeys(score.note for score in found if score.note)) or None


def read_scores(folder: Path) -> Scores:
    """Read a SCORES folder.

    Raises:
        UserError: There is no scores.json in it.
        DamagedDataError: scores.json differs from what scoring writes.
    """
    path = folder / "scores.json"
    if not path.is_file():
        raise UserError(f"{folder} is no SCORES folder: it has no scores.json", "Name a folder of finished scores.")
    return read_record(path, Scores, SCORE_AGAIN)


def read_pairs(run: Path) -> Pairs | None:
    """Read the scores of a run on minimal pairs: RUN/blimp.json, or RUN/scores/blimp.json; None without either.

    Raises:
        DamagedDataError: The file differs from what scoring writes.
    """
    for path in (run / "blimp.json", run / "scores" / "blimp.json"):
        if path.is_file():
            return read_record(path, Pairs, SCORE_AGAIN)
    return None
