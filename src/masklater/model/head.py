"""The LM head: dense, GELU, LayerNorm, then the word embedding transposed plus a bias (method, step 4).

It is called on targets only. Letters: see masking/batch.py.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from masklater.masking.batch import IGNORE


class LMHead(nn.Module):
    """From hidden states to logits; the word embedding is handed in, as it is the encoder's."""

    def __init__(self, width: int, embedding_width: int, vocabulary: int, norm_eps: float) -> None:
        super().__init__()
        self.dense = nn.Linear(width, embedding_width)  # the two differ in ELECTRA only
        self.norm = nn.LayerNorm(embedding_width, eps=norm_eps)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, hidden_ND: Tensor, word_embeddings_VE: Tensor) -> Tensor:
        """logits_NV."""
        return F.linear(self.norm(F.gelu(self.dense(hidden_ND))), word_embeddings_VE, self.bias)


def loss_sum(logits_NV: Tensor, target_ids_N: Tensor) -> Tensor:
    """Cross entropy summed over the targets in use, in float32 and in nats.

    A sum, not a mean: whoever knows how many targets the whole step has, over all micro-batches and processes, divides.
    """
    return F.cross_entropy(logits_NV.float(), target_ids_N, ignore_index=IGNORE, reduction="sum")
