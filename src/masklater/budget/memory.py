"""The memory that a training step takes on its device, estimated from shapes (no torch).

Letters: see flops.py.
"""

from dataclasses import dataclass

from masklater.budget.decoders import DECODERS
from masklater.budget.kept import Kept
from masklater.budget.parameters import Parameters
from masklater.budget.shape import RowShape
from masklater.recipe.load import Recipe

TO_SPARE = 0.1
"""Share of a device's memory that a step leaves free, for the allocator's waste and for what else lives there."""
LOGITS_AT_ONCE = 2**28
"""The number of logits that model/head.py makes at a time on a GPU."""


@dataclass(frozen=True)
class Memory:
    """Bytes on the device while training, part by part."""

    weights: int
    gradients: int
    optimizer: int
    activations: int  # kept for the backward pass of one micro-batch, encoder and decoder
    logits: int  # those that stand at a time, and the head's gradients, which are made along with the loss

    @property
    def total(self) -> int:
        """The sum of the parts; the allocator's own waste comes on top."""
        return sum(vars(self).values())


def estimate_memory(recipe: Recipe, shape: RowShape, parameters: Parameters, micro_rows: int) -> Memory:
    """Estimate what a training step holds at most, with so many rows a forward pass.

    Weights, gradients and optimizer states are float32. What a layer keeps is counted in `Kept`; attention itself keeps
    nothing that grows with the square of the row, but for a mask of documents.
    """
    number = 4 if recipe.precision == "float32" else 2
    kept = Kept(number, recipe.model.dropout != 0)
    on_seen = shape.layers_on_seen
    positions = on_seen * shape.seen + (shape.encoder_layers - on_seen) * shape.row_length
    activations = positions * kept.by_encoder_layer(shape)
    if shape.decoder.has_layers:
        activations += DECODERS[shape.decoder.kind].kept(shape, kept)
    matrices = parameters.encoder_layers + parameters.decoder  # but for norms and biases, all of it
    rest = parameters.trained - matrices
    return Memory(
        weights=4 * parameters.trained,
        gradients=4 * parameters.trained,
        optimizer=4 * matrices + 8 * rest if recipe.optimizer.name == "muon" else 8 * parameters.trained,
        activations=round(micro_rows * activations),
        logits=round(_head_memory(shape, micro_rows * shape.targets, number)),
    )


def micro_rows_that_fit(recipe: Recipe, shape: RowShape, parameters: Parameters, memory_bytes: float) -> int | None:
    """Return the largest micro_rows, up to the recipe's own, whose step fits a device; None where none does."""
    room, batch = (1 - TO_SPARE) * memory_bytes, recipe.batch
    for micro_rows in batch.passes_of(batch.rows):
        if estimate_memory(recipe, shape, parameters, micro_rows).total <= room:
            return micro_rows
    return None


def _head_memory(shape: RowShape, targets: float, number: int) -> float:
    E = shape.embedding_width or shape.width
    gradients = 4 * shape.vocabulary * E + number * targets * E
    return min(targets * shape.vocabulary, LOGITS_AT_ONCE) * (number + 4) + gradients
