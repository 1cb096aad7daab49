"""The beginning of a phase: what changes in the model itself."""

import torch

from masklater.console import say
from masklater.machine.distributed import full_value, release_gathered, write_rows
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.model.positions import apply_rope_base, position_tables
from masklater.pretrain.plan import Phase


def set_up(phase: Phase, model: MaskLaterForMaskedLM) -> None:
    """Make a model compute as a phase asks, whatever its weights: the rotary base of the encoder's global layers.

    Raises:
        UserError: The encoder has none.
    """
    if phase.rope_base is not None:
        apply_rope_base(model.encoder, phase.rope_base)


def extend_positions(phase: Phase, trained: int | None, model: MaskLaterForMaskedLM) -> None:
    """Let learned positions that a phase is the first to need begin as copies of those trained so far.

    Position p begins as p modulo the number that are trained, in encoder and decoder alike, so that neighbours stay
    neighbours but for one seam in each repetition: what Longformer does (arXiv 2004.05150, section 5), which found
    most of the loss lost by a random beginning to be kept by this one.

    Args:
        phase: The phase that begins.
        trained: Positions that are trained; 0 or None: the model begins with this phase.
        model: Whose weights they are, however they are spread over processes.
    """
    row_length = phase.span.row_length
    release_gathered(model)
    tables = position_tables(model) if trained and trained < row_length else []
    for table in tables:
        assert trained
        new_N = torch.arange(trained, row_length, device=table.weight.device)
        values_ND = full_value(table.weight.detach())[table.offset + new_N % trained]
        write_rows(table.weight, table.offset + new_N, values_ND)
    if tables:
        say(f"positions from {trained} on, of which none was trained so far, begin as copies of the {trained} before")
