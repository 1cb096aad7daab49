"""Amounts as people read them: in units of a size that keeps numbers short, with signs and shares."""

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

    size: float  # of the measure's own unit (a FLOP, an hour, a row, a token)
    unit: str

    def __call__(self, amount: float | None) -> str:
        """An amount in this unit, to three or four digits; a dash where there is none."""
        return "–" if amount is None else digits(amount / self.size)


def scale_for(measure: str, largest: float) -> Scale:
    """The unit in which the largest of some amounts is at least 1 and, where possible, below 1000."""
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
    """A number to three digits or, from 1,000 on, as a whole one."""
    if not math.isfinite(value):
        return "not finite"
    size = abs(value)
    decimals = 0 if size >= 100 or size == 0 else min(6, 2 - math.floor(math.log10(size)))
    return f"{value:,.{decimals}f}"


def power_of_ten(exponent: int) -> str:
    """10 to a whole power."""
    return f"10{str(exponent).translate(_SUPERSCRIPTS)}"


def power(amount: float) -> str:
    """A large amount as a number below 10 and a power of ten."""
    exponent = math.floor(math.log10(amount))
    lead = f"{amount / 10**exponent:.2f}"
    if lead == "10.00":
        lead, exponent = "1.00", exponent + 1
    return f"{lead}·{power_of_ten(exponent)}"


def signed(value: float, decimals: int) -> str:
    """A difference, its sign always written; nothing is more or less than zero only by rounding."""
    if not math.isfinite(value):
        return "not finite"
    text = f"{value:+,.{decimals}f}"
    return text[1:] if float(text.replace(",", "")) == 0 else text.replace("-", "−")


def share(value: float | None) -> str:
    """A part of something as a percentage."""
    return "–" if value is None else f"{value:.1%}"
