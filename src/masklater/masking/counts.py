"""Counts of corrupted, dropped and predicted positions. They are the same for every row without padding (no torch)."""

from typing import TYPE_CHECKING, NamedTuple

from masklater.recipe.masking import MaskingSettings

if TYPE_CHECKING:
    from torch import Tensor


class Counts(NamedTuple):
    """Counts of positions of one row without padding."""

    row_length: int  # L
    corrupted: int  # C
    dropped: int  # M
    targets: int  # T

    @property
    def seen(self) -> int:
        """The number of seen positions, S."""
        return self.row_length - self.dropped


def count(settings: MaskingSettings, rate: float, drop: bool, row_length: int, maskable_per_row: float) -> Counts:
    """Count the positions of a row at a masking rate.

    Args:
        settings: The recipe's `masking` section.
        rate: Share of the maskable positions that are corrupted.
        drop: Whether [MASK]s are left out of the encoder.
        row_length: L.
        maskable_per_row: Mean number of maskable positions of a row without padding.
    """
    if settings.causal:  # minus the special tokens at both ends of a row
        return Counts(row_length, corrupted=0, dropped=0, targets=share_of(settings.predict, row_length - 2))
    corrupted = min(share_of(rate, maskable_per_row), row_length - 2)
    return Counts(
        row_length=row_length,
        corrupted=corrupted,
        dropped=share_of(settings.mask, corrupted) if drop else 0,
        targets=share_of(settings.predict, corrupted),
    )


def share_of(share: float, number: float) -> int:
    """Return the share of a number of positions, rounded to an integer: in float64, halves to the even one."""
    return round(share * number)


def share_of_each(share: float, number_B: "Tensor") -> "Tensor":
    """Return `share_of` for each of several numbers, int64.

    Computed in float64 as well: float32 rounds some halves to other integers (0.55 x 110), and the counts of rows would
    then differ from those that their slots were computed from.
    """
    return (share * number_B.double()).round().long()
