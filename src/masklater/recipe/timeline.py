"""A run as spans of steps, one per phase, and the folders that each phase reads. A run without phases is one span."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from masklater.errors import UserError
from masklater.ledger import Ledger
from masklater.recipe.duration import Duration
from masklater.recipe.phases import PhaseSettings, length_of
from masklater.recipe.recipe import Recipe
from masklater.recipe.sections import DecoderSettings

NOT_BEGUN = 2**62
"""The `first` of a phase that begins after a number of hours, as long as they have not passed."""


@dataclass(frozen=True)
class Span:
    """The steps of one phase, as far as the recipe and its row length decide them."""

    number: int  # counted from 0
    recipe: Recipe  # the run's recipe as this phase changes it; `duration` stays that of the run
    settings: PhaseSettings
    row_length: int
    first: int  # its first step, from 0; NOT_BEGUN: the clock decides
    steps: int | None  # None: as many as fit the duration
    begins: float  # spent by the run before it, in the unit of the duration
    amount: float  # to be spent in it
    step_flops: float = 0.0  # of one step; 0: not needed for the start of any phase

    @property
    def step(self) -> Ledger:
        """What one of its steps spends; seconds are not known beforehand, and are 0."""
        rows = self.recipe.batch.rows
        return Ledger(steps=1, rows=rows, tokens=rows * self.row_length, flops=self.step_flops)

    @property
    def lr_multiplier(self) -> float:
        """The factor on the learning rate of the schedule."""
        return 1.0 if self.settings.lr_multiplier is None else self.settings.lr_multiplier


def in_phase(recipe: Recipe, number: int) -> Recipe:
    """Return a run's recipe as one of its phases changes it."""
    if not recipe.phases:
        return recipe
    phase = recipe.phases[number]
    batch = {name: value for name, value in vars(phase.batch).items() if value is not None}
    changes: dict[str, Any] = {
        "masking": phase.change_masking(recipe.masking),
        "batch": recipe.batch.model_copy(update=batch),
        "data": recipe.data if phase.data is None else phase.data,
    }
    if phase.objective == "causal":
        changes["decoder"] = DecoderSettings(kind="none")  # the model's decoder takes no part
    return recipe.model_copy(update={**changes, "phases": ()})


def by_phase(recipe: Recipe) -> list[Recipe]:
    """Return a run's recipe as each of its phases changes it; a run without phases has one."""
    return [in_phase(recipe, number) for number in range(max(1, len(recipe.phases)))]


def begins_by_flops(recipe: Recipe) -> bool:
    """Tell whether the FLOPs of a step decide at which steps phases begin."""
    return len(recipe.phases) > 1 and recipe.duration.unit == "flops"


def begins_by_clock(recipe: Recipe) -> bool:
    """Tell whether phases begin after a number of hours, at steps that are not known beforehand."""
    return len(recipe.phases) > 1 and recipe.duration.unit == "hours"


def find_spans(
    recipe: Recipe, row_lengths: Sequence[int], step_flops: Sequence[float] = (), begun: Sequence[int] = (0,)
) -> tuple[Span, ...]:
    """Find the steps of each phase.

    A phase ends at the first step at which the run has spent the amounts of this phase and all earlier ones.

    Args:
        recipe: The recipe of the run.
        row_lengths: The row length of each phase.
        step_flops: The FLOPs of a step of each phase, where `begins_by_flops`. The number of steps of the last phase is
            then left to the run, which adds up FLOPs in floating point.
        begun: The first steps of the phases that have begun, where `begins_by_clock`.

    Raises:
        UserError: A phase is shorter than a step.
    """
    if begins_by_clock(recipe):
        return _spans_by_clock(recipe, row_lengths, begun)
    duration, phases = recipe.duration, recipe.phases or (PhaseSettings(),)
    whole = Fraction(str(duration.amount))
    spans: list[Span] = []
    goal, spent, first = Fraction(0), Fraction(0), 0
    for number, (phase, row_length) in enumerate(zip(phases, row_lengths, strict=True)):
        own = in_phase(recipe, number)
        each = step_flops[number] if begins_by_flops(recipe) else 0.0
        span = Span(number, own, phase, row_length, first, None, float(spent), 0.0, each)
        is_last = number + 1 == len(phases)
        length = None if is_last else length_of(phase, duration)
        goal = whole if length is None else goal + length
        per_step = Fraction(duration.spent(span.step))
        steps = math.ceil((goal - spent) / per_step) if per_step else None
        if steps is not None and steps < 1:
            before = float(spent) if duration.unit == "flops" else int(spent)
            raise UserError(
                f"phase {number + 1} of the recipe would have no step: those before it last to "
                f"{Duration(**{duration.unit: before})} of {duration}",
                "Lengthen it, or the whole duration.",
            )
        if is_last and each:
            steps = None
        spends = (steps or 0) * per_step
        spans.append(replace(span, steps=steps, amount=float(whole - spent if length is None else spends)))
        first, spent = first + (steps or 0), spent + spends
    return tuple(spans)


