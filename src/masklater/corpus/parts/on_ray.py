"""Parts made on a Ray cluster: one task per part, processed as in a process of this machine."""

import signal
import threading
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from masklater.corpus.parts.cut import Part
from masklater.corpus.parts.file_range import FileRange
from masklater.corpus.parts.work import OnProgress, Outcome, Task, Work, try_part
from masklater.corpus.read import TextFile
from masklater.errors import UserError, first_line
from masklater.extras import import_extra

POLL_SECONDS = 1.0
RETRIES = 5
"""The number of times that a task is retried when its node is lost."""


def on_ray(
    tasks: Sequence[Task], work: Work[Any], address: str, on_progress: OnProgress
) -> Generator[Outcome, None, None]:
    """Make parts on a cluster; yield each when it is finished.

    Args:
        tasks: The parts.
        work: The work to do on each part. All nodes see its `place`, under the same name.
        address: The address of the cluster, or `auto`.
        on_progress: Called with each part that is finished.

    Raises:
        UserError: There is no cluster, it fails, or only this machine can read an input.
    """
    ray = import_extra("ray", "ray", "--ray")
    for task in tasks:
        if not task.part.is_portable:
            raise UserError(
                f"--ray: {task.part.sources[0].name} is read on this machine alone",
                "Name files that every node sees: paths on a shared file system, or s3://, gs://, hf://datasets/.",
            )
    work = replace(work, place=work.place.absolute(), out=work.out.absolute())
    is_ours = not ray.is_initialized()
    if is_ours:
        _connect(ray, address)
    try:
        make = ray.remote(num_cpus=1, max_retries=RETRIES)(_make)
        shared = ray.put(work)
        waiting = {make.remote(_absolute(task), shared): task for task in tasks}
        while waiting:
            done, _ = ray.wait([*waiting], num_returns=1, timeout=POLL_SECONDS)
            for reference in done:
                task, outcome = waiting.pop(reference), ray.get(reference)
                on_progress(task.part.bytes, outcome.tokens)
                yield outcome
    except ray.exceptions.RayTaskError:
        raise  # a fault of ours, with its traceback
    except ray.exceptions.RayError as error:
        raise UserError(
            f"--ray {address}: the cluster could not make a part ({first_line(error)})",
            "Look at `ray status`; --resume goes on from the parts that are finished.",
        ) from None
    finally:
        if is_ours:
            ray.shutdown()  # ends tasks that still run


def _connect(ray: Any, address: str) -> None:
    stops = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="error")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"--ray {address}: no cluster can be reached there ({first_line(error)})",
            "Start one with `ray start --head`, and join it with `ray start --address ...` on the other machines.",
        ) from None
    if stops:
        signal.signal(signal.SIGTERM, stops)  # Ray takes the handler over


def _make(task: Task, work: Work[Any]) -> Outcome:
    return try_part(task, work, 1, lambda read, tokens: None)


def _absolute(task: Task) -> Task:
    """Return the task with absolute paths, as a node's process has another working directory."""
    sources = tuple(replace(source, files=[*map(_whole, source.files)]) for source in task.part.sources)
    return replace(task, part=Part(task.part.number, sources))


def _whole(file: TextFile) -> TextFile:
    if isinstance(file, FileRange):
        return replace(file, path=file.path.absolute())
    return file.absolute() if isinstance(file, Path) else file
