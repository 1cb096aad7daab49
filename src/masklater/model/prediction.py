"""How the targets of a row are predicted: each separately, or along a chain of states.

Each of the two classes is a part of masked_lm.py. It turns the decoder's output into logits and losses with the LM head
and word embeddings that are passed in. Letters: see masking/batch.py; k states of a target, H heads, e width of a head.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from masklater.masking.batch import IGNORE, MaskedBatch
from masklater.model.attention import RotaryAngles, rotary_angles, rotate
from masklater.model.chain import ChainOrder, chain_order, log_marginals
from masklater.model.config import MaskLaterConfig
from masklater.model.encoder import layer_sizes
from masklater.model.head import LMHead, loss_sum, rows_at_once


class Apart(nn.Module):
    """Predicts each target separately, as masked language models do."""

    trains_rows = False
    """Whether the trained loss differs from the cross entropy of the logits."""

    def logits(self, head: LMHead, words_VE: Tensor, targets_BTD: Tensor, batch: MaskedBatch) -> Tensor:
        """Return logits_NV."""
        return head(targets_BTD.flatten(0, 1), words_VE)

    def loss_sum(self, head: LMHead, words_VE: Tensor, targets_BTD: Tensor, batch: MaskedBatch) -> Tensor:
        """Sum the trained loss over the targets in use."""
        return head.loss_sum(targets_BTD.flatten(0, 1), words_VE, batch.target_ids_BT.flatten())

    def score(self, head: LMHead, words_VE: Tensor, targets_BTD: Tensor, batch: MaskedBatch) -> tuple[Tensor, Tensor]:
        """Sum the cross entropy of the logits, and count the targets predicted right; no gradients."""
        return head.score(targets_BTD.flatten(0, 1), words_VE, batch.target_ids_BT.flatten())

    def losses(self, head: LMHead, words_VE: Tensor, targets_BTD: Tensor, batch: MaskedBatch) -> Tensor:
        """Return the cross entropy of the logits of each target, loss_N, 0 where a slot is not in use; no gradients."""
        return head.losses(targets_BTD.flatten(0, 1), words_VE, batch.target_ids_BT.flatten())


class AlongChain(nn.Module):
    """Predicts all targets of a row together: each has k states, and the row's likelihood sums over all paths.

    Training maximises the likelihood of the row. Reports and logits use the distribution of each target by itself, as
    in any masked language model: a mixture of its states' distributions, weighted by how likely each state is before
    any target is known. The likelihood of a whole row could not be compared with other runs.
    """

    trains_rows = True

    def __init__(self, config: MaskLaterConfig) -> None:
        super().__init__()
        width = config.encoder.hidden_size
        heads = layer_sizes(config.encoder, width).heads
        self.links = Links(width, heads, rotary=config.decoder.positions == "rotary")

    def logits(self, head: LMHead, words_VE: Tensor, states_BTkD: Tensor, batch: MaskedBatch) -> Tensor:
        """Return the log-probability of each token at each target, as logits_NV. A slot not in use begins a chain."""
        return torch.cat([logits_cV for logits_cV, _ in self._some_rows(head, words_VE, states_BTkD, batch)])

    def loss_sum(self, head: LMHead, words_VE: Tensor, states_BTkD: Tensor, batch: MaskedBatch) -> Tensor:
        """Sum the negative log-likelihoods of the rows."""
        order = chain_order(batch)
        states_BTkD = _in_order(states_BTkD, order)
        return head.chain_loss_sum(states_BTkD, words_VE, order.ids_BT, self.links(states_BTkD, order))

    @torch.no_grad()
    def score(self, head: LMHead, words_VE: Tensor, states_BTkD: Tensor, batch: MaskedBatch) -> tuple[Tensor, Tensor]:
        """Sum the cross entropy of the logits, and count the targets predicted right; no gradients."""
        loss = torch.zeros((), dtype=torch.float32, device=states_BTkD.device)
        right = torch.zeros((), dtype=torch.int64, device=states_BTkD.device)
        for logits_cV, target_ids_c in self._some_rows(head, words_VE, states_BTkD, batch):
            loss += loss_sum(logits_cV, target_ids_c)
            right += (logits_cV.argmax(dim=1) == target_ids_c).sum()
        return loss, right

    @torch.no_grad()
    def losses(self, head: LMHead, words_VE: Tensor, states_BTkD: Tensor, batch: MaskedBatch) -> Tensor:
        """Return the cross entropy of the logits of each target, loss_N, 0 where a slot is not in use; no gradients."""
        return torch.cat(
            [
                cross_entropy(logits_cV, target_ids_c, ignore_index=IGNORE, reduction="none")
                for logits_cV, target_ids_c in self._some_rows(head, words_VE, states_BTkD, batch)
            ]
        )

    def _some_rows(
        self, head: LMHead, words_VE: Tensor, states_BTkD: Tensor, batch: MaskedBatch
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield logits_cV and target_ids_c for as many rows at a time as may be in memory."""
        log_weights_BTk = self._log_weights(states_BTkD, batch)
        for here in rows_at_once(states_BTkD, words_VE):
            logits_cV = _mixed(head, words_VE, states_BTkD[here], log_weights_BTk[here])
            yield logits_cV, batch.target_ids_BT[here].flatten()

    def _log_weights(self, states_BTkD: Tensor, batch: MaskedBatch) -> Tensor:
        """Return the log-probability of each state before any target is known, by slot."""
        order = chain_order(batch)
        log_weights_BTk = log_marginals(self.links(_in_order(states_BTkD, order), order))
        slots_BTk = order.slots_BT[:, :, None].expand_as(log_weights_BTk)
        return torch.zeros_like(log_weights_BTk).scatter(1, slots_BTk, log_weights_BTk)


