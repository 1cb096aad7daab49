"""Parameters, counted from shapes (no torch).

Letters: see flops.py; P positions that the encoder has embeddings for, d and f the decoder's width and feed-forward
width.
"""

from dataclasses import dataclass
from typing import get_args

from masklater.budget.decoders import DECODERS, parameters_of_states
from masklater.budget.shape import RowShape
from masklater.recipe.sections import Family


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters."""

    embeddings: int  # words, positions, types, and the norm or projection after them; exported
    encoder_layers: int  # exported
    decoder: int
    head: int  # without the word embedding, which it shares with the encoder

    @property
    def exported(self) -> int:
        """The number of parameters that fine-tuning starts from."""
        return self.embeddings + self.encoder_layers

    @property
    def trained(self) -> int:
        """The number of all parameters."""
        return self.exported + self.decoder + self.head


def count_parameters(shape: RowShape) -> Parameters | None:
    """Count the parameters of an encoder with its decoder and head; None for a family that recipes cannot name."""
    encoder, D, V, E = shape.encoder, shape.width, shape.vocabulary, shape.embedding_width
    F = encoder.feed_forward
    if encoder.family not in get_args(Family):
        return None
    if encoder.family == "modernbert":  # no biases; the first layer lacks a norm, and one follows the last
        embeddings = V * E + E
        layers = encoder.layers * (4 * D * D + 3 * D * F + 2 * D)
    elif encoder.family == "esm":  # norms before each block and one at the end
        embeddings = (V + encoder.positions) * E
        layers = encoder.layers * (4 * D * D + 2 * D * F + 9 * D + F) + 2 * D
    else:
        embeddings = (V + encoder.positions + encoder.token_types) * E + 2 * E + (E * D + D if E != D else 0)
        last_norm = 2 * D if encoder.pre_norm else 0
        layers = encoder.layers * (4 * D * D + 2 * D * F + 9 * D + F) + last_norm
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
    positions = 0 if shape.rotary_decoder else shape.room or shape.row_length
    masks = (positions + (shape.decoder.mask_embedding == "own")) * d + parameters_of_states(shape)
    if not shape.decoder.has_layers:
        return masks
    last_norm = 2 * d if shape.encoder.pre_norm else 0
    projections = 2 * D * d + d + D if d != D else 0
    skip = D if shape.decoder.embedding_skip else 0
    return masks + DECODERS[shape.decoder.kind].parameters(shape) + last_norm + projections + skip
