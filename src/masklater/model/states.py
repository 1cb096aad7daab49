"""The row that a decoder works on where each [MASK] has several states (after ExLM, arXiv 2501.13397).

Seen positions have one vector each, as in other decoders. After them come the k states of each position that is not
seen. Attention knows neighbours only by their positions, so this order does not matter. Letters: see masking/batch.py;
k states, U positions not seen, X = S + k U vectors.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from masklater.masking.batch import MaskedBatch
from masklater.model.attention import Places


class StateRow(NamedTuple):
    """The places of a row's vectors, and where each target's states are among them."""

    unseen_pos_BU: Tensor  # int64: the positions that have states
    places: Places  # of all X vectors
    targets_BTk: Tensor  # int64: the vectors of each target; k times the same one where the target is seen


def lay_out(batch: MaskedBatch, num_states: int, blocked_flows: Sequence[str]) -> StateRow:
    """Lay out the rows of a batch.

    Where seen slots hold positions that must not be seen (`hidden_BS`), every seen slot has states too, and the
    attention mask selects the right ones.
    """
    (B, S), M, k = batch.seen_pos_BS.shape, batch.masked_pos_BM.shape[1], num_states
    device, hidden_BS = batch.seen_pos_BS.device, batch.hidden_BS
    seen_index_BS = torch.arange(S, device=device).expand(B, S)
    masked_index_BM = (S + k * torch.arange(M, device=device)).expand(B, M)
    unseen_pos_BU = batch.masked_pos_BM
    if hidden_BS is not None:
        unseen_pos_BU = torch.cat([batch.masked_pos_BM, batch.seen_pos_BS], dim=1)
        seen_index_BS = torch.where(hidden_BS, S + k * (M + seen_index_BS), seen_index_BS)
    index_BL = torch.zeros(B, batch.row_length, dtype=torch.int64, device=device)
    index_BL = index_BL.scatter(1, batch.seen_pos_BS, seen_index_BS).scatter(1, batch.masked_pos_BM, masked_index_BM)
    first_BT1 = index_BL.gather(1, batch.target_pos_BT)[:, :, None]
    targets_BTk = first_BT1 + torch.arange(k, device=device) * (first_BT1 >= S)

    is_mask_BX = None
    if blocked_flows:
        is_mask_BX = (torch.arange(S + k * unseen_pos_BU.shape[1], device=device) >= S).expand(B, -1)
    documents_BX = _documents(batch, unseen_pos_BU, k)
    pos_BX = torch.cat([batch.seen_pos_BS, unseen_pos_BU.repeat_interleave(k, dim=1)], dim=1)
    return StateRow(unseen_pos_BU, Places(pos_BX, documents_BX, is_mask_BX), targets_BTk)


def _documents(batch: MaskedBatch, unseen_pos_BU: Tensor, k: int) -> Tensor | None:
    """Return the document of each vector; -1 for unused stand-ins; None: all are of one document."""
    documents_BL, hidden_BS = batch.documents_BL, batch.hidden_BS
    if documents_BL is None:
        if hidden_BS is None:
            return None
        documents_BL = torch.zeros_like(batch.seen_pos_BS[:, :1]).expand(-1, batch.row_length)
    of_seen_BS, of_unseen_BU = (documents_BL.gather(1, pos) for pos in (batch.seen_pos_BS, unseen_pos_BU))
    if hidden_BS is not None:
        of_seen_BS = of_seen_BS.masked_fill(hidden_BS, -1)
        of_masked_BM, of_spare_BS = of_unseen_BU.tensor_split([batch.masked_pos_BM.shape[1]], dim=1)
        of_unseen_BU = torch.cat([of_masked_BM, of_spare_BS.masked_fill(~hidden_BS, -1)], dim=1)
    return torch.cat([of_seen_BS, of_unseen_BU.repeat_interleave(k, dim=1)], dim=1)
