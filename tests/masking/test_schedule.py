"""Rate schedules: what the rate is along a run, and that a step's batch follows from its number alone."""

from collections import Counter

import pytest

from masklater.corpus.shards import Shards
from masklater.masking.schedule import RatePath, rate_at, rates_of
from masklater.pretrain.batches import make_batches
from masklater.recipe.masking import MaskingSettings, RateScheduleSettings

LINEAR = MaskingSettings(rate=0.3, schedule=RateScheduleSettings(name="linear", end=0.15, levels=None))
"""As every linear schedule was before there were levels."""
IN_LEVELS = MaskingSettings(rate=0.3, schedule=RateScheduleSettings(name="linear", end=0.16))
RANDOM = MaskingSettings(rate=0.3, schedule=RateScheduleSettings(name="random", low=0.2, high=0.48))
STEPWISE = MaskingSettings(rate=0.5, schedule=RateScheduleSettings(name="stepwise", steps=((0.5, 0.4), (0.8, 0.3))))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (MaskingSettings(rate=0.4), {0: 0.4, 0.5: 0.4, 1: 0.4}),
        (LINEAR, {0: 0.3, 0.5: 0.225, 1: 0.15, 1.2: 0.15}),
        (IN_LEVELS, {0: 0.3, 0.124: 0.3, 0.125: 0.28, 0.5: 0.22, 0.874: 0.18, 0.875: 0.16, 1: 0.16, 1.2: 0.16}),
        (STEPWISE, {0: 0.5, 0.49: 0.5, 0.5: 0.4, 0.79: 0.4, 0.8: 0.3, 1: 0.3}),
    ],
)
def test_rates(settings: MaskingSettings, expected: dict[float, float]) -> None:
    assert {progress: rate_at(settings, progress) for progress in expected} == pytest.approx(expected)
    assert set(rates_of(settings)) >= {expected[0], expected[1]}


@pytest.mark.parametrize("drop", [True, False])
def test_targets_of_a_step_follow_the_rate(drop: bool, continuous: Shards) -> None:
    batches = make_batches(continuous, continuous.train, LINEAR, drop, "row", 0, step_share=0.1)
    counts = [batches.of_step(step, 4).target_ids_BT.shape[1] for step in range(12)]
    maskable = batches.corruption.maskable_per_row
    assert counts == [round((0.3 - 0.015 * min(step, 10)) * maskable) for step in range(12)]
    # Evaluation stays at the rate a run begins with, so that its losses compare along the run.
    assert all(batch.target_ids_BT.shape[1] == counts[0] for batch in batches.fixed(8, 4))


def test_a_random_rate_is_one_of_eight_evenly_and_follows_from_seed_and_step() -> None:
    path = RatePath(RANDOM, seed=3)
    drawn = [path.rate(step) for step in range(800)]
    counts = Counter(drawn)
    assert sorted(counts) == pytest.approx([0.2 + 0.04 * level for level in range(8)])
    assert set(counts.values()) == {100}
    assert drawn == [RatePath(RANDOM, seed=3, first=100, step_share=0.5).rate(step) for step in range(800)]
    assert drawn != [RatePath(RANDOM, seed=4).rate(step) for step in range(800)]
    orders = {tuple(drawn[begin : begin + 8]) for begin in range(0, 800, 8)}
    assert len(orders) > 95, "each eight steps have an order of their own"


def test_a_random_rate_of_one_value_is_a_constant_one(continuous: Shards) -> None:
    schedule = RateScheduleSettings(name="random", low=0.3, high=0.3)
    made = [
        make_batches(continuous, continuous.train, MaskingSettings(rate=0.3, schedule=each), True, "row", 0)
        for each in (schedule, RateScheduleSettings())
    ]
    for step in range(4):
        random, constant = (vars(batches.of_step(step, 4)) for batches in made)
        assert all(value is None or value.equal(constant[name]) for name, value in random.items())


@pytest.mark.parametrize(
    "path",
    [
        RatePath(RANDOM, 5),
        RatePath(RANDOM, 5, first=13),
        RatePath(IN_LEVELS, step_share=1 / 93),
        RatePath(IN_LEVELS, step_share=1 / 400, first=31, before=0.3),
        RatePath(STEPWISE, step_share=1 / 93),
        RatePath(MaskingSettings(rate=0.4), 1, 0.01),
    ],
)
@pytest.mark.parametrize("steps", [1, 5, 8, 93])
def test_steps_are_counted_by_rate_as_they_are_made(path: RatePath, steps: int) -> None:
    assert path.steps_by_rate(steps) == Counter(path.rate(step) for step in range(path.first, path.first + steps))


def test_few_shapes(continuous: Shards) -> None:
    """What a compiled step sees of a linear schedule."""
    batches = make_batches(continuous, continuous.train, IN_LEVELS, True, "row", 0, step_share=1 / 1000)
    assert len({batches.corruption_of_step(step).rate for step in range(1000)}) == 8
