"""GLUE's metrics, by scikit-learn and scipy, in percent."""

import numpy as np
from numpy.typing import NDArray


def compute_metrics(
    names: tuple[str, ...], truth_N: NDArray[np.float64], predicted_N: NDArray[np.float64]
) -> dict[str, float]:
    """Score predictions.

    Args:
        names: Of accuracy, f1, matthews, pearson, spearman.
        truth_N: Numbers of classes, or scores.
        predicted_N: The same.

    Returns:
        Each metric times 100. F1 is that of class 1. A metric that is not defined, as a correlation with a constant is
        not, counts as 0.
    """
    return {name: _compute(name, truth_N, predicted_N) for name in names}


def _compute(name: str, truth_N: NDArray[np.float64], predicted_N: NDArray[np.float64]) -> float:
    from scipy.stats import pearsonr, spearmanr
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    if name in {"pearson", "spearman"}:
        if np.ptp(truth_N) == 0 or np.ptp(predicted_N) == 0:
            return 0.0
        correlate = pearsonr if name == "pearson" else spearmanr
        return 100 * float(correlate(predicted_N, truth_N).statistic)
    if name == "accuracy":
        return 100 * float(accuracy_score(truth_N, predicted_N))
    if name == "f1":
        return 100 * float(f1_score(truth_N, predicted_N, pos_label=1, zero_division=0))
    if name == "matthews":
        return 100 * float(matthews_corrcoef(truth_N, predicted_N))
    raise ValueError(f"no metric is called {name}")
