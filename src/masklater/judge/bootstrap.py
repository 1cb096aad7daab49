"""Does one encoder score higher than another by more than dev rows and seeds explain? A paired bootstrap over both.

Each resample draws as many dev rows, and as many seeds, as there are, with replacement, the same ones for both
encoders. Its difference is the difference of the metric on these rows, averaged over these seeds. Letters: N rows of a
dev split, W words.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masklater.judge.data import Rows, WordSplit
from masklater.judge.metrics import METRICS, TAG_METRICS, f1_of_counts

RESAMPLES = 1000
LEVEL = 95
"""Percentage of the resamples that lie inside the interval."""

_OfRows = Callable[[NDArray[np.int64]], float]
"""A function that computes a metric of some rows, in percent."""


@dataclass(frozen=True)
class Difference:
    """The difference of two encoders in one metric on one dev split, in percentage points."""

    one: float  # mean over the seeds
    other: float
    low: float  # of the interval of `one - other`
    high: float
    seeds: int  # seeds that both have

    @property
    def difference(self) -> float:
        """By how much the first one scores higher."""
        return self.one - self.other

    @property
    def exceeds(self) -> bool:
        """Whether the interval excludes 0: rows and seeds alone do not explain such a difference."""
        return self.low > 0 or self.high < 0

    def record(self) -> dict[str, Any]:
        """Return the fields and the values derived from them, as in comparison.json."""
        verdict = "within the spread" if not self.exceeds else "higher" if self.difference > 0 else "lower"
        return {**asdict(self), "difference": self.difference, "exceeds": self.exceeds, "verdict": verdict}


def compare_answers(
    metric: str,
    classes: Sequence[str],
    split: Rows,
    one: Sequence[NDArray[np.float64]],
    other: Sequence[NDArray[np.float64]],
) -> Difference:
    """Compare two encoders' predictions for a dev split.

    Args:
        metric: A name in METRICS, or in TAG_METRICS where words have labels.
        classes: The task's classes.
        split: The true labels.
        one: The first encoder's predictions, by seed: [N], or [W] where words have labels.
        other: The second encoder's predictions, for the same seeds in the same order.
    """
    return _compare(
        [[_scorer(metric, classes, split, answers) for answers in side] for side in (one, other)], len(split)
    )


def compare_means(one_N: NDArray[np.float64], other_N: NDArray[np.float64]) -> Difference:
    """Compare two encoders by their mean score on the same rows, where a score is at most 1; no seed is drawn."""
    return _compare([[_mean_of(one_N)], [_mean_of(other_N)]], len(one_N))


def _compare(of_rows: list[list[_OfRows]], rows: int) -> Difference:
    """Compare both sides' scores on some rows, by seed."""
    rng = np.random.default_rng(0)
    seeds = len(of_rows[0])
    every_N = np.arange(rows)
    whole = [np.mean([score(every_N) for score in side]) for side in of_rows]
    differences = np.empty(RESAMPLES)
    for resample in range(RESAMPLES):
        rows_N = rng.integers(0, rows, rows)
        scores = np.array([[score(rows_N) for score in side] for side in of_rows])
        drawn = rng.integers(0, seeds, seeds)
        differences[resample] = (scores[0] - scores[1])[drawn].mean()
    low, high = np.percentile(differences, [(100 - LEVEL) / 2, (100 + LEVEL) / 2])
    return Difference(float(whole[0]), float(whole[1]), float(low), float(high), seeds)


def _mean_of(scores_N: NDArray[np.float64]) -> _OfRows:
    return lambda rows_N: 100 * float(scores_N[rows_N].mean())


def _scorer(metric: str, classes: Sequence[str], split: Rows, answers: NDArray[np.float64]) -> _OfRows:
    """Return the function that computes the metric of some rows, in percent."""
    if isinstance(split, WordSplit):
        counts_N3 = TAG_METRICS[metric](split.labels_W, answers.astype(np.int64), split.starts_N1, classes)
        return lambda rows_N: f1_of_counts(counts_N3[rows_N])
    labels_N = split.labels
    if metric == "accuracy":
        right_N = labels_N == answers
        return lambda rows_N: 100 * float(right_N[rows_N].mean())
    return lambda rows_N: 100 * METRICS[metric](labels_N[rows_N], answers[rows_N])
