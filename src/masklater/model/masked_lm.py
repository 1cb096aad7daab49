"""The method on one screen: encode the seen tokens, append the [MASK]s and decode, predict the targets.

Mask More and Mask Later (arXiv 2211.04898), figure 2. What the variants differ in is handed in: the decoder, and the
layer at which the encoder stops for [MASK]s to enter. Letters: see masking/batch.py.
"""

import copy
import warnings
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForMaskedLM, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import MaskedLMOutput

from masklater.errors import UserError
from masklater.masking.batch import MaskedBatch, batch_from_inputs
from masklater.model import encoder as encoders
from masklater.model import saved
from masklater.model.attention import attention_mask, seen_places
from masklater.model.check import check_encoder
from masklater.model.config import MaskLaterConfig, check_decoder
from masklater.model.decoder import MaskTokens, make_decoder
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
    accepts_loss_kwargs = True  # tells transformers' Trainer to hand over num_items_in_batch
    _supports_sdpa = True

    def __init__(self, config: MaskLaterConfig) -> None:
        super().__init__(config)
        self.config: MaskLaterConfig = settle(config)
        self.encoder: PreTrainedModel = encoders.build_encoder(config.encoder)
        self.decoder = make_decoder(config)
        vocabulary, embedding_width = self.word_embeddings.shape
        self.head = LMHead(config.encoder.hidden_size, embedding_width, vocabulary, encoders.norm_eps(config.encoder))
        self.post_init()

    def encode(self, batch: MaskedBatch) -> Tensor:
        """Hidden states of the seen tokens, seen_BSD. No [MASK] is among them unless the mode is vanilla."""
        blocked = self.config.blocked_flows
        places = seen_places(batch, self.config.mask_token_id, blocked)
        return encoders.encode(
            self.encoder,
            batch.seen_ids_BS,
            batch.seen_pos_BS,
            self.config.position_offset or 0,  # settled when the model was built
            attention_mask(places, places, blocked),
            batch.token_types_BS,
            stop_before=self.config.enter_layer or None,
        )

    def decode(self, seen_BSD: Tensor, batch: MaskedBatch) -> Tensor:
        """Hidden states of the targets, targets_BTD, the [MASK]s having joined the row."""
        return self.decoder(seen_BSD, batch, self.encoder)

    def predict(self, targets_BTD: Tensor) -> Tensor:
        """Logits of the targets, logits_NV."""
        return self.head(targets_BTD.flatten(0, 1), self.word_embeddings)

    def target_logits(self, batch: MaskedBatch) -> Tensor:
        """Encode, decode, predict: logits_NV."""
        return self.predict(self.decode(self.encode(batch), batch))

    def score_targets(self, batch: MaskedBatch) -> tuple[Tensor, Tensor]:
        """The loss of a batch as in `LossSum`, and how many of its targets are predicted right; no gradients."""
        targets_BTD = self.decode(self.encode(batch), batch)
        return self.head.score(targets_BTD.flatten(0, 1), self.word_embeddings, batch.target_ids_BT.flatten())

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        batch: MaskedBatch | None = None,
    ) -> LossSum | MaskedLMOutput:
        """The loss of a MaskedBatch, or what every masked LM of transformers returns.

        Args:
            input_ids: int64 [B, L], [MASK]s included; the model finds them itself.
            attention_mask: [B, L], 1 at tokens and 0 at padding, which may stand on either side: a row's logits are
                those of the row alone.
            token_type_ids: int64 [B, L], BERT's segment ids.
            labels: int64 [B, L], -100 at positions that are not targets.
            num_items_in_batch: Targets of the whole optimizer step, over which the loss is averaged; None: those of
                this call. transformers' Trainer counts them, so that accumulation changes nothing.
            batch: Instead of these, a MaskedBatch: the fast path of pre-training.

        Returns:
            LossSum for a batch. Otherwise a MaskedLMOutput with logits at every position and, where labels are given,
            their mean loss.

        Raises:
            ValueError: Neither is given, or rows are longer than the decoder has positions for.
        """
        if batch is not None:
            targets_BTD = self.decode(self.encode(batch), batch)
            target_ids_N = batch.target_ids_BT.flatten()
            total = self.head.loss_sum(targets_BTD.flatten(0, 1), self.word_embeddings, target_ids_N)
            return LossSum(total, batch.num_targets)
        if input_ids is None:
            raise ValueError("give either input_ids or a batch")
        if self.config.drops and input_ids.shape[1] > self.config.row_length:
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
            config.drops,
            token_type_ids,
            uncounted_id=config.encoder.pad_token_id if config.position_offset else None,
        )
        logits_NV = self.target_logits(batch)
        loss = None
        if labels is not None:
            count = batch.num_targets.clamp(min=1) if num_items_in_batch is None else num_items_in_batch
            loss = loss_sum(logits_NV, labels.flatten()) / count
        return MaskedLMOutput(loss=loss, logits=logits_NV.view(*input_ids.shape, -1))

    @classmethod
    def from_encoder(
        cls,
        source: PreTrainedModel | PretrainedConfig | str | Path,
        num_decoder_layers: int = 2,
        *,
        mask_token_id: int | None = None,
        row_length: int | None = None,
        decoder_kind: str = "self",
        decoder_width: int | None = None,
        enter_layer: int | None = None,
        mask_embedding: str = "own",
        decoder_positions: str = "auto",
        blocked_flows: tuple[str, ...] = (),
        attn_implementation: str | None = None,
    ) -> Self:
        """A model around an encoder: the decoder is new, the encoder's weights and LM head are the source's.

        A pooler of the source stays behind, with a warning.

        Args:
            source: A transformers encoder or masked LM, whose weights are copied; or a name or folder that
                `from_pretrained` takes; or an encoder's config, for random weights.
            num_decoder_layers: N_d.
            mask_token_id: The mask token; None: that of the source's tokenizer or config, where there is one.
            row_length: Longest row; None: as long as the encoder has positions for, at most 512.
            decoder_kind: This and what follows: see MaskLaterConfig.
            decoder_width: Width of the decoder.
            enter_layer: Where [MASK]s enter the encoder, with decoder_kind `late`.
            mask_embedding: `own` or `word`.
            decoder_positions: How the decoder knows positions.
            blocked_flows: Attention flows switched off.
            attn_implementation: The encoder's, `sdpa` or `eager`; None: as the source has it.

        Raises:
            UserError: The encoder cannot carry the method, or not with this attention implementation.
            ValueError: The mask token is not known.
        """
        origin = saved.open_source(source)
        if origin.has_pooler:
            warnings.warn("the source's pooler is left behind: a masked language model trains none", stacklevel=2)
        if mask_token_id is None:
            mask_token_id = origin.mask_token_id
        if mask_token_id is None:
            raise ValueError("mask_token_id is not known from the source: give it, as in tokenizer.mask_token_id")
        encoder = copy.deepcopy(origin.encoder_config)  # the source keeps its own
        if attn_implementation is not None:
            encoder._attn_implementation = attn_implementation
        model = cls(
            MaskLaterConfig(
                encoder=encoder,
                decoder_kind=decoder_kind,
                num_decoder_layers=num_decoder_layers,
                decoder_width=decoder_width,
                enter_layer=enter_layer,
                mask_embedding=mask_embedding,
                decoder_positions=decoder_positions,
                blocked_flows=blocked_flows,
                row_length=row_length or min(512, saved.longest_row(origin.encoder_config)),
                mask_token_id=mask_token_id,
            )
        )
        saved.copy_weights(origin, model)
        return model

    @property
    def word_embeddings(self) -> Tensor:
        """The encoder's word embeddings, words_VE, which the head shares."""
        return self.encoder.get_input_embeddings().weight

    def get_input_embeddings(self) -> nn.Module:
        """The encoder's word embedding, for transformers."""
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the encoder's word embedding."""
        self.encoder.set_input_embeddings(value)

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Module:
        """Resize the vocabulary, the LM head's bias along with the encoder's word embedding, and the configs.

        Args:
            new_num_tokens: Entries wanted; None: as many as there are.
            pad_to_multiple_of: Number that the entries are rounded up to a multiple of.
            mean_resizing: Whether new embeddings are drawn around the mean of the old ones, and new biases begin as
                their mean, rather than around 0 and as 0.

        Returns:
            The word embedding.

        Raises:
            UserError: The mask token would be cut off.
        """
        if new_num_tokens is not None and new_num_tokens <= self.config.mask_token_id:
            raise UserError(
                f"a vocabulary of {new_num_tokens} has no entry {self.config.mask_token_id}, which is the mask token",
                "Keep more tokens, or build a model whose mask token is among those that are kept.",
            )
        embedding = super().resize_token_embeddings(new_num_tokens, pad_to_multiple_of, mean_resizing)
        vocabulary = embedding.weight.shape[0]
        for config in (self.config.encoder, self.encoder.config):
            config.vocab_size = vocabulary
        self.head.resize(vocabulary, float(self.head.bias.detach().mean()) if mean_resizing else 0.0)
        return embedding

    def _check_and_adjust_attn_implementation(self, attn_implementation: str | None, *args: Any, **kwargs: Any) -> str:
        """Refuse, where transformers looks for it, an attention implementation that takes no mask per pair."""
        encoders.check_attention(attn_implementation)
        return super()._check_and_adjust_attn_implementation(attn_implementation, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, MaskTokens) and module.embedding is not None:
            nn.init.normal_(module.embedding, std=self.config.initializer_range)


def settle(config: MaskLaterConfig) -> MaskLaterConfig:
    """Find out by trial what a config leaves open, and refuse encoders that cannot carry the method.

    Raises:
        UserError: The encoder cannot, or the config describes no decoder.
    """
    check_decoder(config)
    if config.position_offset is None or config.decoder_positions == "auto":
        positions = check_encoder(config.encoder, config.row_length)
        config.position_offset = positions.offset
        if config.decoder_positions == "auto":
            config.decoder_positions = "rotary" if positions.relative else "dropped"
    if config.decoder_kind == "late":
        encoders.check_one_stack(config.encoder)
    if config.decoder_positions == "rotary":
        encoders.check_can_turn(config.encoder, config.decoder_kind == "late")
    return config


AutoConfig.register(MaskLaterConfig.model_type, MaskLaterConfig, exist_ok=True)
AutoModelForMaskedLM.register(MaskLaterConfig, MaskLaterForMaskedLM, exist_ok=True)
