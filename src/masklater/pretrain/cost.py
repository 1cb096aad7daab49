"""What a recipe costs: FLOPs of a row and of a step, before any is made (no torch)."""

from typing import TYPE_CHECKING, Protocol

from masklater.budget.flops import RowFlops, RowShape, count_row_flops
from masklater.budget.ledger import Spending
from masklater.masking.counts import Counts, count
from masklater.recipe.families import GATED, PRE_NORM
from masklater.recipe.sections import COMMON_CORRUPTION, DecoderSettings, MaskingSettings

if TYPE_CHECKING:
    pass

VANILLA = MaskingSettings(rate=COMMON_CORRUPTION.rate)
"""What others would have run on the same rows: 15%, 80-10-10."""


class EncoderSizes(Protocol):
    """The sizes of an encoder, as transformers' configs name them."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int


def row_shape(encoder: EncoderSizes, decoder: DecoderSettings, counts: Counts) -> RowShape:
    """The sizes a row passes through."""
    return RowShape(
        seen=counts.seen,
        row_length=counts.row_length,
        targets=counts.targets,
        width=encoder.hidden_size,
        feed_forward=encoder.intermediate_size,
        vocabulary=encoder.vocab_size,
        encoder_layers=encoder.num_hidden_layers,
        decoder=decoder.kind,
        decoder_layers=decoder.num_layers,
        decoder_width=decoder.hidden_size,
        enter_layer=decoder.enter_layer,
        embedding_width=getattr(encoder, "embedding_size", None),
        gated=encoder.model_type in GATED,
        pre_norm=encoder.model_type in PRE_NORM,
    )


def row_flops(encoder: EncoderSizes, decoder: DecoderSettings, counts: Counts) -> RowFlops:
    """FLOPs of one row."""
    return count_row_flops(row_shape(encoder, decoder, counts))


def step_spending(
    rows: int, encoder: EncoderSizes, decoder: DecoderSettings, counts: Counts, maskable_per_row: float
) -> Spending:
    """What one step of so many rows spends."""
    flops = row_flops(encoder, decoder, counts)
    of_vanilla = count(VANILLA, VANILLA.rate, False, counts.row_length, maskable_per_row)
    vanilla = row_flops(encoder, DecoderSettings(kind="none"), of_vanilla)
    return Spending(
        rows=rows,
        tokens=rows * counts.row_length,
        tokens_seen=rows * counts.seen,
        tokens_predicted=rows * counts.targets,
        flops=float(rows * flops.training),
        flops_head=float(rows * flops.training_head),
        flops_vanilla=float(rows * vanilla.training),
    )
