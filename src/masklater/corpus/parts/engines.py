"""The places where parts are made: this process, one part after the other, or several processes in parallel."""

import os
import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import active_children, get_context, parent_process
from typing import Any, Generic, NamedTuple

from masklater.console import Meter, say
from masklater.corpus.parts.on_ray import on_ray
from masklater.corpus.parts.work import OnProgress, Outcome, R, Task, Work, try_part
from masklater.errors import DamagedDataError, UserError
from masklater.machine.memory import peak_memory
from masklater.machine.signals import children_deaf_to_the_terminal

POLL_SECONDS = 0.5


def in_this_process(
    tasks: Sequence[Task], work: Work[Any], threads: int, on_progress: OnProgress
) -> Generator[Outcome, None, None]:
    """Make parts one after the other."""
    for task in tasks:
        yield try_part(task, work, threads, on_progress)


def in_processes(
    tasks: Sequence[Task], work: Work[Any], workers: int, on_progress: OnProgress
) -> Generator[Outcome, None, None]:
    """Make parts in several processes; yield each when it is finished.

    Args:
        tasks: The parts.
        work: The work to do on each part.
        workers: Threads in all. Where there are fewer parts, each process has several threads.
        on_progress: Called from time to time.

    Raises:
        UserError: A process was killed.
    """
    processes = min(workers, len(tasks))
    context = get_context("spawn")  # a fork of a process with threads may hang
    progress = context.Array("q", 2)
    others = {*active_children()}
    pool = ProcessPoolExecutor(processes, context, _begin, (work, workers // processes, progress))
    seen = (0, 0)
    try:
        with children_deaf_to_the_terminal():
            waiting = {pool.submit(_make, task) for task in tasks}
        while waiting:
            done, waiting = wait(waiting, POLL_SECONDS, FIRST_COMPLETED)
            now = (progress[0], progress[1])
            on_progress(now[0] - seen[0], now[1] - seen[1])
            seen = now
            for future in done:
                yield future.result()
        pool.shutdown()
    except BrokenProcessPool:
        raise UserError(
            "a process that makes parts was killed, or could not start",
            "Was memory short? Fewer --workers take less. (A script that calls prepare does so below "
            "`if __name__ == '__main__':`.)",
        ) from None
    finally:
        for child in {*active_children()} - others:
            child.terminate()
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Made(Generic[R]):
    """The results of all parts."""

    results: list[R]  # in order
    taken_over: int  # how many of them were finished before
    new_tokens: int  # in rows of the parts made now
    peak_memory_bytes: int  # of the largest process


def make_parts(tasks: Sequence[Task], work: Work[R], ray: str | None) -> Made[R]:
    """Make the parts that are not there yet, on this machine or on a Ray cluster.

    Raises:
        DamagedDataError: An input is damaged; all parts that do not read it are finished.
        UserError: A part cannot be made, for a reason that affects other parts too.
    """
    done = {task.part.number for task in tasks if work.read(work.place / task.name) is not None}
    todo = [task for task in tasks if task.part.number not in done]
    if done:
        say(f"{len(done):,} of {len(tasks):,} parts are {work.done} already")
    errors: list[UserError] = []
    peak, new_tokens = peak_memory(), 0
    with Meter(work.title, sum(task.part.bytes for task in todo) or None) as meter:
        began, tokens = time.monotonic(), 0

        def show(read: int, made: int) -> None:
            nonlocal tokens
            tokens += made
            rate = tokens / max(time.monotonic() - began, 1e-9) / 1e6
            meter.advance(read, f"{tokens / 1e6:,.1f} M tokens, {rate:.2f} M/s" if made else None)

        with closing(_engine(todo, work, ray, show)) as outcomes:
            for outcome in outcomes:
                peak = max(peak, outcome.peak_memory_bytes)
                new_tokens += outcome.tokens
                if outcome.error is not None:
                    if not isinstance(outcome.error, DamagedDataError):  # the reason affects other parts too
                        raise outcome.error
                    errors.append(outcome.error)
                    if len(todo) > 1:
                        say(f"part {outcome.number + 1:,} of {len(tasks):,}: {outcome.error.problem}")
    if errors:
        raise errors[0]
    results = [result for task in tasks if (result := work.read(work.place / task.name)) is not None]
    if len(results) < len(tasks):
        raise UserError(
            f"{len(tasks) - len(results):,} parts that were made are not in {work.place}",
            "Name an --out that every machine sees under the same name.",
        )
    return Made(results, len(done), new_tokens, peak)


def _engine(
    tasks: Sequence[Task], work: Work[R], ray: str | None, on_progress: OnProgress
) -> Generator[Outcome, None, None]:
    workers = work.settings.workers
    if ray is not None:
        return on_ray(tasks, work, ray, on_progress)
    if min(workers, len(tasks)) > 1 and all(task.part.is_portable for task in tasks):
        return in_processes(tasks, work, workers, on_progress)
    return in_this_process(tasks, work, workers, on_progress)


class _Worker(NamedTuple):
    """What a process keeps between parts."""

    work: Work[Any]
    threads: int
    progress: Any  # bytes read and tokens made by all processes


_worker: _Worker | None = None


def _begin(work: Work[Any], threads: int, progress: Any) -> None:
    global _worker  # noqa: PLW0603 - a pool's process can be given data only once, when it starts
    _worker = _Worker(work, threads, progress)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent is killed; a pool's process would wait for ever."""
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)


def _make(task: Task) -> Outcome:
    if _worker is None:
        raise ValueError("no process of a pool")
    work, threads, progress = _worker

    def book(read: int, tokens: int) -> None:
        with progress.get_lock():
            progress[0] += read
            progress[1] += tokens

    return try_part(task, work, threads, book)
