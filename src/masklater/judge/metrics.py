"""Metrics in two tables: of rows, by scikit-learn and scipy, and of words with a label each."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masklater.judge.entities import entities

Metric = Callable[[NDArray[np.float64], NDArray[np.float64]], float]
"""A function of true and predicted values (numbers of classes, or scores) that returns at most 1."""


def accuracy(truth_N: NDArray[np.float64], predicted_N: NDArray[np.float64]) -> float:
    """The share of predictions that are right."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(truth_N, predicted_N))


def f1(truth_N: NDArray[np.float64], predicted_N: NDArray[np.float64]) -> float:
    """F1 of class 1; 0 where it is neither true nor predicted."""
    from sklearn.metrics import f1_score

    return float(f1_score(truth_N, predicted_N, pos_label=1, zero_division=0))


def macro_f1(truth_N: NDArray[np.float64], predicted_N: NDArray[np.float64]) -> float:
    """Return the mean of the F1 of every class that is true or predicted, all with the same weight."""
    from sklearn.metrics import f1_score

    return float(f1_score(truth_N, predicted_N, average="macro", zero_division=0))


def matthews(truth_N: NDArray[np.float64], predicted_N: NDArray[np.float64]) -> float:
    """Return Matthews' correlation; 0 where only one class is true, or only one is predicted."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(truth_N, predicted_N))


def pearson(truth_N: NDArray[np.float64], predicted_N: NDArray[np.float64]) -> float:
    """Return the correlation of scores; 0 where the true or the predicted ones are all the same."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, truth_N, predicted_N)


def spearman(truth_N: NDArray[np.float64], predicted_N: NDArray[np.float64]) -> float:
    """Return the correlation of ranks; 0 where the true or the predicted scores are all the same."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, truth_N, predicted_N)


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "f1": f1,
    "macro_f1": macro_f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}
"""The names that a task may list in `metrics`, except a token task."""


def words_right(
    truth_W: NDArray[np.int64], predicted_W: NDArray[np.int64], starts_N1: NDArray[np.int64], classes: Sequence[str]
) -> NDArray[np.int64]:
    """Count for each sentence the words whose label is right, and all words twice, as found and as true, [N, 3]."""
    right_W1 = np.concatenate([[0], np.cumsum(truth_W == predicted_W)])
    words_N = np.diff(starts_N1)
    return np.stack([np.diff(right_W1[starts_N1]), words_N, words_N], axis=1)


def entities_right(
    truth_W: NDArray[np.int64], predicted_W: NDArray[np.int64], starts_N1: NDArray[np.int64], classes: Sequence[str]
) -> NDArray[np.int64]:
    """Count for each sentence the entities that are right in words and type, those found and those true, [N, 3].

    A word without a prediction is outside of all entities.
    """
    names = np.array([*classes, "O"])  # -1, no prediction, is the last
    counts_N3 = np.zeros((len(starts_N1) - 1, 3), dtype=np.int64)
    for row, (start, end) in enumerate(pairwise(starts_N1)):
        true, found = (entities(names[labels_W[start:end]].tolist()) for labels_W in (truth_W, predicted_W))
        counts_N3[row] = len(true & found), len(found), len(true)
    return counts_N3


TagMetric = Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Sequence[str]], NDArray[np.int64]]
"""A function of each word's true and predicted label that returns counts for each sentence: right, found, true."""

TAG_METRICS: dict[str, TagMetric] = {"accuracy": words_right, "entity_f1": entities_right}
"""The names that a token task may list in `metrics`. Each is the F1 of its counts; for words this is the accuracy."""


def f1_of_counts(counts_N3: NDArray[np.int64]) -> float:
    """Return F1 of sentences' counts (right, found, true) in percent; 0 where nothing is true or found."""
    right, found, true = counts_N3.sum(axis=0).tolist()
    return 200 * right / (found + true) if found + true else 0.0


def compute_metrics(
    names: tuple[str, ...], truth_N: NDArray[np.float64], predicted_N: NDArray[np.float64]
) -> dict[str, float]:
    """Score predictions.

    Args:
        names: Names in METRICS.
        truth_N: Numbers of classes, or scores.
        predicted_N: The same.

    Returns:
        Each metric times 100.

    Raises:
        ValueError: A name is not in the table.
    """
    if unknown := [name for name in names if name not in METRICS]:
        raise ValueError(f"no metric is called {', '.join(unknown)}")
    return {name: 100 * METRICS[name](truth_N, predicted_N) for name in names}


def compute_tag_metrics(
    names: tuple[str, ...],
    truth_W: NDArray[np.int64],
    predicted_W: NDArray[np.int64],
    starts_N1: NDArray[np.int64],
    classes: Sequence[str],
) -> dict[str, float]:
    """Score predictions for words.

    Args:
        names: Of TAG_METRICS.
        truth_W: Numbers of classes.
        predicted_W: The same; -1 for a word that has no prediction.
        starts_N1: Sentence n has the words from starts_N1[n] to starts_N1[n + 1].
        classes: The names of the classes.

    Returns:
        Each metric times 100.
    """
    return {name: f1_of_counts(TAG_METRICS[name](truth_W, predicted_W, starts_N1, classes)) for name in names}


def _correlation(correlate: Any, truth_N: NDArray[np.float64], predicted_N: NDArray[np.float64]) -> float:
    """Return a correlation, or 0 with a constant, for which it is not defined."""
    if np.ptp(truth_N) == 0 or np.ptp(predicted_N) == 0:
        return 0.0
    return float(correlate(predicted_N, truth_N).statistic)
