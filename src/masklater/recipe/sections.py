"""The sections of a recipe. Every setting states its meaning; `masklater pretrain --settings` prints them."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from masklater.recipe.duration import Duration
from masklater.recipe.families import ROTARY, WINDOWED, WINDOWS
from masklater.recipe.section import MOST, ON_RESUME, Section, listed, one_of

Family = Literal[
    "roberta", "roberta-prelayernorm", "bert", "electra", "camembert", "xlm-roberta", "esm", "modernbert"
]  # fmt: skip

Flow = Literal["unmasked-to-unmasked", "unmasked-to-masked", "masked-to-unmasked", "masked-to-masked"]
"""The direction of information in attention: from keys and values to queries."""

FROM_SCRATCH: dict[str, object] = {
    "family": "roberta-prelayernorm",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "dropout": 0.1,
}
"""Defaults of the model section. With `from`, settings that are not given are the saved model's, and stay null."""


DECODERS = {
    "self": "3ML_self",
    "cross": "3ML_cross",
    "cross-only": "3ML_cross without self-attention",
    "late": "[MASK]s enter the encoder at enter_layer, there is no decoder",
    "none": "vanilla MLM",
}
"""Kinds of decoder, with what each is; model/decoder.py has their modules, budget/decoders.py their costs."""


class ModelSettings(Section):
    """The encoder: an ordinary transformers model, from scratch or from a saved one."""

    from_: str | None = Field(
        None,
        alias="from",
        description="saved model to start from, whose family and sizes hold: a folder, a RUN, or a name on the hub, "
        "with @REVISION where that is not main",
    )
    family: Family | None = Field(None, description=f"transformers' model type: {', '.join(get_args(Family))}")
    hidden_size: int | None = Field(None, gt=0, le=MOST, description="width D")
    num_hidden_layers: int | None = Field(None, gt=0, le=MOST, description="encoder layers")
    num_attention_heads: int | None = Field(None, gt=0, le=MOST, description="attention heads; they divide the width")
    intermediate_size: int | None = Field(None, gt=0, le=MOST, description="width of the feed-forward layer")
    dropout: float | None = Field(None, ge=0, lt=1, description="dropout of hidden states and attention")
    global_every: int | None = Field(
        None,
        gt=0,
        le=MOST,
        description="modernbert: one layer in so many, the first among them, sees the whole row and the others a "
        "window; 1: all see the row; null: 3 where rows are longer than the window, else 1",
    )
    window: int | None = Field(
        None,
        gt=0,
        le=MOST,
        multiple_of=2,
        description="modernbert: width of the other layers' window, half of it to either side by true position; "
        "null: 128",
    )

    def windows(self, row_length: int) -> tuple[int, int]:
        """Resolve `global_every` and `window` for an encoder from scratch on rows of this length."""
        published_every, published_window = WINDOWS
        window = self.window or published_window
        given = self.global_every is not None or self.window is not None
        return self.global_every or (published_every if given or row_length > window else 1), window

    max_positions: int | None = Field(
        None,
        gt=7,
        le=MOST,
        description="from scratch: the longest rows that encoder and decoder have positions for, which leaves room to "
        "go on with longer rows later; null: the longest that the run has",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in_from_scratch(cls, tree: Any) -> Any:
        if not isinstance(tree, Mapping) or tree.get("from") is not None:
            return tree
        given = {name: value for name, value in tree.items() if value is not None or name not in FROM_SCRATCH}
        return {**FROM_SCRATCH, **given}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.from_ is not None:
            fixed = (*(name for name in FROM_SCRATCH if name != "dropout"), "global_every", "window", "max_positions")
            given = [name for name in fixed if getattr(self, name) is not None]
            if given:
                raise ValueError(
                    f"the saved model's own family and sizes hold, so {', '.join(given)} must not be given"
                )
        elif self.hidden_size and self.num_attention_heads and self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads must divide hidden_size; {self.num_attention_heads} heads do not divide "
                f"{self.hidden_size}"
            )
        elif self.family in ROTARY and (width := (self.hidden_size or 0) // (self.num_attention_heads or 1)) % 2:
            raise ValueError(
                f"heads of {self.family}, which turns pairs of numbers by position, must be an even number wide; "
                f"hidden_size {self.hidden_size} and num_attention_heads {self.num_attention_heads} make them {width}"
            )
        elif self.family not in WINDOWED and (self.global_every, self.window) != (None, None):
            raise ValueError(f"global_every and window belong to family modernbert; family is {self.family}")
        elif self.global_every == 1 and self.window is not None:
            raise ValueError(f"window is {self.window}, and with global_every 1 no layer has one")
        return self


class DecoderSettings(Section):
    """Where the [MASK]s join: in a light decoder, thrown away after pre-training, or in the encoder itself."""

    kind: Annotated[str, AfterValidator(one_of(DECODERS))] = Field("self", description=listed(DECODERS))
    num_layers: int = Field(
        2,
        gt=0,
        le=MOST,
        description="decoder layers, at least 1: vanilla MLM is kind none (unused where kind is late or none)",
    )
    hidden_size: int | None = Field(None, gt=0, le=MOST, description="decoder width; null: the encoder's")
    enter_layer: int | None = Field(
        None, ge=0, le=MOST, description="late: the encoder layer, from 0, that first sees [MASK]s; 0 is vanilla MLM"
    )
    mask_embedding: Literal["own", "word"] = Field(
        "own", description="own: a parameter apart; word: the word embedding's row of the mask token"
    )
    positions: Literal["auto", "dropped", "all", "rotary"] = Field(
        "auto",
        description="how the decoder knows positions. dropped, all: embeddings added at dropped or at all positions "
        "when [MASK]s join; rotary: attention turns by position; auto: rotary if the encoder is, else dropped",
    )
    embedding_skip: bool = Field(
        False,
        description="true: the decoder reads the word embedding of each seen token beside the encoder's output; the "
        "norm that adds it is thrown away with the decoder",
    )
    states: int = Field(
        1,
        gt=0,
        le=MOST,
        description="vectors that stand for each [MASK] (after ExLM, arXiv 2501.13397): above 1 the targets of a row "
        "are predicted along a chain of them, and the LM head computes so many times as much; needs kind self and "
        "masking.mask 1",
    )
    blocked_flows: tuple[Flow, ...] = Field(
        (), description=f"attention flows to switch off where both kinds meet, of {', '.join(get_args(Flow))}"
    )

    @property
    def drops(self) -> bool:
        """Whether [MASK]s are left out of the encoder's input."""
        return self.kind != "none" and self.enter_layer != 0

    @property
    def has_layers(self) -> bool:
        """Whether the decoder has its own layers, which are discarded after pre-training."""
        return self.kind not in {"late", "none"}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.kind == "late") != (self.enter_layer is not None):
            raise ValueError(f"enter_layer belongs to kind late, which needs it; kind is {self.kind}")
        if not self.has_layers and self.hidden_size is not None:
            raise ValueError(f"hidden_size is a decoder's width, and kind {self.kind} has no decoder")
        if not self.has_layers and self.embedding_skip:
            raise ValueError(f"embedding_skip is of what a decoder reads, and kind {self.kind} has no decoder")
        if self.states > 1 and self.kind != "self":
            raise ValueError(
                f"states above 1 need kind self and masking.mask 1; kind is {self.kind}, and states are {self.states}"
            )
        if len(set(self.blocked_flows)) < len(self.blocked_flows):
            raise ValueError("blocked_flows names a flow twice")
        return self