def _spans_by_clock(recipe: Recipe, row_lengths: Sequence[int], begun: Sequence[int]) -> tuple[Span, ...]:
    spans: list[Span] = []
    spent, firsts = Fraction(0), [*begun, *[NOT_BEGUN] * len(recipe.phases)]
    for number, (phase, row_length) in enumerate(zip(recipe.phases, row_lengths, strict=True)):
        length = length_of(phase, recipe.duration)
        if length is None:
            length = Fraction(str(recipe.duration.amount)) - spent
        first, after = firsts[number : number + 2]
        steps = None if after == NOT_BEGUN else after - first
        own = in_phase(recipe, number)
        spans.append(Span(number, own, phase, row_length, first, steps, float(spent), float(length)))
        spent += length
    return tuple(spans)


def rope_base(recipe: Recipe, number: int) -> float | None:
    """Return the rotary base of the encoder's global layers in a phase; None: that of its config."""
    given = [phase.rope_base for phase in recipe.phases[: number + 1] if phase.rope_base is not None]
    return given[-1] if given else None


def with_micro_rows(recipe: Recipe, numbers: Sequence[Literal["auto"] | int]) -> Recipe:
    """Return the recipe with these numbers of rows per forward pass, one per phase."""
    if not recipe.phases:
        return recipe.model_copy(update={"batch": recipe.batch.model_copy(update={"micro_rows": numbers[0]})})
    phases = [
        phase.model_copy(update={"batch": phase.batch.model_copy(update={"micro_rows": number})})
        for phase, number in zip(recipe.phases, numbers, strict=True)
    ]
    return recipe.model_copy(update={"phases": tuple(phases)})


@dataclass(frozen=True)
class SourceFolder:
    """A SHARDS folder, or a SELECTION, that a phase reads."""

    name: str  # as in the recipe; empty where there is one source, named by --data
    share: float  # share of the rows
    key: str  # the folder, relative to --data; empty: --data itself
    path: Path


def find_sources(recipe: Recipe, data: Path) -> list[list[SourceFolder]]:
    """Find the folders that each phase of a recipe reads.

    Args:
        recipe: The recipe of the run.
        data: A SHARDS folder or, where the recipe has a mixture or several row lengths, the folder that contains them.

    Raises:
        UserError: A phase reads one folder under two names.
    """
    found = []
    for phase in recipe.phases or (PhaseSettings(),):
        shares = phase.data or recipe.data or {"": 1.0}
        sources: list[SourceFolder] = []
        for name, share in shares.items():
            key = Path(name)
            if phase.row_length is not None and not _is_source(data / key):
                key /= f"rows-{phase.row_length}"
            folder = SourceFolder(name, share, "" if key == Path() else key.as_posix(), data / key)
            for other in sources:
                if os.path.normpath(other.path) == os.path.normpath(folder.path):  # links count as separate sources
                    raise UserError(
                        f"data names {folder.path} twice, as {other.name} and as {name}",
                        "Name it once, with both shares.",
                    )
            sources.append(folder)
        found.append(sources)
    return found


def _is_source(folder: Path) -> bool:
    """Tell whether a folder is SHARDS or a SELECTION."""
    return any((folder / name).is_file() for name in ("index.json", "selection.json"))
