"""The memory that a training step takes on its device, estimated from shapes (no torch).

Letters: see flops.py; d and f the decoder's width and feed-forward.
"""

from dataclasses import dataclass

from masklater.budget.flops import RowShape
from masklater.budget.parameters import Parameters
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


@dataclass(frozen=True)
class Kept:
    """Bytes that parts of a layer keep for the backward pass, a position.

    The sum that runs through the layers, which norms read, is float32 in either precision; under bfloat16 products take
    copies of what norms give. The same count is in Korthikanti et al. (arXiv 2205.05198, section 4.1), where all of it
    is in 16 bits. Counted for steps that are not compiled, which keep less; `benchmarks/launches.py` counts what torch
    keeps.
    """

    number: int  # bytes of one in a product: 2 or 4
    dropout: bool  # whose masks take a byte a number

    def by_attention(self, width: int, keys: int = 1, copies: int = 1) -> int:
        """Norm, queries, keys and values, and what is mixed.

        Args:
            width: D.
            keys: 0 where keys and values are those of another sequence.
            copies: Of what the norm gives.
        """
        return width * (4 + (copies + 2 + 2 * keys) * self.number + self.dropout)

    def by_context(self, width: int, normed: bool) -> int:
        """Keys and values of another sequence, and what they are made of."""
        copy = self.number if normed or self.number < 4 else 0
        return width * (4 * normed + copy + 2 * self.number)

    def by_feed_forward(self, width: int, inner: int) -> int:
        """Norm, and what stands before and after the activation."""
        return width * (4 + self.number + self.dropout) + 2 * inner * self.number

    def by_encoder_layer(self, shape: RowShape) -> int:
        """A layer of transformers' own."""
        D, F = shape.width, shape.feed_forward
        if shape.gated:  # queries and keys before and after they turn; both halves, the activated one, their product
            return (
                self.by_attention(D) + 2 * D * self.number + self.by_feed_forward(D, F)
                + F * (2 * self.number + self.dropout) - D * self.dropout
            )  # fmt: skip
        # Queries, keys and values are three products, each with a copy of its own in bfloat16.
        return self.by_attention(D, copies=3 if self.number < 4 else 1) + self.by_feed_forward(D, F)


def estimate_memory(recipe: Recipe, shape: RowShape, parameters: Parameters, micro_rows: int) -> Memory:
    """Estimate what a training step holds at most, with so many rows a forward pass.

    Weights, gradients and optimizer states are float32. What a layer keeps is counted in `Kept`; attention itself keeps
    nothing that grows with the square of the row, but for a mask of documents.
    """
    number = 4 if recipe.precision == "float32" else 2
    kept = Kept(number, recipe.model.dropout != 0)
    on_seen = shape.encoder_layers
    if shape.decoder == "late" and shape.enter_layer is not None:
        on_seen = shape.enter_layer
    positions = on_seen * shape.seen + (shape.encoder_layers - on_seen) * shape.row_length
    activations = positions * kept.by_encoder_layer(shape) + _kept_by_decoder(shape, kept)
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


def _kept_by_decoder(shape: RowShape, kept: Kept) -> float:
    if shape.decoder in {"late", "none"}:
        return 0
    d = shape.decoder_width or shape.width
    f = shape.feed_forward * d // shape.width
    layers, seen, targets = shape.decoder_layers, shape.seen, shape.targets
    if shape.decoder == "self":  # the last layer reads the row, and computes queries and feed-forward at the targets
        whole = kept.by_attention(d) + kept.by_feed_forward(d, f)
        last = targets * (kept.by_attention(d, keys=0) + kept.by_feed_forward(d, f))
        return (layers - 1) * shape.row_length * whole + last + shape.row_length * kept.by_context(d, normed=True)
    at_targets = kept.by_attention(d, keys=0) + kept.by_feed_forward(d, f)
    if shape.decoder == "cross":
        at_targets += kept.by_attention(d)
    return layers * (targets * at_targets + seen * kept.by_context(d, normed=False))
