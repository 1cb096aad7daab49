"""A recipe: everything that decides what a run computes, section by section."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from masklater.recipe.duration import Duration
from masklater.recipe.masking import MaskingSettings
from masklater.recipe.phases import SHARES_MEANING, PhaseSettings, Shares, without_empty
from masklater.recipe.section import MOST, ON_RESUME, Section
from masklater.recipe.sections import (
    BatchSettings,
    DecoderSettings,
    ModelSettings,
    OptimizerSettings,
    ScheduleSettings,
)
from masklater.recipe.watching import CheckpointSettings, EvaluationSettings, HealthSettings, Tracking

PrecisionName = Literal["auto", "bfloat16", "float16", "float32"]


class Recipe(Section):
    """The sections of a recipe. Only `duration` has no default."""

    model: ModelSettings = ModelSettings()
    decoder: DecoderSettings = DecoderSettings()
    masking: MaskingSettings = MaskingSettings()
    data: Shares = Field(default={}, description=f"{SHARES_MEANING}. {{}}: --data is SHARDS itself")
    batch: BatchSettings = BatchSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: Annotated[ScheduleSettings, ON_RESUME] = ScheduleSettings()
    duration: Annotated[Duration, ON_RESUME]
    phases: Annotated[tuple[PhaseSettings, ...], AfterValidator(without_empty)] = Field(
        (), description="parts of the run, one after another"
    )
    max_epochs: Annotated[float | None, ON_RESUME] = Field(
        None, gt=0, description="how often a row may be read; a run that would read a source more often is refused"
    )
    evaluation: Annotated[EvaluationSettings, ON_RESUME] = EvaluationSettings()
    checkpoint: Annotated[CheckpointSettings, ON_RESUME] = CheckpointSettings()
    health: Annotated[HealthSettings, ON_RESUME] = HealthSettings()
    tracking: Annotated[Tracking, ON_RESUME] = Field(
        ("auto",),
        description="what shows the run beside metrics.jsonl: a list of tensorboard, trackio, wandb; []: nothing; "
        "auto: TensorBoard where it is installed",
    )
    precision: Annotated[PrecisionName, ON_RESUME] = Field(
        "auto",
        description="auto: bfloat16 autocast where the hardware computes in it; on a GPU that does not, float16 with a "
        "scaled loss; on a CPU that does not, float32",
    )
    compile: Annotated[Literal["auto"] | bool, ON_RESUME] = Field(
        "auto",
        description="torch.compile the layers, and on a GPU the LM head's loss; auto: on a GPU that can. Dropout draws "
        "other numbers compiled",
    )
    deterministic: Annotated[bool, ON_RESUME] = Field(
        False,
        description="on a GPU, add up in the same order every time, so that a resumed run equals a straight one to the "
        "bit, as it does on a CPU in any case; steps take longer",
    )
    activation_checkpointing: Annotated[bool | Annotated[int, Field(gt=0, le=MOST)], ON_RESUME] = Field(
        False,
        description="keep only the input of layers for the backward pass, which computes them a second time: less "
        "memory, more time, the same loss and gradients. true: of all layers; n: of every n-th",
    )
    distributed: Annotated[Literal["ddp", "fsdp"], ON_RESUME] = Field(
        "ddp",
        description="under torchrun, ddp: the whole model in every process; fsdp: cut up over them (FSDP2), for models "
        "that do not fit one GPU",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="decides initial weights, row order, masks and dropout")

    @property
    def checkpoint_every(self) -> int:
        """The number n: every n-th layer keeps only its input for the backward pass; 0: all layers keep everything."""
        return int(self.activation_checkpointing)
