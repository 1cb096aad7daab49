"""The recipe's section on masking: what is corrupted in a row, and how the masking rate changes over a run."""

import math
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from masklater.recipe.section import MOST, ON_RESUME, Section, listed, one_of

CHOOSERS = {"uniform": "single tokens", "word": "whole words", "span": "spans of words as in SpanBERT"}
"""Ways to choose positions, with what each chooses; masking/choose.py has their functions."""

MOST_RATES = 8
"""The most masking rates of a run with a linear or random schedule. Each gives a shape, which a compiled step
compiles."""


class RateScheduleSettings(Section):
    """The masking rate over the run: it begins at masking.rate (arXiv 2305.15096), or is drawn at each step."""

    name: Literal["constant", "linear", "stepwise", "random"] = Field(
        "constant", description="how the rate changes; random: drawn at each step, evenly between low and high"
    )
    end: float | None = Field(None, gt=0, lt=1, description="linear: the rate at the end")
    steps: tuple[tuple[float, float], ...] = Field(
        (), description="stepwise: [share of the duration, rate from there on] pairs, in order"
    )
    low: float | None = Field(None, gt=0, lt=1, description="random: the lowest rate")
    high: float | None = Field(
        None, gt=0, lt=1, description="random: the highest; masking.rate, at which held-out rows are scored, is between"
    )
    levels: Literal["auto"] | Annotated[int, Field(ge=2, le=MOST_RATES)] | None = Field(
        "auto",
        description=f"linear, random: how many rates, evenly spaced, both ends among them; auto: {MOST_RATES}, or what "
        "a run that is resumed began with; null: linear changes with every step, as it did before there were levels",
    )

    @property
    def number(self) -> int | None:
        """The number of rates of a linear or random schedule; None: as many as steps."""
        return MOST_RATES if self.levels == "auto" else self.levels

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.name == "linear") != (self.end is not None):
            raise ValueError(f"end belongs to name linear, which needs it; name is {self.name}")
        if (self.name == "stepwise") != bool(self.steps):
            raise ValueError(f"steps belong to name stepwise, which needs them; name is {self.name}")
        for given in (self.low, self.high):
            if (self.name == "random") != (given is not None):
                raise ValueError(f"low and high belong to name random, which needs both; name is {self.name}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low must be at most high; they are {self.low:g} and {self.high:g}")
        if self.name == "random" and self.levels is None:
            raise ValueError("levels null belongs to name linear; a random rate is one of a few")
        shares = [share for share, _ in self.steps]
        if sorted(set(shares)) != shares or not all(0 < share < 1 for share in shares):
            raise ValueError(f"shares in steps must rise between 0 and 1; they are {shares}")
        if not all(0 < rate < 1 for _, rate in self.steps):
            raise ValueError(f"rates in steps must lie between 0 and 1; they are {[rate for _, rate in self.steps]}")
        return self


class MaskingSettings(Section):
    """The corruption of a row (method, step 1)."""

    rate: float = Field(0.5, gt=0, lt=1, description="share of the maskable positions that are corrupted")
    schedule: RateScheduleSettings = RateScheduleSettings()
    mask: float = Field(0.8, ge=0, le=1, description="share of the corrupted positions that become [MASK]")
    random: float = Field(0.1, ge=0, le=1, description="share of them that become a random token")
    keep: float = Field(0.1, ge=0, le=1, description="share of them that stay as they are")
    predict: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the corrupted positions that are predicted; in a causal phase, of the next tokens",
    )
    predict_by: Annotated[str | None, ON_RESUME] = Field(
        None,
        min_length=1,
        description="predict below 1: the TABLE of `masklater select --targets` by which they are chosen, those first "
        "that have more to teach; null: any of them. A resumed run may find it elsewhere, and takes no other",
    )
    choose: Annotated[str, AfterValidator(one_of(CHOOSERS))] = Field(
        "uniform", description=f"what is chosen: {listed(CHOOSERS)}"
    )
    span_p: float = Field(0.2, gt=0, lt=1, description="span: chance that a span ends after each of its words")
    span_max: int = Field(10, gt=0, le=MOST, description="span: longest span in words")

    @property
    def causal(self) -> bool:
        """Whether nothing is masked and next tokens are predicted (rate 0): only in a phase, never in a recipe."""
        return self.rate == 0

    def as_causal(self, predict: float) -> Self:
        """Return the settings of a phase in which nothing is masked and this share of the next tokens is predicted."""
        plain = {
            "rate": 0.0,
            "schedule": RateScheduleSettings(),
            "choose": "uniform",
            "predict": predict,
            "predict_by": None,
        }
        return self.model_copy(update=plain)

    @model_validator(mode="after")
    def _check(self) -> Self:
        total = self.mask + self.random + self.keep
        if not math.isclose(total, 1, abs_tol=1e-6):
            raise ValueError(f"mask + random + keep must be 1; they are {total:g}")
        if self.predict_by is not None and self.predict == 1:
            raise ValueError("predict_by chooses among what is corrupted, and with predict 1 all of it is predicted")
        low, high = self.schedule.low, self.schedule.high
        if low is not None and high is not None and not low <= self.rate <= high:
            raise ValueError(
                f"rate, at which held-out rows are scored, must lie between schedule.low and schedule.high, {low:g} "
                f"and {high:g}; it is {self.rate:g}"
            )
        return self


COMMON_CORRUPTION = MaskingSettings(rate=0.15, mask=1.0, random=0.0, keep=0.0)
"""The corruption under which every run is also evaluated, since losses at different rates do not compare."""
