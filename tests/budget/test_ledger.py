"""What a run books while it is going on: work, time, memory and energy."""

import json
from pathlib import Path

import pytest

from masklater.budget.forecast import forecast, rows_of
from masklater.corpus.shards import Shards
from masklater.ledger import Ledger, Spending
from masklater.machine.energy import EnergyMeter
from masklater.pretrain.loop import pretrain
from masklater.recipe.load import load
from masklater.run.accounts import summary
from masklater.run.metrics import read_metrics
from tests.conftest import TINY, tiny

SPENDING = Spending(
    rows=8, tokens=256, tokens_seen=160, tokens_predicted=120, flops=100.0, flops_head=20.0, flops_vanilla=150.0
)


def test_utilisation_is_told_twice() -> None:
    ledger = Ledger(peak_flops_per_second=1000.0)
    for _ in range(5):
        ledger.add_step(SPENDING, seconds=0.2, data_seconds=0.05)
    assert ledger.utilisation(ledger.flops) == pytest.approx(0.5)
    tree = summary(ledger)
    assert tree["utilisation_vanilla_equivalent"] == pytest.approx(0.75)
    assert tree["flops_without_head"] == pytest.approx(400)
    assert tree["compute_seconds"] == pytest.approx(0.75)
    assert Ledger().utilisation(1.0) is None


def test_a_runs_books(continuous: Shards, tmp_path: Path) -> None:
    recipe = tiny("3ml-small", "duration.steps=4")
    result = pretrain(recipe, continuous.folder, tmp_path / "run")
    ledger = json.loads((tmp_path / "run" / "ledger.json").read_text())
    last = [record for record in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in record][-1]
    counts = forecast(recipe, rows_of(continuous.folder)).counts
    assert (ledger["steps"], ledger["rows"], ledger["tokens"]) == (4, 32, 32 * 32)
    assert ledger["tokens_seen"] == last["tokens_seen"] == 32 * counts.seen
    assert ledger["tokens_predicted"] == last["tokens_predicted"] == 32 * counts.targets
    assert ledger["flops"] == last["flops"] == result.flops
    assert 0 < ledger["flops_head"] == last["flops_head"] < ledger["flops"]
    assert 0 < ledger["data_seconds"] < ledger["seconds"]
    assert ledger["evaluation_seconds"] > 0
    assert ledger["checkpoint_seconds"] > 0
    assert ledger["peak_memory_bytes"] > 50e6
    assert 0 < ledger["utilisation"] < 1
    assert (ledger["energy_joules"] is None) == (ledger["energy_source"] is None)

    pretrain(tiny("3ml-small", "duration.steps=6"), continuous.folder, tmp_path / "run", resume=True)
    again = json.loads((tmp_path / "run" / "ledger.json").read_text())
    assert again["steps"] == 6
    assert again["flops"] == pytest.approx(1.5 * ledger["flops"])
    assert again["seconds"] > ledger["seconds"]


@pytest.mark.parametrize("unit", ["flops", "rows", "tokens"])
def test_a_duration_ends_at_the_step_that_reaches_it(unit: str, continuous: Shards, tmp_path: Path) -> None:
    per_row = {"rows": 1, "tokens": 32, "flops": forecast(tiny(), rows_of(continuous.folder)).row.training}[unit]
    sizes = [override for override in TINY if not override.startswith("duration.")]
    recipe = load("3ml-small", [*sizes, f"duration.{unit}={round(per_row * 8 * 4.5)}"])
    result = pretrain(recipe, continuous.folder, tmp_path / "run")
    assert (result.finished, result.steps) == (True, 5)
    rates = [record["lr"] for record in read_metrics(tmp_path / "run" / "metrics.jsonl") if "lr" in record]
    assert rates[-1] == pytest.approx(recipe.optimizer.lr * 0.5 / 4.5 / 0.94, rel=0.01)  # linear decay, warm-up 0.06


def make_rapl(folder: Path, microjoules: int) -> None:
    """Two packages, and a domain inside one, which is counted with it."""
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "energy_uj").write_text(f"{microjoules}\n")
        (folder / name / "max_energy_range_uj").write_text("10000000\n")


def test_energy_is_added_over_packages_and_past_the_counters_end(tmp_path: Path) -> None:
    make_rapl(tmp_path, 9_000_000)
    meter = EnergyMeter(rapl=tmp_path)
    assert meter.source == "RAPL, CPU package"
    make_rapl(tmp_path, 9_500_000)
    assert meter.since_last() == pytest.approx(1.0)
    make_rapl(tmp_path, 500_000)  # it began again at 0
    assert meter.since_last() == pytest.approx(2.0)
    assert meter.since_last() == 0


def test_energy_that_cannot_be_read_is_absent(tmp_path: Path) -> None:
    meter = EnergyMeter(rapl=tmp_path)
    assert (meter.source, meter.since_last()) == (None, None)
    meter = EnergyMeter(gpu_uuids=["GPU-none"])
    assert (meter.source, meter.since_last()) == (None, None)
