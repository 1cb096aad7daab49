"""The score of each row: how much more one run loses on it than another (method.md, fewer rows).

Both see each row under the same masks, those of an evaluation. Letters: N rows; for others see masking/batch.py.
"""

import time

import numpy as np
import torch
from numpy.typing import NDArray

from masklater.console import Meter
from masklater.machine.precision import Precision
from masklater.masking.batch import IGNORE
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.batches import BatchMaker

DECIMALS = 3
"""Of a score, in nats. Losses of passes of other sizes differ in digits far behind them, which must not choose."""


def mean_losses(
    model: MaskLaterForMaskedLM, batches: BatchMaker, micro_rows: int, precision: Precision, what: str
) -> NDArray[np.float64]:
    """Compute the mean loss of the targets of every row, in nats, by row number; nan where a row has none.

    Args:
        model: In evaluation mode, on the device of `precision`.
        batches: Of all rows of one SHARDS.
        micro_rows: Rows of a forward pass.
        precision: What is computed in.
        what: Is being done, for the progress that is shown.
    """
    (source,) = batches.rows.sources
    number_N = source.find(np.arange(source.num_rows))
    mean_N = np.empty(source.num_rows)
    done, began = 0, time.monotonic()
    with Meter(what, source.num_rows) as meter, torch.no_grad():
        for on_cpu in batches.fixed(source.num_rows, micro_rows):
            batch = on_cpu.to(precision.device)
            with precision.autocast():
                loss_BT = model.target_losses(batch)
            targets_B = (on_cpu.target_ids_BT != IGNORE).sum(dim=1)
            mean_B = loss_BT.double().sum(dim=1).cpu() / targets_B  # 0 / 0 is nan
            mean_N[number_N[done : done + len(mean_B)]] = mean_B.numpy()
            done += len(mean_B)
            meter.set(done, f"{done / (time.monotonic() - began):,.0f} rows/s")
    return mean_N


def score(early_N: NDArray[np.float64], reference_N: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return what the early model has yet to learn of each row, in nats a target; -inf where there is no target."""
    score_N = np.round(early_N - reference_N, DECIMALS).astype(np.float32)
    return np.where(np.isnan(score_N), np.float32(-np.inf), score_N)


def best(score_N: NDArray[np.float32], keep: float) -> NDArray[np.int64]:
    """Return the numbers of the rows with the highest scores, ascending; of equal ones the first.

    Args:
        score_N: Of all rows.
        keep: Their share, above 0; at least one row is kept.
    """
    kept = max(1, round(keep * len(score_N)))
    return np.sort(np.argsort(-score_N, kind="stable")[:kept]).astype(np.int64)
