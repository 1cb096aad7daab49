"""Parameters and memory, counted from shapes (no torch).

Letters: see flops.py; P positions the encoder knows, d and f the decoder's width and feed-forward.
"""

from dataclasses import dataclass

from masklater.budget.decoders import DECODERS
from masklater.budget.shape import RowShape


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters."""

    embeddings: int  # words, positions, types and what follows them; exported
    encoder_layers: int  # exported
    decoder: int
    head: int  # without the word embedding that it shares

    @property
    def exported(self) -> int:
        """The parameters that fine-tuning starts from."""
        return self.embeddings + self.encoder_layers

    @property
    def trained(self) -> int:
        """The parameters of all parts."""
        return self.exported + self.decoder + self.head


def count_parameters(shape: RowShape, family: str, positions: int, token_types: int) -> Parameters:
    """Count the parameters of an encoder of one of the families that recipes know, with its decoder and head.

    Args:
        shape: The sizes.
        family: transformers' model type.
        positions: Rows of the encoder's position embedding; 0 where positions are rotary.
        token_types: Rows of the encoder's token-type embedding, where the family has one.
    """
    D, F, V, E = shape.width, shape.feed_forward, shape.vocabulary, shape.embedding_width or shape.width
    if family == "modernbert":  # no biases; the first layer lacks a norm, and there is one more at the end
        embeddings = V * E + E
        layers = shape.encoder_layers * (4 * D * D + 3 * D * F + 2 * D)
    elif family == "esm":  # norms before each block and one at the end
        embeddings = (V + positions) * E
        layers = shape.encoder_layers * (4 * D * D + 2 * D * F + 9 * D + F) + 2 * D
    else:
        embeddings = (V + positions + token_types) * E + 2 * E + (E * D + D if E != D else 0)
        last_norm = 2 * D if shape.pre_norm else 0
        layers = shape.encoder_layers * (4 * D * D + 2 * D * F + 9 * D + F) + last_norm
    return Parameters(
        embeddings=embeddings,
        encoder_layers=layers,
        decoder=_decoder_parameters(shape),
        head=D * E + E + 2 * E + V,
    )


def _decoder_parameters(shape: RowShape) -> int:
    if not shape.decoder.drops:
        return 0
    D, d = shape.width, shape.decoder_width
    masks = (0 if shape.rotary_decoder else shape.row_length * d) + (shape.decoder.mask_embedding == "own") * d
    if not shape.decoder.has_layers:
        return masks
    last_norm = 2 * d if shape.pre_norm else 0
    projections = 2 * D * d + d + D if d != D else 0
    return masks + DECODERS[shape.decoder.kind].parameters(shape) + last_norm + projections


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
        """The bytes of all parts; the allocator's own waste comes on top."""
        return sum(vars(self).values())


def estimate_memory(shape: RowShape, parameters: Parameters, micro_rows: int, bfloat16: bool, muon: bool) -> Memory:
    """Estimate what a training step holds at most.

    Weights, gradients and optimizer states are float32. A layer keeps, a position, 8 D numbers around attention and its
    norms and 2 F around the feed-forward; attention itself keeps nothing that grows with the square
    of the row. The same count is in Korthikanti et al. (arXiv 2205.05198, section 4.1), less the attention matrix.
    """
    number = 2 if bfloat16 else 4
    on_seen = shape.layers_on_seen
    positions = on_seen * shape.seen + (shape.encoder_layers - on_seen) * shape.row_length
    attention, feed_forward = 8 * shape.width, 2 * shape.feed_forward
    if shape.gated:  # both halves, the activated one and their product; and queries and keys before rotation
        attention, feed_forward = 10 * shape.width, 4 * shape.feed_forward
    kept = positions * (attention + feed_forward)
    if shape.decoder.has_layers:
        kept += DECODERS[shape.decoder.kind].kept(shape)
    matrices = parameters.encoder_layers + parameters.decoder  # but for norms and biases, all of it
    rest = parameters.trained - matrices
    return Memory(
        weights=4 * parameters.trained,
        gradients=4 * parameters.trained,
        optimizer=4 * matrices + 8 * rest if muon else 8 * parameters.trained,
        activations=round(micro_rows * kept * number),
        logits=round(_head_memory(shape, micro_rows * shape.targets, number)),
    )


LOGITS_AT_ONCE = 2**28
"""As many as model/head.py makes at a time on a GPU."""


def _head_memory(shape: RowShape, targets: float, number: int) -> float:
    E = shape.embedding_width or shape.width
    gradients = 4 * shape.vocabulary * E + number * targets * E
    return min(targets * shape.vocabulary, LOGITS_AT_ONCE) * (number + 4) + gradients
