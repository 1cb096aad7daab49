"""The masking rate over a run: constant, linear (arXiv 2305.15096: from 30% down to 15%), in steps, or random.

A rate decides a shape: C, M and T of a row follow from it. So linear and random schedules take few rates, evenly
spaced, both ends included, and a compiled step sees few shapes.
"""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass

from masklater.recipe.masking import MaskingSettings
from masklater.recipe.timeline import Span
from masklater.seeds import derive_seed

LOOKED_AT = 200
"""The number of points of a run that are counted where the rate changes with every step."""


def levels_of(settings: MaskingSettings) -> list[tuple[float, float]]:
    """Return the (share of the run, rate from there on) pairs, in order, of a schedule whose rate follows progress."""
    schedule = settings.schedule
    if schedule.name == "linear" and schedule.number is not None:
        assert schedule.end is not None  # the recipe has been validated
        rates = _evenly(settings.rate, schedule.end, schedule.number)
        return [(level / len(rates), rate) for level, rate in enumerate(rates)]
    return [(0.0, settings.rate), *schedule.steps]


def rate_at(settings: MaskingSettings, progress: float) -> float:
    """Return the masking rate of a step that begins at `progress`, the share of the run that has passed (0 to 1)."""
    schedule = settings.schedule
    if schedule.name == "linear" and schedule.number is None:
        assert schedule.end is not None
        return settings.rate + (schedule.end - settings.rate) * min(progress, 1.0)
    return [rate for share, rate in levels_of(settings) if progress >= share][-1]


def rates_of(settings: MaskingSettings) -> list[float]:
    """Return the rates that a schedule takes, or moves between; first the one at which held-out rows are scored."""
    schedule = settings.schedule
    if schedule.name == "random":
        return [settings.rate, *_random_rates(settings)]
    ends = [] if schedule.end is None else [schedule.end]
    return [settings.rate, *ends, *(rate for _, rate in schedule.steps)]


@dataclass(frozen=True)
class RatePath:
    """The masking rate of each step of a run, or of a part of it, as a function of the step's number.

    Args:
        settings: The recipe's `masking` section.
        seed: The seed of random rates.
        step_share: The share of the run that one step takes.
        first: The first step of the part, counted from 0.
        before: The share of the run that has passed when the part begins.
    """

    settings: MaskingSettings
    seed: int = 0
    step_share: float = 0.0
    first: int = 0
    before: float = 0.0

    def rate(self, step: int) -> float:
        """Return the rate of a step."""
        if self.settings.schedule.name == "random":
            rates = _random_rates(self.settings)
            block, place = divmod(step, len(rates))
            # Each rate occurs once in each round of steps, so that the run's spending is soon near its expectation.
            return sorted(rates, key=lambda rate: derive_seed(self.seed, f"rate {rate}", block))[place]
        return rate_at(self.settings, self._progress(step))

    def steps_by_rate(self, steps: int) -> Counter[float]:
        """Count the steps at each rate, over `steps` steps from the first on.

        Counts are integers, except for a linear schedule without levels, which is sampled at few points.
        """
        found: Counter[float] = Counter()
        schedule = self.settings.schedule
        if schedule.name == "random":
            rates = _random_rates(self.settings)
            stop, each = self.first + steps, len(rates)
            begin = min(-(-self.first // each) * each, stop)  # the start of the first whole round
            end = max(stop // each * each, begin)
            found.update(dict.fromkeys(rates, (end - begin) // each))
            found.update(self.rate(step) for step in (*range(self.first, begin), *range(end, stop)))
        elif schedule.name == "linear" and schedule.number is None:
            for point in range(LOOKED_AT):
                step = self.first + (point + 0.5) * steps / LOOKED_AT
                found[rate_at(self.settings, self._progress(step))] += steps / LOOKED_AT  # type: ignore[assignment]
        else:
            levels = levels_of(self.settings)
            numbers = range(self.first, self.first + steps)
            begins = [bisect_left(numbers, share, key=self._progress) for share, _ in levels] + [steps]
            for (_, rate), begin, end in zip(levels, begins, begins[1:], strict=False):
                found[rate] += end - begin
        return +found

    def _progress(self, step: float) -> float:
        return self.before + (step - self.first) * self.step_share


def rates_in(span: Span) -> RatePath:
    """Return the masking rate along a phase: it follows the phase if that sets a rate, else the run."""
    duration, settings = span.recipe.duration, span.recipe.masking
    per_step = duration.spent(span.step)
    if span.settings.has_rates:
        return RatePath(settings, span.recipe.seed, per_step / span.amount, span.first)
    whole = duration.amount
    return RatePath(settings, span.recipe.seed, per_step / whole, span.first, span.begins / whole)


def _random_rates(settings: MaskingSettings) -> list[float]:
    schedule = settings.schedule
    assert schedule.low is not None
    assert schedule.high is not None
    return _evenly(schedule.low, schedule.high, schedule.number or 1)


def _evenly(first: float, last: float, number: int) -> list[float]:
    """Return `number` evenly spaced numbers, both ends included; one number where the ends are equal."""
    if first == last:
        return [first]
    return [first + (last - first) * place / (number - 1) for place in range(number)]
