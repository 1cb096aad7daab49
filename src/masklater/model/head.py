"""The LM head: dense, GELU, LayerNorm, then the word embedding transposed plus a bias (method, step 4), and its loss.

It is called on targets only. Letters: see masking/batch.py; E width of the word embedding.
"""

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masklater.masking.batch import IGNORE
from masklater.model.chain import forward_backward

LOGITS_AT_ONCE = {"cpu": 2**26, "cuda": 2**28}
"""Most logits in memory at a time: 256 MiB of float32 on a CPU, 1 GiB on a GPU."""
ENTRIES_MULTIPLE = {"cuda": 64}
"""The vocabulary is padded to a multiple of this number inside the loss.

Each row of logits then begins on 128 bytes; tensor cores take no others at full speed. On a CPU there is nothing to be
gained (docs/performance.md).
"""


GELU: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": functools.partial(F.gelu, approximate="tanh"),
}
"""The two ways to compute GELU, by transformers' names: exactly, and by tanh as ALBERT and BigBird do."""


class LMHead(nn.Module):
    """Turns hidden states into logits. The word embedding is an argument, because it belongs to the encoder."""

    compiled = False
    """Whether the step after the logits in `loss_sum` is compiled (`loss_and_gradient_fused`)."""

    def __init__(
        self, width: int, embedding_width: int, vocabulary: int, norm_eps: float, activation: str = "gelu"
    ) -> None:
        super().__init__()
        self.dense = nn.Linear(width, embedding_width)  # the two differ in ELECTRA only
        self.activation = GELU[activation]
        self.norm = nn.LayerNorm(embedding_width, eps=norm_eps)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, hidden_ND: Tensor, word_embeddings_VE: Tensor) -> Tensor:
        """Return logits_NV."""
        return F.linear(self._transform(hidden_ND), word_embeddings_VE, self.bias)

    def resize(self, vocabulary: int, new_bias: float) -> None:
        """Change the vocabulary's size: the bias of existing entries is kept, and new entries get `new_bias`."""
        if vocabulary == len(self.bias):
            return
        kept_V = self.bias.detach()[:vocabulary]
        bias_V = F.pad(kept_V, (0, vocabulary - len(kept_V)), value=new_bias)
        self.bias = nn.Parameter(bias_V, requires_grad=self.bias.requires_grad)

    def loss_sum(self, hidden_ND: Tensor, word_embeddings_VE: Tensor, target_ids_N: Tensor) -> Tensor:
        """Compute `loss_sum` of the logits, without all logits in memory at once."""
        hidden_NE = self._transform(hidden_ND)
        dtype = _compute_dtype(hidden_ND)
        return _LinearCrossEntropy.apply(
            hidden_NE, word_embeddings_VE, self.bias, target_ids_N, dtype, torch.is_grad_enabled(), self.compiled
        )

    def chain_loss_sum(
        self, hidden_BTkD: Tensor, word_embeddings_VE: Tensor, target_ids_BT: Tensor, log_links_BTkk: Tensor
    ) -> Tensor:
        """Sum the negative log-likelihoods of rows whose targets are predicted along a chain of states (`chain.py`).

        Logits are in memory for some rows at a time, at least one.
        """
        hidden_BTkE, dtype = self._transform(hidden_BTkD), _compute_dtype(hidden_BTkD)
        return _ChainLoss.apply(
            hidden_BTkE, word_embeddings_VE, self.bias, log_links_BTkk, target_ids_BT, dtype, torch.is_grad_enabled()
        )

    @torch.no_grad()
    def score(self, hidden_ND: Tensor, word_embeddings_VE: Tensor, target_ids_N: Tensor) -> tuple[Tensor, Tensor]:
        """Return `loss_sum` of the logits, and how many targets in use are the likeliest entry; no gradients.

        As in `loss_sum`, the logits are never in memory all at once.
        """
        loss = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        right = torch.zeros((), dtype=torch.int64, device=hidden_ND.device)
        for here in _chunks(hidden_ND, word_embeddings_VE):
            logits_cV, target_ids_c = self(hidden_ND[here], word_embeddings_VE), target_ids_N[here]
            loss += loss_sum(logits_cV, target_ids_c)
            right += (logits_cV.argmax(dim=1) == target_ids_c).sum()  # IGNORE is no id: it never counts
        return loss, right

    @torch.no_grad()
    def losses(self, hidden_ND: Tensor, word_embeddings_VE: Tensor, target_ids_N: Tensor) -> Tensor:
        """Compute the cross entropy of each target, float32 in nats, 0 where a slot is not in use; no gradients.

        As in `loss_sum`, the logits are never in memory all at once.
        """
        each = [
            F.cross_entropy(
                self(hidden_ND[here], word_embeddings_VE).float(),
                target_ids_N[here],
                ignore_index=IGNORE,
                reduction="none",
            )
            for here in _chunks(hidden_ND, word_embeddings_VE)
        ]
        return torch.cat(each)

    def _transform(self, hidden_ND: Tensor) -> Tensor:
        return self.norm(self.activation(self.dense(hidden_ND)))


