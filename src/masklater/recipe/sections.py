"""The sections of a recipe. Every setting has its meaning beside it; `masklater pretrain --settings` prints them."""

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from masklater.recipe.duration import Duration
from masklater.recipe.section import Section


class ModelSettings(Section):
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


class DecoderSettings(Section):
    """The light decoder, thrown away after pre-training. Width, heads and norm placement are the encoder's."""

    kind: Literal["self", "none"] = Field("self", description="self: 3ML_self; none: vanilla MLM, no decoder at all")
    num_layers: int = Field(2, ge=0, description="decoder layers (unused where kind is none)")

    @model_validator(mode="after")
    def _self_has_layers(self) -> Self:
        if self.kind == "self" and self.num_layers == 0:
            raise ValueError("a decoder of kind self needs num_layers of 1 or more; kind none is vanilla MLM")
        return self


class MaskingSettings(Section):
    """How a row is corrupted (method, step 1)."""

    rate: float = Field(0.5, gt=0, lt=1, description="share of the maskable positions that are targets")
    mask: float = Field(0.8, ge=0, le=1, description="share of the targets that become [MASK]")
    random: float = Field(0.1, ge=0, le=1, description="share of the targets that become a random token")
    keep: float = Field(0.1, ge=0, le=1, description="share of the targets that stay as they are")
    choose: Literal["uniform"] = Field("uniform", description="how target positions are chosen")

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Self:
        total = self.mask + self.random + self.keep
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"mask + random + keep must be 1; they are {total:g}")
        return self


COMMON_CORRUPTION = MaskingSettings(rate=0.15, mask=1.0, random=0.0, keep=0.0)
"""What every run is also evaluated at, whatever it trains with: losses at different rates do not compare."""


class BatchSettings(Section):
    """What one optimizer step is made of."""

    rows: int = Field(256, gt=0, description="rows a step, over all processes")
    micro_rows: int = Field(32, gt=0, description="rows a forward pass in one process; divides rows")
    attend: Literal["document", "row"] = Field(
        "document", description="document: tokens see their own document only; row: the whole packed row"
    )

    @model_validator(mode="after")
    def _micro_divides_rows(self) -> Self:
        if self.rows % self.micro_rows:
            raise ValueError(f"micro_rows must divide rows; {self.micro_rows} does not divide {self.rows}")
        return self


class OptimizerSettings(Section):
    """AdamW, or Muon for the layers' matrices with AdamW for all other parameters."""

    name: Literal["adamw", "muon"] = Field("adamw", description="muon: matrices by Muon, the rest by AdamW")
    lr: float = Field(1e-3, gt=0, description="peak learning rate (of the matrices, where name is muon)")
    adamw_lr: float | None = Field(None, gt=0, description="peak learning rate of the rest, where name is muon")
    momentum: float | None = Field(None, ge=0, lt=1, description="Muon's momentum (0.95 unless given)")
    betas: tuple[float, float] = Field((0.9, 0.98), description="AdamW's decay of its two moments")
    eps: float = Field(1e-6, gt=0, description="AdamW's epsilon")
    weight_decay: float = Field(0.01, ge=0, description="decoupled; not applied to biases and norms")
    clip: float | None = Field(1.0, gt=0, description="largest gradient norm; null: no clipping")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must each be at least 0 and below 1; they are {list(self.betas)}")
        if self.name == "muon" and self.adamw_lr is None:
            raise ValueError("name muon needs adamw_lr, the learning rate of embeddings, norms and biases")
        if self.name == "adamw" and (self.adamw_lr is not None or self.momentum is not None):
            raise ValueError("adamw_lr and momentum belong to name muon; name is adamw, whose rate is lr")
        return self


class ScheduleSettings(Section):
    """Learning rate over the run, as a multiple of the peak."""

    name: Literal["linear", "cosine", "wsd"] = Field(
        "linear", description="after warm-up: linear or cosine decay; wsd: stable, then linear decay"
    )
    warmup: float | Duration = Field(0.06, description="share of the run's duration, or a duration of its own")
    decay: float | None = Field(
        None, gt=0, le=1, description="wsd: share of the duration that decays (0.2 unless given)"
    )
    floor: float = Field(0.0, ge=0, lt=1, description="where decay ends, as a multiple of the peak")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if isinstance(self.warmup, float) and not 0 <= self.warmup < 1:
            raise ValueError(f"warmup as a share must be at least 0 and below 1; it is {self.warmup:g}")
        if self.name != "wsd" and self.decay is not None:
            raise ValueError(f"decay belongs to name wsd; {self.name} decays from warm-up to the end")
        if self.name == "wsd" and isinstance(self.warmup, float) and self.warmup + self.decay_share > 1:
            raise ValueError(
                f"warmup and decay together must not exceed 1; they are {self.warmup + self.decay_share:g}"
            )
        return self

    @property
    def decay_share(self) -> float:
        """Share of the duration over which wsd decays."""
        return 0.2 if self.decay is None else self.decay


class EvaluationSettings(Section):
    """Loss and accuracy on held-out rows under fixed masks."""

    every_steps: int = Field(200, gt=0, description="steps between evaluations; there is always one at the end")
    rows: int = Field(512, gt=0, description="held-out rows evaluated (all there are, where there are fewer)")


class CheckpointSettings(Section):
    """What is kept to resume from."""

    every_steps: int = Field(200, gt=0, description="steps between checkpoints; there is always one at the end")
    keep: int = Field(2, gt=0, description="how many of the newest are kept")
