"""FLOPs of one row, counted per part from the shapes alone (no torch).

Only matrix products are counted, at two FLOPs per multiply-add: linear layers, the two products of attention, the LM
head. A layer that sees only a window counts as one that sees the whole row, because torch computes all pairs and masks
those outside the window. As usual in the field, these are left out: embedding look-ups, norms, softmax, activations,
dropout and the optimizer. Also left out is what DeBERTa computes from its distance embeddings once per pass, whatever
the number of rows. Training costs three times the forward pass (one product forward, two backward).
tests/budget/test_flops.py compares the counts with torch's own `FlopCounterMode`, for every objective and encoder
family.

Letters: S positions seen per row, L row length, T targets (where targets have several states: all of the states), D
width, F feed-forward width, d and f the decoder's width and feed-forward width, E width of the word embedding, A width
of all the encoder's heads together, V vocabulary.
"""

from dataclasses import dataclass

from masklater.budget.decoders import DECODERS, multiply_adds_of_links
from masklater.budget.shape import RowShape

TRAINING_OVER_FORWARD = 3


@dataclass(frozen=True)
class RowFlops:
    """Forward FLOPs of one row, part by part."""

    embeddings: float  # look-ups are free; ELECTRA's projection is counted
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
    """Count the forward FLOPs of one row.

    A transformer layer on n positions takes, in multiply-adds:

    - Q, K, V and output projections: 4 D^2 per position;
    - feed-forward: 2 D F per position, 3 D F with a gate;
    - attention scores and their weighted sum: 2 n^2 D;
    - in DeBERTa also D per position for each distance embedding that the position is multiplied with.

    The head takes D E + E V per target. In EuroBERT keys and values may have fewer heads, and SqueezeBERT cuts its
    matrices into groups: for both, the cost per position is given in the shape.
    """
    S, L, T, D = shape.seen, shape.row_length, shape.predictions, shape.width
    encoder, E = shape.encoder, shape.embedding_width
    A = encoder.attention_width or D
    feed_forward = (3 if encoder.gated else 2) * D * encoder.feed_forward
    per_position = (encoder.projections or 4 * D * D) + (encoder.feed_forwards or feed_forward)
    on_seen = shape.layers_on_seen
    on_all = encoder.layers - on_seen
    decoder_linear, decoder_attention = _decoder(shape)
    return RowFlops(
        embeddings=2 * S * E * D if E != D else 0,
        encoder_linear=2 * per_position * (on_seen * S + on_all * L),
        encoder_attention=2 * 2 * A * (on_seen * S * S + on_all * L * L)
        + 2 * D * encoder.distance_products * (on_seen * S + on_all * L),
        decoder_linear=2 * decoder_linear,
        decoder_attention=2 * decoder_attention,
        head=2 * T * (D * E + E * shape.vocabulary),
    )


def _decoder(shape: RowShape) -> tuple[float, float]:
    """Return the multiply-adds of a light decoder: those of its linear layers, and those of its attention."""
    if not shape.decoder.has_layers:
        return 0, 0
    linear, attention = DECODERS[shape.decoder.kind].multiply_adds(shape)
    D, d, E = shape.width, shape.decoder_width, shape.embedding_width
    projections = 0 if d == D else (shape.seen + shape.predictions) * D * d
    if shape.decoder.embedding_skip and E != D:
        projections += shape.seen * E * D
    links = multiply_adds_of_links(shape)
    return linear + projections + links.linear, attention + links.attention
