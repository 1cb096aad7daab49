"""Which positions are corrupted: single tokens, whole words, or spans of words, with a fixed count per row.

Each chooser ranks a row's positions; the first `wanted` ranks are corrupted. Words and spans are taken in random order,
and at most one a row is cut to make the count. For words it is next to never: smaller words fill what the first that is
too large leaves. Filling with spans would favour short ones (3.3 tokens on average where 4.4 were drawn, measured at
15%), so that there the first span too large is cut, as SpanBERT does.

Letters: see masking/batch.py; U units (words or spans) of a row.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class WordTable:
    """Where words begin: at some tokens always, and between tokens whose meeting characters differ in class."""

    begins_V: Tensor  # bool: whether the token begins a word, whatever stands before it
    first_V: Tensor  # int8: class of the token's first character; 0: one that never begins a word
    last_V: Tensor  # int8: class of the token's last character; 0: one after which no word begins


def rank_uniform(maskable_BL: Tensor, generator: torch.Generator) -> Tensor:
    """Rank the positions of each row in random order, maskable ones before all others.

    Args:
        maskable_BL: bool, True where a position may be corrupted.
        generator: The source of all randomness.

    Returns:
        int64 order_BL: positions by rank; every maskable position is equally likely at every rank.
    """
    draws_BL = torch.rand(maskable_BL.shape, generator=generator)
    return torch.argsort(draws_BL.masked_fill_(~maskable_BL, 2.0), dim=1, stable=True)


def number_words(rows_BL: Tensor, maskable_BL: Tensor, words: WordTable) -> Tensor:
    """The number, from 0, of the word each position belongs to, int64 word_BL; -1 where it is not maskable."""
    first_BL, before_BL = words.first_V[rows_BL], words.last_V[rows_BL].roll(1, dims=1)
    differs_BL = (first_BL != before_BL) & (first_BL != 0) & (before_BL != 0)
    after_special_BL = ~maskable_BL.roll(1, dims=1)
    begins_BL = maskable_BL & (words.begins_V[rows_BL] | differs_BL | after_special_BL)
    return (begins_BL.cumsum(dim=1) - 1).masked_fill_(~maskable_BL, -1)


def group_spans(word_BL: Tensor, p: float, longest: int, generator: torch.Generator) -> Tensor:
    """Cut each row into spans of words, int64 span_BL; -1 where there is no word.

    Lengths in words are geometric, given that they are at most `longest` (SpanBERT, arXiv 1907.10529, section 3.1:
    p = 0.2 and 10, which makes 3.8 on average). Cutting the whole row first and choosing among its spans leaves every
    position equally likely, and spans apart by construction. No span crosses a special token, and the last of a
    document is as long as what is left.
    """
    B, L = word_BL.shape
    share_n = (1 - p) ** torch.arange(longest, dtype=torch.float64)
    below_n = (share_n / share_n.sum()).cumsum(0)
    draws_BL = torch.rand((B, L), generator=generator, dtype=torch.float64)
    length_BL = torch.searchsorted(below_n, draws_BL).clamp(max=longest - 1) + 1
    span_of_word_BL = torch.searchsorted(length_BL.cumsum(dim=1), word_BL.clamp(min=0), right=True)
    is_word_BL = word_BL >= 0
    begins_BL = is_word_BL & ((span_of_word_BL != span_of_word_BL.roll(1, dims=1)) | ~is_word_BL.roll(1, dims=1))
    return (begins_BL.cumsum(dim=1) - 1).masked_fill_(~is_word_BL, -1)


def rank_units(unit_BL: Tensor, wanted_B: Tensor, fill: bool, generator: torch.Generator) -> Tensor:
    """Rank positions so that the first `wanted` of a row are whole units, in random order.

    Args:
        unit_BL: int64, the unit of each position: contiguous, numbered from 0 along the row; -1 where not maskable.
        wanted_B: int64, how many positions to choose; no more than are maskable.
        fill: Whether smaller units fill the gap that the first unit too large leaves, before one is cut. That keeps
            units whole, and favours small ones by a little.
        generator: The source of all randomness.

    Returns:
        int64 order_BL: positions by rank. Units stay together; those chosen come first.
    """
    B, L = unit_BL.shape
    is_maskable_BL = unit_BL >= 0
    unit_or_0_BL = unit_BL.clamp(min=0)
    size_BU = torch.zeros(B, L, dtype=torch.int64).scatter_add_(1, unit_or_0_BL, is_maskable_BL.long())
    by_draw_BU = torch.argsort(torch.rand((B, L), generator=generator), dim=1)
    size_in_order_BU = size_BU.gather(1, by_draw_BU)

    taken_BU = (size_in_order_BU > 0) & (size_in_order_BU.cumsum(dim=1) <= wanted_B[:, None])
    left_B = wanted_B - (size_in_order_BU * taken_BU).sum(dim=1)
    while fill:  # each turn takes at least one unit in each row where one fits
        fits_BU = ~taken_BU & (size_in_order_BU > 0) & (size_in_order_BU <= left_B[:, None])
        now_BU = fits_BU & ((size_in_order_BU * fits_BU).cumsum(dim=1) <= left_B[:, None])
        if not now_BU.any():
            break
        taken_BU |= now_BU
        left_B -= (size_in_order_BU * now_BU).sum(dim=1)
    # What is left over is cut from the first unit that did not fit.
    cut_B = (~taken_BU & (size_in_order_BU > 0)).int().argmax(dim=1)
    chosen_BU = torch.where(taken_BU, size_in_order_BU, 0)
    chosen_BU.scatter_add_(1, cut_B[:, None], left_B[:, None])
    num_chosen_BU = torch.zeros_like(size_BU).scatter_(1, by_draw_BU, chosen_BU)

    # Ranks are drawn afresh: in the order of taking, small units that filled a gap would always come last.
    start_BU = size_BU.cumsum(dim=1) - size_BU
    place_BL = is_maskable_BL.cumsum(dim=1) - 1 - start_BU.gather(1, unit_or_0_BL)
    is_chosen_BL = is_maskable_BL & (place_BL < num_chosen_BU.gather(1, unit_or_0_BL))
    draws_BL = torch.rand((B, L), generator=generator).gather(1, unit_or_0_BL)
    draws_BL = torch.where(is_chosen_BL, draws_BL, torch.where(is_maskable_BL, 1.0, 2.0))
    return torch.argsort(draws_BL, dim=1, stable=True)
