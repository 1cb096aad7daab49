"""The beginning of a phase: what changes in the model itself."""

from masklater.console import say
from masklater.machine.parallel import full_value, release_gathered, write_rows
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.model.positions import apply_rope_base, decoder_tables, encoder_tables
from masklater.pretrain.plan import Phase
from masklater.run.checkpoint import Progress


def set_up(phase: Phase, model: MaskLaterForMaskedLM) -> None:
    """Set the rotary base of the encoder's global layers where the phase names one; weights stay as they are.

    Raises:
        UserError: The encoder has no rotary base.
    """
    if phase.rope_base is not None:
        apply_rope_base(model.encoder, phase.rope_base)


def extend_positions(phase: Phase, progress: Progress, model: MaskLaterForMaskedLM) -> None:
    """Initialise learned positions that this phase is the first to need as copies of the trained ones.

    Position p begins as p modulo the number of trained positions, in encoder and decoder alike. So neighbours stay
    neighbours, except at one seam in each repetition. Longformer does the same (arXiv 2004.05150, section 5), and found
    that this beginning keeps most of the loss that a random one loses. The number of trained positions differs between
    encoder and decoder where a new decoder has joined a published encoder.

    Args:
        phase: The phase that begins.
        progress: Holds the number of trained positions; 0 or None: the encoder, or the decoder, begins with this phase.
        model: The model with these weights, which may be spread over processes.
    """
    row_length, of_encoder, of_decoder = phase.span.row_length, progress.row_length, progress.decoder_row_length
    release_gathered(model)
    extended: dict[int, list[str]] = {}
    for where, tables, trained in (
        ("the encoder", encoder_tables(model), of_encoder),
        ("the decoder", decoder_tables(model), of_decoder),
    ):
        if not tables or not trained or trained >= row_length:
            continue
        for table in tables:
            new_N, old_N = table.repeated(trained, row_length)
            write_rows(table.weight, new_N, full_value(table.weight.detach())[old_N])
        extended.setdefault(trained, []).append(where)
    for trained, places in extended.items():
        say(
            f"positions from {trained} on, of which none was trained so far, begin as copies of the {trained} before, "
            f"in {' and '.join(places)}"
        )
