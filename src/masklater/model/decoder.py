"""The light decoder, where [MASK]s join the row: used in pre-training, thrown away after it.

3ML_self (figure 2 left): the mask embedding plus a position embedding stands at each dropped position, seen positions
keep the encoder's output, and N_d self-attention layers read the whole row. The layers are the encoder's in width,
heads and norm placement. Letters: see masking/batch.py; H heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PretrainedConfig

from masklater.masking.batch import MaskedBatch


class SelfAttentionLayer(nn.Module):
    """One transformer layer, normalising its input (pre) or its output (post)."""

    def __init__(self, encoder: PretrainedConfig, pre_norm: bool) -> None:
        super().__init__()
        D = encoder.hidden_size
        self.pre_norm = pre_norm
        self.num_heads = encoder.num_attention_heads
        self.attention_dropout = encoder.attention_probs_dropout_prob
        self.query_key_value = nn.Linear(D, 3 * D)
        self.attention_output = nn.Linear(D, D)
        self.attention_norm = nn.LayerNorm(D, eps=encoder.layer_norm_eps)
        self.expand = nn.Linear(D, encoder.intermediate_size)
        self.contract = nn.Linear(encoder.intermediate_size, D)
        self.feed_forward_norm = nn.LayerNorm(D, eps=encoder.layer_norm_eps)
        self.dropout = nn.Dropout(encoder.hidden_dropout_prob)

    def forward(self, hidden_BLD: Tensor, attend_B1LL: Tensor | None) -> Tensor:
        """Attention, then feed-forward, each with its residual."""
        if self.pre_norm:
            hidden_BLD = hidden_BLD + self._attention(self.attention_norm(hidden_BLD), attend_B1LL)
            return hidden_BLD + self._feed_forward(self.feed_forward_norm(hidden_BLD))
        hidden_BLD = self.attention_norm(hidden_BLD + self._attention(hidden_BLD, attend_B1LL))
        return self.feed_forward_norm(hidden_BLD + self._feed_forward(hidden_BLD))

    def _attention(self, hidden_BLD: Tensor, attend_B1LL: Tensor | None) -> Tensor:
        B, L, D = hidden_BLD.shape
        parts = self.query_key_value(hidden_BLD).view(B, L, 3, self.num_heads, D // self.num_heads)
        query_BHLd, key_BHLd, value_BHLd = parts.permute(2, 0, 3, 1, 4)
        mixed_BHLd = F.scaled_dot_product_attention(
            query_BHLd,
            key_BHLd,
            value_BHLd,
            attn_mask=attend_B1LL,
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        return self.dropout(self.attention_output(mixed_BHLd.transpose(1, 2).reshape(B, L, D)))

    def _feed_forward(self, hidden_BLD: Tensor) -> Tensor:
        return self.dropout(self.contract(F.gelu(self.expand(hidden_BLD))))


class SelfDecoder(nn.Module):
    """3ML_self."""

    def __init__(self, encoder: PretrainedConfig, num_layers: int, row_length: int, pre_norm: bool) -> None:
        super().__init__()
        self.mask_embedding = nn.Parameter(torch.zeros(encoder.hidden_size))
        self.position_embeddings = nn.Embedding(row_length, encoder.hidden_size)
        self.layers = nn.ModuleList(SelfAttentionLayer(encoder, pre_norm) for _ in range(num_layers))
        # Pre-norm layers leave their sum unnormalised, as the encoder does before its last norm.
        self.last_norm = nn.LayerNorm(encoder.hidden_size, eps=encoder.layer_norm_eps) if pre_norm else nn.Identity()

    def append(self, seen_BSD: Tensor, batch: MaskedBatch) -> Tensor:
        """Put the row together: the encoder's output where it has read, the mask embedding everywhere else."""
        B, S, D = seen_BSD.shape
        masks_LD = self.mask_embedding + self.position_embeddings.weight[: batch.row_length]
        masks_LD = masks_LD.to(seen_BSD.dtype)
        if batch.hidden_BS is not None:
            seen_BSD = torch.where(batch.hidden_BS[:, :, None], masks_LD[batch.seen_pos_BS], seen_BSD)
        row_BLD = masks_LD.expand(B, -1, -1)
        return row_BLD.scatter(1, batch.seen_pos_BS[:, :, None].expand(B, S, D), seen_BSD)

    def forward(self, seen_BSD: Tensor, batch: MaskedBatch, attend_BLL: Tensor | None) -> Tensor:
        """Hidden states of the whole row, row_BLD."""
        row_BLD = self.append(seen_BSD, batch)
        attend_B1LL = None if attend_BLL is None else attend_BLL[:, None]
        for layer in self.layers:
            row_BLD = layer(row_BLD, attend_B1LL)
        return self.last_norm(row_BLD)
