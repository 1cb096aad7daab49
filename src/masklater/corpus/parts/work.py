"""Work on the parts of a corpus. The result of a part is either complete under its name, or not there.

The part and the settings that all parts share decide the result; the process or machine that makes it, and the time, do
not.
"""

import hashlib
import os
import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

from masklater.corpus.parts.cut import Part, digest
from masklater.corpus.settings import PrepareSettings
from masklater.errors import UserError
from masklater.folders import disk_errors_for_people, gone_on_failure, remove, sync_files
from masklater.machine.memory import peak_memory
from masklater.recipe.section import Section

RESULT = "part.json"

OnProgress = Callable[[int, int], None]
"""Called with the bytes read and the tokens made since its last call."""


@dataclass(frozen=True)
class Task:
    """A part, and which of its documents are left out."""

    part: Part
    name: str  # of its folder: a hash of everything that decides its content
    reasons: bytes | None = None  # for each of its documents, why it is left out; None: all are kept


class Result(Section):
    """The record of what was made of a part, next to the files."""

    @property
    def tokens(self) -> int:
        """The number of tokens made."""
        return 0

    def is_whole(self, folder: Path) -> bool:
        """Tell whether the files are there."""
        raise NotImplementedError


R = TypeVar("R", bound=Result)


@dataclass(frozen=True, kw_only=True)
class Work(ABC, Generic[R]):
    """One kind of work on parts, with the settings that all parts share."""

    title: ClassVar[str]  # as a participle: "Tokenising"
    done: ClassVar[str]  # the state of a part afterwards: "finished"
    result: ClassVar[type[Any]]  # R; a class variable cannot have that type
    settings: PrepareSettings
    place: Path  # the folder for the results of parts
    out: Path  # the folder that messages about the disk name

    @abstractmethod
    def digest(self) -> str:
        """Return a hash of everything that decides the results, except the part."""

    @abstractmethod
    def make(self, task: Task, folder: Path, threads: int, on_progress: OnProgress) -> R:
        """Write the result of a part into a folder, and return its record."""

    def read(self, folder: Path) -> R | None:
        """Read the record of a part; None where the result is missing or incomplete."""
        try:
            result: R = self.result.model_validate_json((folder / RESULT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return result if result.is_whole(folder) else None


def tasks_of(parts: Sequence[Part], work: Work[R], reasons: Sequence[bytes | None] = ()) -> list[Task]:
    """Name parts by a hash of everything that decides their results, so that a result of that name can be reused.

    Args:
        parts: All parts.
        work: The work to do.
        reasons: For each part, why its documents are left out; empty: the work does not depend on it.
    """
    shared = work.digest()
    reasons = reasons or [None] * len(parts)
    names = [
        digest(shared, part.identity(), why and hashlib.sha256(why).hexdigest())
        for part, why in zip(parts, reasons, strict=True)
    ]
    return [Task(part, name, why) for part, name, why in zip(parts, names, reasons, strict=True)]


class Outcome(NamedTuple):
    """The outcome of a part: a result, unless there is an error."""

    number: int
    error: UserError | None
    tokens: int
    peak_memory_bytes: int  # of the process that has worked on it


def try_part(task: Task, work: Work[R], threads: int, on_progress: OnProgress) -> Outcome:
    """Do the work on a part, in any process, and return its result or error."""
    error: UserError | None = None
    tokens = 0
    try:
        tokens = make_part(task, work, threads, on_progress).tokens
    except UserError as failure:
        error = failure
    return Outcome(task.part.number, error, tokens, peak_memory())


def make_part(task: Task, work: Work[R], threads: int, on_progress: OnProgress) -> R:
    """Do the work on a part. Its result is complete under its name in `work.place`, or not there.

    Raises:
        UserError: An input is damaged or missing, or the disk is full.
    """
    final = work.place / task.name
    partial = final.with_name(f"{task.name}.partial-{platform.node()}-{os.getpid()}")
    with disk_errors_for_people(work.out), gone_on_failure(partial):
        partial.mkdir()
        result = work.make(task, partial, threads, on_progress)
        (partial / RESULT).write_text(result.model_dump_json(), encoding="utf-8")
        sync_files(partial)
        if work.read(final) is not None:  # made by a process that was thought dead; the bytes are the same
            remove(partial)
        else:
            remove(final)
            partial.rename(final)
    return result


def has_sizes(folder: Path, sizes: dict[str, int]) -> bool:
    """Tell whether files are there and have the given sizes, in bytes."""
    try:
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except OSError:
        return False
