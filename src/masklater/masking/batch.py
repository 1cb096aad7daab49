"""MaskedBatch, the input of one forward pass, and the legend of shape letters for the whole project.

B  rows                          L  row length
S  seen positions of a row       M  dropped positions of a row, S + M = L
T  target slots of a row         D  width
V  vocabulary                    N  targets of a whole batch, flattened (B * T)
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

IGNORE = -100
"""The id at a target slot that is not in use, as usual in PyTorch and transformers."""


@dataclass(frozen=True)
class MaskedBatch:
    """Rows after corruption. All batches of a run have the same shapes, whatever masks are drawn."""

    seen_ids_BS: Tensor  # int64: the ids the encoder reads, [MASK]s among them in vanilla mode only
    seen_pos_BS: Tensor  # int64: their positions in the row, ascending
    masked_pos_BM: Tensor  # int64: dropped positions, not read by the encoder; M = 0 in vanilla mode
    target_pos_BT: Tensor  # int64: positions to predict
    target_ids_BT: Tensor  # int64: the true ids there; IGNORE where a slot is not in use
    documents_BL: Tensor | None = None  # int64: document of each position, padding -1; None: each sees all
    hidden_BS: Tensor | None = None  # bool: spare slots, which hold a position that must not be seen
    token_types_BS: Tensor | None = None  # int64: BERT's segment ids; None: all 0

    causal: ClassVar[bool] = False
    """Whether each position sees only those before it, and predicts the next token (`CausalBatch`)."""

    @property
    def row_length(self) -> int:
        """The row length, L."""
        return self.seen_pos_BS.shape[1] + self.masked_pos_BM.shape[1]

    @property
    def num_targets(self) -> Tensor:
        """The number of target slots in use, an int64 scalar."""
        return (self.target_ids_BT != IGNORE).sum()

    def slice(self, start: int, stop: int) -> Self:
        """Return the rows from start to stop."""
        return self._map(lambda tensor: tensor[start:stop])

    def without_targets(self) -> Self:
        """Return the same rows with no target slot in use, for a forward pass that has no effect."""
        return replace(self, target_ids_BT=torch.full_like(self.target_ids_BT, IGNORE))

    def to(self, device: torch.device) -> Self:
        """Return the batch on another device; a copy from pinned memory is asynchronous."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """Return the batch in page-locked memory."""
        return self._map(Tensor.pin_memory)

    def _map(self, function: Callable[[Tensor], Tensor]) -> Self:
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: function(tensor) for name, tensor in tensors.items() if tensor is not None})


class CausalBatch(MaskedBatch):
    """Whole rows without masks: each position sees itself and the positions before it in its document.

    `target_pos_BT` holds the positions that predict, `target_ids_BT` the ids one position further. No decoder takes
    part.
    """

    causal = True


def batch_from_inputs(
    input_ids_BL: Tensor,
    attention_mask_BL: Tensor | None,
    labels_BL: Tensor | None,
    mask_id: int,
    drop: bool,
    token_type_ids_BL: Tensor | None = None,
    uncounted_id: int | None = None,
) -> MaskedBatch:
    """Make a batch from the inputs of any masked LM of transformers: padded rows, any number of [MASK]s in each.

    [MASK]s and padding are dropped. Rows with fewer seen positions than the fullest row get spare slots, which are
    hidden from attention. Every position is a target slot; unlabelled ones are not in use.

    Positions are counted without the padding at the beginning of a row, which is moved to the end. Where the encoder
    counts tokens, padding inside the row is moved too. Target slots keep the order in which the tokens were given.

    Args:
        input_ids_BL: Ids, [MASK]s included.
        attention_mask_BL: 1 at tokens, 0 at padding; None where there is no padding.
        labels_BL: The true ids at targets, IGNORE elsewhere; None where they are unknown: the [MASK]s are then the
            targets in use, with the mask's id in place of the true ids.
        mask_id: The mask token's id.
        drop: Whether [MASK]s are dropped; False in vanilla mode, where they are seen.
        token_type_ids_BL: BERT's segment ids.
        uncounted_id: The padding token's id if the encoder gives positions only to other tokens, as RoBERTa does; None:
            the encoder counts all positions, here from the first that is not padding.
    """
    B, L = input_ids_BL.shape
    if attention_mask_BL is None:
        padding_BL = torch.zeros_like(input_ids_BL, dtype=torch.bool)
    else:
        padding_BL = attention_mask_BL == 0
    target_ids_BT = torch.where(input_ids_BL == mask_id, input_ids_BL, IGNORE) if labels_BL is None else labels_BL

    is_before_BL = (~padding_BL).cumsum(dim=1) == 0
    moved_back_BL = is_before_BL if uncounted_id is None else input_ids_BL == uncounted_id
    given_BL = torch.argsort(moved_back_BL, dim=1, stable=True)  # where each position was in the input
    positions_BL = torch.arange(L, device=input_ids_BL.device).expand(B, L)
    target_pos_BT = torch.empty_like(given_BL).scatter_(1, given_BL, positions_BL)
    input_ids_BL, padding_BL = input_ids_BL.gather(1, given_BL), padding_BL.gather(1, given_BL)
    if token_type_ids_BL is not None:
        token_type_ids_BL = token_type_ids_BL.gather(1, given_BL)

    is_mask_BL = input_ids_BL == mask_id
    unseen_BL = padding_BL | is_mask_BL if drop else torch.zeros_like(padding_BL)
    num_seen = max(1, int((~unseen_BL).sum(dim=1).max())) if drop else L
    order_BL = torch.argsort(unseen_BL, dim=1, stable=True)  # seen positions first, each group ascending
    seen_pos_BS = order_BL[:, :num_seen]
    any_padding = bool(padding_BL.any())
    return MaskedBatch(
        seen_ids_BS=input_ids_BL.gather(1, seen_pos_BS),
        seen_pos_BS=seen_pos_BS,
        masked_pos_BM=order_BL[:, num_seen:],
        target_pos_BT=target_pos_BT,
        target_ids_BT=target_ids_BT,
        documents_BL=torch.where(padding_BL, -1, 0) if any_padding else None,
        hidden_BS=unseen_BL.gather(1, seen_pos_BS) if drop else None,
        token_types_BS=None if token_type_ids_BL is None else token_type_ids_BL.gather(1, seen_pos_BS),
    )
