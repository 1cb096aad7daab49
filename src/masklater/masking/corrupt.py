"""Corruption of rows into a MaskedBatch: choose positions, their ids, and which are predicted (method, step 1).

The number of corrupted positions is fixed (`corruption.py`). In a padded row each padding position may replace one
corrupted position: the row's masking rate stays that of the recipe, and padding fills the remaining dropped slots. (A
row that consists almost only of separators may have fewer maskable positions than M; then separators fill the slots.)

Letters: see masking/batch.py; C corrupted positions of a row.
"""

import torch
from torch import Tensor

from masklater.masking.batch import IGNORE, MaskedBatch
from masklater.masking.choose import CHOOSERS, number_words, rank_uniform, rank_weighted
from masklater.masking.corruption import Corruption
from masklater.masking.counts import share_of_each
from masklater.masking.draws import Draws
from masklater.masking.next_tokens import predict_next


def corrupt(
    rows_BL: Tensor,
    documents_BL: Tensor | None,
    corruption: Corruption,
    draws: Draws,
    continues_BL: Tensor | None = None,
) -> MaskedBatch:
    """Corrupt rows into a MaskedBatch.

    Args:
        rows_BL: int64 token ids, on the CPU.
        documents_BL: int64 document of each position (padding -1), or None where all positions see each other.
        corruption: The fixed counts.
        draws: The source of all randomness; the same generator state gives the same batch.
        continues_BL: bool, True where a word is continued, if the rows store this; None: the tokens tell.
    """
    if corruption.settings.causal:
        return predict_next(rows_BL, documents_BL, corruption, draws)
    B, L = rows_BL.shape
    _, C, M, T = corruption.counts
    settings = corruption.settings
    maskable_BL = ~corruption.is_special_V[rows_BL]
    padding_BL = rows_BL == corruption.pad_id

    # Corrupted positions of each row: C, less those that padding replaces.
    wanted_B = share_of_each(corruption.rate, maskable_BL.sum(dim=1))
    corrupted_B = C - (C - wanted_B).clamp(min=0).minimum(padding_BL.sum(dim=1))
    corrupted_B = corrupted_B.minimum(maskable_BL.sum(dim=1))
    masks_B = share_of_each(settings.mask, corrupted_B)
    replaced = round(settings.mask + settings.random, 9)  # else 0.6 + 0.3 would be a little less than 0.9
    randoms_B = share_of_each(replaced, corrupted_B) - masks_B

    chooser = CHOOSERS[settings.choose]
    of_BL = number_words(rows_BL, maskable_BL, corruption.table, continues_BL) if chooser.by_words else rows_BL
    order_BL = chooser.rank(of_BL, maskable_BL, corrupted_B, corruption, draws)
    rank_BL = torch.empty_like(order_BL).scatter_(1, order_BL, torch.arange(L).expand(B, L))
    is_mask_BL = rank_BL < masks_B[:, None]
    is_random_BL = (rank_BL >= masks_B[:, None]) & (rank_BL < (masks_B + randoms_B)[:, None])
    draws_BL = draws.randint(len(corruption.ordinary_ids_K), B, L)
    ids_BL = torch.where(is_random_BL, corruption.ordinary_ids_K[draws_BL], rows_BL)

    if corruption.drop:
        # The first M in this order are dropped: [MASK]s, then padding, then separators (almost never needed).
        order_to_drop_BL = torch.where(is_mask_BL, 0, torch.where(padding_BL, 1, torch.where(maskable_BL, 3, 2)))
        by_drop_BL = torch.argsort(order_to_drop_BL, dim=1, stable=True)
        masked_pos_BM = by_drop_BL[:, :M].sort(dim=1).values
        seen_pos_BS = by_drop_BL[:, M:].sort(dim=1).values
    else:
        ids_BL = torch.where(is_mask_BL, corruption.mask_id, ids_BL)
        seen_pos_BS = torch.arange(L).expand(B, L).contiguous()
        masked_pos_BM = torch.empty(B, 0, dtype=torch.int64)

    targets_B = corrupted_B
    if settings.predict < 1:  # predict only some of the corrupted positions, whatever their ids now
        order_BL = _rank_targets(rank_BL < corrupted_B[:, None], rows_BL, corruption, draws)
        targets_B = share_of_each(settings.predict, corrupted_B)
    target_pos_BT = order_BL[:, :T]
    in_use_BT = torch.arange(T) < targets_B[:, None]
    return MaskedBatch(
        seen_ids_BS=ids_BL.gather(1, seen_pos_BS),
        seen_pos_BS=seen_pos_BS,
        masked_pos_BM=masked_pos_BM,
        target_pos_BT=target_pos_BT,
        target_ids_BT=torch.where(in_use_BT, rows_BL.gather(1, target_pos_BT), IGNORE),
        documents_BL=documents_BL,
    )


def _rank_targets(is_corrupted_BL: Tensor, rows_BL: Tensor, corruption: Corruption, draws: Draws) -> Tensor:
    """Rank the corrupted positions of each row by the order of prediction: at random, or by their tokens' weights."""
    if corruption.weights_V is None:
        return rank_uniform(is_corrupted_BL, draws)
    return rank_weighted(is_corrupted_BL, corruption.weights_V[rows_BL], draws)
