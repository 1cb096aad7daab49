"""The point where a run first reaches a quality, by linear interpolation between its evaluations."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from masklater.report.runs import Evaluation, Spent


@dataclass(frozen=True)
class Reached:
    """The point where a run first reached a loss."""

    spent: Spent
    at_most: bool  # the first evaluation that can tell was already below: reached there or before


def first_reach(evaluations: Sequence[Evaluation], loss: float) -> Reached | None:
    """Find where a run first reaches a loss, in nats under the common corruption; None where it does not.

    Between two evaluations, the loss is assumed to fall in a straight line over spending. Evaluations that are not
    finite are ignored.
    """
    before: Evaluation | None = None
    for evaluation in evaluations:
        if not math.isfinite(evaluation.loss):
            before = None
            continue
        if evaluation.loss <= loss:
            if before is None:
                return Reached(evaluation.spent, at_most=True)
            share = (before.loss - loss) / (before.loss - evaluation.loss)
            return Reached(before.spent.towards(evaluation.spent, share), at_most=False)
        before = evaluation
    return None
