"""A transformers model around an encoder: made from one, resized, initialised. masked_lm.py adds the method."""

import os
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from masklater.errors import UserError
from masklater.model import encoder as encoders
from masklater.model import saved
from masklater.model.config import NAMES_OF_0_1, MaskLaterConfig
from masklater.model.decoder import MaskTokens
from masklater.model.head import LMHead
from masklater.model.implementations import BY_BLOCKS, FLOAT32_ON_CPU, check_attention
from masklater.recipe.sections import DecoderSettings


class MaskLaterPreTrainedModel(PreTrainedModel):
    """The base of MaskLaterForMaskedLM, which adds the forward pass."""

    config_class = MaskLaterConfig
    base_model_prefix = "encoder"
    accepts_loss_kwargs = True  # tells transformers' Trainer to hand over num_items_in_batch
    _supports_sdpa = True
    supports_gradient_checkpointing = True

    config: MaskLaterConfig
    encoder: PreTrainedModel
    decoder: nn.Module
    head: LMHead
    open_run: ClassVar[Callable[[Path], PreTrainedModel | None] | None] = None
    """Function that opens the model of a RUN; None where a folder is no RUN. masklater/__init__ sets it.

    Only packages above this one know of RUNs.
    """

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str] | None, *args: Any, **kwargs: Any
    ) -> Any:
        """Load a model as every class of transformers does; for a RUN, load its newest sound checkpoint.

        Raises:
            UserError: The RUN has no checkpoint yet, or is damaged.
        """
        if cls.open_run is not None and pretrained_model_name_or_path is not None:
            model = cls.open_run(Path(pretrained_model_name_or_path))
            if model is not None:
                kwargs = {**kwargs, "config": kwargs.get("config") or model.config, "state_dict": model.state_dict()}
                return super().from_pretrained(None, *args, **kwargs)
        return super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @classmethod
    def from_encoder(
        cls,
        source: PreTrainedModel | PretrainedConfig | str | Path,
        decoder: DecoderSettings | Mapping[str, Any] | None = None,
        *,
        mask_token_id: int | None = None,
        row_length: int | None = None,
        attn_implementation: str | None = None,
        **of_0_1: Any,
    ) -> Self:
        """Make a model around an encoder: the encoder's weights and LM head are the source's, the decoder is new.

        If the source is a model of ours, the decoder is the source's too, provided that it has the same settings except
        blocked flows. Otherwise a warning says that the decoder is new.

        A pooler of the source is left behind, with a warning. So is a head that ours cannot hold: one with a separate
        output embedding, with an activation other than GELU, with other parts, or one that is not of a masked LM.

        Args:
            source: A transformers encoder or masked LM, whose weights are copied; or the folder of a saved one, or a
                name on the hub, with `@REVISION` where that is not main; or an encoder's config, for random weights.
            decoder: The `decoder` section of a recipe or the dict of one, such as `{"kind": "cross", "num_layers": 1}`:
                `masklater pretrain --settings` prints names, meanings and defaults.
            mask_token_id: The mask token; None: that of the source's tokenizer or config, where there is one.
            row_length: Longest row, no longer than the encoder has positions for; None: for a model of ours its own,
                else as many as the encoder has positions for, at most 512.
            attn_implementation: The encoder's, `sdpa` or `eager`; None: as the source has it.
            of_0_1: The decoder's settings by their names of version 0.1, such as `num_decoder_layers`, in place of
                `decoder`.

        Raises:
            TypeError: An argument of another name.
            UserError: The encoder cannot carry the method, or not with this decoder, row length or attention
                implementation.
            ValueError: The mask token is not known.
        """
        if unknown := sorted(of_0_1.keys() - NAMES_OF_0_1.keys()):
            raise TypeError(f"from_encoder takes no {', '.join(unknown)}")
        origin = saved.open_source(source)
        if origin.pooler is not None:
            warnings.warn("the source's pooler is left behind: a masked language model trains none", stacklevel=2)
        if origin.head_left_behind is not None:
            warnings.warn(
                f"the source's head is left behind, and a new LM head begins at random: {origin.head_left_behind}",
                stacklevel=2,
            )
        if mask_token_id is None:
            mask_token_id = origin.mask_token_id
        if mask_token_id is None:
            raise ValueError("mask_token_id is not known from the source: give it, as in tokenizer.mask_token_id")
        encoder = origin.copy_config()  # the source keeps its own config
        if attn_implementation is not None:
            encoder._attn_implementation = attn_implementation
        if row_length is None:
            row_length = origin.decoder_room or min(512, saved.longest_row(encoder))
        else:
            saved.check_row_length(encoder, row_length)
        settings = {"mask_token_id": mask_token_id, "head_activation": origin.head_activation, **of_0_1}
        model = cls(MaskLaterConfig(encoder, decoder, row_length=row_length, **settings))
        carried = saved.copy_weights(origin, model)
        if origin.decoder and not carried.decoder and list(model.decoder.parameters()):
            warnings.warn("the source's decoder is another one, and a new one begins at random", stacklevel=2)
        return model

    def checkpoint_activations(self, every: int) -> None:
        """Keep only the input of every n-th layer for the backward pass, which recomputes the layer, including dropout.

        Layers are counted from the encoder's first to the decoder's last; the first of each n layers is recomputed.
        Under transformers' Trainer, `gradient_checkpointing=True` does the same with all layers.

        Args:
            every: n; 0: everything that the backward pass needs is kept.

        Raises:
            UserError: The encoder's family has no layers that can be recomputed.
        """
        layers = [module for module in self.modules() if isinstance(module, GradientCheckpointingLayer)]
        if not any(layer in layers for layer in self.encoder.modules()):
            raise UserError(
                f"transformers does not say which layers of a {self.encoder.config.model_type} can be computed again",
                "Set activation_checkpointing=false.",
            )
        for number, layer in enumerate(layers):
            layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False)
            layer.gradient_checkpointing = every > 0 and number % every == 0

    def attend_by_blocks(self) -> bool:
        """Make the encoder train with FlexAttention on long rows of documents or windows; return whether it can.

        FlexAttention has no dropout. Families that do not call transformers' attention by its name always use their
        own.
        """
        config = self.encoder.config
        can = config._attn_implementation in (FLOAT32_ON_CPU, BY_BLOCKS)
        if can and not encoders.layer_sizes(config, config.hidden_size).attention_dropout:
            self.encoder.set_attn_implementation(BY_BLOCKS)
        return self.encoder.config._attn_implementation == BY_BLOCKS

    @property
    def word_embeddings(self) -> Tensor:
        """The encoder's word embeddings, words_VE, which the head shares."""
        return self.encoder.get_input_embeddings().weight

    def get_input_embeddings(self) -> nn.Module:
        """Return the encoder's word embedding."""
        return self.encoder.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the encoder's word embedding."""
        self.encoder.set_input_embeddings(value)

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None, mean_resizing: bool = True
    ) -> nn.Module:
        """Resize the vocabulary: the encoder's word embedding, the LM head's bias, and the configs.

        Args:
            new_num_tokens: Entries wanted; None: keep the present number.
            pad_to_multiple_of: The number of entries is rounded up to a multiple of this.
            mean_resizing: Where True, new embeddings are drawn around the mean of the old ones, and new biases begin as
                the mean of the old ones. Where False, around 0 and as 0.

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
        """Refuse an attention implementation that takes no mask per pair, at the point where transformers checks it."""
        check_attention(attn_implementation)
        return super()._check_and_adjust_attn_implementation(attn_implementation, *args, **kwargs)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, MaskTokens) and module.embedding is not None:
            nn.init.normal_(module.embedding, std=self.config.initializer_range)
