"""Amounts in a form for readers: in units that keep numbers short, with signs and shares."""

import math
from dataclasses import dataclass

WHAT = {
    "flops": "training compute",
    "flops_without_head": "training compute without the LM head",
    "hours": "time in training steps",
    "rows": "rows trained on",
    "tokens": "tokens trained on",
}
"""The name of each measure of a run's spending, in words."""

_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Scale:
    """A unit for amounts of one measure."""

    size: float  # in the measure's own unit (a FLOP, an hour, a row, a token)
    unit: str

    def __call__(self, amount: float | None) -> str:
        """Return an amount in this unit, to three or four digits; a dash where there is none."""
        return "–" if amount is None else digits(amount / self.size)


def scale_for(measure: str, largest: float) -> Scale:
    """Return the unit in which the largest amount is at least 1 and, where possible, below 1000."""
    if measure == "hours":
        if largest < 2 / 60:
            return Scale(1 / 3600, "seconds")
        return Scale(1 / 60, "minutes") if largest < 2 else Scale(1.0, "hours")
    if measure in {"rows", "tokens"}:
        for size, unit in ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands")):
            if largest >= 10 * size:
                return Scale(size, unit)
        return Scale(1.0, measure)
    exponent = 3 * math.floor(math.log10(largest) / 3) if largest >= 1 else 0
    if exponent == 0:
        return Scale(1.0, "FLOPs")
    return Scale(10.0**exponent, f"{power_of_ten(exponent)} FLOPs")


def digits(value: float) -> str:
    """Return a number to three digits or, from 1,000 on, as a whole number."""
    if not math.isfinite(value):
        return "not finite"
    size = abs(value)
    decimals = 0 if size >= 100 or size == 0 else min(6, 2 - math.floor(math.log10(size)))
    return f"{value:,.{decimals}f}"


def power_of_ten(exponent: int) -> str:
    """Return 10 to a whole power, as text."""
    return f"10{str(exponent).translate(_SUPERSCRIPTS)}"


def power(amount: float) -> str:
    """Return a large amount as a number below 10 and a power of ten."""
    exponent = math.floor(math.log10(amount))
    lead = f"{amount / 10**exponent:.2f}"
    if lead == "10.00":
        lead, exponent = "1.00", exponent + 1
    return f"{lead}·{power_of_ten(exponent)}"


def signed(value: float, decimals: int) -> str:
    """Return a difference with its sign; a value that rounds to zero has none."""
    if not math.isfinite(value):
        return "not finite"
    text = f"{value:+,.{decimals}f}"
    return text[1:] if float(text.replace(",", "")) == 0 else text.replace("-", "−")


def share(value: float | None) -> str:
    """Return a part of something as a percentage."""
    return "–" if value is None else f"{value:.1%}"