def loss_sum(logits_NV: Tensor, target_ids_N: Tensor) -> Tensor:
    """Sum the cross entropy over the targets in use, in float32 and in nats.

    A sum, not a mean: the caller divides by the number of targets of the whole step, over all micro-batches and
    processes.
    """
    return F.cross_entropy(logits_NV.float(), target_ids_N, ignore_index=IGNORE, reduction="sum")


def loss_and_gradient(
    logits_cV: Tensor, bias_V: Tensor, class_c1: Tensor, in_use_c1: Tensor, needs_gradient: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Return the loss of some targets and its gradient, in as few passes over the logits as operators allow.

    Args:
        logits_cV: Products, without the bias; float32 ones are overwritten.
        bias_V: float32.
        class_c1: The right token; any valid id where the slot is not in use.
        in_use_c1: Whether the slot is in use.
        needs_gradient: Where False, the gradient is None.

    Returns:
        Loss summed over the slots in use (float32), and its gradient by the logits (in their dtype).
    """
    scores_cV = logits_cV.float().add_(bias_V)
    log_p_cV = torch._log_softmax(scores_cV, 1, False, out=scores_cV)  # torch.log_softmax cannot overwrite its input
    loss = -(log_p_cV.gather(1, class_c1) * in_use_c1).sum()
    if not needs_gradient:
        return loss, None
    d_logits_cV = log_p_cV.exp_().scatter_add_(1, class_c1, -torch.ones_like(class_c1, dtype=torch.float32))
    if d_logits_cV.device.type == "cpu":
        d_logits_cV[~in_use_c1[:, 0]] = 0  # sets a few rows rather than all; a GPU would wait for their number
    else:
        d_logits_cV.mul_(in_use_c1)
    return loss, d_logits_cV.to(logits_cV.dtype)


def loss_and_gradient_fused(
    logits_cV: Tensor, bias_V: Tensor, class_c1: Tensor, in_use_c1: Tensor, needs_gradient: bool = True
) -> tuple[Tensor, Tensor | None]:
    """`loss_and_gradient` in a form that a compiler fuses: nothing is overwritten, scattered, or kept in float32."""
    scores_cV = logits_cV.float() + bias_V
    top_c1 = scores_cV.amax(dim=1, keepdim=True)
    log_sum_c1 = (scores_cV - top_c1).exp().sum(dim=1, keepdim=True).log()  # terms are at most 1: nothing is lost
    right_c1 = logits_cV.gather(1, class_c1).float() + bias_V[class_c1]
    loss = ((log_sum_c1 - (right_c1 - top_c1)) * in_use_c1).sum()
    if not needs_gradient:
        return loss, None
    is_class_cV = torch.arange(scores_cV.shape[1], device=scores_cV.device) == class_c1
    d_logits_cV = ((scores_cV - top_c1 - log_sum_c1).exp() - is_class_cV.float()) * in_use_c1
    return loss, d_logits_cV.to(logits_cV.dtype)


@functools.cache
def _compiled() -> Callable[..., tuple[Tensor, Tensor | None]]:
    return torch.compile(loss_and_gradient_fused, fullgraph=True)


def pad(words_VE: Tensor, bias_V: Tensor, multiple: int) -> tuple[Tensor, Tensor]:
    """Pad words and bias to a multiple of entries. The added entries are never likely and get no gradient."""
    spare = -len(words_VE) % multiple
    if not spare:
        return words_VE, bias_V
    return F.pad(words_VE, (0, 0, 0, spare)), F.pad(bias_V, (0, spare), value=-torch.inf)


class _LinearCrossEntropy(torch.autograd.Function):
    """Linear layer and summed cross entropy, some targets at a time; gradients are computed along with the loss.

    The gradient of a sum over targets is known as soon as a target's logits are: softmax less one-hot. So logits are
    made, used and dropped chunk by chunk. Products are in `dtype` (bfloat16 under autocast), everything else in
    float32. This takes half the time of autocast's way on a CPU (docs/performance.md). torch's own
    `F.linear_cross_entropy` was slower than either, and its loss in bfloat16 was 1% off.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_NE: Tensor,
        words_VE: Tensor,
        bias_V: Tensor,
        target_ids_N: Tensor,
        dtype: torch.dtype,
        needs_gradient: bool,
        compiled: bool,
    ) -> Tensor:
        device = hidden_NE.device.type
        with torch.autocast(device, enabled=False):
            hidden = hidden_NE.detach().to(dtype)
            words, bias = pad(words_VE.detach().to(dtype), bias_V.detach().float(), ENTRIES_MULTIPLE.get(device, 1))
            N, follow = len(hidden), loss_and_gradient
            if compiled:
                # Parts of one size: once sizes differ, all parts are computed by code compiled for the last one, which
                # may be far smaller. The padding is not in use.
                follow, spare = _compiled(), -N % _at_once(hidden, words)
                hidden = F.pad(hidden, (0, 0, 0, spare))
                target_ids_N = F.pad(target_ids_N, (0, spare), value=IGNORE)
            in_use_N = target_ids_N != IGNORE
            class_N = torch.where(in_use_N, target_ids_N, 0)
            loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
            d_hidden = torch.empty_like(hidden)
            d_words = torch.zeros(words.shape, dtype=torch.float32, device=words.device)
            d_bias = torch.zeros_like(bias)
            for here in _chunks(hidden, words):
                logits_cV = F.linear(hidden[here], words)
                part, d_logits_cV = follow(logits_cV, bias, class_N[here, None], in_use_N[here, None], needs_gradient)
                loss += part
                if d_logits_cV is not None:
                    d_bias += d_logits_cV.sum(dim=0, dtype=torch.float32)
                    _back_through_linear(d_logits_cV, hidden[here], words, d_hidden[here], d_words)
        if needs_gradient:
            V = len(words_VE)
            ctx.save_for_backward(d_hidden[:N], d_words[:V], d_bias[:V])
            ctx.dtypes = hidden_NE.dtype, words_VE.dtype, bias_V.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = gradients
        d_hidden, d_words, d_bias = ctx.saved_tensors
        of_hidden, of_words, of_bias = ctx.dtypes
        parts = ((d_hidden, of_hidden), (d_words, of_words), (d_bias, of_bias))
        return *((part * scale).to(dtype) for part, dtype in parts), None, None, None, None


