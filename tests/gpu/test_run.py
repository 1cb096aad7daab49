"""Whole runs: resume to the bit, checkpoints in the background, and what a run records of its device."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from masklater.errors import Interrupted
from masklater.pretrain import loop
from masklater.pretrain.loop import pretrain
from masklater.run.checkpoint import is_sound, list_checkpoints
from tests.conftest import tiny
from tests.runs import losses, stop_at, weights

pytestmark = pytest.mark.gpu
DETERMINISTIC = ("deterministic=true", "precision=auto")
MUON = ("optimizer.name=muon", "optimizer.adamw_lr=1e-3", "optimizer.lr=0.02")


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        MUON,
        ("model.family=modernbert",),
        ("decoder.kind=cross", "decoder.positions=all"),
        ("decoder.kind=late", "decoder.enter_layer=1"),
    ],
    ids=["adamw", "muon", "modernbert", "cross", "late"],
)
def test_deterministic_resumes_to_the_bit(
    overrides: tuple[str, ...], shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny("3ml-small", *DETERMINISTIC, *overrides)
    assert recipe.model.dropout
    for name in ("straight", "again"):
        pretrain(recipe, shards_folder, tmp_path / name)
    assert losses(tmp_path / "again") == losses(tmp_path / "straight")
    monkeypatch.setattr(loop, "train_step", stop_at(3))
    with pytest.raises(Interrupted, match="stopped and saved at step 3"):
        pretrain(recipe, shards_folder, tmp_path / "resumed")
    monkeypatch.undo()
    pretrain(recipe, shards_folder, tmp_path / "resumed", resume=True)
    assert losses(tmp_path / "resumed") == losses(tmp_path / "straight")
    assert_same_weights(tmp_path / "resumed", tmp_path / "straight")


def test_checkpoints_in_the_background_hold_their_step(shards_folder: Path, tmp_path: Path) -> None:
    for background in ("true", "false"):
        recipe = tiny("3ml-small", *DETERMINISTIC, "checkpoint.keep=9", f"checkpoint.background={background}")
        pretrain(recipe, shards_folder, tmp_path / background)
    paths = list_checkpoints(tmp_path / "true" / "checkpoints")
    assert [path.name for path in paths] == ["step-00000002", "step-00000004", "step-00000006"]
    for path in paths:
        assert is_sound(path)
        for shard in path.glob("*.safetensors"):
            written, expected = load_file(shard), load_file(tmp_path / "false" / "checkpoints" / path.name / shard.name)
            assert written.keys() == expected.keys() and len(written) > 50
            assert all(torch.equal(written[name], expected[name]) for name in expected)


def test_what_a_run_records_of_its_device(
    shards_folder: Path, tmp_path: Path, device: torch.device, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.empty(2**28, device=device)  # another run's, in this process: 1 GiB, and gone
    result = pretrain(tiny("3ml-small", "precision=auto"), shards_folder, tmp_path / "run")
    ledger = json.loads((tmp_path / "run" / "ledger.json").read_text())
    assert result.steps == 6
    assert all(loss > 0 for loss in losses(tmp_path / "run"))
    assert ledger["peak_memory_bytes"] > 0
    if device.type == "cuda":
        assert ledger["peak_memory_bytes"] < 2**30
        assert ledger["attention_kernels"] == "flash, memory-efficient, math"
        assert "by one of its kernels flash, memory-efficient, math" in capsys.readouterr().err
