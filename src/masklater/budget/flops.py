"""FLOPs of one row, counted per part from the shapes alone (no torch).

Only matrix products are counted, two FLOPs to a multiply-add: linear layers, the two products of attention, the
LM head. Left out, as everywhere in the field: embedding look-ups, norms, softmax, activations, dropout, the
optimizer. Training costs three times the forward pass (one product forward, two backward). The counts are held
against torch's own `FlopCounterMode` in tests/budget/test_flops.py, for every objective and encoder family.

Letters: S seen per row, L row length, T targets, D width, F feed-forward width, d and f the decoder's, E width of the
word embedding, V vocabulary.
"""

from dataclasses import dataclass

TRAINING_OVER_FORWARD = 3


@dataclass(frozen=True)
class RowShape:
    """The sizes one row passes through."""

    seen: float  # S: positions the encoder reads; a fraction where shares are counted instead of positions
    row_length: int  # L: positions once the [MASK]s have joined
    targets: float  # T: positions the LM head reads
    width: int  # D
    feed_forward: int  # F
    vocabulary: int  # V
    encoder_layers: int
    decoder: str = "none"  # self | cross | cross-only | late | none, as in a recipe
    decoder_layers: int = 0  # of no effect where decoder is late or none
    decoder_width: int | None = None  # d; None: D
    enter_layer: int | None = None  # late: the first encoder layer that reads all L positions
    embedding_width: int | None = None  # E; None: D
    last_layer_everywhere: bool = False  # self: as the paper counts; here it is computed at the targets only
    gated: bool = False  # a gate makes the encoder's feed-forward three matrices instead of two
    pre_norm: bool = False  # of no effect on FLOPs; a norm more at the end of encoder and decoder
    rotary_decoder: bool = False  # of no effect on FLOPs, as turning is no matrix product; no position embedding


@dataclass(frozen=True)
class RowFlops:
    """Forward FLOPs of one row, part by part."""

    embeddings: float  # look-ups are free; ELECTRA's projection is not
    encoder_linear: float
    encoder_attention: float
    decoder_linear: float
    decoder_attention: float
    head: float

    @property
    def forward(self) -> float:
        """The whole forward pass."""
        return sum(vars(self).values())

    @property
    def training(self) -> float:
        """Forward and backward."""
        return TRAINING_OVER_FORWARD * self.forward

    @property
    def training_head(self) -> float:
        """Forward and backward of the LM head alone."""
        return TRAINING_OVER_FORWARD * self.head


def count_row_flops(shape: RowShape) -> RowFlops:
    """Forward FLOPs of one row.

    A transformer layer on n positions: Q, K, V and output projections 4 D^2 multiply-adds a position, feed-forward
    2 D F a position (3 D F with a gate), attention scores and their weighted sum 2 n^2 D. The head: D E + E V a target.
    """
    S, L, T, D = shape.seen, shape.row_length, shape.targets, shape.width
    E = shape.embedding_width or D
    per_position = 4 * D * D + (3 if shape.gated else 2) * D * shape.feed_forward
    on_seen = shape.encoder_layers
    if shape.decoder == "late" and shape.enter_layer is not None:
        on_seen = shape.enter_layer
    on_all = shape.encoder_layers - on_seen
    decoder_linear, decoder_attention = _decoder(shape)
    return RowFlops(
        embeddings=2 * S * E * D if E != D else 0,
        encoder_linear=2 * per_position * (on_seen * S + on_all * L),
        encoder_attention=2 * 2 * D * (on_seen * S * S + on_all * L * L),
        decoder_linear=2 * decoder_linear,
        decoder_attention=2 * decoder_attention,
        head=2 * T * (D * E + E * shape.vocabulary),
    )


def _decoder(shape: RowShape) -> tuple[float, float]:
    """Multiply-adds of a light decoder: linear layers, attention."""
    S, L, T, D, layers = shape.seen, shape.row_length, shape.targets, shape.width, shape.decoder_layers
    if shape.decoder in {"late", "none"}:
        return 0, 0
    d = shape.decoder_width or D
    f = shape.feed_forward * d // D
    projections = 0 if d == D else (S + T) * D * d
    feed_forward = 2 * d * f
    if shape.decoder == "self":
        # The last layer computes keys and values everywhere, queries and all that follows at the targets only.
        last = L if shape.last_layer_everywhere else T
        linear = (layers - 1) * (4 * d * d + feed_forward) * L + 2 * d * d * L + (2 * d * d + feed_forward) * last
        attention = 2 * d * ((layers - 1) * L * L + last * L)
    else:
        to_each_other = shape.decoder == "cross"
        linear = layers * ((2 * d * d + feed_forward) * T + 2 * d * d * S + to_each_other * 4 * d * d * T)
        attention = layers * 2 * d * (T * S + to_each_other * T * T)
    return linear + projections, attention
