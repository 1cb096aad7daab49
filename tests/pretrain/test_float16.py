"""float16 with a scaled loss: it trains as float32 does, finds its scale, and tells that from bad data."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.amp import GradScaler

from masklater.corpus.shards import Shards
from masklater.doctor.examination import Examination
from masklater.doctor.run import _look_at_log
from masklater.errors import Interrupted, UserError
from masklater.machine.precision import Precision, choose_precision
from masklater.pretrain import loop
from masklater.pretrain.loop import pretrain
from masklater.run.checkpoint import load_newest
from masklater.run.metrics import read_metrics
from tests.conftest import tiny
from tests.pretrain.test_health import poison
from tests.runs import losses, stop_at, weights

FLOAT16 = ("precision=float16", "batch.micro_rows=8", "schedule.warmup=0")


def start_at(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on float16's loss scale begins here, and doubles after every third step that it fits."""

    def scaler(precision: Precision) -> GradScaler:
        enabled = precision.name == "float16"
        return GradScaler(precision.device.type, init_scale=scale, growth_interval=3, enabled=enabled)

    monkeypatch.setattr(Precision, "scaler", scaler)


def steps_of(run: Path) -> list[dict[str, Any]]:
    return [record for record in read_metrics(run / "metrics.jsonl") if "grad_norm" in record]


def test_a_gpu_without_bfloat16_gets_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    chosen = choose_precision("auto", torch.device("cuda"))
    assert (chosen.name, chosen.dtype) == ("float16", torch.float16)
    for name in ("float32", "bfloat16", "float16"):
        assert Precision(name, "", torch.device("cpu")).scaler().is_enabled() == (name == "float16")


def test_each_gpu_of_unlike_ones_gets_what_it_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    selected = [0]

    def exchange(index: int) -> int:
        selected.append(index)
        return selected[-2]

    monkeypatch.setattr(torch.cuda, "_exchange_device", exchange)
    monkeypatch.setattr(torch.cuda, "_maybe_exchange_device", exchange)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: selected[-1] == 0)
    chosen = [choose_precision("auto", torch.device("cuda", number)).name for number in (0, 1)]
    assert chosen == ["bfloat16", "float16"] and selected[-1] == 0


@pytest.mark.parametrize("optimizer", ["{name: adamw, lr: 1e-3}", "{name: muon, lr: 0.02, adamw_lr: 1e-3}"])
def test_float16_trains_as_float32_does(optimizer: str, shards: Shards, tmp_path: Path) -> None:
    for precision in ("float16", "float32"):
        settings = (*FLOAT16[1:], f"precision={precision}", f"optimizer={optimizer}", "model.dropout=0")
        pretrain(tiny("3ml-small", *settings), shards.folder, tmp_path / precision)
    exact, found = losses(tmp_path / "float32"), losses(tmp_path / "float16")
    assert found == pytest.approx(exact, rel=1e-3) and found != exact
    assert not any(record["skipped"] or record["overflowed"] for record in steps_of(tmp_path / "float16"))
    assert "loss_scale" not in steps_of(tmp_path / "float32")[0]
    norms = [[record["grad_norm"] for record in steps_of(tmp_path / name)] for name in ("float16", "float32")]
    assert norms[0] == pytest.approx(norms[1], rel=5e-3)  # unscaled before they are clipped and written


@pytest.mark.fault
def test_a_scale_that_is_too_large_is_halved_and_blamed_on_nothing(
    shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start_at(2.0**24, monkeypatch)
    settings = (*FLOAT16, "health.max_skipped=2", "duration.steps=16")
    result = pretrain(tiny("3ml-small", *settings), shards.folder, tmp_path / "run")
    steps = steps_of(tmp_path / "run")
    overflowed = [record for record in steps if record["overflowed"]]
    assert steps[0]["overflowed"] and steps[0]["loss_scale"] == 2.0**24
    assert len(overflowed) > 2 and result.overflowed_steps == result.skipped_steps == len(overflowed)
    for before, after in pairwise(steps):
        assert after["loss_scale"] / before["loss_scale"] in ((0.5,) if before["overflowed"] else (1.0, 2.0))
    assert min(record["loss"] for record in steps) < steps[0]["loss"]
    said = capsys.readouterr().err
    assert said.count("is how it is found") == 1 and "in a row, the run stops" not in said
    found = Examination()
    _look_at_log(tmp_path / "run", 16, found)
    assert not any("were skipped" in note for note in found.notes)


@pytest.mark.fault
def test_bad_data_is_still_told_and_stops_the_run(
    shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, shards, {2, 3}, float("nan"))
    with pytest.raises(UserError, match="2 steps in a row had no finite loss"):
        pretrain(tiny("3ml-small", *FLOAT16, "health.max_skipped=2"), shards.folder, tmp_path / "run")
    steps = steps_of(tmp_path / "run")
    assert [record["skipped"] for record in steps] == [False, False, True, True]
    assert not any(record["overflowed"] for record in steps)


@pytest.mark.fault
def test_a_gradient_that_no_scale_helps_stops_the_run(
    shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_at(4.0, monkeypatch)
    step = loop.train_step

    def broken(model: torch.nn.Module, *rest: Any) -> Any:
        handle = next(model.parameters()).register_hook(lambda gradient: gradient * float("inf"))
        try:
            return step(model, *rest)
        finally:
            handle.remove()

    monkeypatch.setattr(loop, "train_step", broken)
    with pytest.raises(UserError, match="2 steps in a row"):
        pretrain(tiny("3ml-small", *FLOAT16, "health.max_skipped=2"), shards.folder, tmp_path / "run")
    assert [record["overflowed"] for record in steps_of(tmp_path / "run")] == [True, True, False, False]


def test_the_scale_is_resumed(shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit; and a run may go on in another precision, and come back."""
    start_at(2.0**24, monkeypatch)
    recipe = tiny("3ml-small", *FLOAT16, "duration.steps=9")
    pretrain(recipe, shards.folder, tmp_path / "straight")
    with monkeypatch.context() as stopped:
        stopped.setattr(loop, "train_step", stop_at(5))
        with pytest.raises(Interrupted):
            pretrain(recipe, shards.folder, tmp_path / "resumed")
    kept = load_newest(tmp_path / "resumed" / "checkpoints")
    assert kept is not None and kept.progress.scaler["scale"] == steps_of(tmp_path / "straight")[5]["loss_scale"]
    pretrain(recipe, shards.folder, tmp_path / "resumed", resume=True)
    for key in ("loss", "loss_scale", "overflowed"):
        straight, resumed = ([record[key] for record in steps_of(tmp_path / run)] for run in ("straight", "resumed"))
        assert str(straight) == str(resumed)
    one, other = weights(tmp_path / "straight"), weights(tmp_path / "resumed")
    assert all(torch.equal(one[name], other[name]) for name in one)

    for steps, precision in ((10, "float32"), (11, "float16")):
        settings = (*FLOAT16, f"precision={precision}", f"duration.steps={steps}")
        pretrain(tiny("3ml-small", *settings), shards.folder, tmp_path / "resumed", resume=True)
    assert [record.get("loss_scale") for record in steps_of(tmp_path / "resumed")][-2:] == [None, 2.0**24]
