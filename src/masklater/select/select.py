"""From SHARDS and two runs to a SELECTION: open, check, score, keep the best, write."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from masklater.corpus.selection import write_selection
from masklater.errors import UserError
from masklater.folders import refuse_existing
from masklater.recipe.recipe import PrecisionName
from masklater.recipe.sections import ON_A_CPU
from masklater.select.score import best, mean_losses, score
from masklater.select.scorers import open_scorers

SHOWN = 5
"""Number of rows at either end whose numbers are printed, for a look at them."""


@dataclass(frozen=True)
class SelectResult:
    """The rows that were kept, and the cost of finding them."""

    out: str
    rows: int  # scored
    kept: int
    lowest_kept: float | None  # score, nats per target; None, as below, where no row has a target
    mean_kept: float | None
    mean_dropped: float | None
    best_rows: list[int]  # numbers of the rows with the highest scores, highest first
    worst_rows: list[int]  # and with the lowest, lowest first
    flops: float
    seconds: float


def select(
    shards: Path,
    early: Path,
    reference: Path,
    keep: float,
    out: Path,
    *,
    micro_rows: int = ON_A_CPU,
    precision: PrecisionName = "auto",
) -> SelectResult:
    """Choose the rows that an early model can learn most from, compared with a reference that has learned similar text.

    Args:
        shards: The SHARDS whose training rows are scored.
        early: A RUN that has begun to learn, usually on these rows.
        reference: A RUN that was trained on other text of the wanted kind.
        keep: The share of the rows to keep.
        out: The SELECTION to make.
        micro_rows: Rows of a forward pass.
        precision: The precision to compute in, as in a recipe.

    Raises:
        UserError: As in `open_scorers`; or the share is not valid, or `out` exists already.
    """
    began = time.monotonic()
    refuse_existing(out)
    if not 0 < keep <= 1:
        raise UserError(f"--keep {keep:g}: it is a share of the rows, above 0 and at most 1", "For example 0.5.")
    scorers = open_scorers(shards, early, reference, precision)
    early_N, reference_N, facts = scorers.measure(mean_losses, micro_rows)
    score_N = score(early_N, reference_N)
    rows_K = best(score_N, keep)
    write_selection(out, scorers.shards, rows_K, score_N, {"keep": keep, **facts})
    return _sum_up(out, score_N, rows_K, facts["flops"], time.monotonic() - began)


def _sum_up(
    out: Path, score_N: NDArray[np.float32], rows_K: NDArray[np.int64], flops: float, seconds: float
) -> SelectResult:
    order_N = np.argsort(-score_N, kind="stable").tolist()
    kept, dropped = (
        [value for value in each.tolist() if math.isfinite(value)]
        for each in (score_N[rows_K], np.delete(score_N, rows_K))
    )
    return SelectResult(
        out=str(out),
        rows=len(score_N),
        kept=len(rows_K),
        lowest_kept=min(kept, default=None),
        mean_kept=fmean(kept) if kept else None,
        mean_dropped=fmean(dropped) if dropped else None,
        best_rows=order_N[:SHOWN],
        worst_rows=order_N[::-1][:SHOWN],
        flops=flops,
        seconds=seconds,
    )
