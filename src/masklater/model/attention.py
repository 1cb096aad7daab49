"""Attention masks and rotary angles: everything that attention is given besides hidden states.

Positions attend within their document, never to hidden positions, and only along the attention flows that are left on.

Each position carries token and position information. Attention has four flows between unmasked positions and [MASK]s
(the paper's analysis; a flow goes from keys to queries). All flows are on unless a recipe blocks some, as an ablation.

Letters: see masking/batch.py; Q queries, K keys, X either; H heads, e width of a head, h half of it.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from masklater.masking.batch import MaskedBatch


class Places(NamedTuple):
    """The positions on one side of an attention, queries or keys."""

    pos_BX: Tensor  # int64: positions in the row
    documents_BX: Tensor | None  # int64: each one's document; -1: none (padding, spare slots); None: all in one
    is_mask_BX: Tensor | None  # bool: [MASK]s; None where no flow is blocked


class RotaryAngles(NamedTuple):
    """Rotary positions (RoFormer, arXiv 2104.09864): the angles by which each position turns queries and keys."""

    cos_B1Xh: Tensor  # float32
    sin_B1Xh: Tensor


class Pairs(NamedTuple):
    """The pairs of queries and keys that attend to each other, and the angles by which each side is turned."""

    attend_BQK: Tensor | None  # bool, True where the query may attend to the key; None: all to all
    query: RotaryAngles | None = None  # None: not turned, because positions were added to the hidden states
    key: RotaryAngles | None = None


def seen_places(batch: MaskedBatch, mask_id: int, blocked_flows: Sequence[str]) -> Places:
    """Return the S positions that the encoder reads; [MASK]s are among them in vanilla mode only."""
    documents_BS = None if batch.documents_BL is None else batch.documents_BL.gather(1, batch.seen_pos_BS)
    if batch.hidden_BS is not None:
        if documents_BS is None:
            documents_BS = torch.zeros_like(batch.seen_pos_BS)
        documents_BS = documents_BS.masked_fill(batch.hidden_BS, -1)
    is_mask_BS = batch.seen_ids_BS == mask_id if blocked_flows else None
    return Places(batch.seen_pos_BS, documents_BS, is_mask_BS)


def row_places(batch: MaskedBatch, blocked_flows: Sequence[str]) -> Places:
    """Return all L positions of the row. The dropped ones are [MASK]s."""
    B, L = batch.seen_pos_BS.shape[0], batch.row_length
    pos_BL = torch.arange(L, device=batch.seen_pos_BS.device).expand(B, L)
    is_mask_BL = None
    if blocked_flows:
        is_mask_BL = torch.ones_like(pos_BL, dtype=torch.bool)
        is_seen_BS = torch.zeros_like(batch.seen_pos_BS, dtype=torch.bool)
        is_mask_BL = is_mask_BL.scatter(
            1, batch.seen_pos_BS, is_seen_BS if batch.hidden_BS is None else batch.hidden_BS
        )
    return Places(pos_BL, batch.documents_BL, is_mask_BL)


def select(places: Places, index_BY: Tensor) -> Places:
    """Return some of the places by their numbers. The places of a whole row are numbered by position."""
    pos_BY, documents_BY, is_mask_BY = (None if tensor is None else tensor.gather(1, index_BY) for tensor in places)
    assert pos_BY is not None
    return Places(pos_BY, documents_BY, is_mask_BY)


def make_pairs(queries: Places, keys: Places, blocked_flows: Sequence[str], rotary_width: int | None) -> Pairs:
    """Pair queries with keys. `rotary_width` is the width of a head that is turned; None: heads are not turned."""
    allowed_BQK = attention_mask(queries, keys, blocked_flows)
    if rotary_width is None:
        return Pairs(allowed_BQK)
    of_keys = rotary_angles(keys.pos_BX, rotary_width)
    of_queries = of_keys if queries is keys else rotary_angles(queries.pos_BX, rotary_width)
    return Pairs(allowed_BQK, of_queries, of_keys)


ROTARY_BASE = 10_000.0
"""RoFormer's base: the slowest pair of a head turns once in 2 pi times as many positions."""


def rotary_angles(pos_BX: Tensor, head_width: int) -> RotaryAngles:
    """Compute the angles of some positions."""
    half = head_width // 2
    speed_h = ROTARY_BASE ** (-torch.arange(half, device=pos_BX.device, dtype=torch.float32) / half)
    angle_B1Xh = pos_BX[:, None, :, None] * speed_h
    return RotaryAngles(angle_B1Xh.cos(), angle_B1Xh.sin())


