"""The memory that a training step takes on its device, estimated from shapes (no torch).

Letters: see flops.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from masklater.budget.decoders import DECODERS, kept_by_links
from masklater.budget.kept import Kept
from masklater.budget.parameters import Parameters
from masklater.budget.shape import RowShape
from masklater.recipe.recipe import Recipe

TO_SPARE = 0.1
"""Share of a device's memory that a step leaves free, for the allocator's waste and for other users of the device."""
LOGITS_AT_ONCE = 2**28
"""The number of logits that model/head.py computes at a time on a GPU."""


@dataclass(frozen=True)
class Memory:
    """Bytes on the device during training, part by part."""

    weights: int
    gradients: int
    optimizer: int
    activations: int  # kept for the backward pass of one micro-batch, encoder and decoder
    logits: int  # the head's gradients, which are computed with the loss, and the logits in memory at one time
    recomputed: int = 0  # recomputed at one time under activation checkpointing, as far as this exceeds the logits

    @property
    def total(self) -> int:
        """The sum of the parts; the allocator's waste comes on top."""
        return sum(vars(self).values())


def estimate_memory(
    recipe: Recipe, shape: RowShape, parameters: Parameters, micro_rows: int, processes: int = 1
) -> Memory:
    """Estimate the peak memory of a training step on each device, with `micro_rows` rows per forward pass.

    Weights, gradients and optimizer states are float32. FSDP cuts them up over the processes; it gathers what lies
    outside the encoder's layers, and two of those layers at a time. `Kept` counts what a layer keeps. Attention keeps
    nothing that grows with the square of the row, except for a mask of documents. With activation checkpointing some
    layers keep only their float32 input, and recompute the rest one layer at a time, after the logits are freed.
    """
    number = 4 if recipe.precision == "float32" else 2
    layers = _kept_by_layers(shape, Kept(number, recipe.model.dropout != 0))
    kept, peak = _kept_and_peak(layers, recipe.checkpoint_every)
    logits = _logits_memory(shape, micro_rows * shape.predictions, number)
    recomputed = micro_rows * (peak - kept)
    matrices = parameters.encoder_layers + parameters.decoder  # norms and biases are few, and counted as matrices
    rest = parameters.trained - matrices
    share = 1 / processes if recipe.distributed == "fsdp" else 1.0
    outside = parameters.trained - parameters.encoder_layers
    gathered = (1 - share) * (outside + 2 * parameters.encoder_layers / shape.encoder.layers)
    optimizer = 4 * matrices + 8 * rest if recipe.optimizer.name == "muon" else 8 * parameters.trained
    return Memory(
        weights=round(4 * (share * parameters.trained + gathered)),
        gradients=round(4 * (share * parameters.trained + gathered)),
        optimizer=round(share * optimizer),
        activations=round(micro_rows * kept),
        logits=round(logits + _head_gradients(shape, micro_rows * shape.predictions, number)),
        recomputed=round(max(0.0, recomputed - logits)),
    )


class _Layer(NamedTuple):
    """Bytes of one row that a layer keeps for the backward pass."""

    whole: float
    input: float  # kept alone where the layer is recomputed


def _kept_by_layers(shape: RowShape, kept: Kept) -> list[_Layer]:
    """Return what each layer keeps, from the encoder's first to the decoder's last."""
    on_seen, on_all = shape.layers_on_seen, shape.encoder.layers - shape.layers_on_seen
    positions = [shape.seen] * on_seen + [shape.row_length] * on_all
    layers = [_Layer(count * kept.by_encoder_layer(shape), 4 * count * shape.width) for count in positions]
    if shape.decoder.has_layers:
        each = DECODERS[shape.decoder.kind].kept(shape, kept) / shape.decoder.num_layers
        layers += [_Layer(each, 4 * shape.decoder_positions * shape.decoder_width)] * shape.decoder.num_layers
        links = kept_by_links(shape, kept)
        layers += [_Layer(links, links)] * (links > 0)
        skip = 4 * shape.seen * shape.width * shape.decoder.embedding_skip  # input of the skip's norm
        layers += [_Layer(skip, skip)] * (skip > 0)
    return layers


def _kept_and_peak(layers: list[_Layer], every: int) -> tuple[float, float]:
    """Return the bytes that the forward pass keeps, and the peak during the backward pass.

    Args:
        layers: The layers' bytes for one row.
        every: Every n-th layer keeps only its input and is recomputed; 0: none is.
    """
    kept = peak = 0.0
    for number, layer in enumerate(layers):
        peak = max(peak, kept + layer.whole)
        kept += layer.input if every and number % every == 0 else layer.whole
    return kept, max(peak, kept)


def most_memory(
    recipe: Recipe, shapes: Sequence[RowShape], parameters: Parameters, micro_rows: int, processes: int = 1
) -> Memory:
    """Estimate the memory of the largest step, given the row shapes at all masking rates; see `estimate_memory`."""
    each = (estimate_memory(recipe, shape, parameters, micro_rows, processes) for shape in shapes)
    return max(each, key=lambda memory: memory.total)


def micro_rows_that_fit(
    recipe: Recipe, shapes: Sequence[RowShape], parameters: Parameters, memory_bytes: float, processes: int = 1
) -> int | None:
    """Return the largest micro_rows, up to the recipe's own, whose steps fit a device; None where none does."""
    room, batch = (1 - TO_SPARE) * memory_bytes, recipe.batch
    for micro_rows in batch.passes_of(batch.rows // processes):
        if most_memory(recipe, shapes, parameters, micro_rows, processes).total <= room:
            return micro_rows
    return None


def _logits_memory(shape: RowShape, targets: float, number: int) -> float:
    """Return the bytes of logits in memory at one time; in float32 their gradient overwrites them (model/head.py)."""
    at_once = LOGITS_AT_ONCE
    if shape.decoder.states > 1:  # these rows are not cut
        at_once = max(LOGITS_AT_ONCE, round(shape.predictions * shape.vocabulary))
    return min(targets * shape.vocabulary, at_once) * (4 if number == 4 else 4 + 2 * number)


def _head_gradients(shape: RowShape, targets: float, number: int) -> float:
    E = shape.embedding_width
    return 4 * shape.vocabulary * E + number * targets * E
