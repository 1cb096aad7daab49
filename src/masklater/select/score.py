"""How much more one run loses than another: on each row, to choose rows, and on each token (method.md).

Both runs see each row under the same masks, those of an evaluation. Letters: N rows; for others see masking/batch.py.
"""

import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from masklater.console import Meter
from masklater.machine.precision import Precision
from masklater.masking.batch import IGNORE
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.batches import BatchMaker

DECIMALS = 3
"""Decimals of a score, in nats.

Losses computed with another pass size differ only in much later digits, which must not affect the choice.
"""


def mean_losses(
    model: MaskLaterForMaskedLM, batches: BatchMaker, micro_rows: int, precision: Precision, what: str
) -> NDArray[np.float64]:
    """Compute the mean loss of the targets of every row, in nats, by row number; nan where a row has none.

    Args:
        model: In evaluation mode, on the device of `precision`.
        batches: Batches of all rows of one SHARDS.
        micro_rows: Rows of a forward pass.
        precision: The precision to compute in.
        what: What is being done, for the progress bar.
    """
    (source,) = batches.rows.sources
    number_N = source.find(np.arange(source.num_rows))
    mean_N = np.empty(source.num_rows)
    done = 0
    for ids_BT, loss_BT in _losses(model, batches, micro_rows, precision, what):
        targets_B = (ids_BT != IGNORE).sum(dim=1)
        mean_B = loss_BT.sum(dim=1) / targets_B  # 0 / 0 is nan
        mean_N[number_N[done : done + len(mean_B)]] = mean_B.numpy()
        done += len(mean_B)
    return mean_N


class TokenLosses(NamedTuple):
    """Losses by the token that was to be predicted."""

    sum_V: NDArray[np.float64]  # nats
    seen_V: NDArray[np.int64]  # targets


def token_losses(
    model: MaskLaterForMaskedLM, batches: BatchMaker, micro_rows: int, precision: Precision, what: str
) -> TokenLosses:
    """Add up the losses of the targets of all rows by token; arguments as for `mean_losses`."""
    V = len(batches.corruption.is_special_V)
    sum_V, seen_V = np.zeros(V), np.zeros(V, dtype=np.int64)
    for ids_BT, loss_BT in _losses(model, batches, micro_rows, precision, what):
        in_use_BT = ids_BT != IGNORE
        ids_N = ids_BT[in_use_BT].numpy()
        sum_V += np.bincount(ids_N, loss_BT[in_use_BT].numpy(), minlength=V)
        seen_V += np.bincount(ids_N, minlength=V)
    return TokenLosses(sum_V, seen_V)


def _losses(
    model: MaskLaterForMaskedLM, batches: BatchMaker, micro_rows: int, precision: Precision, what: str
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the ids and losses of the targets of all rows, ids_BT and loss_BT (float64), pass by pass, on the CPU."""
    num_rows = batches.rows.num_rows
    done, began = 0, time.monotonic()
    with Meter(what, num_rows) as meter, torch.no_grad():
        for on_cpu in batches.fixed(num_rows, micro_rows):
            batch = on_cpu.to(precision.device)
            with precision.autocast():
                loss_BT = model.target_losses(batch)
            yield on_cpu.target_ids_BT, loss_BT.double().cpu()
            done += len(loss_BT)
            meter.set(done, f"{done / (time.monotonic() - began):,.0f} rows/s")


def score(early_N: NDArray[np.float64], reference_N: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return what the early model has yet to learn of each row, in nats per target; -inf where there is no target."""
    score_N = np.round(early_N - reference_N, DECIMALS).astype(np.float32)
    return np.where(np.isnan(score_N), np.float32(-np.inf), score_N)


def best(score_N: NDArray[np.float32], keep: float) -> NDArray[np.int64]:
    """Return the numbers of the rows with the highest scores, ascending; of equal ones the first.

    Args:
        score_N: The scores of all rows.
        keep: The share of rows to keep, above 0; at least one row is kept.
    """
    kept = max(1, round(keep * len(score_N)))
    return np.sort(np.argsort(-score_N, kind="stable")[:kept]).astype(np.int64)


def excess(early: TokenLosses, reference: TokenLosses) -> NDArray[np.float32]:
    """Return what the early model has yet to learn of each token, excess_V, in nats per target; 0 without targets.

    Args:
        early: Losses of the early model.
        reference: Losses of the reference, at the same targets.
    """
    difference_V = (early.sum_V - reference.sum_V) / np.maximum(early.seen_V, 1)
    return np.round(difference_V, DECIMALS).astype(np.float32)
