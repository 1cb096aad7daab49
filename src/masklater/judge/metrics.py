"""GLUE's metrics, by scikit-learn and scipy, in one table."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Metric = Callable[[NDArray[np.float64], NDArray[np.float64]], float]
"""From what is true and what was predicted, numbers of classes or scores, to at most 1."""


def accuracy(truth_N: NDArray[np.float64], predicted_N: NDArray[np.float64]) -> float:
    """The share of predictions that are right."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(truth_N, predicted_N))


def f1(truth_N: NDArray[np.float64], predicted_N: NDArray[np.float64]) -> float:
    """F1 of class 1; 0 where it is neither true nor predicted."""
    from sklearn.metrics import f1_score

    return float(f1_score(truth_N, predicted_N, pos_label=1, zero_division=0))


def matthews(truth_N: NDArray[np.float64], predicted_N: NDArray[np.float64]) -> float:
    """Matthews' correlation; 0 where one class alone is true, or predicted."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(truth_N, predicted_N))


def pearson(truth_N: NDArray[np.float64], predicted_N: NDArray[np.float64]) -> float:
    """The correlation of scores; 0 where either are all the same."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, truth_N, predicted_N)


def spearman(truth_N: NDArray[np.float64], predicted_N: NDArray[np.float64]) -> float:
    """The correlation of ranks; 0 where either are all the same."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, truth_N, predicted_N)


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}
"""The table: what a task may name in `metrics`."""


def compute_metrics(
    names: tuple[str, ...], truth_N: NDArray[np.float64], predicted_N: NDArray[np.float64]
) -> dict[str, float]:
    """Score predictions.

    Args:
        names: Of METRICS.
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


def _correlation(correlate: Any, truth_N: NDArray[np.float64], predicted_N: NDArray[np.float64]) -> float:
    """A correlation with a constant is not defined, and counts as 0."""
    if np.ptp(truth_N) == 0 or np.ptp(predicted_N) == 0:
        return 0.0
    return float(correlate(predicted_N, truth_N).statistic)
