"""Real processes killed at random moments, writing checkpoints included: nothing is lost, and nothing half-written read."""

import multiprocessing
import os
import random
import re
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from masklater.run.checkpoint import is_sound, list_checkpoints, load_newest
from masklater.run.folder import RunFolder
from masklater.run.metrics import read_metrics
from tests.conftest import tiny

CONTEXT = multiprocessing.get_context("forkserver")
"""A server imports everything once; each process is forked from it before any of torch's threads have started."""

OVERRIDES = ("duration.steps=100", "checkpoint.every_steps=1", "evaluation.every_steps=20", "batch.rows=4")
KILLS = 36


def work(data: Path, out: Path, resume: bool, log: Path, background: bool) -> None:
    from masklater.pretrain.loop import pretrain

    torch.set_num_threads(1)
    sys.stderr = log.open("w", buffering=1)
    from masklater.console import console

    console.file = sys.stderr
    pretrain(tiny("3ml-small", *OVERRIDES, f"checkpoint.background={background}"), data, out, resume)


@pytest.mark.slow
def test_killed_at_random_moments(shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At each kill: a usable checkpoint once there was one, and --resume takes the newest. At the end: the straight run.

    Every second process writes its checkpoints in the background. After every third kill, as after a power cut, the
    newest checkpoint is cut short besides.
    """
    CONTEXT.set_forkserver_preload(["tests.conftest", "masklater.pretrain.loop"])
    straight, run = tmp_path / "straight", tmp_path / "run"
    finish(start(shards_folder, straight, tmp_path / "straight.log"))

    rng = random.Random(0)
    while_writing, cuts = 0, 0
    cut: Path | None = None  # the checkpoint that is cut short
    expected: int | None = None  # the step to go on from
    for kill in range(1, KILLS + 1):
        log = tmp_path / f"{kill}.log"
        process, before = start(shards_folder, run, log, background=kill % 2 == 0), partials(run)
        wait_for(run, rng)
        os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
        process.join()
        assert process.exitcode == -signal.SIGKILL, log.read_text()
        while_writing += bool(partials(run) - before)
        if resumed_at(log) is not None:
            assert resumed_at(log) == expected
            cut = None  # set aside, so that its name stands for a whole one again
        checkpoints = list_checkpoints(run / "checkpoints")
        assert all(path == cut or is_sound(path) for path in checkpoints)
        if kill % 3 == 0 and len(checkpoints) > 1 and cut is None:
            cut, cuts = checkpoints[-1], cuts + 1
            victim = rng.choice(sorted(cut.iterdir()))
            os.truncate(victim, rng.randrange(victim.stat().st_size))
        newest = load_newest(run / "checkpoints")
        assert newest is not None or expected is None
        expected = newest.ledger.steps if newest else None

    log = tmp_path / "last.log"
    finish(start(shards_folder, run, log))
    assert resumed_at(log) == expected
    assert results(run) == results(straight)
    killed, whole = (RunFolder(folder).load_model()[0].state_dict() for folder in (run, straight))
    assert all(torch.equal(killed[name], whole[name]) for name in whole)
    assert not partials(run)
    with capsys.disabled():
        print(
            f"\n{KILLS} kills survived, {while_writing} of them while a checkpoint was being written; {cuts} times the "
            f"newest checkpoint was cut short besides; the last kill was after step {expected}"
        )


def start(data: Path, out: Path, log: Path, background: bool = False) -> multiprocessing.process.BaseProcess:
    log.touch()
    process = CONTEXT.Process(target=work, args=(data, out, out.exists(), log, background))
    process.start()
    return process


def finish(process: multiprocessing.process.BaseProcess) -> None:
    process.join(180)
    assert process.exitcode == 0


def resumed_at(log: Path) -> int | None:
    found = re.search(r"resuming at step ([\d,]+)", log.read_text())
    return int(found[1].replace(",", "")) if found else None


def results(run: Path) -> list[tuple[float, ...]]:
    """Losses and scores in the order of the log, to the bit."""
    names = ("step", "loss", "grad_norm", "valid_loss", "valid_loss_15")
    return [tuple(record[name] for name in names if name in record) for record in read_metrics(run / "metrics.jsonl")]


def wait_for(run: Path, rng: random.Random) -> None:
    """Until a random moment: while starting up, between steps, in the midst of writing a checkpoint."""
    deadline = time.monotonic() + 60
    kind = rng.choice(("starting", "stepping", "writing", "writing"))
    if kind == "starting":
        time.sleep(rng.uniform(0, 1.5))
        return
    for _ in range(rng.choice((1, 1, 2, 3, 4))):  # steps
        before = progress(run)
        while progress(run) == before and time.monotonic() < deadline:
            time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.15))
    left = partials(run)
    while kind == "writing" and partials(run) <= left and time.monotonic() < deadline:
        pass
    time.sleep(rng.uniform(0, 0.03) if kind == "writing" else 0)


def partials(run: Path) -> set[Path]:
    """Checkpoints that are being written, or were when their process was killed."""
    return set((run / "checkpoints").glob("*.partial-*"))


def progress(run: Path) -> str:
    """Changes with every step that is made."""
    try:
        return (run / "metrics.jsonl").read_text()[-200:]
    except OSError:
        return ""