def _back_through_linear(
    d_logits_cV: Tensor, hidden_cE: Tensor, words_VE: Tensor, d_hidden_cE: Tensor, d_words_VE: Tensor
) -> None:
    """Write the gradient by some hidden states into `d_hidden_cE`; add that by the words to `d_words_VE` (float32)."""
    torch.mm(d_logits_cV, words_VE, out=d_hidden_cE)
    if d_logits_cV.dtype == torch.float32:
        torch.addmm(d_words_VE, d_logits_cV.t(), hidden_cE, out=d_words_VE)
    else:  # the sum over parts stays in float32
        d_words_VE += d_logits_cV.t() @ hidden_cE


def _chunks(hidden_NE: Tensor, words_VE: Tensor) -> Iterator[slice]:
    """Cut targets into parts whose logits may be in memory at a time."""
    at_once = _at_once(hidden_NE, words_VE)
    return (slice(start, start + at_once) for start in range(0, len(hidden_NE), at_once))


def _at_once(hidden_NE: Tensor, words_VE: Tensor) -> int:
    """Return the length of parts when targets are cut into the fewest equal parts; the last part may be shorter."""
    most = max(1, LOGITS_AT_ONCE.get(hidden_NE.device.type, 2**26) // len(words_VE))
    parts = max(1, math.ceil(len(hidden_NE) / most))
    return max(1, math.ceil(len(hidden_NE) / parts))


def _compute_dtype(tensor: Tensor) -> torch.dtype:
    device = tensor.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensor.dtype


class _ChainLoss(torch.autograd.Function):
    """Linear layer and loss of a chain of states, some rows at a time; gradients are computed along with the loss.

    As in `_LinearCrossEntropy`, except that the gradient of a state's logits is weighted by the probability of the
    state given the whole row. That probability is known as soon as the row's logits are: three products for each state,
    none of them twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_BTkE: Tensor,
        words_VE: Tensor,
        bias_V: Tensor,
        log_links_BTkk: Tensor,
        target_ids_BT: Tensor,
        dtype: torch.dtype,
        needs_gradient: bool,
    ) -> Tensor:
        device, k = hidden_BTkE.device.type, hidden_BTkE.shape[2]
        with torch.autocast(device, enabled=False):
            hidden = hidden_BTkE.detach().to(dtype).contiguous()
            log_links = log_links_BTkk.detach().contiguous()
            words, bias = pad(words_VE.detach().to(dtype), bias_V.detach().float(), ENTRIES_MULTIPLE.get(device, 1))
            loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
            d_hidden, d_log_links = torch.empty_like(hidden), torch.empty_like(log_links)
            d_words = torch.zeros(words.shape, dtype=torch.float32, device=words.device)
            d_bias = torch.zeros_like(bias)
            in_use_BT = target_ids_BT != IGNORE
            class_BTk = torch.where(in_use_BT, target_ids_BT, 0)[:, :, None].expand(-1, -1, k)
            for here in rows_at_once(hidden, words):
                states_cE, class_c1 = hidden[here].flatten(0, 2), class_BTk[here].reshape(-1, 1)
                scores_cV = F.linear(states_cE, words).float().add_(bias)
                log_p_cV = torch._log_softmax(scores_cV, 1, False, out=scores_cV)
                log_p_bTk = log_p_cV.gather(1, class_c1).view(-1, *hidden.shape[1:3])
                explained = forward_backward(log_p_bTk, log_links[here], in_use_BT[here])
                loss -= explained.log_likelihood_B.sum()
                if not needs_gradient:
                    continue
                torch.neg(explained.links_BTkk, out=d_log_links[here])
                d_scores_cV = log_p_cV.exp_().scatter_add_(1, class_c1, -torch.ones_like(class_c1, dtype=torch.float32))
                d_scores_cV.mul_(explained.states_BTk.reshape(-1, 1))
                d_bias += d_scores_cV.sum(dim=0)
                d_logits_cV = d_scores_cV.to(dtype)
                _back_through_linear(d_logits_cV, states_cE, words, d_hidden[here].flatten(0, 2), d_words)
        if needs_gradient:
            V = len(words_VE)
            ctx.save_for_backward(d_hidden, d_words[:V], d_bias[:V], d_log_links)
            ctx.dtypes = hidden_BTkE.dtype, words_VE.dtype, bias_V.dtype, log_links_BTkk.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = gradients
        saved = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return *((part * scale).to(dtype) for part, dtype in saved), None, None, None


def rows_at_once(states_BTkD: Tensor, words_VE: Tensor) -> Iterator[slice]:
    """Cut rows into parts whose logits may be in memory at a time, each part of at least one row."""
    _, T, k, _ = states_BTkD.shape
    at_once = max(1, LOGITS_AT_ONCE.get(states_BTkD.device.type, 2**26) // (T * k * len(words_VE)))
    return (slice(start, start + at_once) for start in range(0, len(states_BTkD), at_once))
