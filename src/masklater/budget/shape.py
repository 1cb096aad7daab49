"""The sizes of the tensors that one row passes through; all costs are counted from them (no torch)."""

from dataclasses import dataclass

from masklater.budget.sizes import EncoderSizes
from masklater.masking.counts import Counts
from masklater.recipe.families import ROTARY
from masklater.recipe.sections import DecoderSettings


@dataclass(frozen=True)
class RowShape:
    """The sizes of a row, and of the encoder, decoder and LM head. Letters: see flops.py."""

    encoder: EncoderSizes
    decoder: DecoderSettings
    seen: float  # S: positions the encoder reads; fractional where shares are counted instead of positions
    row_length: int  # L: positions of the row, [MASK]s included
    targets: float  # T: positions the LM head reads
    last_layer_everywhere: bool = False  # self: as the paper counts; else it is computed at the targets only
    room: int | None = None  # the longest row the decoder has positions for, of no effect on FLOPs; None: L

    @property
    def width(self) -> int:
        """The encoder's width, D."""
        return self.encoder.width

    @property
    def embedding_width(self) -> int:
        """The width of the word embedding, E."""
        return self.encoder.embedding_width or self.width

    @property
    def vocabulary(self) -> int:
        """The rows of the word embedding, V."""
        return self.encoder.vocabulary

    @property
    def layers_on_seen(self) -> int:
        """The number of encoder layers that read only the seen positions: with kind late, those before enter_layer."""
        return self.encoder.layers if self.decoder.enter_layer is None else self.decoder.enter_layer

    @property
    def decoder_positions(self) -> float:
        """The number of vectors of a row in the decoder: one per seen position, and all states of each unseen one."""
        return self.seen + self.decoder.states * (self.row_length - self.seen)

    @property
    def predictions(self) -> float:
        """The number of vectors that the LM head reads: all states of each target."""
        return self.decoder.states * self.targets

    @property
    def decoder_width(self) -> int:
        """The decoder's width, d."""
        return self.decoder.hidden_size or self.width

    @property
    def decoder_feed_forward(self) -> int:
        """The width of the decoder's feed-forward layer, f."""
        return self.encoder.feed_forward * self.decoder_width // self.width

    @property
    def rotary_decoder(self) -> bool:
        """Whether attention in the decoder is rotary: it needs no position embedding, and costs no matrix product."""
        positions = self.decoder.positions
        return positions == "rotary" or (positions == "auto" and self.encoder.family in ROTARY)


def row_shape(encoder: EncoderSizes, decoder: DecoderSettings, counts: Counts, room: int | None = None) -> RowShape:
    """Return the sizes that a row passes through.

    Args:
        encoder: The sizes of the encoder.
        decoder: The recipe's `decoder` section.
        counts: Counts of the row's positions.
        room: The longest row that the decoder has positions for; None: this row's length.
    """
    return RowShape(encoder, decoder, counts.seen, counts.row_length, counts.targets, room=room)
