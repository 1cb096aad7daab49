"""Rate schedules: what the rate is along a run, and that a step's batch follows from its number alone."""

import pytest

from masklater.corpus.shards import Shards
from masklater.masking.schedule import rate_at, rates_of
from masklater.pretrain.batches import make_batches
from masklater.recipe.sections import MaskingSettings, RateScheduleSettings

LINEAR = MaskingSettings(rate=0.3, schedule=RateScheduleSettings(name="linear", end=0.15))
STEPWISE = MaskingSettings(rate=0.5, schedule=RateScheduleSettings(name="stepwise", steps=((0.5, 0.4), (0.8, 0.3))))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (MaskingSettings(rate=0.4), {0: 0.4, 0.5: 0.4, 1: 0.4}),
        (LINEAR, {0: 0.3, 0.5: 0.225, 1: 0.15, 1.2: 0.15}),
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