class Links(nn.Module):
    """Probabilities of a target's states given the states of the target before: the weights of an attention.

    Each head is a softmax over the states of the next target, and each state has its own mixture of heads. Where a
    chain begins, one learned vector replaces all earlier states. In a rotary decoder queries and keys are turned by
    position, as in its attention; in other decoders the hidden states hold the position.
    """

    def __init__(self, width: int, heads: int, rotary: bool) -> None:
        super().__init__()
        self.heads = heads
        self.rotary_width = width // heads if rotary else None
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)  # a bias would add the same to all next states
        self.gate = nn.Linear(width, heads)
        self.begin = nn.Parameter(torch.zeros(width))

    def forward(self, states_BTkD: Tensor, order: ChainOrder) -> Tensor:
        """Return log_links_BTkk, float32, from the states of the target before each target to its own states.

        Rows sum to 1.

        Args:
            states_BTkD: In the order of the chain.
            order: The chain.
        """
        begins_BT11 = order.begins_BT[:, :, None, None]
        before_BTkD = torch.where(begins_BT11, self.begin.to(states_BTkD.dtype), states_BTkD.roll(1, dims=1))
        pos_before_BT = torch.where(order.begins_BT, order.pos_BT, order.pos_BT.roll(1, dims=1))
        query_BTkHe = self._rotated(self.query(before_BTkD), pos_before_BT)
        key_BTkHe = self._rotated(self.key(states_BTkD), order.pos_BT)
        fit_BTHkk = query_BTkHe.transpose(2, 3) @ key_BTkHe.permute(0, 1, 3, 4, 2)
        log_next_BTHkk = (fit_BTHkk.float() / query_BTkHe.shape[-1] ** 0.5).log_softmax(dim=-1)
        log_gate_BTkH = self.gate(before_BTkD).float().log_softmax(dim=-1)
        return (log_next_BTHkk + log_gate_BTkH.transpose(2, 3)[..., None]).logsumexp(dim=2)

    def _rotated(self, part_BTkD: Tensor, pos_BT: Tensor) -> Tensor:
        """Split queries or keys into heads, part_BTkHe, and turn them by position if the decoder is rotary."""
        part_BTkHe = part_BTkD.unflatten(3, (self.heads, -1))
        if self.rotary_width is None:
            return part_BTkHe
        cos_BTh, sin_BTh = (part[:, 0] for part in rotary_angles(pos_BT, self.rotary_width))
        turned = rotate(part_BTkHe.flatten(2, 3).transpose(1, 2), RotaryAngles(cos_BTh[:, None], sin_BTh[:, None]))
        return turned.transpose(1, 2).view_as(part_BTkHe)


def make_prediction(config: MaskLaterConfig) -> Apart | AlongChain:
    """Make the prediction part that a config asks for."""
    return AlongChain(config) if config.decoder.states > 1 else Apart()


def _in_order(states_BTkD: Tensor, order: ChainOrder) -> Tensor:
    return states_BTkD.gather(1, order.slots_BT[:, :, None, None].expand_as(states_BTkD))


def _mixed(head: LMHead, words_VE: Tensor, states_bTkD: Tensor, log_weights_bTk: Tensor) -> Tensor:
    """Return the log-probabilities of all tokens at the targets of some rows, a mixture over states, [b * T, V]."""
    log_p_cV = head(states_bTkD.flatten(0, 2), words_VE).float().log_softmax(dim=1)
    mixed_bTkV = log_p_cV.view(*states_bTkD.shape[:3], -1) + log_weights_bTk[..., None]
    return mixed_bTkV.logsumexp(dim=2).flatten(0, 1)
