"""Laws of what training compute buys: straight lines in its logarithm, fitted by least squares.

For a loss, its logarithm is fitted, which is a power law: loss = a x FLOPs^b. For an accuracy, its percentage is
fitted.

How far seeds move a law is found by drawing laws: each run's figure is replaced by its budget's mean plus a normal
deviation. The size of deviations is known only from a few runs, two seeds here and there. So it is drawn too, from what
the seeds of all arms leave open. For a single law this is Student's interval. Deviations drawn from the few measured
ones, as in a bootstrap, gave intervals that held the truth 76 to 91 times in a hundred instead of 95.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean

DRAWS = 1000
INTERVAL = 0.95
NEVER = 1e6
"""From this multiple of the FLOPs of another arm on, an arm counts as never there; no multiplier is higher."""
FAR = 2.0
"""Budgets further apart than this factor give a law."""
SAME = 0.05
"""Budgets whose logarithms differ by at most this are one: models of several sizes spent it, to within a step."""


@dataclass(frozen=True)
class Line:
    """A line of y over x, where x is the logarithm of FLOPs."""

    intercept: float
    slope: float

    def at(self, x: float) -> float:
        """Return y at a given x."""
        return self.intercept + self.slope * x

    def where(self, y: float) -> float:
        """Return the x at which the line has a given y."""
        return (y - self.intercept) / self.slope


@dataclass(frozen=True)
class Level:
    """One budget: its logarithm, and the figures measured there, one for each seed."""

    x: float
    ys: tuple[float, ...]


@dataclass(frozen=True)
class Law:
    """A line through the levels of an arm, and what the line might have been under other seeds."""

    levels: tuple[Level, ...]
    line: Line
    draws: tuple[Line, ...]  # empty where no arm has several seeds

    @property
    def budgets(self) -> list[float]:
        """The x of the levels, two or more; of several levels at one budget the last."""
        xs = [level.x for level in self.levels]
        return [x for x, following in pairwise([*xs, math.inf]) if following - x > SAME]

    @property
    def misfit(self) -> float:
        """The largest distance of a level's mean from the line."""
        return max(abs(fmean(level.ys) - self.line.at(level.x)) for level in self.levels)

    def covers(self, x: float) -> bool:
        """Return whether x is between the smallest and the largest budget, apart from rounding."""
        return self.levels[0].x - 0.01 <= x <= self.levels[-1].x + 0.01


@dataclass(frozen=True)
class Estimate:
    """A figure with the interval of its draws."""

    value: float
    low: float | None  # None: nothing is known of the spread of seeds
    high: float | None  # None with a low: there is no upper end, as the interval holds arms that never get there
    measured: bool  # not beyond the budgets that were run

    @property
    def is_endless(self) -> bool:
        """Whether the interval has no upper end."""
        return self.low is not None and self.high is None


def can_have_law(levels: Sequence[Level]) -> bool:
    """Return whether budgets are far enough apart for a law."""
    xs = [level.x for level in levels]
    return len(xs) > 1 and max(xs) - min(xs) >= math.log(FAR)


def fit_line(levels: Sequence[Level]) -> Line:
    """Fit a line by least squares over all figures of levels, of which there are two or more."""
    points = [(level.x, y) for level in levels for y in level.ys]
    middle, height = fmean(x for x, _ in points), fmean(y for _, y in points)
    slope = sum((x - middle) * (y - height) for x, y in points) / sum((x - middle) ** 2 for x, _ in points)
    return Line(height - slope * middle, slope)


def draw_deviations(arms: Sequence[Sequence[Level]]) -> list[float]:
    """Draw standard deviations that seeds may have, given those measured; none where no level has several seeds.

    Their variance has an inverse chi-squared distribution, with as many degrees of freedom as there are seeds beyond
    the first of each level.
    """
    several = [level.ys for levels in arms for level in levels if len(level.ys) > 1]
    squares = sum((y - fmean(ys)) ** 2 for ys in several for y in ys)
    degrees, draw = sum(len(ys) - 1 for ys in several), random.Random(0)
    return [math.sqrt(squares / draw.gammavariate(degrees / 2, 2)) for _ in range(DRAWS if degrees else 0)]


def fit_law(levels: Sequence[Level], deviations: Sequence[float], seed: str) -> Law:
    """Fit the law of an arm, and draw others.

    Args:
        levels: The levels of the arm.
        deviations: The result of `draw_deviations` for all arms: one for each law that is drawn, in the same order for
            all arms.
        seed: A name, so that a report repeats itself.
    """
    ordered = tuple(sorted(levels, key=lambda level: level.x))
    draw, lines = random.Random(seed), []
    for deviation in deviations:
        moved = [Level(level.x, tuple(draw.gauss(fmean(level.ys), deviation) for _ in level.ys)) for level in ordered]
        lines.append(fit_line(moved))
    return Law(ordered, fit_line(ordered), tuple(lines))


def height_at(law: Law, x: float) -> Estimate:
    """Estimate the figure that a law gives for a budget."""
    return _estimate(law.line.at(x), [line.at(x) for line in law.draws], law.covers(x))


def slope_of(law: Law) -> Estimate:
    """Estimate the slope of a law."""
    return _estimate(law.line.slope, [line.slope for line in law.draws], True)


def multiplier(law: Law, reference: Law, x: float, falls: bool) -> Estimate | None:
    """Estimate an arm's FLOPs over the reference's where both are as good as the reference at one of its budgets.

    None where one of the laws does not get better with compute. Among the draws, an arm that does not get better never
    gets there, and a reference that does not get better is ignored.
    """

    def gets_better(line: Line) -> bool:
        return line.slope != 0 and (line.slope < 0) == falls

    if not (gets_better(law.line) and gets_better(reference.line)):
        return None
    place = law.line.where(reference.line.at(x))
    ratios = [
        _ratio(own.where(base.at(x)) - x) if gets_better(own) else NEVER
        for own, base in zip(law.draws, reference.draws, strict=True)
        if gets_better(base)
    ]
    found = _estimate(_ratio(place - x), ratios, law.covers(place) and reference.covers(x))
    if reference.draws and not ratios:
        return replace(found, low=0.0)  # nothing is ruled out
    return replace(found, high=None) if found.high == NEVER else found


def _ratio(logarithm: float) -> float:
    return math.exp(logarithm) if logarithm < math.log(NEVER) else NEVER


def _estimate(value: float, drawn: Sequence[float], measured: bool) -> Estimate:
    if not drawn:
        return Estimate(value, None, None, measured)
    ordered, outside = sorted(drawn), (1 - INTERVAL) / 2
    low, high = (ordered[round(part * (len(ordered) - 1))] for part in (outside, 1 - outside))
    return Estimate(value, low, high, measured)
