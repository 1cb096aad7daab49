"""Checkpoints from strangers, extending a run that has decayed, and what resuming far into a run costs."""

import hashlib
import json
import os
import pickle
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from masklater.corpus.shards import Shards, SplitRows
from masklater.errors import DamagedDataError, UserError
from masklater.ledger import Ledger
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.batches import make_batches
from masklater.pretrain.loop import pretrain
from masklater.pretrain.optim import Optimizers
from masklater.pretrain.start import find_start
from masklater.recipe.recipe import Recipe
from masklater.run import checkpoint
from masklater.run.checkpoint import list_checkpoints, load_checkpoint, load_newest
from masklater.run.folder import RunFolder
from masklater.run.metrics import read_metrics
from masklater.run.saver import Saver
from tests.conftest import tiny

WSD = ("schedule.name=wsd", "schedule.warmup=0")


class RunsWhenUnpickled:
    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.flag,)  # type: ignore[return-value]


def write_hashes(checkpoint: Path) -> None:
    """What a stranger would do to make anything look sound."""
    files = [file for file in checkpoint.iterdir() if file.name != "checkpoint.json"]
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    (checkpoint / "checkpoint.json").write_text(json.dumps({"step": 1, "sha256": hashes}))


@pytest.mark.parametrize("name", [".metadata", "state.pt", "__0_0.distcp", "shard-00001-model-00001-of-00001.safetensors",
                                  "shard-00002-model-00001-of-00001.safetensors", "progress.json"])  # fmt: skip
def test_a_checkpoint_from_a_stranger_cannot_run_code(name: str, shards_folder: Path, tmp_path: Path) -> None:
    recipe = tiny("3ml-small", "duration.steps=1", "schedule.warmup=0")
    pretrain(recipe, shards_folder, tmp_path / "run")
    (checkpoint,) = list_checkpoints(tmp_path / "run" / "checkpoints")
    flag = tmp_path / "ran"
    malice = pickle.dumps(RunsWhenUnpickled(flag))
    pickle.loads(malice)
    assert flag.exists()  # it would
    flag.unlink()

    (checkpoint / name).write_bytes(malice)
    with pytest.raises(DamagedDataError):  # as long as hashes are honest
        load_checkpoint(checkpoint)
    write_hashes(checkpoint)
    try:
        RunFolder(tmp_path / "run").load_model()
        pretrain(recipe, shards_folder, tmp_path / "run", resume=True)
    except UserError as error:
        assert isinstance(error, DamagedDataError)
    else:
        assert not name.endswith((".safetensors", ".json"))  # the others are never opened
    assert not flag.exists()


def test_a_checkpoint_of_another_model(shards: Shards, tmp_path: Path) -> None:
    small = MaskLaterForMaskedLM(find_start(tiny(), shards).config)
    wide = MaskLaterForMaskedLM(find_start(tiny("3ml-small", "model.hidden_size=64"), shards).config)
    deep = MaskLaterForMaskedLM(find_start(tiny("3ml-small", "model.num_hidden_layers=3"), shards).config)
    from masklater.ledger import Ledger

    Saver().save(tmp_path / "step-00000001", small, Optimizers(small, tiny().optimizer), Ledger(steps=1))
    checkpoint = load_checkpoint(tmp_path / "step-00000001")
    checkpoint.load_into(small)
    for other in (wide, deep):
        with pytest.raises(DamagedDataError, match="does not fit the model"):
            checkpoint.load_into(other)


