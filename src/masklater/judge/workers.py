"""Several devices, one process on each: jobs go out, records come back."""

import multiprocessing
import queue
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from masklater.errors import UserError
from masklater.judge.data import TaskData
from masklater.judge.encoder import Encoder
from masklater.judge.finetune import Setting
from masklater.judge.records import Record
from masklater.judge.scorer import Scorer
from masklater.machine.signals import children_deaf_to_the_terminal

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Job:
    """One run to be made."""

    task: str  # its key
    setting: Setting

    @property
    def key(self) -> tuple[Any, ...]:
        """The same key as `records.key_of` returns."""
        setting = self.setting
        return self.task, setting.lr, setting.batch, setting.epochs, setting.seed


@dataclass(frozen=True)
class _Failure:
    """The reason why a worker stopped: a mistake of the user's, or a traceback of masklater's."""

    problem: str
    remedy: str = ""
    trace: str = ""


class Workers:
    """Processes that share a list of jobs."""

    def __init__(
        self,
        encoder: Encoder,
        rows: dict[str, TaskData],
        jobs: Sequence[Job],
        devices: Sequence[torch.device],
        precision: str,
    ) -> None:
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        self.waiting: Any = context.Queue()
        self.results: Any = context.Queue()
        self.count = len(jobs)
        for job in [*jobs, *[None for _ in devices]]:  # None tells a worker to end
            self.waiting.put(job)
        threads = max(1, torch.get_num_threads() // len(devices))
        self.processes = [
            context.Process(
                target=_work, args=(encoder, rows, device, precision, threads, self.waiting, self.results), daemon=True
            )
            for device in devices[: len(jobs)]
        ]

    def run(self, stop: Callable[[], bool]) -> Iterator[Record]:
        """Yield records as they arrive, in no fixed order, until all jobs are done or `stop` returns True.

        Raises:
            UserError: A worker raised one, or was killed.
        """
        with children_deaf_to_the_terminal():
            for process in self.processes:
                process.start()
        try:
            received = 0
            while received < self.count and not stop():
                try:
                    result = self.results.get(timeout=POLL_SECONDS)
                except queue.Empty:
                    self._check_alive()
                    continue
                if isinstance(result, _Failure):
                    if result.trace:
                        raise RuntimeError(f"a worker failed:\n{result.trace}")
                    raise UserError(result.problem, result.remedy)
                received += 1
                yield result
        finally:
            for process in self.processes:
                process.terminate()
            for process in self.processes:
                process.join()

    def _check_alive(self) -> None:
        dead = [process for process in self.processes if process.exitcode not in {None, 0}]
        if dead:
            raise UserError(
                f"a worker process ended with status {dead[0].exitcode}; was it killed, or memory short?",
                "Finished runs are kept: go on with --resume.",
            )


def _work(
    encoder: Encoder,
    rows: dict[str, TaskData],
    device: torch.device,
    precision: str,  # of all workers, because devices may differ in their own choice
    threads: int,
    waiting: Any,
    results: Any,
) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(threads)
    try:
        scorer = Scorer(encoder, device, precision=precision)
        while (job := waiting.get()) is not None:
            results.put(scorer.score(rows[job.task], job.setting))
    except UserError as error:
        results.put(_Failure(error.problem, error.remedy))
    except Exception:
        results.put(_Failure("", trace=traceback.format_exc()))
