"""torchrun as a user starts it: what is said is said once, and a process that dies neither hangs the job nor loses it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from masklater.pretrain.loop import pretrain
from masklater.run.checkpoint import load_newest
from masklater.run.metrics import read_metrics
from tests.conftest import REPOSITORY, TINY, tiny

pytestmark = pytest.mark.slow

SETTINGS = ("duration.steps=30", "batch.micro_rows=2", "checkpoint.every_steps=2", "evaluation.every_steps=30")
SLOW = """
import time
from masklater.cli import main
from masklater.pretrain import loop

train_step = loop.train_step

def slow(*arguments):
    time.sleep(0.2)
    return train_step(*arguments)

loop.train_step = slow
main()
"""
"""Steps that take long enough to be killed in, however busy the machine is."""
FAILS = """
import os
from masklater.cli import main
from masklater.pretrain import loop

train_step = loop.train_step

def fail(*arguments):
    calls.append(1)
    if os.environ["RANK"] == "1" and len(calls) > 5:
        raise RuntimeError("the GPU fell off the bus")
    return train_step(*arguments)

calls = []
loop.train_step = fail
main()
"""


class Torchrun:
    """`torchrun ... -m masklater pretrain` in two processes."""

    def __init__(
        self, folder: Path, data: Path, *overrides: str, restarts: int = 0, script: Path | None = None
    ) -> None:
        self.run = folder / "run"
        self.log = folder / "log"
        what = ["-m", "masklater"] if script is None else [str(script)]
        arguments = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
                     f"--max-restarts={restarts}", *what, "pretrain", "3ml-small", *TINY, *SETTINGS, *overrides,
                     "--data", str(data), "--out", str(self.run), "--json"]  # fmt: skip
        with self.log.open("w") as log:
            self.process = subprocess.Popen(arguments, stdout=log, stderr=log, cwd=REPOSITORY)

    def wait_for_step(self, step: int) -> None:
        deadline = time.monotonic() + 600
        while len(losses(self.run)) < step:
            assert time.monotonic() < deadline, self.log.read_text()
            assert self.process.poll() is None or len(losses(self.run)) >= step, self.log.read_text()
            time.sleep(0.05)

    def workers(self) -> list[int]:
        pid = self.process.pid
        found = []
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            if b"pretrain" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
        return found

    def end(self, timeout: float = 600) -> tuple[int, str]:
        try:
            return self.process.wait(timeout), self.log.read_text()
        finally:
            if self.process.poll() is None:
                for worker in self.workers():  # which nobody would end
                    os.kill(worker, signal.SIGKILL)
            self.process.kill()


def losses(run: Path) -> list[float]:
    path = run / "metrics.jsonl"
    return [record["loss"] for record in read_metrics(path) if "loss" in record] if path.exists() else []


@pytest.mark.parametrize("background", ["false", "true"])
def test_a_killed_process_is_started_again_and_the_run_goes_on(
    background: str, shards_folder: Path, tmp_path: Path
) -> None:
    """The second kill is one too many: the job ends at once, and one process finishes what two began."""
    script = tmp_path / "slow.py"
    script.write_text(SLOW)
    job = Torchrun(tmp_path, shards_folder, f"checkpoint.background={background}", restarts=1, script=script)
    job.wait_for_step(5)
    os.kill(job.workers()[1], signal.SIGKILL)
    while "resuming at step" not in job.log.read_text():
        assert job.process.poll() is None, job.log.read_text()
        time.sleep(0.1)
    job.wait_for_step(12)
    killed = time.monotonic()
    os.kill(job.workers()[0], signal.SIGKILL)
    status, text = job.end()
    assert status != 0
    assert time.monotonic() - killed < 60, text
    recipe = tiny("3ml-small", *SETTINGS)
    assert 12 <= len(losses(job.run)) < 30
    assert "has lost another process, which has died or hangs" in text
    assert "a fault of ours" not in text
    pretrain(recipe, shards_folder, job.run, resume=True)
    pretrain(recipe, shards_folder, tmp_path / "straight")
    assert losses(job.run) == pytest.approx(losses(tmp_path / "straight"), rel=1e-4)


@pytest.mark.parametrize("background", ["false", "true"])
def test_a_process_that_fails_ends_the_job_with_its_traceback(
    background: str, shards_folder: Path, tmp_path: Path
) -> None:
    script = tmp_path / "fails.py"
    script.write_text(FAILS)
    job = Torchrun(tmp_path, shards_folder, f"checkpoint.background={background}", script=script)
    job.wait_for_step(5)
    began = time.monotonic()
    status, text = job.end()
    assert status != 0
    assert time.monotonic() - began < 60, text
    assert "RuntimeError: the GPU fell off the bus" in text
    newest = load_newest(job.run / "checkpoints")
    assert newest is not None
    assert newest.ledger.steps >= 4


def test_sigterm_saves(shards_folder: Path, tmp_path: Path) -> None:
    job = Torchrun(tmp_path, shards_folder, "duration.steps=100000", "checkpoint.every_steps=100000")
    job.wait_for_step(3)
    job.process.send_signal(signal.SIGTERM)
    status, text = job.end()
    assert status != 0
    newest = load_newest(job.run / "checkpoints")
    assert newest is not None
    assert f"stopped and saved at step {newest.ledger.steps:,}" in text
    assert len(losses(job.run)) == newest.ledger.steps
    assert text.count("stopped and saved") == 1


def test_what_is_said_is_said_once(shards_folder: Path, tmp_path: Path) -> None:
    job = Torchrun(tmp_path, shards_folder, "duration.steps=3", "distributed=fsdp", "batch.micro_rows=8")
    status, text = job.end()
    assert status == 0, text
    assert text.count("2 processes of 4 rows a step each, the model cut up over them (FSDP2)") == 1
    assert text.count("batch.micro_rows is 4 in place of 8, to divide the 4 rows that each of 2 processes") == 1
    results = [json.loads(line) for line in text.splitlines() if line.startswith('{"run"')]
    assert [(result["finished"], result["steps"], result["rows"]) for result in results] == [(True, 3, 24)]

    (tmp_path / "mistake").mkdir()
    job = Torchrun(tmp_path / "mistake", shards_folder, "batch.rows=9")
    status, text = job.end()
    assert status != 0
    assert text.count("batch.rows is 9, which 2 processes cannot share evenly") == 1
    assert "Start as many processes as divide 9" in text
    assert "src/masklater/" not in text  # no traceback of ours
    assert not job.run.exists()
