"""Amounts as people read them."""

from math import inf, nan

import pytest

from masklater.report.quantities import digits, scale_for, share, signed


@pytest.mark.parametrize(
    ("measure", "largest", "unit", "text"),
    [
        ("flops", 1.42e16, "10¹⁵ FLOPs", "14.2"),
        ("flops", 9.99e14, "10¹² FLOPs", "999"),
        ("flops_without_head", 1e15, "10¹⁵ FLOPs", "1.00"),
        ("flops", 5.0, "FLOPs", "5.00"),
        ("hours", 30.0, "hours", "30.0"),
        ("hours", 1.5, "minutes", "90.0"),
        ("hours", 0.01, "seconds", "36.0"),
        ("rows", 3200, "rows", "3,200"),
        ("rows", 12800, "thousands", "12.8"),
        ("tokens", 4.1e8, "millions", "410"),
        ("tokens", 1.6e10, "billions", "16.0"),
    ],
)
def test_scales_keep_numbers_short(measure: str, largest: float, unit: str, text: str) -> None:
    scale = scale_for(measure, largest)
    assert (scale.unit, scale(largest)) == (unit, text)
    assert scale(None) == "–"


def test_digits() -> None:
    assert [digits(value) for value in (0, 0.0123, 1.2345, 99.96, 123.4, 12345.6)] == [
        "0", "0.0123", "1.23", "100.0", "123", "12,346",
    ]  # fmt: skip
    assert digits(nan) == digits(inf) == "not finite"


def test_differences_carry_their_sign() -> None:
    assert [signed(value, 1) for value in (1.26, -0.25, 0.04, -0.04, 1234.5)] == [
        "+1.3",
        "−0.2",
        "0.0",
        "0.0",
        "+1,234.5",
    ]
    assert signed(nan, 1) == "not finite"
    assert (share(0.7667), share(None)) == ("76.7%", "–")
