"""A length of training: in exactly one of steps, rows, tokens, FLOPs or hours."""

from typing import Literal, Self, get_args

from pydantic import Field, PositiveFloat, PositiveInt, model_serializer, model_validator

from masklater.ledger import Ledger
from masklater.recipe.section import Section

Unit = Literal["steps", "rows", "tokens", "flops", "hours"]
UNITS: tuple[Unit, ...] = get_args(Unit)
LARGEST = 2**63 - 1


class Duration(Section):
    """A length of training. Exactly one unit is set."""

    steps: PositiveInt | None = Field(None, le=LARGEST, description="optimizer steps")
    rows: PositiveInt | None = Field(None, le=LARGEST, description="rows trained on")
    tokens: PositiveInt | None = Field(
        None, le=LARGEST, description="positions of those rows, the dropped ones included"
    )
    flops: PositiveFloat | None = Field(None, description="training FLOPs executed, LM head included")
    hours: PositiveFloat | None = Field(None, description="hours spent in training steps")

    @model_validator(mode="after")
    def _exactly_one_unit(self) -> Self:
        named = [unit for unit in UNITS if getattr(self, unit) is not None]
        if len(named) != 1:
            found = " and ".join(named) if named else "none"
            raise ValueError(f"a duration has exactly one of {', '.join(UNITS)}; it has {found}")
        return self

    @model_serializer
    def _only_the_unit_that_is_set(self) -> dict[str, int | float]:
        return {unit: getattr(self, unit) for unit in UNITS if getattr(self, unit) is not None}

    @property
    def unit(self) -> Unit:
        """The unit this duration is stated in."""
        return next(unit for unit in UNITS if getattr(self, unit) is not None)

    @property
    def unit_name(self) -> str:
        """The unit as written after a number."""
        return "FLOPs" if self.unit == "flops" else self.unit

    @property
    def amount(self) -> float:
        """The number of units."""
        return float(getattr(self, self.unit))

    def spent(self, ledger: Ledger) -> float:
        """Return what the run has spent, in the unit of this duration."""
        return float(getattr(ledger, self.unit))

    def reached(self, ledger: Ledger) -> bool:
        """Tell whether the run has lasted this long."""
        return self.spent(ledger) >= self.amount

    def __str__(self) -> str:
        return f"{self.amount:,.6g} {self.unit_name}"
