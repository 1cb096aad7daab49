"""MaskLaterConfig: the encoder's own config, and the little that the decoder adds."""

from collections.abc import Sequence
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from masklater.errors import UserError

CHOICES = {
    "decoder_kind": ("self", "cross", "cross-only", "late", "none"),
    "mask_embedding": ("own", "word"),
    "decoder_positions": ("auto", "dropped", "all", "rotary"),
}
"""Of a MaskLaterConfig, as in recipe.sections.DecoderSettings."""


class MaskLaterConfig(PretrainedConfig):
    """Configuration of MaskLaterForMaskedLM.

    Args:
        encoder: The encoder's config, or it as a dict; any model type of transformers that `check_encoder` accepts.
        decoder_kind: `self`: 3ML_self. `cross`: 3ML_cross. `cross-only`: 3ML_cross without self-attention. `late`:
            [MASK]s enter the encoder at `enter_layer`. `none`: vanilla MLM, [MASK]s stay in the encoder's input.
        num_decoder_layers: N_d; of no effect where decoder_kind is `late` or `none`.
        decoder_width: Width of the decoder; None: the encoder's.
        enter_layer: The encoder layer that first sees [MASK]s, where decoder_kind is `late`; 0 is vanilla MLM.
        mask_embedding: `own`: a parameter apart. `word`: the word embedding's row of the mask token.
        decoder_positions: How the decoder knows positions. `dropped`, `all`: embeddings are added at dropped or at all
            positions. `rotary`: attention turns queries and keys by position, and nothing is added. `auto`: `rotary`
            where the encoder knows distances only, else `dropped`; settled when the model is built.
        blocked_flows: Attention flows switched off where unmasked and masked positions meet (recipe.sections.Flow).
        row_length: Longest row the decoder has positions for.
        mask_token_id: The mask token.
        position_offset: What the encoder counts a row's first position as (RoBERTa: padding index + 1);
            None: found when the model is built.
        kwargs: The settings every transformers config has; passed on untouched.
    """

    model_type = "masklater"
    sub_configs = {"encoder": AutoConfig}  # noqa: RUF012 - transformers reads the class attribute

    def __init__(
        self,
        encoder: PretrainedConfig | dict[str, Any] | None = None,
        decoder_kind: str = "self",
        num_decoder_layers: int = 2,
        decoder_width: int | None = None,
        enter_layer: int | None = None,
        mask_embedding: str = "own",
        decoder_positions: str = "auto",
        blocked_flows: Sequence[str] = (),
        row_length: int = 128,
        mask_token_id: int = 4,
        position_offset: int | None = None,
        **kwargs: Any,
    ) -> None:
        if encoder is None:
            encoder = {"model_type": "roberta"}
        self.encoder: PretrainedConfig = AutoConfig.for_model(**encoder) if isinstance(encoder, dict) else encoder
        self.decoder_kind = decoder_kind
        self.num_decoder_layers = num_decoder_layers
        self.decoder_width = decoder_width
        self.enter_layer = enter_layer
        self.mask_embedding = mask_embedding
        self.decoder_positions = decoder_positions
        self.blocked_flows = list(blocked_flows)
        self.row_length = row_length
        self.mask_token_id = mask_token_id
        self.position_offset = position_offset
        self.initializer_range = self.encoder.initializer_range
        kwargs.setdefault("pad_token_id", self.encoder.pad_token_id)
        kwargs.setdefault("bos_token_id", self.encoder.bos_token_id)
        kwargs.setdefault("eos_token_id", self.encoder.eos_token_id)
        # Left out, transformers would take the encoder's away.
        kwargs.setdefault("attn_implementation", self.encoder._attn_implementation)
        kwargs["tie_word_embeddings"] = False  # the head reads the word embedding itself: nothing is left to tie
        super().__init__(**kwargs)

    @property
    def drops(self) -> bool:
        """Whether [MASK]s are left out of the encoder's input."""
        return self.decoder_kind != "none" and self.enter_layer != 0


def check_decoder(config: MaskLaterConfig) -> None:
    """Raise UserError where a config describes no decoder."""
    kind, layers = config.decoder_kind, config.num_decoder_layers
    for name, allowed in CHOICES.items():
        if getattr(config, name) not in allowed:
            raise UserError(f"{name} is {getattr(config, name)!r}", f"Choose among {', '.join(allowed)}.")
    if kind in {"self", "cross", "cross-only"} and layers < 1:
        raise UserError(
            f"num_decoder_layers is {layers}, and decoder_kind={kind!r} has at least one layer",
            "Vanilla MLM, whose [MASK]s stay in the encoder's input, is decoder_kind='none'.",
        )
    depth = config.encoder.num_hidden_layers
    if kind == "late" and (config.enter_layer is None or not 0 <= config.enter_layer < depth):
        raise UserError(
            f"enter_layer is {config.enter_layer}, and with decoder_kind='late' [MASK]s enter one of the encoder's "
            f"{depth} layers",
            f"Choose a number from 0, which is vanilla MLM, to {depth - 1}.",
        )
