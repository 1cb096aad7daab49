"""transformers' implementations of attention: which can be used, two added here, and the mask in the form each takes.

Letters: see masking/batch.py; Q queries, K keys; H heads, e width of a head.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from masklater.errors import UserError
from masklater.model.attention import in_float32

ATTENTION_IMPLEMENTATIONS = ("sdpa", "eager")
"""transformers' implementations that take a mask per pair of positions.

Flash attention takes no such mask. Flex attention takes blocks made from the mask, which pays only on long rows
(`BY_BLOCKS`).
"""

FLOAT32_ON_CPU = "sdpa-float32-on-cpu"
"""Name of the attention that replaces `sdpa` in the encoders here. No saved config contains the name."""

BY_BLOCKS = "sdpa-float32-on-cpu-or-flex"
"""Name of the same attention, with FlexAttention for long rows with a mask: it skips blocks that do not attend."""

SHORTEST_BY_BLOCKS = 512
"""The fewest queries for which `BY_BLOCKS` uses FlexAttention: four blocks of 128 to either side.

Half of a row of 1,024 is seen.
"""


def _attend(
    module: nn.Module,
    query_BHSe: Tensor,
    key_BHSe: Tensor,
    value_BHSe: Tensor,
    mask_B1SS: Tensor | BlockMask | None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Compute transformers' `sdpa` as `in_float32` says, or its `flex_attention` where the mask is of blocks."""
    if isinstance(mask_B1SS, BlockMask):
        by_blocks = AttentionInterface()["flex_attention"]
        return by_blocks(module, query_BHSe, key_BHSe, value_BHSe, mask_B1SS, **kwargs)[0], None
    context, parts = in_float32(query_BHSe, key_BHSe, value_BHSe)
    with context:
        mixed_BSHe, _ = AttentionInterface()["sdpa"](module, *parts, mask_B1SS, **kwargs)
    return mixed_BSHe.to(value_BHSe.dtype), None


for _name in (FLOAT32_ON_CPU, BY_BLOCKS):
    AttentionInterface.register(_name, _attend)
    AttentionMaskInterface.register(_name, AttentionMaskInterface()["sdpa"])


def check_attention(implementation: str | None) -> None:
    """Raise UserError unless an attention implementation takes a mask per pair of positions."""
    if implementation not in {None, FLOAT32_ON_CPU, BY_BLOCKS, *ATTENTION_IMPLEMENTATIONS}:
        raise UserError(
            f"attn_implementation is {implementation}, which takes no mask of who attends to whom: padding, other "
            "documents and slots to spare would be attended to",
            f"Choose {' or '.join(ATTENTION_IMPLEMENTATIONS)}.",
        )


def attention_mask(encoder: PreTrainedModel, attend_BQK: Tensor | None) -> Tensor | BlockMask | None:
    """Return the mask in the form that the encoder's attention takes, mask_B1QK; None: all attend to all.

    sdpa takes bool, True where the query may attend to the key. eager adds its mask to the scores: 0, or the lowest
    number. FlexAttention is used only in training. It takes the blocks of 128 x 128 pairs in which all or some pairs
    attend, and reads single pairs only in the blocks where some attend.

    Raises:
        UserError: The implementation takes no such mask.
    """
    implementation = encoder.config._attn_implementation
    check_attention(implementation)
    if attend_BQK is None:
        return None
    B, Q, K = attend_BQK.shape
    if implementation == BY_BLOCKS and encoder.training and Q >= SHORTEST_BY_BLOCKS:
        return create_block_mask(lambda b, _, q, k: attend_BQK[b, q, k], B, None, Q, K, device=attend_BQK.device)
    mask_B1QK = attend_BQK[:, None]
    if implementation != "eager":
        return mask_B1QK
    lowest = torch.finfo(encoder.dtype).min
    return torch.zeros(mask_B1QK.shape, dtype=encoder.dtype, device=mask_B1QK.device).masked_fill_(~mask_B1QK, lowest)
