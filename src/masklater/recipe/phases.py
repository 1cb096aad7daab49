"""The data and the phases of a recipe: which sources are mixed, and parts of a run with other data or settings."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_serializer, model_validator

from masklater.errors import MISSING, Fault
from masklater.recipe.duration import Duration
from masklater.recipe.families import ROTARY
from masklater.recipe.masking import CHOOSERS, MaskingSettings, RateScheduleSettings
from masklater.recipe.section import MOST, ON_RESUME, Section, listed, one_of

if TYPE_CHECKING:
    from masklater.recipe.sections import ModelSettings, ScheduleSettings

PERIOD = 10_000
"""The number of rows after which every mixture has exactly its shares, which have at most four decimals."""


def _refuse_names_alone(given: Any) -> Any:
    if isinstance(given, str | list):
        first = given if isinstance(given, str) else next((name for name in given if isinstance(name, str)), "NAME")
        raise ValueError(f"sources need their shares of the rows: write {{{first}: 1}}, or several that add up to 1")
    return given


def _check_shares(shares: dict[str, float]) -> dict[str, float]:
    fine = [name for name, share in shares.items() if Fraction(str(share)) * PERIOD % 1]
    if fine:
        raise ValueError(f"shares have at most four decimals; {', '.join(fine)} has more")
    if shares and (total := sum(Fraction(str(share)) for share in shares.values())) != 1:
        raise ValueError(f"shares of the rows must add up to 1; they add up to {float(total):g}")
    return shares


Shares = Annotated[
    dict[str, Annotated[float, Field(gt=0, le=1)]], BeforeValidator(_refuse_names_alone), AfterValidator(_check_shares)
]
"""Shares of the rows by source."""

SHARES_MEANING = (
    "sources, each with its share of the rows, in at most four decimals. A name is a SHARDS or SELECTION folder inside "
    "the folder that --data names, or a folder with rows-L inside, as prepare makes them for several row lengths"
)


class _OnlyWhatIsGiven(Section):
    """A section whose settings have an effect only where they are given; no others are recorded."""

    @model_serializer(mode="wrap")
    def _without_nulls(self, serialize: Any) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value not in (None, {})}


class PhaseMasking(_OnlyWhatIsGiven):
    """What a phase changes of the masking."""

    rate: float | None = Field(
        None, gt=0, lt=1, description="masking.rate in this phase, throughout, unless it has a schedule of its own"
    )
    schedule: RateScheduleSettings | None = Field(
        None, description="masking.schedule over this phase; null, as is rate: the run's own goes on"
    )
    choose: Annotated[str, AfterValidator(one_of(CHOOSERS))] | None = Field(
        None, description=f"masking.choose in this phase: {listed(CHOOSERS)}"
    )
    predict: float | None = Field(None, gt=0, le=1, description="masking.predict in this phase")


class PhaseBatch(_OnlyWhatIsGiven):
    """What a phase changes of the batch."""

    rows: int | None = Field(None, gt=0, le=MOST, description="batch.rows in this phase")
    micro_rows: Annotated[Literal["auto"] | Annotated[int, Field(gt=0, le=MOST)] | None, ON_RESUME] = Field(
        None, description="batch.micro_rows in this phase"
    )


class PhaseSettings(_OnlyWhatIsGiven):
    """A part of a run. Settings that it does not give are those of the rest of the recipe."""

    share: float | None = Field(
        None, ge=0, le=1, description="its share of the duration; 0: the recipe is as if it were not there"
    )
    duration: Duration | None = Field(
        None, description="in place of share: how long it is, in the unit of the duration; the last may leave both out"
    )
    data: Shares | None = Field(None, description=f"in place of data: {SHARES_MEANING}")
    row_length: int | None = Field(
        None, gt=7, le=65536, description="positions of its rows, which its SHARDS must have; null: whatever they have"
    )
    objective: Literal["causal"] | None = Field(
        None,
        description="causal: nothing is masked and the decoder rests; the encoder reads whole rows, each position sees "
        "what is before it in its document, and the next token is predicted. Not in the last phase. null: masked",
    )
    masking: PhaseMasking = PhaseMasking()
    batch: PhaseBatch = PhaseBatch()
    lr_multiplier: float | None = Field(None, gt=0, description="times the learning rate that the schedule gives")
    rope_base: float | None = Field(
        None,
        gt=1,
        description="rotary base of the encoder's global layers from this phase on, for longer rows; null: as before",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.share is not None and self.duration is not None:
            raise ValueError("a phase has a share or a duration, and this one has both")
        return self

    def change_masking(self, masking: MaskingSettings) -> MaskingSettings:
        """Return the masking of this phase, given the recipe's.

        Raises:
            ValidationError: The two contradict each other.
        """
        if self.objective == "causal":
            return masking.as_causal(self.masking.predict or masking.predict)
        given = {name: value for name, value in vars(self.masking).items() if value is not None}
        if "rate" in given and "schedule" not in given:
            given["schedule"] = RateScheduleSettings()
        if given.get("predict") == 1:  # nothing is left to choose by a table
            given["predict_by"] = None
        return MaskingSettings(**{**vars(masking), **given}) if given else masking

    @property
    def has_rates(self) -> bool:
        """Whether the masking rate follows this phase, not the run."""
        return (self.masking.rate, self.masking.schedule) != (None, None)


def without_empty(phases: tuple[PhaseSettings, ...]) -> tuple[PhaseSettings, ...]:
    """Return the phases without those whose share is 0."""
    return tuple(phase for phase in phases if phase.share != 0)


def find_phase_faults(sections: Mapping[str, Any]) -> list[Fault]:
    """Return faults of data and phases, also against those other sections that are valid by themselves."""
    phases: Sequence[PhaseSettings] = sections.get("phases") or ()
    schedule: ScheduleSettings | None = sections.get("schedule")
    faults = []
    if schedule and schedule.over == "phase" and not phases and "phases" in sections:
        rule = "without phases there is nothing to begin anew"
        faults.append(Fault("schedule.over", schedule.over, rule, "Leave it out, or add phases."))
    if sections.get("data") and phases and all(phase.data for phase in phases):
        rule = "every phase has data of its own, so that it would do nothing"
        faults.append(Fault("data", dict(sections["data"]), rule, "Leave it out, or leave it out of a phase."))
    duration: Duration | None = sections.get("duration")
    if duration:
        faults += _length_faults(phases, duration)
        faults += _rate_faults(phases, duration, sections.get("masking"))
        if sections.get("max_epochs") is not None and duration.unit == "hours":
            rule = "how many rows are read in a duration in hours is up to the machine"
            faults.append(Fault("max_epochs", sections["max_epochs"], rule, "State the duration in another unit."))
    model: ModelSettings | None = sections.get("model")
    for number, phase in enumerate(phases):
        if phase.rope_base is not None and model and model.family and model.family not in ROTARY:
            rule = f"{model.family} has positions that are learned, and no rotary base"
            faults.append(Fault(f"phases.{number}.rope_base", phase.rope_base, rule, "Leave it out."))
        if phase.objective == "causal":
            faults += _causal_faults(number, phase, last=number + 1 == len(phases))
        else:
            faults += _masking_faults(number, phase, sections.get("masking"))
    return faults


def _causal_faults(number: int, phase: PhaseSettings, last: bool) -> list[Fault]:
    """Return faults of a phase that predicts next tokens."""
    faults = []
    if last:
        rule = "an encoder that has only looked back is no masked LM, which is what is exported and compared"
        faults.append(Fault(f"phases.{number}.objective", "causal", rule, "Let a phase without it follow."))
    for name in ("rate", "schedule", "choose"):
        if getattr(phase.masking, name) is not None:
            given = phase.masking.model_dump(mode="json")[name]
            rule = "in a causal phase nothing is masked"
            faults.append(Fault(f"phases.{number}.masking.{name}", given, rule, "Leave it out."))
    return faults


def _masking_faults(number: int, phase: PhaseSettings, masking: MaskingSettings | None) -> list[Fault]:
    try:
        if masking:
            phase.change_masking(masking)
    except ValidationError as error:
        where = f"phases.{number}.masking"
        remedy = "Give rate and schedule together." if phase.masking.rate is None else "Change one of them."
        given = phase.masking.model_dump(mode="json")
        return [Fault(where, given, details["msg"].removeprefix("Value error, "), remedy) for details in error.errors()]
    return []


def _length_faults(phases: Sequence[PhaseSettings], duration: Duration) -> list[Fault]:
    """Return faults in the lengths of phases."""
    faults, lengths = [], [length_of(phase, duration) for phase in phases]
    for number, (phase, length) in enumerate(zip(phases, lengths, strict=True)):
        if length is None and number + 1 < len(phases):
            rule = "all phases but the last have a share of the duration, or a duration of their own"
            faults.append(Fault(f"phases.{number}.share", MISSING, rule, "Add it, for example share: 0.9."))
        elif phase.duration is not None and phase.duration.unit != duration.unit:
            rule = f"it must be in the unit of the duration, which is {duration}"
            faults.append(Fault(f"phases.{number}.duration", str(phase.duration), rule, "Or give a share."))
    if faults or not phases:
        return faults
    total, whole = sum(length for length in lengths if length is not None), Fraction(str(duration.amount))
    if total > whole or (total < whole and lengths[-1] is not None) or (total == whole and lengths[-1] is None):
        rule = f"phases make up the duration, {duration}, and these come to {float(total):,.6g}"
        left = "" if lengths[-1] is not None else ", which leaves nothing for the last"
        remedy = "Change one of them, or leave the last one's length out: it then has what is left."
        return [Fault("phases", f"{len(phases)} phases", rule + left, remedy)]
    return []


def _rate_faults(phases: Sequence[PhaseSettings], duration: Duration, masking: MaskingSettings | None) -> list[Fault]:
    """Return faults of changing masking rates, if the first step of a phase depends on FLOPs or on the clock."""
    if len(phases) < 2 or duration.unit not in {"flops", "hours"}:
        return []
    rule = "the step at which a phase begins follows from the FLOPs of a step, which change with this masking rate"
    allowed = {"constant"}
    if duration.unit == "hours":
        rule = "what a step trains on must follow from its number alone, and hours do not say how far along a step is"
        allowed.add("random")
    schedules = {f"phases.{number}.masking": phase.masking.schedule for number, phase in enumerate(phases)}
    if masking and masking.schedule.name == "random":  # others are refused without phases too
        schedules["masking"] = masking.schedule
    return [
        Fault(f"{where}.schedule.name", schedule.name, rule, "Keep the rate, or state the duration in steps or rows.")
        for where, schedule in schedules.items()
        if schedule is not None and schedule.name not in allowed
    ]


def length_of(phase: PhaseSettings, duration: Duration) -> Fraction | None:
    """Return the length of a phase, in the unit of the duration; None: as long as what is left."""
    if phase.share is not None:
        return Fraction(str(phase.share)) * Fraction(str(duration.amount))
    return None if phase.duration is None else Fraction(str(phase.duration.amount))