@pytest.mark.fault
def test_a_checkpoint_that_is_cut_after_it_was_checked(
    shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its checksums and its tensors: an error of the read, where a memory map would end the process."""
    pretrain(tiny("3ml-small", "duration.steps=2"), shards_folder, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    process = checkpoint._Reader._process_read_request

    def cut_then_read(self: object, tensors: object, item: object, planner: object) -> None:
        for file in run.checkpoints.rglob("*.safetensors"):
            os.truncate(file, 4096)
        process(self, tensors, item, planner)

    monkeypatch.setattr(checkpoint._Reader, "_process_read_request", cut_then_read)
    with pytest.raises(DamagedDataError, match=r"step-00000002 cannot be read: .*fill whole buffer"):
        run.load_model()
    (found,) = list_checkpoints(run.checkpoints)
    with pytest.raises(DamagedDataError, match=r"step-00000002.*safetensors cannot be read"):
        checkpoint.Checkpoint(found, Ledger()).not_finite()


def test_weight_decay_that_was_changed_holds(shards_folder: Path, tmp_path: Path) -> None:
    """Optimizer states are taken over; its settings are the recipe's."""
    pretrain(tiny("3ml-small", "duration.steps=2", *WSD, "schedule.decay=0.01"), shards_folder, tmp_path / "kept")
    shutil.copytree(tmp_path / "kept", tmp_path / "changed")
    for run, decay in (("kept", "0.01"), ("changed", "0.5")):
        recipe = tiny("3ml-small", "duration.steps=4", *WSD, "schedule.decay=0.01", f"optimizer.weight_decay={decay}")
        pretrain(recipe, shards_folder, tmp_path / run, resume=True)
    kept, changed = (RunFolder(tmp_path / run).load_model()[0] for run in ("kept", "changed"))
    assert not torch.equal(kept.head.dense.weight, changed.head.dense.weight)


def losses(run: Path) -> dict[int, float]:
    return {record["step"]: record["loss"] for record in read_metrics(run / "metrics.jsonl") if "loss" in record}


def test_a_run_that_has_decayed_is_extended_from_before_its_decay(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def recipe(steps: int) -> object:
        return tiny("3ml-small", *WSD, "schedule.decay=0.5", f"duration.steps={steps}", "checkpoint.keep=1")

    pretrain(recipe(12), shards_folder, tmp_path / "straight")  # type: ignore[arg-type]
    pretrain(recipe(8), shards_folder, tmp_path / "run")  # type: ignore[arg-type]
    folder = tmp_path / "run" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["before-decay-00000005", "step-00000008"]
    decayed = losses(tmp_path / "run")
    pretrain(recipe(8), shards_folder, tmp_path / "run", resume=True)  # type: ignore[arg-type]
    assert losses(tmp_path / "run") == decayed

    pretrain(recipe(12), shards_folder, tmp_path / "run", resume=True)  # type: ignore[arg-type]
    told = capsys.readouterr().err
    assert "step 8 had decayed over the last 0.5 of 8 steps: going on from step 5, before that decay" in told
    assert losses(tmp_path / "run") == losses(tmp_path / "straight")
    assert {path.name for path in folder.iterdir()} == {
        "before-decay-00000005", "before-decay-00000007", "decayed-step-00000008", "step-00000012"
    }  # fmt: skip
    kept = read_metrics(tmp_path / "run" / "metrics-decayed-00000008.jsonl")
    assert {record["step"]: record["loss"] for record in kept if "loss" in record} == decayed
    straight, extended = (RunFolder(tmp_path / run).load_model()[0].state_dict() for run in ("straight", "run"))
    assert all(torch.equal(straight[name], extended[name]) for name in straight)

    (folder / "step-00000012" / "progress.json").unlink()
    with pytest.raises(UserError) as refused:
        pretrain(recipe(12), shards_folder, tmp_path / "run", resume=True)  # type: ignore[arg-type]
    assert "give before-decay-00000007 the name step-00000007 to go on from there" in refused.value.remedy
    (folder / "before-decay-00000007").rename(folder / "step-00000007")
    pretrain(recipe(12), shards_folder, tmp_path / "run", resume=True)  # type: ignore[arg-type]
    assert losses(tmp_path / "run") == losses(tmp_path / "straight")

    for path in folder.glob("before-decay-*"):
        shutil.rmtree(path)
    with pytest.raises(UserError, match="no sound checkpoint before that decay"):
        pretrain(recipe(16), shards_folder, tmp_path / "run", resume=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("keep", [2, 3])
def test_what_stands_before_a_decay_is_of_the_course_that_decayed(
    keep: int, shards_folder: Path, tmp_path: Path
) -> None:
    """A crash after it was saved, and another rate from the checkpoint before: it is set aside, and saved anew."""

    def recipe(lr: str) -> Recipe:
        every = ("checkpoint.every_steps=3", f"checkpoint.keep={keep}")
        return tiny("3ml-small", *WSD, "schedule.decay=0.5", "duration.steps=8", *every, lr)

    pretrain(recipe("optimizer.lr=0.001"), shards_folder, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    for name in ("step-00000006", "step-00000008"):
        shutil.rmtree(folder / name)
    assert len(list_checkpoints(folder)) == keep - 2
    pretrain(recipe("optimizer.lr=0.05"), shards_folder, tmp_path / "run", resume=True)
    stale, fresh = (
        load_file(next((folder / name).glob("*.safetensors")))
        for name in ("abandoned-before-decay-00000005", "before-decay-00000005")
    )
    assert any(not torch.equal(stale[name], fresh[name]) for name in fresh)


def test_making_a_batch_costs_the_same_anywhere(shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    """At step 10 and at step 10,000,000: the rows that are read are those of the step."""
    batches = make_batches(shards, shards.train, tiny().masking, True, "document", 0)
    asked: list[int] = []
    read = SplitRows.read

    def counted(self: SplitRows, numbers_N: np.ndarray) -> object:
        asked.append(len(numbers_N))
        return read(self, numbers_N)

    monkeypatch.setattr(SplitRows, "read", counted)
    seconds = {step: [] for step in (10, 10_000_000)}  # type: dict[int, list[float]]
    for _ in range(15):
        for step, times in seconds.items():
            began = time.thread_time()  # of the processor: other work on the machine does not count
            batches.of_step(step, 64)
            times.append(time.thread_time() - began)
    assert set(asked) == {64}
    near, far = (min(times) for times in seconds.values())
    print(f"a batch at step 10: {near * 1000:.2f} ms, at step 10,000,000: {far * 1000:.2f} ms")
    assert far < 2 * near


def test_a_checkpoint_of_version_0_1_is_gone_on_from(shards_folder: Path, tmp_path: Path) -> None:
    """It calls its progress.json ledger.json."""
    pretrain(tiny("3ml-small", "duration.steps=4"), shards_folder, tmp_path / "straight")
    pretrain(tiny("3ml-small", "duration.steps=2"), shards_folder, tmp_path / "run")
    for each in list_checkpoints(tmp_path / "run" / "checkpoints"):
        (each / "progress.json").rename(each / "ledger.json")
        write_hashes(each)
    resumed = pretrain(tiny("3ml-small", "duration.steps=4"), shards_folder, tmp_path / "run", resume=True)
    assert (resumed.steps, resumed.finished) == (4, True)
    newest = load_newest(tmp_path / "run" / "checkpoints")
    assert newest is not None and (newest.path / "progress.json").is_file()


def test_resuming_costs_the_same_anywhere(shards_folder: Path, tmp_path: Path) -> None:
    """A run that stands at step 10 and one that stands at step 10,000,000 take as long to make their next step."""
    pretrain(tiny("3ml-small", *WSD, "schedule.decay=0.01", "duration.steps=10"), shards_folder, tmp_path / "near")
    shutil.copytree(tmp_path / "near", tmp_path / "far")
    newest = load_newest(tmp_path / "far" / "checkpoints")
    assert newest is not None
    ledger = json.loads((newest.path / "progress.json").read_text())
    (newest.path / "progress.json").write_text(
        json.dumps(ledger | {"ledger": ledger["ledger"] | {"steps": 10_000_000}})
    )
    write_hashes(newest.path)
    newest.path.rename(newest.path.with_name("step-10000000"))
    seconds = []
    for run, steps in (("near", 11), ("far", 10_000_001)):
        began = time.process_time()  # other work on the machine does not count
        recipe = tiny(
            "3ml-small", *WSD, "schedule.decay=0.01", f"duration.steps={steps}", "evaluation.every_steps=1000000000"
        )
        result = pretrain(recipe, shards_folder, tmp_path / run, resume=True)
        seconds.append(time.process_time() - began)
        assert result.steps == steps
    print(f"resume and one step at step 10: {seconds[0]:.2f} s, at step 10,000,000: {seconds[1]:.2f} s")
    assert seconds[1] < 3 * seconds[0] + 1
