"""FLOPs of one row, counted per part from the shapes alone (no torch).

Only matrix products are counted, two FLOPs to a multiply-add: linear layers, the two products of attention, the
LM head. Left out, as everywhere in the field: embedding look-ups, norms, softmax, activations, dropout, the
optimizer. Training costs three times the forward pass (one product forward, two backward). The counts are held
against torch's own `FlopCounterMode` in tests/budget/test_flops.py.

Letters: S seen per row, L row length, T targets, D width, F feed-forward width, V vocabulary.
"""

from dataclasses import dataclass

TRAINING_OVER_FORWARD = 3


@dataclass(frozen=True)
class RowShape:
    """The sizes one row passes through."""

    seen: int  # S: positions the encoder reads
    row_length: int  # L: positions the decoder reads
    targets: int  # T: positions the LM head reads
    width: int  # D
    feed_forward: int  # F
    vocabulary: int  # V
    encoder_layers: int
    decoder_layers: int


@dataclass(frozen=True)
class RowFlops:
    """Forward FLOPs of one row, part by part."""

    encoder_linear: int
    encoder_attention: int
    decoder_linear: int
    decoder_attention: int
    head: int

    @property
    def forward(self) -> int:
        """The whole forward pass."""
        return self.encoder_linear + self.encoder_attention + self.decoder_linear + self.decoder_attention + self.head

    @property
    def training(self) -> int:
        """Forward and backward."""
        return TRAINING_OVER_FORWARD * self.forward


def count_row_flops(shape: RowShape) -> RowFlops:
    """Forward FLOPs of one row.

    A transformer layer on n positions: Q, K, V and output projections 4 D^2 multiply-adds a position, feed-forward
    2 D F a position, attention scores and their weighted sum 2 n^2 D. The head: D^2 + D V a target.
    """
    D, F = shape.width, shape.feed_forward

    def linear(positions: int, layers: int) -> int:
        return 2 * layers * positions * (4 * D * D + 2 * D * F)

    def attention(positions: int, layers: int) -> int:
        return 2 * layers * 2 * positions * positions * D

    return RowFlops(
        encoder_linear=linear(shape.seen, shape.encoder_layers),
        encoder_attention=attention(shape.seen, shape.encoder_layers),
        decoder_linear=linear(shape.row_length, shape.decoder_layers),
        decoder_attention=attention(shape.row_length, shape.decoder_layers),
        head=2 * shape.targets * (D * D + D * shape.vocabulary),
    )
