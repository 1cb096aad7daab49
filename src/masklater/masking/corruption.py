"""The part of corruption that is fixed before any row is read: counts from shares, and facts about ids.

Counts are fixed. In a row without padding C positions are corrupted; M = round(mask x C) of them are dropped and T =
round(predict x C) predicted, for every draw. So S, M and T are the same in every batch.

Letters: see masking/batch.py; C corrupted positions of a row.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from masklater.corpus.vocabulary import Vocabulary
from masklater.errors import UserError
from masklater.masking.counts import Counts, count
from masklater.masking.schedule import rates_of
from masklater.recipe.masking import MaskingSettings


@dataclass(frozen=True)
class Corruption:
    """The corruption of a dataset's rows: the recipe's shares as fixed counts."""

    settings: MaskingSettings
    drop: bool  # True: [MASK]s are left out of the encoder (3ML); False: its input contains them (vanilla)
    rate: float  # share of the maskable positions that are corrupted
    row_length: int  # L
    maskable_per_row: float  # mean over rows without padding
    is_special_V: Tensor  # bool
    ordinary_ids_K: Tensor  # int64: the ids from which random tokens are drawn, K = V - specials
    mask_id: int
    pad_id: int
    table: Any  # the chooser's facts about each token; None where it needs none
    weights_V: Tensor | None = None  # float64: of each token, for the draw of targets; None: equal

    @property
    def counts(self) -> Counts:
        """The counts C, M and T at this rate."""
        return count(self.settings, self.rate, self.drop, self.row_length, self.maskable_per_row)

    def at_rate(self, rate: float) -> Self:
        """Return the same corruption at another rate."""
        return replace(self, rate=rate)


def make_corruption(
    settings: MaskingSettings,
    *,
    drop: bool,
    row_length: int,
    maskable_per_row: float,
    vocabulary: Vocabulary,
    table: Any = None,
) -> Corruption:
    """Fix the counts for rows of one length, at the rate a run begins with.

    Args:
        settings: The recipe's `masking` section.
        drop: Whether [MASK]s are left out of the encoder.
        row_length: L.
        maskable_per_row: Mean number of maskable positions of a row without padding; below L - 2 where rows hold
            separators. C is the rate's share of this mean, so that the corpus as a whole is masked at the stated rate.
        vocabulary: The tokenizer's vocabulary. Its special tokens are never corrupted, nor drawn as random ones.
        table: The chooser's facts about each token (`Chooser.table`).

    Raises:
        UserError: In rows of this length, a rate leaves no target, or no position to see.
    """
    is_special_V = torch.zeros(vocabulary.size, dtype=torch.bool)
    is_special_V[list(vocabulary.special)] = True
    corruption = Corruption(
        settings=settings,
        drop=drop,
        rate=settings.rate,
        row_length=row_length,
        maskable_per_row=maskable_per_row,
        is_special_V=is_special_V,
        ordinary_ids_K=(~is_special_V).nonzero().squeeze(1),
        mask_id=vocabulary.mask,
        pad_id=vocabulary.pad,
        table=table,
    )
    for rate in rates_of(settings):
        if corruption.at_rate(rate).counts.targets < 1:
            share = "" if settings.predict == 1 else f" with masking.predict {settings.predict:g}"
            what = f"a causal phase{share}" if settings.causal else f"masking.rate {rate:g}{share}"
            raise UserError(
                f"{what} leaves no target in rows of {row_length} positions",
                "Raise masking.rate or masking.predict, or prepare longer rows.",
            )
    return corruption
