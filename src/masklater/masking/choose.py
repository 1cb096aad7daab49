"""The choice of positions to corrupt: single tokens, whole words, or spans of words, a fixed count per row.

Each chooser ranks a row's positions; the first `wanted` ranks are corrupted. Words and spans are taken whole, except
for at most one per row that is cut to reach the count. Every position is equally likely to be chosen, however long the
words are. (In text without spaces one word may be longer than `wanted`, or be the whole row.)

A chooser is a function in CHOOSERS, at the end of this file. Letters: see masking/batch.py; U units (words or spans) of
a row.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from masklater.corpus.shards import RowBlock
from masklater.corpus.words import WordTable
from masklater.masking.corruption import Corruption
from masklater.masking.draws import Draws


def rank_uniform(maskable_BL: Tensor, draws: Draws) -> Tensor:
    """Rank the positions of each row in random order, maskable ones before all others.

    Args:
        maskable_BL: bool, True where a position may be corrupted.
        draws: The source of all randomness.

    Returns:
        int64 order_BL: positions by rank; every maskable position is equally likely at every rank.
    """
    draws_BL = draws.rand(*maskable_BL.shape)
    return torch.argsort(draws_BL.masked_fill(~maskable_BL, 2.0), dim=1, stable=True)


def rank_weighted(maskable_BL: Tensor, weight_BL: Tensor, draws: Draws) -> Tensor:
    """Rank the positions of each row: each next one is drawn with a probability proportional to its weight.

    Each position gets an exponential arrival time with its weight as the rate, and times decide the order. This is
    Gumbel's trick (Efraimidis and Spirakis 2006). With equal weights the order is that of `rank_uniform`.

    Args:
        maskable_BL: bool, True where a position may be corrupted; these come first.
        weight_BL: float64, above 0.
        draws: The source of all randomness.

    Returns:
        int64 order_BL: positions by rank.
    """
    draws_BL = draws.rand(*maskable_BL.shape)
    time_BL = -torch.log1p(-draws_BL.double()) / weight_BL
    return torch.argsort(time_BL.masked_fill(~maskable_BL, math.inf), dim=1, stable=True)


def number_words(
    rows_BL: Tensor, maskable_BL: Tensor, words: WordTable[Tensor] | None, continues_BL: Tensor | None = None
) -> Tensor:
    """Number the words of each row from 0: int64 word_BL, the word of each position; -1 where it is not maskable.

    Args:
        rows_BL: int64 ids.
        maskable_BL: bool, False at special tokens, after which a word begins.
        words: The table that tells words apart; None where the rows do.
        continues_BL: bool, True where a word is continued, if the rows store this; None: the tokens tell.
    """
    if continues_BL is None:
        assert words is not None
        first_BL, before_BL = words.first_V[rows_BL], words.last_V[rows_BL].roll(1, dims=1)
        differs_BL = (first_BL != before_BL) & (first_BL != 0) & (before_BL != 0)
        continues_BL = ~(words.begins_V[rows_BL] | differs_BL)
    after_special_BL = ~maskable_BL.roll(1, dims=1)
    begins_BL = maskable_BL & (~continues_BL | after_special_BL)
    return (begins_BL.cumsum(dim=1) - 1).masked_fill_(~maskable_BL, -1)


def group_spans(word_BL: Tensor, p: float, longest: int, draws: Draws) -> Tensor:
    """Cut each row into spans of words; return int64 span_BL, -1 where there is no word.

    Lengths in words are geometric, conditional on at most `longest` (SpanBERT, arXiv 1907.10529, section 3.1: p = 0.2
    and 10, 3.8 words on average). The whole row is cut first, and spans are chosen afterwards, so that every position
    is equally likely and spans never overlap. No span crosses a special token. The last span of a document ends with
    the document.
    """
    B, L = word_BL.shape
    share_n = (1 - p) ** torch.arange(longest, dtype=torch.float64)
    below_n = (share_n / share_n.sum()).cumsum(0)
    draws_BL = draws.rand(B, L, dtype=torch.float64)
    length_BL = torch.searchsorted(below_n, draws_BL).clamp(max=longest - 1) + 1
    span_of_word_BL = torch.searchsorted(length_BL.cumsum(dim=1), word_BL.clamp(min=0), right=True)
    is_word_BL = word_BL >= 0
    begins_BL = is_word_BL & ((span_of_word_BL != span_of_word_BL.roll(1, dims=1)) | ~is_word_BL.roll(1, dims=1))
    return (begins_BL.cumsum(dim=1) - 1).masked_fill_(~is_word_BL, -1)


def rank_units(unit_BL: Tensor, wanted_B: Tensor, fill: bool, draws: Draws) -> Tensor:
    """Rank positions so that the first `wanted` of a row form whole units, except for at most one.

    Every maskable position is equally likely at every rank, whatever the sizes of the units.

    Args:
        unit_BL: int64, the unit of each position: contiguous, numbered from 0 along the row; -1 where not maskable.
        wanted_B: int64, how many positions to choose; at most the number of maskable ones.
        fill: Whether units of one position make up for the unit that would be cut, where there are enough of them.
        draws: The source of all randomness.

    Returns:
        int64 order_BL: positions by rank. The positions of a unit are consecutive; chosen positions come first.
    """
    B, L = unit_BL.shape
    is_maskable_BL = unit_BL >= 0
    unit_or_0_BL = unit_BL.clamp(min=0)
    size_BU = torch.zeros(B, L, dtype=torch.int64).scatter_add_(1, unit_or_0_BL, is_maskable_BL.long())
    by_draw_BU = torch.argsort(draws.rand(B, L), dim=1)
    size_in_order_BU = size_BU.gather(1, by_draw_BU)
    taken_BU = _take_in_order(size_in_order_BU, wanted_B, draws)
    if fill:
        taken_BU = _make_whole(size_in_order_BU, taken_BU, draws)
    taken_BU = torch.zeros_like(size_BU).scatter_(1, by_draw_BU, taken_BU)
    turn_BU = torch.empty_like(size_BU).scatter_(1, by_draw_BU, torch.arange(L).expand(B, L))

    # A unit is a ring entered at a random place, so that all its parts are equally likely to be cut off.
    start_BU = size_BU.cumsum(dim=1) - size_BU
    size_BL = size_BU.gather(1, unit_or_0_BL).clamp(min=1)
    entry_BL = _draw_below(size_BU, draws).gather(1, unit_or_0_BL)
    place_BL = (is_maskable_BL.cumsum(dim=1) - 1 - start_BU.gather(1, unit_or_0_BL) - entry_BL) % size_BL
    is_chosen_BL = is_maskable_BL & (place_BL < taken_BU.gather(1, unit_or_0_BL))

    key_BL = turn_BU.gather(1, unit_or_0_BL) * L + place_BL
    key_BL = torch.where(is_chosen_BL, key_BL, torch.where(is_maskable_BL, L * L, L * L + 1))
    order_BL = torch.argsort(key_BL, dim=1, stable=True)
    # Ranks begin at a random place among the chosen; else units of some sizes would come first more often.
    rank_L = torch.arange(L)
    begin_B1 = _draw_below(wanted_B[:, None], draws)
    turned_BL = (rank_L + begin_B1) % wanted_B[:, None].clamp(min=1)
    return order_BL.gather(1, torch.where(rank_L < wanted_B[:, None], turned_BL, rank_L))


def _take_in_order(size_BU: Tensor, wanted_B: Tensor, draws: Draws) -> Tensor:
    """Return taken_BU, how much of each unit to take: all or nothing, except for one unit.

    On average a unit gets its share of the row. The units are arranged in random order on a ring. A stretch of `wanted`
    positions begins at a random place (systematic sampling: every position is equally likely). It cuts two units, one
    at either end. Moving positions from one to the other makes one of them whole, or leaves it out. The direction is
    drawn so that neither gains on average.
    """
    end_BU = size_BU.cumsum(dim=1)
    start_BU, total_B1, wanted_B1 = end_BU - size_BU, end_BU[:, -1:], wanted_B[:, None]
    from_B1 = _draw_below(total_B1, draws)
    to_B1 = from_B1 + wanted_B1
    taken_BU = torch.zeros_like(size_BU)
    for round_B1 in (torch.zeros_like(total_B1), total_B1):
        inside_BU = torch.minimum(end_BU + round_B1, to_B1) - torch.maximum(start_BU + round_B1, from_B1)
        taken_BU += inside_BU.clamp(min=0)

    is_cut_BU = (taken_BU > 0) & (taken_BU < size_BU)
    one_B1 = is_cut_BU.int().argmax(dim=1, keepdim=True)
    other_B1 = is_cut_BU.shape[1] - 1 - is_cut_BU.flip(1).int().argmax(dim=1, keepdim=True)
    of_one_B1, of_other_B1 = taken_BU.gather(1, one_B1), taken_BU.gather(1, other_B1)
    gain_B1 = torch.minimum(size_BU.gather(1, one_B1) - of_one_B1, of_other_B1)
    loss_B1 = torch.minimum(of_one_B1, size_BU.gather(1, other_B1) - of_other_B1)
    gains_B1 = _draw_below(gain_B1 + loss_B1, draws) < loss_B1
    moved_B1 = torch.where(gains_B1, gain_B1, -loss_B1) * (is_cut_BU.sum(dim=1, keepdim=True) == 2)
    return taken_BU.scatter_add_(1, one_B1, moved_B1).scatter_add_(1, other_B1, -moved_B1)


def _make_whole(size_BU: Tensor, taken_BU: Tensor, draws: Draws) -> Tensor:
    """Take the cut unit whole or leave it out; units of one position make up for the difference.

    Which of the two is drawn so that no unit gains on average. Where there are too few units of one position for both
    cases, the cut stays.
    """
    is_cut_BU = (taken_BU > 0) & (taken_BU < size_BU)
    cut_B1 = is_cut_BU.int().argmax(dim=1, keepdim=True)
    size_B1, of_cut_B1 = size_BU.gather(1, cut_B1), taken_BU.gather(1, cut_B1)
    is_taken_BU, is_free_BU = (size_BU == 1) & (taken_BU == 1), (size_BU == 1) & (taken_BU == 0)
    can_B1 = is_cut_BU.any(dim=1, keepdim=True)
    can_B1 &= is_taken_BU.sum(dim=1, keepdim=True) >= size_B1 - of_cut_B1
    can_B1 &= is_free_BU.sum(dim=1, keepdim=True) >= of_cut_B1
    is_whole_B1 = _draw_below(size_B1, draws) < of_cut_B1
    gives_BU = is_taken_BU & (is_taken_BU.cumsum(dim=1) <= size_B1 - of_cut_B1) & can_B1 & is_whole_B1
    gets_BU = is_free_BU & (is_free_BU.cumsum(dim=1) <= of_cut_B1) & can_B1 & ~is_whole_B1
    moved_B1 = torch.where(is_whole_B1, size_B1 - of_cut_B1, -of_cut_B1) * can_B1
    return (taken_BU + gets_BU.long() - gives_BU.long()).scatter_add_(1, cut_B1, moved_B1)


def _draw_below(limit_BX: Tensor, draws: Draws) -> Tensor:
    """Draw a random int64 from 0 to each limit - 1; 0 where the limit is 0."""
    return (draws.rand(*limit_BX.shape, dtype=torch.float64) * limit_BX).long()


def choose_uniform(
    rows_BL: Tensor, maskable_BL: Tensor, wanted_B: Tensor, corruption: Corruption, draws: Draws
) -> Tensor:
    """Choose single tokens."""
    return rank_uniform(maskable_BL, draws)


def choose_words(
    word_BL: Tensor, maskable_BL: Tensor, wanted_B: Tensor, corruption: Corruption, draws: Draws
) -> Tensor:
    """Choose whole words."""
    return rank_units(word_BL, wanted_B, True, draws)


def choose_spans(
    word_BL: Tensor, maskable_BL: Tensor, wanted_B: Tensor, corruption: Corruption, draws: Draws
) -> Tensor:
    """Choose spans of words."""
    settings = corruption.settings
    span_BL = group_spans(word_BL, settings.span_p, settings.span_max, draws)
    return rank_units(span_BL, wanted_B, False, draws)


def word_table(shards: Any) -> WordTable[Tensor] | None:
    """Read from SHARDS which tokens begin words; None where the rows store this."""
    return None if shards.index.marked else WordTable(*map(torch.from_numpy, shards.words))


def continued(block: RowBlock) -> Tensor | None:
    """Return bool continues_BL, True where a word is continued; None: the rows do not store this."""
    return None if block.continues_NL is None else torch.from_numpy(block.continues_NL)


def words_of_rows(shards: Any, block: RowBlock) -> NDArray[np.int64]:
    """Return word_NL, the word of each position of rows of SHARDS, numbered as by `number_words`.

    Raises:
        UserError: Neither rows nor tokens tell words apart.
    """
    rows_BL = torch.from_numpy(block.ids_NL)
    maskable_BL = torch.isin(rows_BL, torch.tensor(shards.vocabulary.special), invert=True)
    return number_words(rows_BL, maskable_BL, word_table(shards), continued(block)).numpy()


class Chooser(NamedTuple):
    """A way to choose positions.

    `rank` takes rows_BL (int64 ids), maskable_BL (bool), wanted_B (how many positions to corrupt), the Corruption and
    the Draws (the source of all randomness). It returns int64 order_BL: positions by rank, maskable ones first. `table`
    reads the facts that `rank` needs about each token from SHARDS, once; `rank` gets them as `Corruption.table`. With
    `by_words`, `rank` takes word_BL instead of rows_BL (the word of each position, as `number_words` returns it), and
    `table` is `word_table`.
    """

    rank: Callable[[Tensor, Tensor, Tensor, Corruption, Draws], Tensor]
    table: Callable[[Any], Any] | None = None
    by_words: bool = False


CHOOSERS: dict[str, Chooser] = {
    "uniform": Chooser(choose_uniform),
    "word": Chooser(choose_words, word_table, by_words=True),
    "span": Chooser(choose_spans, word_table, by_words=True),
}
"""Choosers by the names that recipes use; recipe.masking.CHOOSERS has the same names."""
