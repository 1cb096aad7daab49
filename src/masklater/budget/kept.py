"""Bytes that a layer keeps for the backward pass, counted from shapes (no torch).

Letters: see flops.py.
"""

from dataclasses import dataclass

from masklater.budget.shape import RowShape
from masklater.recipe.families import SPELT_OUT_GELU


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
        D, F, encoder = shape.width, shape.encoder.feed_forward, shape.encoder
        if encoder.gated:  # queries and keys before and after they turn; both halves, the activated one, their product
            return (
                self.by_attention(D) + 2 * D * self.number + self.by_feed_forward(D, F)
                + F * (2 * self.number + self.dropout) - D * self.dropout
            )  # fmt: skip
        # Queries, keys and values are three products, each with a copy of its own in bfloat16.
        attention = self.by_attention(D, copies=3 if self.number < 4 else 1)
        return attention + self.by_feed_forward(D, F) + 2 * F * self.number * (encoder.family in SPELT_OUT_GELU)
