"""Data that is cut, removed or replaced at random moments of a run: the run is told, or never notices; no process dies."""

import multiprocessing
import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from masklater.errors import UserError
from masklater.pretrain.loop import pretrain
from masklater.recipe.recipe import Recipe
from masklater.run.metrics import read_metrics
from tests.conftest import tiny

CONTEXT = multiprocessing.get_context("forkserver")
"""A server imports everything once; each process is forked from it before any of torch's threads have started."""


def cut(path: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size))


def remove(path: Path, _: random.Random) -> None:
    path.unlink()


def replace(path: Path, rng: random.Random) -> None:
    """By a file of another inode: the same content, rows of zeros, or something shorter."""
    content = path.read_bytes()
    other = path.with_name("other")
    other.write_bytes(rng.choice((content, bytes(len(content)), content[: len(content) // 2])))
    other.replace(path)


Fault = Callable[[Path, random.Random], None]


@pytest.mark.fault
@pytest.mark.parametrize("fault", [cut, remove, replace])
def test_data_that_changes_at_random_moments(fault: Fault, shards_folder: Path, tmp_path: Path) -> None:
    meet(fault, 3, shards_folder, tmp_path)


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.parametrize("fault", [cut, remove, replace])
def test_data_that_changes_at_two_hundred_moments(
    fault: Fault, shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a process of its own, whose death would be a failure and not the end of all tests."""
    CONTEXT.set_forkserver_preload(["tests.conftest", "masklater.pretrain.loop"])
    process = CONTEXT.Process(target=work, args=(fault, 200, shards_folder, tmp_path))
    process.start()
    process.join(3600)
    log = (tmp_path / "log").read_text()
    assert process.exitcode == 0, log
    with capsys.disabled():
        print(f"\n{fault.__name__}: {log.splitlines()[-1]}")


def work(fault: Fault, rounds: int, sound: Path, folder: Path) -> None:
    from masklater.console import console

    torch.set_num_threads(1)
    console.file = sys.stderr = (folder / "log").open("w", buffering=1)
    told = meet(fault, rounds, sound, folder)
    sys.stderr.write(f"{rounds} runs, of which {told} were told\n")


def meet(fault: Fault, rounds: int, sound: Path, folder: Path) -> int:
    """Let so many runs each meet the fault once; all of them end as one that has not. Returns how many were told."""
    recipe = tiny("3ml-small", "duration.steps=4", "evaluation.every_steps=2", "checkpoint.every_steps=9")
    began = time.monotonic()
    pretrain(recipe, sound, folder / "straight")
    seconds = time.monotonic() - began

    rng = random.Random(0)
    told = 0
    for number in range(rounds):
        data, run = folder / f"data-{number}", folder / f"run-{number}"
        shutil.copytree(sound, data)
        path = rng.choice(sorted(file for file in data.rglob("*") if file.is_file()))
        timer = threading.Timer(rng.uniform(0, seconds), fault, (path, rng))
        timer.start()
        failed = is_told(recipe, data, run, path)
        timer.join()
        shutil.rmtree(data)
        if failed:
            told += 1
            shutil.copytree(sound, data)
            pretrain(recipe, data, run, resume=(run / "run.json").exists())
            shutil.rmtree(data)
        assert losses(run) == losses(folder / "straight"), (number, path)
        shutil.rmtree(run)
    return told


def is_told(recipe: Recipe, data: Path, run: Path, path: Path) -> bool:
    """Whether the run ends with an error that names what has changed."""
    try:
        pretrain(recipe, data, run)
    except UserError as error:
        assert path.name in str(error) or (path.parent.name == "tokenizer" and "tokenizer" in str(error)), error
        return True
    return False


def losses(run: Path) -> list[float]:
    return [
        record[name]
        for record in read_metrics(run / "metrics.jsonl")
        for name in ("loss", "valid_loss")
        if name in record
    ]
