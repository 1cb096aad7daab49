"""The method on one screen: encode the seen tokens, append the [MASK]s and decode, predict the targets.

Mask More and Mask Later (arXiv 2211.04898), figure 2. Variants differ in three parts that are passed in: the decoder,
the layer at which the encoder stops for [MASK]s to enter, and whether targets are predicted separately or along a chain
of states. Letters: see masking/batch.py.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

from masklater.masking.batch import MaskedBatch, batch_from_inputs
from masklater.model import encoder as encoders
from masklater.model.attention import attention_mask, seen_places
from masklater.model.auto import register
from masklater.model.check import settle
from masklater.model.config import MaskLaterConfig
from masklater.model.decoder import gather, make_decoder
from masklater.model.head import LMHead, loss_sum
from masklater.model.prediction import AlongChain, Apart, make_prediction
from masklater.model.pretrained import MaskLaterPreTrainedModel
from masklater.recipe.sections import DecoderSettings

NO_DECODER = DecoderSettings(kind="none")
"""The settings that a causal batch is read with: the whole encoder, and no flow to or from [MASK]s."""


class LossSum(NamedTuple):
    """The result of a training step's forward pass. Both are sums, so that parts of a batch add up exactly."""

    loss_sum: Tensor  # float32 scalar, nats
    num_targets: Tensor  # int64 scalar


REFUSED = {
    "position_ids": "positions are those of the tokens in their row; leave it out, and put padding on either side",
    "inputs_embeds": "the [MASK]s are found by their ids; give input_ids",
    "output_hidden_states": "the encoder reads some positions only, the decoder all; ask model.encoder for its own",
    "output_attentions": "encoder and decoder attend among different positions; ask model.encoder for its own",
}
"""Arguments of other masked LMs that this one refuses, and what to do instead."""


