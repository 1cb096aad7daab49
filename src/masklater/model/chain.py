"""Dynamic programmes over the chain of states along which a row's targets are predicted (after ExLM, arXiv 2501.13397).

Each [MASK] has k states, of which one is taken. Each target is visited once, in the order of positions. Links lead from
each state to the states of the next target, and each state predicts the token at its position. So a row is a hidden
Markov model: sums over all k^T paths cost O(T k^2). All values are float32 and in nats.

Letters: see masking/batch.py; k states. Where there are two axes k, the first is the state before, the second the one
after.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from masklater.masking.batch import IGNORE, MaskedBatch


class ChainOrder(NamedTuple):
    """The order in which the target slots of each row are visited: by position, with slots that are not in use last."""

    slots_BT: Tensor  # int64: the slot visited at each step
    pos_BT: Tensor  # int64: its position in the row
    ids_BT: Tensor  # int64: the original token there; IGNORE where the slot is not in use
    begins_BT: Tensor  # bool: no link leads here: the first target of a row or document, or a slot not in use


class Posteriors(NamedTuple):
    """The result of the forward-backward algorithm."""

    log_likelihood_B: Tensor  # of all targets of a row, summed over paths
    states_BTk: Tensor  # probability of each state given all targets; 0 where a slot is not in use
    links_BTkk: Tensor  # probability of each pair of states, of one target and the next; 0 where a slot is not in use


def chain_order(batch: MaskedBatch) -> ChainOrder:
    """Order the targets of a batch."""
    in_use_BT = batch.target_ids_BT != IGNORE
    slots_BT = torch.where(in_use_BT, batch.target_pos_BT, batch.row_length).argsort(dim=1, stable=True)
    pos_BT, ids_BT = (tensor.gather(1, slots_BT) for tensor in (batch.target_pos_BT, batch.target_ids_BT))
    begins_BT = ids_BT == IGNORE
    begins_BT[:, 0] = True
    if batch.documents_BL is not None:
        documents_BT = batch.documents_BL.gather(1, pos_BT)
        begins_BT[:, 1:] |= documents_BT[:, 1:] != documents_BT[:, :-1]
    return ChainOrder(slots_BT, pos_BT, ids_BT, begins_BT)


def log_marginals(log_links_BTkk: Tensor) -> Tensor:
    """Return the log-probability of each state before any target is known, log_weights_BTk: m_t = m_(t-1) A_t.

    Args:
        log_links_BTkk: Rows sum to 1. Where a chain begins all rows are the same, so that earlier states have no
            effect.
    """
    B, T, k, _ = log_links_BTkk.shape
    log_weights_Bk, found = log_links_BTkk.new_full((B, k), -math.log(k)), []
    for t in range(T):
        log_weights_Bk = (log_weights_Bk[:, :, None] + log_links_BTkk[:, t]).logsumexp(dim=1)
        found.append(log_weights_Bk)
    return torch.stack(found, dim=1)


def forward_backward(log_p_BTk: Tensor, log_links_BTkk: Tensor, in_use_BT: Tensor) -> Posteriors:
    """Sum over all paths, and find how much of the sum passes through each state and link (forward-backward).

    The shares of states and links are the gradients of the log-likelihood by log_p and by log_links. Each step is
    scaled to sum to 1, so that long rows lose no digits.

    Args:
        log_p_BTk: Log-likelihood of each target in each of its states.
        log_links_BTkk: As in `log_marginals`.
        in_use_BT: True where a slot is in use; the other slots leave the chain as it is.
    """
    B, T, k = log_p_BTk.shape
    forward_Bk, before = log_p_BTk.new_full((B, k), -math.log(k)), []
    log_scales = []
    for t in range(T):
        before.append(forward_Bk)
        arrived_Bk = (forward_Bk[:, :, None] + log_links_BTkk[:, t]).logsumexp(dim=1) + log_p_BTk[:, t]
        log_scale_B1 = arrived_Bk.logsumexp(dim=1, keepdim=True)
        forward_Bk = torch.where(in_use_BT[:, t, None], arrived_Bk - log_scale_B1, forward_Bk)
        log_scales.append(log_scale_B1)
    log_scales_BT = torch.cat(log_scales, dim=1)
    backward_Bk, after = torch.zeros_like(forward_Bk), []
    for t in reversed(range(T)):
        after.append(backward_Bk)
        ahead_Bk = log_p_BTk[:, t] + backward_Bk - log_scales_BT[:, t, None]
        left_Bk = (log_links_BTkk[:, t] + ahead_Bk[:, None, :]).logsumexp(dim=2)
        backward_Bk = torch.where(in_use_BT[:, t, None], left_Bk, backward_Bk)
    before_BTk, after_BTk = torch.stack(before, dim=1), torch.stack(after[::-1], dim=1)
    ahead_BTk = log_p_BTk + after_BTk - log_scales_BT[:, :, None]
    links_BTkk = (before_BTk[:, :, :, None] + log_links_BTkk + ahead_BTk[:, :, None, :]).exp()
    links_BTkk = links_BTkk * in_use_BT[:, :, None, None]
    return Posteriors((log_scales_BT * in_use_BT).sum(dim=1), links_BTkk.sum(dim=2), links_BTkk)