def rotate(part_BHXe: Tensor, angles: RotaryAngles | None) -> Tensor:
    """Turn queries or keys, so that their products depend only on the distance between two positions.

    Computed in float32: in bfloat16, half a turn of the fastest pair would be lost at far positions.
    """
    if angles is None:
        return part_BHXe
    first_BHXh, second_BHXh = part_BHXe.float().chunk(2, dim=3)
    cos_B1Xh, sin_B1Xh = angles
    turned = (first_BHXh * cos_B1Xh - second_BHXh * sin_B1Xh, second_BHXh * cos_B1Xh + first_BHXh * sin_B1Xh)
    return torch.cat(turned, dim=3).to(part_BHXe.dtype)


def in_float32(*parts: Tensor) -> tuple[AbstractContextManager[None], tuple[Tensor, ...]]:
    """Return the context to call attention in, and the queries, keys and values in the dtype to call it with.

    On a CPU bfloat16 tensors become float32. The backward pass of torch's fused attention takes three times as long
    there in bfloat16 as in float32, which is more than bfloat16 gains in the products around it (docs/performance.md).
    """
    if parts[0].device.type != "cpu" or parts[0].dtype != torch.bfloat16:
        return nullcontext(), parts
    return torch.autocast("cpu", enabled=False), tuple(part.float() for part in parts)


def attend(
    query_BHQe: Tensor, key_BHKe: Tensor, value_BHKe: Tensor, attend_BQK: Tensor | None, dropout: float
) -> Tensor:
    """Compute scaled dot-product attention, mixed_BHQe: for each query, values weighted by the fit of their keys."""
    context, (query, key, value) = in_float32(query_BHQe, key_BHKe, value_BHKe)
    attend_B1QK = None if attend_BQK is None else attend_BQK[:, None]
    with context:
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attend_B1QK, dropout_p=dropout)
    return mixed.to(value_BHKe.dtype)


def attention_mask(queries: Places, keys: Places, blocked_flows: Sequence[str], causal: bool = False) -> Tensor | None:
    """Return bool attend_BQK, True where the query may attend to the key; None: all to all.

    Positions of one document attend to each other. Padding attends to padding, so that every position attends to
    something. A position may always attend to itself, whatever flow is blocked. With `causal`, a position attends only
    to itself and to those before it.
    """
    allowed_BQK = None
    if queries.documents_BX is not None or keys.documents_BX is not None:
        query_BQ, key_BK = (
            torch.zeros_like(side.pos_BX) if side.documents_BX is None else side.documents_BX
            for side in (queries, keys)
        )
        allowed_BQK = query_BQ[:, :, None] == key_BK[:, None, :]
    if blocked_flows:
        assert queries.is_mask_BX is not None
        assert keys.is_mask_BX is not None
        blocked_BQK = torch.zeros((), dtype=torch.bool, device=queries.pos_BX.device)
        for flow in blocked_flows:
            source, _, goal = flow.partition("-to-")
            from_BK = keys.is_mask_BX if source == "masked" else ~keys.is_mask_BX
            to_BQ = queries.is_mask_BX if goal == "masked" else ~queries.is_mask_BX
            blocked_BQK = blocked_BQK | (to_BQ[:, :, None] & from_BK[:, None, :])
        itself_BQK = queries.pos_BX[:, :, None] == keys.pos_BX[:, None, :]
        open_BQK = ~blocked_BQK | itself_BQK
        allowed_BQK = open_BQK if allowed_BQK is None else allowed_BQK & open_BQK
    if causal:
        before_BQK = queries.pos_BX[:, :, None] >= keys.pos_BX[:, None, :]
        allowed_BQK = before_BQK if allowed_BQK is None else allowed_BQK & before_BQK
    return allowed_BQK


def within_window(pos_BX: Tensor, attend_BXX: Tensor | None, reach: int) -> Tensor:
    """Return bool attend_BXX, True where the first may attend to the second and they are at most `reach` apart.

    Args:
        pos_BX: The positions in the row, of queries and keys alike.
        attend_BXX: The pairs that may attend at any distance; None: all.
        reach: The largest distance.
    """
    near_BXX = (pos_BX[:, :, None] - pos_BX[:, None, :]).abs() <= reach
    return near_BXX if attend_BXX is None else near_BXX & attend_BXX
