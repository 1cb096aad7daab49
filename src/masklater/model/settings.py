"""The recipe's `model` and `decoder` sections."""

from typing import Literal, Self

from pydantic import Field, model_validator

from masklater.settings import Settings


class ModelSettings(Settings):
    """The encoder: an ordinary transformers model, built from scratch."""

    family: Literal["roberta", "roberta-prelayernorm"] = Field(
        "roberta-prelayernorm", description="transformers' model type"
    )
    hidden_size: int = Field(768, gt=0, description="width D")
    num_hidden_layers: int = Field(12, gt=0, description="encoder layers")
    num_attention_heads: int = Field(12, gt=0, description="attention heads; they divide the width")
    intermediate_size: int = Field(3072, gt=0, description="width of the feed-forward layer")
    dropout: float = Field(0.1, ge=0, lt=1, description="dropout of hidden states and attention")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads must divide hidden_size; {self.num_attention_heads} heads do not divide "
                f"{self.hidden_size}"
            )
        return self


class DecoderSettings(Settings):
    """The light decoder, thrown away after pre-training. Width, heads and norm placement are the encoder's."""

    kind: Literal["self", "none"] = Field("self", description="self: 3ML_self; none: vanilla MLM, no decoder at all")
    num_layers: int = Field(2, ge=0, description="decoder layers (unused where kind is none)")

    @model_validator(mode="after")
    def _self_has_layers(self) -> Self:
        if self.kind == "self" and self.num_layers == 0:
            raise ValueError("a decoder of kind self needs num_layers of 1 or more; kind none is vanilla MLM")
        return self
