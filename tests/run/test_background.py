"""Checkpoints that are written while training goes on."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

from masklater.errors import UserError
from masklater.pretrain import loop
from masklater.pretrain.loop import pretrain
from masklater.recipe.recipe import Recipe
from masklater.run import saver
from masklater.run.checkpoint import is_sound, list_checkpoints, load_checkpoint
from masklater.run.folder import RunFolder
from tests.conftest import fill_the_disk, tiny
from tests.runs import losses

SHARD = "shard-00001-model-00001-of-00001.safetensors"


def recipe(*overrides: str, background: str = "true") -> Recipe:
    """Checkpoints after steps 2, 4 and 6, none of which is removed."""
    return tiny("3ml-small", "checkpoint.keep=9", f"checkpoint.background={background}", *overrides)


def whenever_a_step(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> None:
    """Call something with the number of each step before it is made."""
    number, step = 0, loop.train_step

    def counted(*given: Any) -> Any:
        nonlocal number
        number += 1
        act(number)
        return step(*given)

    monkeypatch.setattr(loop, "train_step", counted)


def test_it_is_what_would_have_been_written_at_once(
    shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training goes on before anything is written, and what is written then is what was there when it began."""
    pretrain(recipe(background="false"), shards_folder, tmp_path / "at-once")
    at_step_4, write = threading.Event(), HuggingFaceStorageWriter.write_data

    def late(self: HuggingFaceStorageWriter, *given: Any) -> Any:
        assert at_step_4.wait(60)
        return write(self, *given)

    there = []

    def act(number: int) -> None:
        there.append([path.name for path in list_checkpoints(tmp_path / "later" / "checkpoints")])
        if number == 4:
            at_step_4.set()

    monkeypatch.setattr(HuggingFaceStorageWriter, "write_data", late)
    whenever_a_step(monkeypatch, act)
    pretrain(recipe(), shards_folder, tmp_path / "later")
    assert there[:4] == [[]] * 4 and "step-00000002" in there[4]
    assert losses(tmp_path / "later") == losses(tmp_path / "at-once")
    paths = list_checkpoints(tmp_path / "at-once" / "checkpoints")
    assert len(paths) == 3
    for path in paths:
        same = tmp_path / "later" / "checkpoints" / path.name
        assert load_checkpoint(same).ledger.steps == load_checkpoint(path).ledger.steps
        written, expected = load_file(same / SHARD), load_file(path / SHARD)
        assert written.keys() == expected.keys() and len(written) > 100
        assert all(torch.equal(written[name], expected[name]) for name in expected)


def test_a_run_ends_with_all_of_them_and_goes_on(shards_folder: Path, tmp_path: Path) -> None:
    wsd = ("schedule.name=wsd", "schedule.warmup=0", "schedule.decay=0.5")
    pretrain(recipe(*wsd), shards_folder, tmp_path / "straight")
    folder = tmp_path / "run"
    pretrain(recipe(*wsd, "duration.steps=3"), shards_folder, folder)
    names = {path.name for path in (folder / "checkpoints").iterdir()}
    assert names == {"step-00000002", "step-00000003", "before-decay-00000002"}
    assert all(is_sound(path) for path in (folder / "checkpoints").iterdir())
    assert RunFolder(folder).load_model()[1] == 3
    pretrain(recipe(*wsd), shards_folder, folder, resume=True)
    assert losses(folder) == losses(tmp_path / "straight")


def test_a_full_disk_is_told_at_the_next_step(
    shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    made: list[int] = []

    def act(number: int) -> None:
        made.append(number)
        writing = savers[0].pending
        if number == 3 and writing is not None:
            writing.result(60)
            fill_the_disk(monkeypatch, SHARD)
        if number == 5 and writing is not None:
            assert isinstance(writing.exception(60), UserError)

    savers: list[saver.Saver] = []
    begin = saver.Saver.__init__

    def remembered(self: saver.Saver, *given: Any) -> None:
        begin(self, *given)
        savers.append(self)

    monkeypatch.setattr(saver.Saver, "__init__", remembered)
    whenever_a_step(monkeypatch, act)
    with pytest.raises(UserError, match=r"the disk is full: .*step-00000004"):
        pretrain(recipe(), shards_folder, run)
    assert made == [1, 2, 3, 4, 5]
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000002"]
    monkeypatch.undo()
    pretrain(recipe(), shards_folder, run, resume=True)
    pretrain(recipe(), shards_folder, tmp_path / "straight")
    assert losses(run) == losses(tmp_path / "straight")


def test_a_run_that_ends_by_an_error_completes_what_it_has_begun(
    shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def act(number: int) -> None:
        if number == 3:
            raise UserError("something else went wrong")

    whenever_a_step(monkeypatch, act)
    with pytest.raises(UserError, match="something else"):
        pretrain(recipe(), shards_folder, tmp_path / "run")
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    assert (checkpoint.name, is_sound(checkpoint)) == ("step-00000002", True)


def test_on_a_gpu_unless_the_recipe_says_otherwise() -> None:
    chosen = {setting: recipe(background=setting).checkpoint for setting in ("auto", "true", "false")}
    resolved = {
        name: [kept.writes_in_background(device) for device in ("cpu", "cuda")] for name, kept in chosen.items()
    }
    assert resolved == {"auto": [False, True], "true": [True, True], "false": [False, False]}
