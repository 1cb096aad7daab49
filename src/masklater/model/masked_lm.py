"""The method on one screen: encode the seen tokens, append the [MASK]s and decode, predict the targets.

Mask More and Mask Later (arXiv 2211.04898), figure 2. Letters: see masking/batch.py.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

from masklater.masking.batch import IGNORE, MaskedBatch, batch_from_inputs
from masklater.model import encoder as encoders
from masklater.model.config import MaskLaterConfig
from masklater.model.decoder import SelfDecoder
from masklater.model.head import LMHead, loss_sum


class LossSum(NamedTuple):
    """What a training step needs of a forward pass. Both are sums, so that parts of a batch add up exactly."""

    loss_sum: Tensor  # float32 scalar, nats
    num_targets: Tensor  # int64 scalar


class MaskLaterForMaskedLM(PreTrainedModel):
    """A transformers encoder with a light decoder and an LM head, trained as a masked language model.

    `model.encoder` is the plain encoder, which is what fine-tuning keeps.
    """

    config_class = MaskLaterConfig
    base_model_prefix = "encoder"
    _supports_sdpa = True

    def __init__(self, config: MaskLaterConfig) -> None:
        super().__init__(config)
        if config.position_offset is None:
            config.position_offset = encoders.check_encoder(config.encoder)
        self.encoder: PreTrainedModel = encoders.build_encoder(config.encoder)
        self.decoder: SelfDecoder | None = None
        if config.decoder_kind == "self":
            self.decoder = SelfDecoder(config.encoder, config.num_decoder_layers, config.row_length, config.pre_norm)
        self.head = LMHead(config.encoder)
        self.post_init()

    def encode(self, batch: MaskedBatch) -> Tensor:
        """Hidden states of the seen tokens, seen_BSD. No [MASK] is among them unless the mode is vanilla."""
        seen_documents_BS = None
        if batch.documents_BL is not None:
            seen_documents_BS = batch.documents_BL.gather(1, batch.seen_pos_BS)
        attend_BSS = same_document(seen_documents_BS, batch.hidden_BS)
        return encoders.encode(
            self.encoder, batch.seen_ids_BS, batch.seen_pos_BS, self.config.position_offset, attend_BSS
        )

    def decode(self, seen_BSD: Tensor, batch: MaskedBatch) -> Tensor:
        """Hidden states of the whole row, row_BLD, the [MASK]s appended."""
        if self.decoder is None:
            return seen_BSD
        return self.decoder(seen_BSD, batch, same_document(batch.documents_BL))

    def predict(self, row_BLD: Tensor, target_pos_BT: Tensor) -> Tensor:
        """Logits at the target positions only, logits_NV."""
        index_BTD = target_pos_BT[:, :, None].expand(-1, -1, row_BLD.shape[-1])
        targets_ND = row_BLD.gather(1, index_BTD).flatten(0, 1)
        return self.head(targets_ND, self.get_input_embeddings().weight)

    def target_logits(self, batch: MaskedBatch) -> Tensor:
        """Encode, decode, predict: logits_NV."""
        return self.predict(self.decode(self.encode(batch), batch), batch.target_pos_BT)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        batch: MaskedBatch | None = None,
    ) -> LossSum | MaskedLMOutput:
        """The loss of a MaskedBatch, or what every masked LM of transformers returns.

        Args:
            input_ids: int64 [B, L], [MASK]s included; the model finds them itself.
            attention_mask: [B, L], 1 at tokens and 0 at padding.
            labels: int64 [B, L], -100 at positions that are not targets.
            batch: Instead of these, a MaskedBatch: the fast path of pre-training.

        Returns:
            LossSum for a batch. Otherwise a MaskedLMOutput with logits at every position and, where labels are given,
            their mean loss.
        """
        if batch is not None:
            return LossSum(loss_sum(self.target_logits(batch), batch.target_ids_BT.flatten()), batch.num_targets)
        if input_ids is None:
            raise ValueError("give either input_ids or a batch")
        drop_id = None if self.decoder is None else self.config.mask_token_id
        batch = batch_from_inputs(input_ids, attention_mask, labels, drop_id)
        logits_NV = self.target_logits(batch)
        loss = None
        if labels is not None:
            loss = loss_sum(logits_NV, labels.flatten()) / (labels != IGNORE).sum().clamp(min=1)
        return MaskedLMOutput(loss=loss, logits=logits_NV.view(*input_ids.shape, -1))

    def get_input_embeddings(self) -> nn.Module:
        """The encoder's word embedding, which the head shares."""
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the encoder's word embedding."""
        self.encoder.set_input_embeddings(value)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SelfDecoder):
            nn.init.normal_(module.mask_embedding, std=self.config.initializer_range)


def same_document(documents_BX: Tensor | None, hidden_BX: Tensor | None = None) -> Tensor | None:
    """Which position may attend to which: those of one document among themselves, attend_BXX.

    Padding (document -1) sees padding only, so that no position is left with nothing to attend to. None: all see all.
    """
    if documents_BX is None and hidden_BX is None:
        return None
    if documents_BX is None:
        assert hidden_BX is not None
        documents_BX = torch.zeros_like(hidden_BX, dtype=torch.int64)
    if hidden_BX is not None:
        documents_BX = documents_BX.masked_fill(hidden_BX, -1)
    return documents_BX[:, :, None] == documents_BX[:, None, :]


AutoConfig.register(MaskLaterConfig.model_type, MaskLaterConfig, exist_ok=True)
AutoModelForMaskedLM.register(MaskLaterConfig, MaskLaterForMaskedLM, exist_ok=True)
