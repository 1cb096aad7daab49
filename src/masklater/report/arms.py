"""Arms: runs that differ only in their seed form one arm, and the difference between seeds is its spread."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from statistics import fmean
from typing import Any

from masklater.report.runs import Run, Spent


@dataclass(frozen=True)
class Spread:
    """One figure over the seeds of an arm."""

    mean: float
    low: float
    high: float
    count: int  # of seeds

    @property
    def range(self) -> float:
        """The difference between the highest and the lowest."""
        return self.high - self.low


def spread_of(values: Sequence[float]) -> Spread | None:
    """Return the spread of the finite values; None where there is none."""
    finite = [value for value in values if math.isfinite(value)]
    return Spread(fmean(finite), min(finite), max(finite), len(finite)) if finite else None


@dataclass(frozen=True)
class Point:
    """The figures that the seeds of an arm measured at one of its steps."""

    spent: Spent
    loss: Spread | None
    accuracy: Spread | None


@dataclass(frozen=True)
class Arm:
    """Runs of one recipe under different seeds."""

    name: str
    runs: tuple[Run, ...]

    @property
    def ended(self) -> tuple[Run, ...]:
        """The runs that the arm's figures are of: the finished ones or, as long as there is none, all."""
        return tuple(run for run in self.runs if run.finished) or self.runs

    @property
    def loss(self) -> Spread | None:
        """The last losses under the common corruption; None where none is finite."""
        return spread_of([run.final.loss for run in self.ended if run.final])

    @property
    def spent(self) -> Spent:
        """The mean of what its runs had spent at their last steps."""
        return mean_spent([run.spent for run in self.ended])

    @property
    def spent_at_final(self) -> Spent | None:
        """The mean of what its runs had spent at their last evaluations."""
        spent = [run.final.spent for run in self.ended if run.final]
        return mean_spent(spent) if spent else None

    @property
    def points(self) -> list[Point]:
        """The steps at which all of its evaluated runs were evaluated."""
        evaluated = [{each.spent.steps: each for each in run.evaluations} for run in self.ended if run.evaluations]
        common = [step for step in (evaluated[0] if evaluated else ()) if all(step in each for each in evaluated)]
        points = []
        for step in common:
            at = [each[step] for each in evaluated]
            loss, accuracy = spread_of([one.loss for one in at]), spread_of([one.accuracy for one in at])
            points.append(Point(mean_spent([one.spent for one in at]), loss, accuracy))
        return points

    def final_by_source(self) -> dict[str, Spread | None]:
        """Return the last losses of each source, where held-out rows come from several."""
        finals = [run.final.by_source for run in self.ended if run.final]
        return {
            source: spread_of([each[source] for each in finals if source in each])
            for source in dict.fromkeys(name for each in finals for name in each)
        }

    def final(self, measure: str) -> Spread | None:
        """Return a figure of the last evaluations, by its name."""
        return spread_of([getattr(run.final, measure) for run in self.ended if run.final])


def mean_spent(each: Sequence[Spent]) -> Spent:
    """Return the mean of every measure that all of them have."""

    def mean(measure: str) -> float | None:
        amounts = [spent.of(measure) for spent in each]
        known = [amount for amount in amounts if amount is not None]
        return fmean(known) if len(known) == len(amounts) else None

    return Spent(**{measure: mean(measure) for measure in Spent.__dataclass_fields__})  # type: ignore[arg-type]


def find_arms(runs: Sequence[Run]) -> tuple[Arm, ...]:
    """Group runs by recipe, in the order of their first run; a second run of the same seed is a separate arm."""
    groups: list[tuple[dict[str, Any], list[Run]]] = []
    for run in runs:
        settings = {key: value for key, value in run.settings.items() if key != "seed"}
        for known, members in groups:
            if known == settings and run.recipe.seed not in {member.recipe.seed for member in members}:
                members.append(run)
                break
        else:
            groups.append((settings, [run]))
    names = name_groups([members for _, members in groups], runs)
    return tuple(Arm(name, tuple(members)) for name, (_, members) in zip(names, groups, strict=True))


def name_groups(groups: Sequence[Sequence[Run]], runs: Sequence[Run]) -> list[str]:
    """Return a name for each group: a single run's own name, else what its runs' names share, else all their names."""
    names = [members[0].name if len(members) == 1 else _shared_name(members, runs) for members in groups]
    return [
        " + ".join(run.name for run in members) if not name or names.count(name) > 1 else name
        for name, members in zip(names, groups, strict=True)
    ]


def _shared_name(members: Sequence[Run], runs: Sequence[Run]) -> str:
    """Return the folders that all members are in and not all runs are, then the beginning that members' names share."""
    top = len(Path(os.path.commonpath([run.path.absolute().parent for run in runs])).parts)
    every = [run.path.absolute().parent.parts[top:] for run in runs]
    parents = [run.path.absolute().parent.parts[top:] for run in members]
    shared: list[str] = []
    for place in range(-min(map(len, every)), 0):
        folders = {parts[place] for parts in parents}
        if len(folders) == 1 and folders != {parts[place] for parts in every}:
            shared += folders
    names = [run.path.name for run in members]
    begin = "".join(letters[0] for letters in takewhile(lambda each: len(set(each)) == 1, zip(*names, strict=False)))
    if not all(name[len(begin) :].isdecimal() for name in names):
        begin = begin[: max(begin.rfind(mark) for mark in "-_. ") + 1]  # not inside a word
    own = re.sub(r"[-_. ]+(seed|run|s)?[-_. ]*$|^(seed|run|s)[-_. ]+$", "", begin)
    return "/".join([*shared, *([own] if own else [])])
