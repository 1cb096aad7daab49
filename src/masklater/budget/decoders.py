"""Cost of each kind of decoder that has its own layers, counted from shapes (no torch).

Letters: see flops.py; d and f are the decoder's width and feed-forward width.
"""

from collections.abc import Callable
from typing import NamedTuple

from masklater.budget.kept import Kept
from masklater.budget.shape import RowShape


class MultiplyAdds(NamedTuple):
    """Multiply-adds of a decoder's layers in the forward pass of one row."""

    linear: float
    attention: float


class DecoderCost(NamedTuple):
    """The cost of all layers of a decoder.

    Counted elsewhere: the joining of the [MASK]s, and the projections from D to d and back.
    """

    multiply_adds: Callable[[RowShape], MultiplyAdds]
    parameters: Callable[[RowShape], int]
    kept: Callable[[RowShape, Kept], float]  # bytes of one row that are kept for the backward pass


def _multiply_adds_of_self(shape: RowShape) -> MultiplyAdds:
    L, T, d, layers = shape.decoder_positions, shape.predictions, shape.decoder_width, shape.decoder.num_layers
    feed_forward = 2 * d * shape.decoder_feed_forward
    # The last layer computes keys and values at all positions, the rest at the targets only.
    last = L if shape.last_layer_everywhere else T
    linear = (layers - 1) * (4 * d * d + feed_forward) * L + 2 * d * d * L + (2 * d * d + feed_forward) * last
    return MultiplyAdds(linear, 2 * d * ((layers - 1) * L * L + last * L))


def _multiply_adds_of_cross(shape: RowShape, to_each_other: bool) -> MultiplyAdds:
    S, T, d, layers = shape.seen, shape.targets, shape.decoder_width, shape.decoder.num_layers
    feed_forward = 2 * d * shape.decoder_feed_forward
    linear = layers * ((2 * d * d + feed_forward) * T + 2 * d * d * S + to_each_other * 4 * d * d * T)
    return MultiplyAdds(linear, layers * 2 * d * (T * S + to_each_other * T * T))


def _parameters(shape: RowShape, attentions: int) -> int:
    d, f = shape.decoder_width, shape.decoder_feed_forward
    attention, feed_forward = 4 * d * d + 6 * d, 2 * d * f + f + 3 * d  # each with its norm
    return shape.decoder.num_layers * (attentions * attention + feed_forward)


def _kept_by_self(shape: RowShape, kept: Kept) -> float:
    d, f, layers = shape.decoder_width, shape.decoder_feed_forward, shape.decoder.num_layers
    # The last layer reads the row, and computes queries and feed-forward at the targets.
    whole = kept.by_attention(d) + kept.by_feed_forward(d, f)
    last = shape.predictions * (kept.by_attention(d, keys=0) + kept.by_feed_forward(d, f))
    L = shape.decoder_positions
    return (layers - 1) * L * whole + last + L * kept.by_context(d, normed=True)


def _kept_by_cross(shape: RowShape, kept: Kept, to_each_other: bool) -> float:
    d, f = shape.decoder_width, shape.decoder_feed_forward
    at_targets = kept.by_attention(d, keys=0) + kept.by_feed_forward(d, f)
    if to_each_other:
        at_targets += kept.by_attention(d)
    return shape.decoder.num_layers * (shape.targets * at_targets + shape.seen * kept.by_context(d, normed=False))


def multiply_adds_of_links(shape: RowShape) -> MultiplyAdds:
    """Count the multiply-adds of links between states of neighbouring targets: queries, keys, gates and products."""
    if shape.decoder.states == 1:
        return MultiplyAdds(0, 0)
    D = shape.width
    linear = (2 * D * D + D * shape.encoder.heads) * shape.predictions
    return MultiplyAdds(linear, D * shape.decoder.states * shape.predictions)


def parameters_of_states(shape: RowShape) -> int:
    """Count the parameters of several states per [MASK]: their embedding, the links, and the start of a chain."""
    if shape.decoder.states == 1:
        return 0
    D = shape.width
    return shape.decoder.states * shape.decoder_width + 2 * D * D + 2 * D + (D + 1) * shape.encoder.heads


def kept_by_links(shape: RowShape, kept: Kept) -> float:
    """Count the bytes that links keep for one row: the states in order, the states before them, queries and keys."""
    if shape.decoder.states == 1:
        return 0
    return shape.predictions * shape.width * (4 + 4 * kept.number)


DECODERS: dict[str, DecoderCost] = {
    "self": DecoderCost(
        multiply_adds=_multiply_adds_of_self,
        parameters=lambda shape: _parameters(shape, attentions=1),
        kept=_kept_by_self,
    ),
    "cross": DecoderCost(
        multiply_adds=lambda shape: _multiply_adds_of_cross(shape, to_each_other=True),
        parameters=lambda shape: _parameters(shape, attentions=2),
        kept=lambda shape, kept: _kept_by_cross(shape, kept, to_each_other=True),
    ),
    "cross-only": DecoderCost(
        multiply_adds=lambda shape: _multiply_adds_of_cross(shape, to_each_other=False),
        parameters=lambda shape: _parameters(shape, attentions=1),
        kept=lambda shape, kept: _kept_by_cross(shape, kept, to_each_other=False),
    ),
}
"""Costs by the decoder names that recipes use. The kinds late and none have no layers, so they have no entry."""
