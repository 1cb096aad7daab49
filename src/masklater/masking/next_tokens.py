"""Rows of a causal phase: nothing is masked, and each position predicts the next token.

Targets are tokens that the masked objective could predict too, so never a special token. Where documents do not see
each other, the first token of a document that begins inside the row is no target either, because nothing of its
document comes before it. Where positions see the whole row before them (`batch.attend: row`), the previous document
comes before that token, and it is a target. Every row has T = round(predict x (L - 2)) slots, however many targets it
has: a row begins and ends with a special token.

Letters: see masking/batch.py.
"""

import torch
from torch import Tensor

from masklater.masking.batch import IGNORE, CausalBatch
from masklater.masking.choose import rank_uniform
from masklater.masking.corruption import Corruption
from masklater.masking.counts import share_of_each
from masklater.masking.draws import Draws


def predict_next(rows_BL: Tensor, documents_BL: Tensor | None, corruption: Corruption, draws: Draws) -> CausalBatch:
    """Make a CausalBatch of rows; the arguments are those of `corrupt`."""
    B, L = rows_BL.shape
    T = corruption.counts.targets
    predicts_BL = torch.zeros(B, L, dtype=torch.bool)
    predicts_BL[:, :-1] = ~corruption.is_special_V[rows_BL[:, 1:]]
    if documents_BL is not None:
        predicts_BL[:, :-1] &= documents_BL[:, :-1] == documents_BL[:, 1:]
    targets_B = share_of_each(corruption.settings.predict, predicts_BL.sum(dim=1))
    target_pos_BT = rank_uniform(predicts_BL, draws)[:, :T]
    in_use_BT = torch.arange(T) < targets_B[:, None]
    next_BL = rows_BL.roll(-1, dims=1)
    return CausalBatch(
        seen_ids_BS=rows_BL,
        seen_pos_BS=torch.arange(L).expand(B, L).contiguous(),
        masked_pos_BM=torch.empty(B, 0, dtype=torch.int64),
        target_pos_BT=target_pos_BT,
        target_ids_BT=torch.where(in_use_BT, next_BL.gather(1, target_pos_BT), IGNORE),
        documents_BL=documents_BL,
    )