ON_A_CPU = 32
"""Rows of a forward pass where micro_rows is auto and no memory is known. On two cores, a row of the base size took as
long in passes of 8 as of 32, and longer in passes of 64 (docs/performance.md)."""


class BatchSettings(Section):
    """The rows of one optimizer step."""

    rows: int = Field(256, gt=0, le=MOST, description="rows a step, over all processes")
    micro_rows: Annotated[Literal["auto"] | Annotated[int, Field(gt=0, le=MOST)], ON_RESUME] = Field(
        "auto",
        description="rows a forward pass in one process, at most; lowered to what divides a process's rows. auto: on a "
        "GPU the most that `budget` says fit, and fewer where they do not after all; 32 on a CPU. Rows, masks and loss "
        "do not depend on it; what dropout draws does",
    )
    attend: Literal["document", "row"] = Field(
        "document", description="document: tokens see their own document only; row: the whole packed row"
    )

    def passes_of(self, rows: int) -> list[int]:
        """Return the sizes of forward passes that cut a process's rows evenly, up to micro_rows, the largest first.

        Where micro_rows is auto, return all sizes.
        """
        small = [number for number in range(1, math.isqrt(rows) + 1) if rows % number == 0]
        divisors = {*small, *(rows // number for number in small)}
        most = rows if self.micro_rows == "auto" else self.micro_rows
        return sorted((number for number in divisors if number <= most), reverse=True)

    def pass_of(self, rows: int) -> int:
        """Return the size of the forward passes that a process's rows are cut into, whether micro_rows is auto or not.

        On a GPU the size for auto depends on its memory; returned here is the size for a CPU.
        """
        settled = self.model_copy(update={"micro_rows": ON_A_CPU}) if self.micro_rows == "auto" else self
        return settled.passes_of(rows)[0]


class OptimizerSettings(Section):
    """AdamW, or Muon for the layers' matrices with AdamW for all other parameters."""

    name: Literal["adamw", "muon"] = Field("adamw", description="muon: matrices by Muon, the rest by AdamW")
    lr: Annotated[float, ON_RESUME] = Field(
        1e-3, gt=0, description="peak learning rate (of the matrices, where name is muon)"
    )
    adamw_lr: Annotated[float | None, ON_RESUME] = Field(
        None, gt=0, description="peak learning rate of the rest, where name is muon"
    )
    momentum: float | None = Field(None, ge=0, lt=1, description="Muon's momentum (0.95 unless given)")
    betas: tuple[float, float] = Field((0.9, 0.98), description="AdamW's decay of its two moments")
    eps: float = Field(1e-6, gt=0, description="AdamW's epsilon")
    weight_decay: Annotated[float, ON_RESUME] = Field(
        0.01, ge=0, description="decoupled; not applied to biases and norms"
    )
    clip: Annotated[float | None, ON_RESUME] = Field(1.0, gt=0, description="largest gradient norm; null: no clipping")

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
    over: Literal["run", "phase"] = Field(
        "run", description="phase: warm-up and decay begin anew in each phase; run: they span all phases"
    )

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
        """The share of the duration over which wsd decays."""
        return 0.2 if self.decay is None else self.decay