class MaskLaterForMaskedLM(MaskLaterPreTrainedModel):
    """A transformers encoder with a light decoder and an LM head, trained as a masked language model.

    `model.encoder` is the plain encoder, the part that fine-tuning keeps.
    """

    def __init__(self, config: MaskLaterConfig) -> None:
        super().__init__(config)
        self.config: MaskLaterConfig = settle(config)
        self.encoder: PreTrainedModel = encoders.build_encoder(config.encoder)
        self.decoder = make_decoder(config)
        vocabulary, embedding_width = self.word_embeddings.shape
        width, norm_eps = config.encoder.hidden_size, encoders.norm_eps(config.encoder)
        self.head = LMHead(width, embedding_width, vocabulary, norm_eps, config.head_activation)
        self.prediction = make_prediction(config)
        self.post_init()

    def encode(self, batch: MaskedBatch) -> Tensor:
        """Return hidden states of the seen tokens, seen_BSD. They include [MASK]s in vanilla mode only."""
        decoder = NO_DECODER if batch.causal else self.config.decoder
        blocked = () if decoder.drops else decoder.blocked_flows  # without [MASK]s there is only one kind of position
        places = seen_places(batch, self.config.mask_token_id, blocked)
        return encoders.encode(
            self.encoder,
            batch.seen_ids_BS,
            batch.seen_pos_BS,
            self.config.position_offset or 0,  # settled when the model was built
            attention_mask(places, places, blocked, batch.causal),
            batch.token_types_BS,
            stop_before=decoder.enter_layer or None,
            whole_rows=batch.masked_pos_BM.shape[1] == 0,
        )

    def decode(self, seen_BSD: Tensor, batch: MaskedBatch) -> Tensor:
        """Return hidden states of the targets after the [MASK]s join the row, targets_BTD; with states, BTkD.

        No [MASK] joins a causal batch: for it, return hidden states of the positions that predict the targets.
        """
        if batch.causal:
            return gather(seen_BSD, batch.target_pos_BT)
        return self.decoder(seen_BSD, batch, self.encoder)

    def predict(self, targets_BTD: Tensor, batch: MaskedBatch) -> Tensor:
        """Return logits of the targets, logits_NV."""
        return self._prediction(batch).logits(self.head, self.word_embeddings, targets_BTD, batch)

    def target_logits(self, batch: MaskedBatch) -> Tensor:
        """Encode, decode, predict; return logits_NV."""
        return self.predict(self.decode(self.encode(batch), batch), batch)

    def score_targets(self, batch: MaskedBatch) -> tuple[Tensor, Tensor]:
        """Return the summed cross entropy of a batch, and how many of its targets are predicted right; no gradients."""
        targets_BTD = self.decode(self.encode(batch), batch)
        return self._prediction(batch).score(self.head, self.word_embeddings, targets_BTD, batch)

    def target_losses(self, batch: MaskedBatch) -> Tensor:
        """Return the loss of each target slot of a batch, loss_BT, 0 where the slot is not in use; no gradients."""
        targets_BTD = self.decode(self.encode(batch), batch)
        losses_N = self._prediction(batch).losses(self.head, self.word_embeddings, targets_BTD, batch)
        return losses_N.view_as(batch.target_ids_BT)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        batch: MaskedBatch | None = None,
        return_dict: bool | None = None,
        **others: Any,
    ) -> LossSum | MaskedLMOutput | tuple[Tensor, ...]:
        """Compute the loss of a MaskedBatch, or the output that every masked LM of transformers has.

        Args:
            input_ids: int64 [B, L], including [MASK]s, which the model finds itself.
            attention_mask: [B, L], 1 at tokens and 0 at padding. Padding may be on either side: a row's logits depend
                on the row alone.
            token_type_ids: int64 [B, L], BERT's segment ids.
            labels: int64 [B, L], -100 at positions that are not targets.
            num_items_in_batch: Number of targets of the whole optimizer step, over which the loss is averaged; None:
                the targets of this call. transformers' Trainer counts them, so that accumulation changes nothing.
            batch: A MaskedBatch in place of the arguments above: the fast path of pre-training.
            return_dict: False: return a tuple of the output's parts; None: as the config says.
            others: Arguments that other masked LMs take and this one refuses (`REFUSED`) may be given as None or False.

        Returns:
            LossSum for a batch. Otherwise a MaskedLMOutput with logits at every position and, where labels are given,
            their mean loss. The loss is the cross entropy of the logits or, in training mode, the trained loss where it
            differs (`AlongChain`).

        Raises:
            ValueError: Neither input_ids nor batch is given, rows are longer than the decoder has positions for, or an
                argument asks for something that this model does not have.
            TypeError: An argument that masked LMs do not take.
        """
        self._refuse(others)
        if batch is not None:
            targets_BTD = self.decode(self.encode(batch), batch)
            total = self._prediction(batch).loss_sum(self.head, self.word_embeddings, targets_BTD, batch)
            return LossSum(total, batch.num_targets)
        if input_ids is None:
            raise ValueError("give either input_ids or a batch")
        if self.config.decoder.drops and input_ids.shape[1] > self.config.row_length:
            raise ValueError(
                f"input_ids has rows of {input_ids.shape[1]}, and the decoder has positions for "
                f"{self.config.row_length}: truncate them, or build the model with a larger row_length"
            )
        config = self.config
        batch = batch_from_inputs(
            input_ids,
            attention_mask,
            labels,
            config.mask_token_id,
            config.decoder.drops,
            token_type_ids,
            uncounted_id=config.encoder.pad_token_id if config.position_offset else None,
        )
        targets_BTD = self.decode(self.encode(batch), batch)
        logits_NV, loss = self.predict(targets_BTD, batch), None
        if labels is not None:
            count = batch.num_targets.clamp(min=1) if num_items_in_batch is None else num_items_in_batch
            if self.training and self.prediction.trains_rows:
                loss = self.prediction.loss_sum(self.head, self.word_embeddings, targets_BTD, batch) / count
            else:
                loss = loss_sum(logits_NV, labels.flatten()) / count
        output = MaskedLMOutput(loss=loss, logits=logits_NV.view(*input_ids.shape, -1))
        as_output = config.return_dict if return_dict is None else return_dict
        return output if as_output else output.to_tuple()

    def _prediction(self, batch: MaskedBatch) -> Apart | AlongChain:
        """Return how targets are predicted: along a chain where [MASK]s have states, else (or if causal) one by one."""
        return Apart() if batch.causal else self.prediction

    def _refuse(self, others: Mapping[str, Any]) -> None:
        """Raise where an argument is given that this model cannot honour; a config may ask for the same."""
        for name, value in others.items():
            if name not in REFUSED:
                raise TypeError(f"MaskLaterForMaskedLM.forward takes no {name}")
            if value is not None and value is not False:
                raise ValueError(f"{name}: {REFUSED[name]}")
        for name in ("output_hidden_states", "output_attentions"):
            if getattr(self.config, name, False) and others.get(name) is None:
                raise ValueError(f"{name} (of the config): {REFUSED[name]}")


register(MaskLaterForMaskedLM)
