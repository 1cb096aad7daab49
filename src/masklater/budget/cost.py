"""The cost of a recipe: FLOPs of a row and of a step, counted before the run (no torch)."""

from masklater.budget.flops import RowFlops, count_row_flops
from masklater.budget.shape import row_shape
from masklater.budget.sizes import EncoderSizes
from masklater.ledger import Spending
from masklater.masking.counts import Counts, count
from masklater.recipe.masking import COMMON_CORRUPTION, MaskingSettings
from masklater.recipe.sections import DecoderSettings

VANILLA = MaskingSettings(rate=COMMON_CORRUPTION.rate)
"""The masking that vanilla MLM would have run on the same rows: 15%, 80-10-10."""


def row_flops(encoder: EncoderSizes, decoder: DecoderSettings, counts: Counts) -> RowFlops:
    """Return the FLOPs of one row."""
    return count_row_flops(row_shape(encoder, decoder, counts))


def vanilla_row_flops(encoder: EncoderSizes, row_length: int, maskable_per_row: float) -> RowFlops:
    """Return the FLOPs of one row under vanilla MLM, masked at 15%: the baseline of every comparison."""
    counts = count(VANILLA, VANILLA.rate, False, row_length, maskable_per_row)
    return row_flops(encoder, DecoderSettings(kind="none"), counts)


def step_spending(
    rows: int, encoder: EncoderSizes, decoder: DecoderSettings, counts: Counts, maskable_per_row: float
) -> Spending:
    """Count what one step on this many rows spends."""
    flops = row_flops(encoder, decoder, counts)
    vanilla = vanilla_row_flops(encoder, counts.row_length, maskable_per_row)
    return Spending(
        rows=rows,
        tokens=rows * counts.row_length,
        tokens_seen=rows * counts.seen,
        tokens_predicted=rows * counts.targets,
        flops=float(rows * flops.training),
        flops_head=float(rows * flops.training_head),
        flops_vanilla=float(rows * vanilla.training),
    )
