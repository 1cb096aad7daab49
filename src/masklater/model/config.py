"""MaskLaterConfig: the encoder's own config, and the decoder's settings as a recipe has them."""

from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from masklater.errors import UserError
from masklater.recipe.load import validate_decoder
from masklater.recipe.sections import DecoderSettings

NAMES_OF_0_1 = {
    "decoder_kind": "kind",
    "num_decoder_layers": "num_layers",
    "decoder_width": "hidden_size",
    "enter_layer": "enter_layer",
    "mask_embedding": "mask_embedding",
    "decoder_positions": "positions",
    "blocked_flows": "blocked_flows",
}
"""The decoder's settings in a config.json of version 0.1, which had no `decoder` section, and their names there now."""


class MaskLaterConfig(PretrainedConfig):
    """Configuration of MaskLaterForMaskedLM.

    Args:
        encoder: The encoder's config or the dict of one; any model type of transformers that passes model/check.py.
        decoder: The `decoder` section of a recipe or the dict of one, such as `{"kind": "cross", "num_layers": 1}`:
            `masklater pretrain --settings` prints names, meanings and defaults. `positions: auto` is settled when the
            model is built.
        row_length: Longest row the decoder has positions for.
        mask_token_id: The mask token.
        position_offset: The number that the encoder gives a row's first position (RoBERTa: padding index + 1); None:
            found when the model is built.
        head_activation: The GELU of the LM head: `gelu`, or `gelu_new`, which a head that is taken over may have.
        kwargs: The settings every transformers config has, passed on untouched. Also the decoder's settings by their
            names of version 0.1, as in folders that version saved.

    Raises:
        UserError: The decoder has settings that are unknown, impossible or contradictory.
    """

    model_type = "masklater"
    sub_configs = {"encoder": AutoConfig}  # noqa: RUF012 - transformers reads the class attribute

    def __init__(
        self,
        encoder: PretrainedConfig | dict[str, Any] | None = None,
        decoder: DecoderSettings | Mapping[str, Any] | None = None,
        row_length: int = 128,
        mask_token_id: int = 4,
        position_offset: int | None = None,
        head_activation: str = "gelu",
        **kwargs: Any,
    ) -> None:
        if encoder is None:
            encoder = {"model_type": "roberta"}
        self.encoder: PretrainedConfig = AutoConfig.for_model(**encoder) if isinstance(encoder, dict) else encoder
        of_0_1 = {name: kwargs.pop(name) for name in NAMES_OF_0_1 if name in kwargs}
        _refuse_names_apart(decoder, of_0_1, kwargs)
        given: Any = _translate(of_0_1) if of_0_1 else decoder
        self.decoder: DecoderSettings = given  # validated by __setattr__
        self.row_length = row_length
        self.mask_token_id = mask_token_id
        self.position_offset = position_offset
        self.head_activation = head_activation
        self.initializer_range = getattr(self.encoder, "initializer_range", 0.02)  # some families name it otherwise
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            kwargs.setdefault(name, getattr(self.encoder, name, None))  # some have no first or last token
        # If this were left out, transformers would take the encoder's setting away.
        kwargs.setdefault("attn_implementation", self.encoder._attn_implementation)
        kwargs["tie_word_embeddings"] = False  # the head reads the word embedding itself, so there is nothing to tie
        super().__init__(**kwargs)

    def __setattr__(self, key: str, value: Any) -> None:
        """Set an attribute; the decoder's settings are validated, whatever code sets them."""
        if key == "decoder" and not isinstance(value, DecoderSettings):
            value = validate_decoder({} if value is None else value)
        super().__setattr__(key, value)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as config.json holds them."""
        return {**super().to_dict(), "decoder": self.decoder.model_dump(mode="json")}

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> PretrainedConfig:
        """Return this config: transformers would take an attribute called `decoder` for the config of a text model."""
        return self


def _refuse_names_apart(decoder: object, of_0_1: dict[str, Any], others: dict[str, Any]) -> None:
    """Raise UserError where settings of the decoder are given outside its section, where nothing would read them."""
    apart = [name for name in DecoderSettings.model_fields if name in others]
    if decoder is not None or apart:
        apart += of_0_1
    if apart:
        meant = ", ".join(f"{NAMES_OF_0_1.get(name, name)!r}: ..." for name in apart)
        raise UserError(
            f"{', '.join(apart)} {'is a setting' if len(apart) == 1 else 'are settings'} of the decoder, and "
            f"{'stands' if len(apart) == 1 else 'stand'} outside its section",
            f"Write decoder={{{meant}}}.",
        )


def _translate(of_0_1: dict[str, Any]) -> dict[str, Any]:
    """Return a decoder's settings by today's names, without those that version 0.1 kept but did not obey."""
    tree = {NAMES_OF_0_1[name]: value for name, value in of_0_1.items()}
    if tree.get("kind") in {"late", "none"}:
        tree = {name: value for name, value in tree.items() if name not in {"num_layers", "hidden_size"}}
    return tree
