"""The sizes that one row passes through, from which all costs are counted (no torch)."""

from dataclasses import dataclass

from masklater.recipe.sections import DecoderSettings


@dataclass(frozen=True)
class RowShape:
    """The sizes of a row, and of the encoder, decoder and LM head. Letters: see flops.py."""

    seen: float  # S: positions the encoder reads; a fraction where shares are counted instead of positions
    row_length: int  # L: positions once the [MASK]s have joined
    targets: float  # T: positions the LM head reads
    width: int  # D
    feed_forward: int  # F
    vocabulary: int  # V
    encoder_layers: int
    decoder: DecoderSettings = DecoderSettings(kind="none")  # noqa: RUF009 - frozen
    embedding_width: int | None = None  # E; None: D
    last_layer_everywhere: bool = False  # self: as the paper counts; here it is computed at the targets only
    gated: bool = False  # a gate makes the encoder's feed-forward three matrices instead of two
    spelt_out_gelu: bool = False  # of no effect on FLOPs; the encoder's activation keeps three tensors instead of one
    pre_norm: bool = False  # of no effect on FLOPs; a norm more at the end of encoder and decoder
    local_layers: int = 0  # of no effect on FLOPs: torch computes all pairs and masks those outside a window
    max_positions: int | None = None  # of no effect on FLOPs; the longest row the decoder has positions for; None: L
    heads: int = 1  # of the encoder; of no effect without states
    attention_width: int | None = None  # A: of all heads of an encoder layer together; None: D
    projections: int | None = None  # multiply-adds of a position in those of an encoder layer's attention; None: 4 D^2
    feed_forwards: int | None = None  # likewise in its feed-forward; None: 2 D F, or 3 D F with a gate
    distance_products: int = 0  # distance embeddings that each position is multiplied with in each encoder layer
    rotary_decoder: bool = False  # of no effect on FLOPs, as turning is no matrix product; no position embedding

    @property
    def layers_on_seen(self) -> int:
        """Encoder layers that read the seen positions only; those from enter_layer on, with kind late, read all."""
        return self.encoder_layers if self.decoder.enter_layer is None else self.decoder.enter_layer

    @property
    def decoder_positions(self) -> float:
        """The vectors of a row in the decoder: one for each position that is seen, all states of each that is not."""
        return self.seen + self.decoder.states * (self.row_length - self.seen)

    @property
    def predictions(self) -> float:
        """The vectors that the LM head reads: all states of each target."""
        return self.decoder.states * self.targets

    @property
    def decoder_width(self) -> int:
        """The decoder's width, d."""
        return self.decoder.hidden_size or self.width

    @property
    def decoder_feed_forward(self) -> int:
        """The width of the decoder's feed-forward layer, f."""
        return self.feed_forward * self.decoder_width // self.width
