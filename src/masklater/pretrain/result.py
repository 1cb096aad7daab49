"""The state of a run when it is left."""

from dataclasses import dataclass
from pathlib import Path

from masklater.ledger import Ledger
from masklater.pretrain.evaluate import Score

HARDLY_BELOW = 0.99
"""Factor on the loss of guesses by token frequency: below it a run is said to beat frequencies.

Runs stand still near that loss for a while before they learn from context. With DNA, four letters of about the same
frequency, even the best models are not far below it.
"""


@dataclass(frozen=True)
class PretrainResult:
    """The state of a run when it is left."""

    run: str
    finished: bool
    steps: int
    skipped_steps: int  # steps without a finite loss or gradient
    overflowed_steps: int  # skipped steps by which float16's loss scale was found
    rows: int
    tokens: int
    flops: float
    seconds: float  # in training steps, over the whole run
    rows_per_second: float
    utilisation: float | None  # FLOPs of training steps, each counted once, over the device's peak
    utilisation_vanilla_equivalent: float | None  # the same with the FLOPs of vanilla MLM at 15% on these rows
    loss: float | None  # of the last step; None where this call made no step
    valid_loss: float | None  # under the recipe's own corruption; None where there was nothing to predict
    valid_accuracy: float | None
    valid_targets: int | None  # None where no rows are held out, 0 where they hold nothing to predict
    valid_loss_15: float | None  # under 15% [MASK], the same for every run
    valid_accuracy_15: float | None
    valid_targets_15: int | None
    unigram_loss_15: float | None  # loss of guesses by token frequency alone: a run has to get below it
    unigram_accuracy_15: float | None

    @property
    def hardly_beats_frequencies(self) -> bool:
        """Whether the held-out loss is above, or hardly below, the loss of guesses by token frequency."""
        if self.valid_loss_15 is None or self.unigram_loss_15 is None:
            return False
        return self.valid_loss_15 > HARDLY_BELOW * self.unigram_loss_15


def make_result(
    run: Path,
    finished: bool,
    ledger: Ledger,
    loss: float | None,
    own: Score | None,
    common: Score | None,
    unigram: Score | None,
) -> PretrainResult:
    """Sum up a run.

    Args:
        run: Its folder.
        finished: Whether its duration is reached.
        ledger: What the run has spent.
        loss: The loss of the last step.
        own: The last score under the recipe's own corruption.
        common: The same under 15% [MASK].
        unigram: The score of guesses by token frequency alone, under 15% [MASK].
    """
    return PretrainResult(
        run=str(run),
        finished=finished,
        steps=ledger.steps,
        skipped_steps=ledger.skipped_steps,
        overflowed_steps=ledger.overflowed_steps,
        rows=ledger.rows,
        tokens=ledger.tokens,
        flops=ledger.flops,
        seconds=ledger.seconds,
        rows_per_second=ledger.rows / ledger.seconds if ledger.seconds else 0.0,
        utilisation=ledger.utilisation(ledger.flops),
        utilisation_vanilla_equivalent=ledger.utilisation(ledger.flops_vanilla),
        loss=loss,
        valid_loss=own.loss if own and own.targets else None,
        valid_accuracy=own.accuracy if own and own.targets else None,
        valid_targets=own.targets if own else None,
        valid_loss_15=common.loss if common and common.targets else None,
        valid_accuracy_15=common.accuracy if common and common.targets else None,
        valid_targets_15=common.targets if common else None,
        unigram_loss_15=unigram.loss if unigram and unigram.targets else None,
        unigram_accuracy_15=unigram.accuracy if unigram and unigram.targets else None,
    )
