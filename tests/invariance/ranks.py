"""Runs of several processes as torchrun would start them, without paying for its imports again and again."""

import faulthandler
import multiprocessing
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

import torch.distributed as dist

CONTEXT = multiprocessing.get_context("forkserver")
"""A server imports everything once; processes are forked from it, before any of torch's threads have started."""


@dataclass(frozen=True)
class Job:
    """One call of pretrain."""

    processes: int
    overrides: tuple[str, ...]
    data: Path
    out: Path
    resume: bool = False
    recipe: str = "3ml-small"


def run_jobs(jobs: list[Job], log: Path, timeout: float = 300) -> None:
    """Run jobs one after another in the same few processes; raise with what they wrote where one fails."""
    CONTEXT.set_forkserver_preload(["tests.invariance.ranks", "tests.conftest", "masklater.pretrain.loop"])
    log.mkdir(parents=True, exist_ok=True)
    # As torchrun does, the stores are kept here: a port that is merely free now may be taken when its job's turn comes.
    stores = [dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) for _ in jobs]
    ports = [store.port for store in stores]
    count = max(job.processes for job in jobs)
    ranks = [CONTEXT.Process(target=_work, args=(rank, jobs, ports, log), daemon=True) for rank in range(count)]
    for rank in ranks:
        rank.start()
    deadline = time.monotonic() + timeout
    while any(rank.is_alive() for rank in ranks) and time.monotonic() < deadline:
        if any(rank.exitcode for rank in ranks):  # the others would wait for it
            break
        time.sleep(0.05)
    codes = [rank.exitcode for rank in ranks]
    for rank in ranks:
        if rank.exitcode is None and rank.pid:
            os.kill(rank.pid, signal.SIGUSR1)  # it writes down where it stands
    time.sleep(0 if codes == [0] * count else 1)
    for rank in ranks:
        rank.kill()
    texts = [f"process {i}, exit status {codes[i]}:\n{(log / f'{i}.log').read_text()}" for i in range(count)]
    assert codes == [0] * count, "\n".join(texts)


def take_place(rank: int, size: int, port: int) -> None:
    """Tell this process its place among others, whose store is kept at a port, as torchrun does."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}


def _work(rank: int, jobs: list[Job], ports: list[int], log: Path) -> None:
    from masklater.pretrain.loop import pretrain
    from tests.conftest import tiny

    sys.stderr = (log / f"{rank}.log").open("w", buffering=1)
    faulthandler.register(signal.SIGUSR1, sys.stderr)
    try:
        for job, port in zip(jobs, ports, strict=True):
            if rank < job.processes:
                take_place(rank, job.processes, port)
                pretrain(tiny(job.recipe, *job.overrides), job.data, job.out, job.resume)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
