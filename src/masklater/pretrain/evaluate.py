"""Loss and accuracy on held-out rows, and the unigram baseline they have to beat."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from masklater.machine.distributed import ALONE, World
from masklater.machine.precision import Precision
from masklater.masking.batch import IGNORE, MaskedBatch
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.batches import BatchMaker

TOKENS_COUNTED, ROWS_COUNTED_AT_ONCE = 2**21, 1024
"""How many tokens of the training rows are counted to find token frequencies, and how many rows at once."""


@dataclass(frozen=True)
class Score:
    """The quality of predictions. Without a target there is nothing to predict: loss and accuracy are nan."""

    loss: float  # mean cross entropy, nats
    accuracy: float  # share of targets predicted right
    targets: int

    def record(self, suffix: str, what: str = "valid") -> dict[str, float]:
        """Return the record for metrics.jsonl, named by `what` and `suffix`; without targets, only their number."""
        record: dict[str, float] = {f"{what}_targets{suffix}": self.targets}
        if self.targets:
            record |= {f"{what}_loss{suffix}": self.loss, f"{what}_accuracy{suffix}": self.accuracy}
        return record


def pool(scores: Sequence[Score]) -> Score:
    """Return the score over the targets of all scores together."""
    if len(scores) == 1:
        return scores[0]
    scored = [score for score in scores if score.targets]
    loss = math.fsum(score.loss * score.targets for score in scored)
    right = sum(round(score.accuracy * score.targets) for score in scored)
    return _score(loss, right, sum(score.targets for score in scored))


def evaluate(
    model: MaskLaterForMaskedLM, batches: Iterable[MaskedBatch], precision: Precision, world: World = ALONE
) -> Score:
    """Score a model on the batches of all processes; its training mode is left as it was."""
    device = precision.device
    was_training = model.training
    model.eval()
    loss = torch.zeros((), dtype=torch.float64, device=device)
    right = torch.zeros((), dtype=torch.int64, device=device)
    targets = torch.zeros((), dtype=torch.int64)
    # Eager: held-out rows have other shapes, and there are too few of them to be worth compiling for.
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        for on_cpu in batches:
            batch = on_cpu.to(device)
            with precision.autocast():
                loss_of_batch, right_of_batch = model.score_targets(batch)
            loss += loss_of_batch
            right += right_of_batch
            targets += on_cpu.num_targets
    model.train(was_training)
    return _score(float(world.all_reduce(loss)), int(world.all_reduce(right)), int(world.all_reduce(targets)))


def unigram_baseline(training: BatchMaker, batches: Iterable[MaskedBatch]) -> Score:
    """Score guesses by token frequency alone, which ignore the tokens around a target.

    Args:
        training: Token frequencies come from the first of its rows in training order, with each count raised by one.
        batches: The batches to score.
    """
    rows, is_special_V = training.rows, training.corruption.is_special_V.numpy()
    counts_V = np.ones(len(is_special_V), dtype=np.int64)
    num_rows = min(TOKENS_COUNTED // rows.row_length, rows.num_rows)
    for first in range(0, num_rows, ROWS_COUNTED_AT_ONCE):
        places_N = np.arange(first, min(first + ROWS_COUNTED_AT_ONCE, num_rows))
        counts_V += np.bincount(rows.read(places_N).ids_NL.reshape(-1), minlength=len(counts_V))
    counts_V[is_special_V] = 0  # specials are never targets
    log_share_V = np.log(counts_V.clip(min=1) / counts_V.sum())
    best = int(counts_V.argmax())
    loss, right, targets = 0.0, 0, 0
    for batch in batches:
        ids = batch.target_ids_BT[batch.target_ids_BT != IGNORE].numpy()
        loss -= float(log_share_V[ids].sum())
        right += int((ids == best).sum())
        targets += len(ids)
    return _score(loss, right, targets)


def _score(loss: float, right: int, targets: int) -> Score:
    return Score(loss / targets, right / targets, targets) if targets else Score(math.nan, math.nan, 0)
