"""Parameters and memory, counted from shapes (no torch).

Letters: see flops.py; P positions the encoder knows, d and f the decoder's width and feed-forward.
"""

from dataclasses import dataclass

from masklater.budget.flops import RowShape


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters."""

    embeddings: int  # words, positions, types and what follows them; exported
    encoder_layers: int  # exported
    decoder: int
    head: int  # without the word embedding that it shares

    @property
    def exported(self) -> int:
        """What fine-tuning starts from."""
        return self.embeddings + self.encoder_layers

    @property
    def trained(self) -> int:
        """All of them."""
        return self.exported + self.decoder + self.head


def count_parameters(
    shape: RowShape, family: str, positions: int, token_types: int, own_mask_embedding: bool
) -> Parameters:
    """Parameters of an encoder of one of the families that recipes know, with its decoder and head.

    Args:
        shape: The sizes.
        family: transformers' model type.
        positions: Rows of the encoder's position embedding; 0 where positions are rotary.
        token_types: Rows of the encoder's token-type embedding, where the family has one.
        own_mask_embedding: Whether the mask embedding is a parameter apart.
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
        decoder=_decoder_parameters(shape, own_mask_embedding),
        head=D * E + E + 2 * E + V,
    )


def _decoder_parameters(shape: RowShape, own_mask_embedding: bool) -> int:
    if shape.decoder == "none" or shape.enter_layer == 0:
        return 0
    D, d = shape.width, shape.decoder_width or shape.width
    masks = (0 if shape.rotary_decoder else shape.row_length * d) + own_mask_embedding * d
    if shape.decoder == "late":
        return masks
    f = shape.feed_forward * d // D
    attention, feed_forward = 4 * d * d + 6 * d, 2 * d * f + f + 3 * d  # each with its norm
    per_layer = feed_forward + attention * (2 if shape.decoder == "cross" else 1)
    last_norm = 2 * d if shape.pre_norm else 0
    projections = 2 * D * d + d + D if d != D else 0
    return masks + shape.decoder_layers * per_layer + last_norm + projections


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
        """All of them; the allocator's own waste comes on top."""
        return sum(vars(self).values())


def estimate_memory(shape: RowShape, parameters: Parameters, micro_rows: int, bfloat16: bool, muon: bool) -> Memory:
    """What a training step holds at most.

    Weights, gradients and optimizer states are float32. A layer keeps, a position, 8 D numbers around attention and its
    norms and 2 F around the feed-forward; attention itself keeps nothing that grows with the square
    of the row. The same count is in Korthikanti et al. (arXiv 2205.05198, section 4.1), less the attention matrix.
    """
    number = 2 if bfloat16 else 4
    on_seen = shape.encoder_layers
    if shape.decoder == "late" and shape.enter_layer is not None:
        on_seen = shape.enter_layer
    positions = on_seen * shape.seen + (shape.encoder_layers - on_seen) * shape.row_length
    attention, feed_forward = 8 * shape.width, 2 * shape.feed_forward
    if shape.gated:  # both halves, the activated one and their product; and queries and keys before rotation
        attention, feed_forward = 10 * shape.width, 4 * shape.feed_forward
    kept = positions * (attention + feed_forward) + _kept_by_decoder(shape)
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


def _kept_by_decoder(shape: RowShape) -> float:
    if shape.decoder in {"late", "none"}:
        return 0
    d = shape.decoder_width or shape.width
    f = shape.feed_forward * d // shape.width
    if shape.decoder == "self":
        return shape.decoder_layers * shape.row_length * (8 * d + 2 * f)
    attentions = 15 * d if shape.decoder == "cross" else 8 * d
    return shape.decoder_layers * (shape.targets * (attentions + 2 * f) + shape.seen * 2 * d)
