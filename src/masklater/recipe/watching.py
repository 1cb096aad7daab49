"""The sections of a recipe that decide what is observed and kept of a run, and nothing about its training."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from masklater.recipe.section import MOST, Section


class EvaluationSettings(Section):
    """Loss and accuracy on held-out rows under fixed masks."""

    every_steps: int = Field(
        200, gt=0, le=MOST, description="steps between evaluations; there is always one at the end"
    )
    rows: int = Field(512, gt=0, le=MOST, description="held-out rows evaluated (all there are, where there are fewer)")


class CheckpointSettings(Section):
    """The checkpoints that are kept to resume from."""

    every_steps: int = Field(
        200, gt=0, le=MOST, description="steps between checkpoints; there is always one at the end"
    )
    keep: int = Field(2, gt=0, le=MOST, description="how many of the newest are kept, beside the one before wsd decays")
    background: Literal["auto"] | bool = Field(
        "auto",
        description="write them while training goes on, from a copy in the host's memory; auto: where a GPU trains",
    )

    def writes_in_background(self, device: str) -> bool:
        """Return whether checkpoints are written in the background on a kind of device."""
        return device == "cuda" if self.background == "auto" else self.background


class HealthSettings(Section):
    """The handling of steps that go wrong. A step without a finite loss and gradient is skipped."""

    max_skipped: int = Field(10, gt=0, le=10_000, description="skipped steps in a row at which the run stops")
    spike: float | None = Field(
        6.0,
        gt=0,
        description="a loss is logged as a spike where it lies so many robust deviations (1.4826 times the median "
        "absolute deviation) and 5% above the median of the last 100 steps; null: none is",
    )


TRACKERS = ("tensorboard", "trackio", "wandb")
"""Programs that show a run, in addition to metrics.jsonl; run/trackers.py has their adapters."""


def _alone(value: object) -> object:
    return ("auto",) if value == "auto" else value


def _known_once(names: tuple[str, ...]) -> tuple[str, ...]:
    if names != ("auto",) and not set(names) <= set(TRACKERS):
        raise ValueError(f"it must be auto, or a list of some of {', '.join(TRACKERS)}")
    if len(set(names)) < len(names):
        raise ValueError("a tracker is named twice")
    return names


Tracking = Annotated[tuple[str, ...], BeforeValidator(_alone), AfterValidator(_known_once)]
"""Some of TRACKERS, or only auto."""
