"""Bytes that a layer keeps for the backward pass, counted from shapes (no torch).

Letters: see flops.py.
"""

from dataclasses import dataclass

from masklater.budget.shape import RowShape
from masklater.recipe.families import SPELT_OUT_GELU


@dataclass(frozen=True)
class Kept:
    """Bytes per position that the parts of a layer keep for the backward pass.

    The residual sum, which the norms read, is float32 in either precision. Under bfloat16, products read copies of the
    norms' outputs. Korthikanti et al. (arXiv 2205.05198, section 4.1) count the same with 16 bits throughout. The count
    is for steps that are not compiled; compiled steps keep less. `benchmarks/launches.py` counts what torch keeps.
    """

    number: int  # bytes per number in a product: 2 or 4
    dropout: bool  # if used, its masks take one byte per number

    def by_attention(self, width: int, keys: int = 1, copies: int = 1) -> int:
        """Return the bytes kept by a norm, queries, keys, values, and the weighted values.

        Args:
            width: D.
            keys: 0 where keys and values come from another sequence.
            copies: Number of copies of the norm's output.
        """
        return width * (4 + (copies + 2 + 2 * keys) * self.number + self.dropout)

    def by_context(self, width: int, normed: bool) -> int:
        """Return the bytes kept by keys and values of another sequence, and by their input."""
        copy = self.number if normed or self.number < 4 else 0
        return width * (4 * normed + copy + 2 * self.number)

    def by_feed_forward(self, width: int, inner: int) -> int:
        """Return the bytes kept by a norm, and by the activation's input and output."""
        return width * (4 + self.number + self.dropout) + 2 * inner * self.number

    def by_encoder_layer(self, shape: RowShape) -> int:
        """Return the bytes kept by an encoder layer as transformers implements it."""
        D, F, encoder = shape.width, shape.encoder.feed_forward, shape.encoder
        if encoder.gated:  # queries and keys before and after rotation; both halves, the activated one, their product
            return (
                self.by_attention(D) + 2 * D * self.number + self.by_feed_forward(D, F)
                + F * (2 * self.number + self.dropout) - D * self.dropout
            )  # fmt: skip
        # Queries, keys and values are three products; in bfloat16 each has a copy of its input.
        attention = self.by_attention(D, copies=3 if self.number < 4 else 1)
        return attention + self.by_feed_forward(D, F) + 2 * F * self.number * (encoder.family in SPELT_OUT_GELU)
