"""The LM head: dense, GELU, LayerNorm, then the word embedding transposed plus a bias (method, step 4), and its loss.

It is called on targets only. Letters: see masking/batch.py; E width of the word embedding.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masklater.masking.batch import IGNORE

LOGITS_AT_ONCE = {"cpu": 2**26, "cuda": 2**28}
"""Most logits that stand in memory at a time: 256 MiB of float32 on a CPU, 1 GiB on a GPU."""


class LMHead(nn.Module):
    """Hidden states to logits; the word embedding is handed in, as it is the encoder's."""

    def __init__(self, width: int, embedding_width: int, vocabulary: int, norm_eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, embedding_width)  # the two differ in ELECTRA only
        self.norm = nn.LayerNorm(embedding_width, eps=norm_eps)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, hidden_ND: Tensor, word_embeddings_VE: Tensor) -> Tensor:
        """Return logits_NV."""
        return F.linear(self._transform(hidden_ND), word_embeddings_VE, self.bias)

    def resize(self, vocabulary: int, new_bias: float) -> None:
        """Keep the bias of the first entries of a vocabulary of another size; entries that are new get this one."""
        if vocabulary == len(self.bias):
            return
        kept_V = self.bias.detach()[:vocabulary]
        bias_V = F.pad(kept_V, (0, vocabulary - len(kept_V)), value=new_bias)
        self.bias = nn.Parameter(bias_V, requires_grad=self.bias.requires_grad)

    def loss_sum(self, hidden_ND: Tensor, word_embeddings_VE: Tensor, target_ids_N: Tensor) -> Tensor:
        """Compute `loss_sum` of the logits, which never stand in memory all at once."""
        hidden_NE = self._transform(hidden_ND)
        dtype = _compute_dtype(hidden_ND)
        return _LinearCrossEntropy.apply(
            hidden_NE, word_embeddings_VE, self.bias, target_ids_N, dtype, torch.is_grad_enabled()
        )

    @torch.no_grad()
    def score(self, hidden_ND: Tensor, word_embeddings_VE: Tensor, target_ids_N: Tensor) -> tuple[Tensor, Tensor]:
        """`loss_sum` of the logits, and how many targets in use are the likeliest entry; no gradients.

        As in `loss_sum`, logits never stand in memory all at once.
        """
        loss = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        right = torch.zeros((), dtype=torch.int64, device=hidden_ND.device)
        chunk = _targets_at_once(hidden_ND, word_embeddings_VE)
        for start in range(0, len(hidden_ND), chunk):
            here = slice(start, start + chunk)
            logits_cV, target_ids_c = self(hidden_ND[here], word_embeddings_VE), target_ids_N[here]
            loss += loss_sum(logits_cV, target_ids_c)
            right += (logits_cV.argmax(dim=1) == target_ids_c).sum()  # IGNORE is no id: it never counts
        return loss, right

    def _transform(self, hidden_ND: Tensor) -> Tensor:
        return self.norm(F.gelu(self.dense(hidden_ND)))


def loss_sum(logits_NV: Tensor, target_ids_N: Tensor) -> Tensor:
    """Sum the cross entropy over the targets in use, in float32 and in nats.

    A sum, not a mean: whoever knows how many targets the whole step has, over all micro-batches and processes, divides.
    """
    return F.cross_entropy(logits_NV.float(), target_ids_N, ignore_index=IGNORE, reduction="sum")


class _LinearCrossEntropy(torch.autograd.Function):
    """Linear layer and summed cross entropy, some targets at a time, gradients along with the loss.

    The gradient of a sum over targets is known as soon as a target's logits are: softmax less one-hot. So logits are
    made, used and dropped chunk by chunk. Products are in `dtype` (bfloat16 under autocast), all else in float32. Half
    the time of autocast's way on a CPU (docs/performance.md); torch's own `F.linear_cross_entropy` was slower than
    either, and its loss in bfloat16 1% off.
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
    ) -> Tensor:
        with torch.autocast(hidden_NE.device.type, enabled=False):
            hidden, words = hidden_NE.detach().to(dtype), words_VE.detach().to(dtype)
            bias = bias_V.detach().float()
            loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
            d_hidden = torch.empty_like(hidden)
            d_words = torch.zeros(words.shape, dtype=torch.float32, device=words.device)
            d_bias = torch.zeros_like(bias)
            in_use_N = target_ids_N != IGNORE
            class_N = torch.where(in_use_N, target_ids_N, 0)
            chunk = _targets_at_once(hidden, words)
            for start in range(0, len(hidden), chunk):
                here = slice(start, start + chunk)
                logits_cV = F.linear(hidden[here], words).float().add_(bias)
                class_c1, in_use_c1 = class_N[here, None], in_use_N[here, None]
                log_sum_c1 = logits_cV.logsumexp(dim=1, keepdim=True)
                loss += ((log_sum_c1 - logits_cV.gather(1, class_c1)) * in_use_c1).sum()
                if needs_gradient:
                    softmax_cV = logits_cV.sub_(log_sum_c1).exp_()
                    d_logits_cV = softmax_cV.scatter_add_(1, class_c1, -torch.ones_like(log_sum_c1)).mul_(in_use_c1)
                    d_bias += d_logits_cV.sum(dim=0)
                    d_logits_cV = d_logits_cV.to(dtype)
                    d_hidden[here] = d_logits_cV @ words
                    d_words += d_logits_cV.t() @ hidden[here]
        if needs_gradient:
            ctx.save_for_backward(d_hidden, d_words, d_bias)
            ctx.dtypes = hidden_NE.dtype, words_VE.dtype, bias_V.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = gradients
        d_hidden, d_words, d_bias = ctx.saved_tensors
        of_hidden, of_words, of_bias = ctx.dtypes
        parts = ((d_hidden, of_hidden), (d_words, of_words), (d_bias, of_bias))
        return *((part * scale).to(dtype) for part, dtype in parts), None, None, None


def _targets_at_once(hidden_NE: Tensor, words_VE: Tensor) -> int:
    return max(1, LOGITS_AT_ONCE.get(hidden_NE.device.type, 2**26) // len(words_VE))


def _compute_dtype(tensor: Tensor) -> torch.dtype:
    device = tensor.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensor.dtype
