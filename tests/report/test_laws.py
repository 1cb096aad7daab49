"""Laws over compute: exact where figures lie on one, and as uncertain as seeds are."""

import json
import math
import random
from dataclasses import asdict, replace

import pytest

from masklater.report import laws
from masklater.report.laws import (
    Estimate,
    Level,
    Line,
    can_have_law,
    draw_deviations,
    fit_law,
    fit_line,
    height_at,
    multiplier,
    slope_of,
)
from masklater.report.scaling_tables import estimate

BUDGETS = (3e13, 1e14, 3e14, 1e15)


def levels(a: float, b: float, *offsets: float, budgets: tuple[float, ...] = BUDGETS) -> list[Level]:
    """Losses a x (FLOPs / 1e14)^b, a seed for each offset, in logarithms."""
    return [
        Level(math.log(flops), tuple(math.log(a) + b * math.log(flops / 1e14) + offset for offset in offsets or (0.0,)))
        for flops in budgets
    ]


def test_a_power_law_is_found_exactly() -> None:
    law = fit_law(levels(4.0, -0.07), (), "")
    assert slope_of(law).value == pytest.approx(-0.07)
    assert math.exp(height_at(law, math.log(1e16)).value) == pytest.approx(4.0 * 100**-0.07)
    assert law.misfit == pytest.approx(0, abs=1e-9)
    assert slope_of(law).low is None  # one seed each: nothing is known of their spread


def test_the_multiplier_of_the_same_law_at_less_compute() -> None:
    """An arm that needs 0.6 of the FLOPs at every budget."""
    reference, cheaper = fit_law(levels(4.0, -0.07), (), ""), fit_law(levels(4.0 * 0.6**0.07, -0.07), (), "")
    for flops in BUDGETS[1:]:
        found = multiplier(cheaper, reference, math.log(flops), falls=True)
        assert found is not None and found.measured
        assert found.value == pytest.approx(0.6)
    at_the_smallest = multiplier(cheaper, reference, math.log(3e13), falls=True)
    assert at_the_smallest is not None and not at_the_smallest.measured  # 1.8e13 was not run


def test_a_multiplier_that_shrinks_with_size() -> None:
    """Both are at 4.0 at 1e14, and the steeper one gains beyond."""
    reference, steeper = fit_law(levels(4.0, -0.07), (), ""), fit_law(levels(4.0, -0.1), (), "")
    found = [multiplier(steeper, reference, math.log(flops), falls=True) for flops in (1e14, 1e15)]
    assert [each.value for each in found if each] == pytest.approx([1.0, 10 ** (0.07 / 0.1 - 1)])


def test_intervals_are_as_wide_as_seeds_are_apart() -> None:
    widths = []
    for apart in (0.002, 0.02):
        found = levels(4.0, -0.07, -apart, apart)
        law = fit_law(found, draw_deviations([found]), "name")
        slope = slope_of(law)
        assert slope.low is not None and slope.high is not None
        assert slope.low < -0.07 < slope.high
        # Standard deviation of each figure times the line's own: s / sqrt(sum of squared distances of all eight); and
        # Student's t for four degrees of freedom, one a level.
        distance = math.sqrt(2 * sum((level.x - sum(each.x for each in found) / 4) ** 2 for level in found))
        assert slope.high - slope.low == pytest.approx(2 * 2.776 * apart * math.sqrt(2) / distance, rel=0.15)
        widths.append(slope.high - slope.low)
    assert widths[1] == pytest.approx(10 * widths[0], rel=1e-6)  # the draws repeat themselves


