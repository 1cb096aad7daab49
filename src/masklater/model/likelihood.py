"""The likelihood of the token at one masked position of each row. The LM head is computed at that position alone.

For a masked LM of transformers, logits are computed for whole rows, as its class does. Letters: see masking/batch.py.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from masklater.masking.batch import MaskedBatch
from masklater.model.masked_lm import MaskLaterForMaskedLM


def log_likelihood(model: MaskLaterForMaskedLM, ids_BL: Tensor, position_B: Tensor) -> Tensor:
    """Return the log-probability of each row's token at its position when only this position is masked.

    Args:
        model: In evaluation mode.
        ids_BL: int64, whole rows without padding, including the tokens to be masked; on the model's device.
        position_B: int64, the position that is masked in each row.

    Returns:
        float32 [B], in nats.
    """
    batch = mask_one(ids_BL, position_B, model.config.mask_token_id, model.config.decoder.drops)
    logits_BV = model.target_logits(batch)  # one target a row
    return -F.cross_entropy(logits_BV.float(), batch.target_ids_BT[:, 0], reduction="none")


def plain_log_likelihood(model: PreTrainedModel, ids_BL: Tensor, position_B: Tensor, mask_id: int) -> Tensor:
    """Return the same as `log_likelihood` for a masked LM of transformers, with the mask token in the row.

    Args:
        model: In evaluation mode.
        ids_BL: int64, whole rows without padding, including the tokens to be masked; on the model's device.
        position_B: int64, the position that is masked in each row.
        mask_id: The tokenizer's mask token.
    """
    rows_B = torch.arange(len(ids_BL), device=ids_BL.device)
    masked_BL = ids_BL.scatter(1, position_B[:, None], mask_id)
    logits_BV = model(input_ids=masked_BL, attention_mask=torch.ones_like(ids_BL)).logits[rows_B, position_B]
    return -F.cross_entropy(logits_BV.float(), ids_BL[rows_B, position_B], reduction="none")


def mask_one(ids_BL: Tensor, position_B: Tensor, mask_id: int, drop: bool) -> MaskedBatch:
    """Mask one position of each row and make it the row's only target."""
    position_B1 = position_B[:, None]
    pos_BL = torch.arange(ids_BL.shape[1], device=ids_BL.device).expand_as(ids_BL)
    nothing_left = drop and ids_BL.shape[1] == 1  # an encoder reads at least one position: then a hidden one
    if drop and not nothing_left:
        pos_BS = pos_BL[:, :-1] + (pos_BL[:, :-1] >= position_B1)
        seen_ids_BS, masked_pos_BM = ids_BL.gather(1, pos_BS), position_B1
    else:
        pos_BS = pos_BL
        seen_ids_BS, masked_pos_BM = ids_BL.scatter(1, position_B1, mask_id), position_B1[:, :0]
    return MaskedBatch(
        seen_ids_BS=seen_ids_BS,
        seen_pos_BS=pos_BS,
        masked_pos_BM=masked_pos_BM,
        target_pos_BT=position_B1,
        target_ids_BT=ids_BL.gather(1, position_B1),
        hidden_BS=torch.ones_like(pos_BS, dtype=torch.bool) if nothing_left else None,
    )