def test_single_seeds_are_moved_by_what_others_tell_of_seeds() -> None:
    alone, several = levels(4.0, -0.07), levels(5.0, -0.07, -0.01, 0.01)
    law = fit_law(alone, draw_deviations([alone, several]), "name")
    slope = slope_of(law)
    assert slope.low is not None and slope.high is not None and slope.low < slope.high
    assert draw_deviations([alone]) == []
    drawn = sorted(draw_deviations([alone, several]))
    # The median of a chi-squared variable with four degrees of freedom is 3.357; squares are 4 x 2 x 0.01^2.
    assert drawn[len(drawn) // 2] == pytest.approx(math.sqrt(4 * 2 * 0.01**2 / 3.357), rel=0.05)


def test_intervals_hold_the_truth_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of arms drawn by known laws, with two seeds, 0.2% apart, at one of three budgets; a bootstrap had it in 76%."""
    monkeypatch.setattr(laws, "DRAWS", 150)
    noise, held, repetitions = random.Random(0), 0, 250

    def arm(a: float) -> list[Level]:
        each = zip(levels(a, -0.07, budgets=BUDGETS[:3]), (2, 1, 1), strict=True)
        return [Level(level.x, tuple(noise.gauss(level.ys[0], 0.002) for _ in range(count))) for level, count in each]

    for number in range(repetitions):
        arms = {"cheaper": arm(4.0 * 0.8**0.07), "base": arm(4.0)}
        deviations = draw_deviations(list(arms.values()))
        own, base = (fit_law(found, deviations, f"{name} {number}") for name, found in arms.items())
        found = multiplier(own, base, math.log(1e14), falls=True)
        assert found is not None and found.low is not None
        held += found.low <= 0.8 <= (math.inf if found.high is None else found.high)
    assert held / repetitions == pytest.approx(0.95, abs=0.05)


def test_no_multiplier_where_more_compute_does_not_help() -> None:
    reference, flat, worse = (fit_law(levels(4.0, b), (), "") for b in (-0.07, 0.0, 0.01))
    assert multiplier(flat, reference, math.log(1e14), falls=True) is None
    assert multiplier(worse, reference, math.log(1e14), falls=True) is None
    assert multiplier(reference, worse, math.log(1e14), falls=True) is None


def test_an_arm_that_may_never_get_there_has_no_upper_end() -> None:
    """Its loss is above the other's in every draw, and in some it does not fall: that is no chance of being cheaper."""
    base = [Level(math.log(x), (math.log(y), math.log(y - 0.1))) for x, y in ((1e13, 5.0), (2e13, 4.6), (4e13, 4.25))]
    arm = [Level(math.log(x), (math.log(y), math.log(y - 0.1))) for x, y in ((1e13, 5.5), (2e13, 5.4))]
    deviations = draw_deviations([base, arm])
    law, reference = fit_law(arm, deviations, "arm"), fit_law(base, deviations, "base")
    assert any(line.slope > 0 for line in law.draws)
    found = multiplier(law, reference, math.log(1e13), falls=True)
    assert found is not None and found.value > 10 and found.low is not None and found.low > 1 and found.high is None
    assert estimate(found, 2) == f"~ {found.value:.2f} ({found.low:.2f} to no upper end)"


def test_draws_of_a_reference_that_does_not_get_better_say_nothing() -> None:
    reference = fit_law(levels(4.0, -0.07), (), "")
    law = replace(reference, draws=(Line(4.0, -0.07), Line(4.0, -0.07)))

    def found(*draws: Line) -> Estimate | None:
        return multiplier(law, replace(reference, draws=draws), math.log(1e14), falls=True)

    low = Line(4.0 + 0.07, -0.07)  # where the arm is at a factor of e fewer FLOPs
    assert found(low, Line(0.0, 0.07)) == found(low, low)
    assert found(low, low) == Estimate(pytest.approx(1.0), pytest.approx(1 / math.e), pytest.approx(1 / math.e), True)
    assert found(Line(0.0, 0.07), Line(4.0, 0.0)) == Estimate(pytest.approx(1.0), 0.0, None, True)


def test_more_than_a_million_times_the_flops_is_never() -> None:
    reference, hardly = fit_law(levels(4.0, -0.07), (), ""), fit_law(levels(6.0, -0.001), (), "")
    found = multiplier(hardly, reference, math.log(1e14), falls=True)
    assert found == Estimate(1e6, None, None, False)
    assert estimate(found, 2) == "~ over 1,000,000"
    drawn = [replace(law, draws=(law.line,) * 3) for law in (hardly, reference)]
    found = multiplier(*drawn, math.log(1e14), falls=True)
    assert found == Estimate(1e6, 1e6, None, False)
    assert estimate(found, 2) == "~ over 1,000,000 (over 1,000,000 to no upper end)"
    json.dumps(asdict(found), allow_nan=False)


def test_accuracies_rise() -> None:
    """Percents over the logarithm of FLOPs: 2 points a factor of e, and 3 points ahead."""
    rising = [Level(math.log(flops), (60 + 2 * math.log(flops / 1e14),)) for flops in BUDGETS]
    ahead = [Level(level.x, (level.ys[0] + 3,)) for level in rising]
    found = multiplier(fit_law(ahead, (), ""), fit_law(rising, (), ""), math.log(3e14), falls=False)
    assert found is not None and found.value == pytest.approx(math.exp(-1.5))


def test_budgets_close_together_give_no_law() -> None:
    assert can_have_law(levels(4, -0.1, budgets=(1e14, 2e14)))
    assert not can_have_law(levels(4, -0.1, budgets=(0.78e14, 1e14)))
    assert not can_have_law(levels(4, -0.1, budgets=(1e14,)))


def test_levels_in_any_order() -> None:
    found = levels(4.0, -0.07)
    assert fit_law(found[::-1], (), "").levels == tuple(found)
    assert fit_line(found[::-1]).slope == pytest.approx(-0.07)
