"""Work on the parts of a corpus: what is made of a part is whole under its name, or not there, whoever makes it.

What comes out follows from the part and from what all parts share, whatever process or machine makes it, and when.
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
    """A part, and what is known of its documents."""

    part: Part
    name: str  # of its folder: a hash of all that decides what is in it
    reasons: bytes | None = None  # for each of its documents, why it is left out; None: all are kept


class Result(Section):
    """What was made of a part, beside files."""

    @property
    def tokens(self) -> int:
        """Tokens that were made."""
        return 0

    def is_whole(self, folder: Path) -> bool:
        """Whether the files are there."""
        raise NotImplementedError


R = TypeVar("R", bound=Result)


@dataclass(frozen=True, kw_only=True)
class Work(ABC, Generic[R]):
    """One kind of work on parts, with all that they share."""

    title: ClassVar[str]  # as a participle: "Tokenising"
    done: ClassVar[str]  # what a part is then: "finished"
    result: ClassVar[type[Any]]  # R, which a class variable cannot say
    settings: PrepareSettings
    place: Path  # where what is made of parts stands
    out: Path  # what messages about the disk name

    @abstractmethod
    def digest(self) -> str:
        """A hash of all that decides what is made, but for the part."""

    @abstractmethod
    def make(self, task: Task, folder: Path, threads: int, on_progress: OnProgress) -> R:
        """Write what is made of a part into a folder, and tell what it is."""

    def read(self, folder: Path) -> R | None:
        """Read what was made of a part; None where it is not there, or not whole."""
        try:
            result: R = self.result.model_validate_json((folder / RESULT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return result if result.is_whole(folder) else None


def tasks_of(parts: Sequence[Part], work: Work[R], reasons: Sequence[bytes | None] = ()) -> list[Task]:
    """Name parts by all that decides what is made of them: what stands under that name is what would be made.

    Args:
        parts: All of them.
        work: What is to be done.
        reasons: For each part, why its documents are left out; nothing: that is no matter.
    """
    shared = work.digest()
    reasons = reasons or [None] * len(parts)
    names = [
        digest(shared, part.identity(), why and hashlib.sha256(why).hexdigest())
        for part, why in zip(parts, reasons, strict=True)
    ]
    return [Task(part, name, why) for part, name, why in zip(parts, names, reasons, strict=True)]


class Outcome(NamedTuple):
    """What has become of a part: made, unless there is an error."""

    number: int
    error: UserError | None
    tokens: int
    peak_memory_bytes: int  # of the process that has made it


def try_part(task: Task, work: Work[R], threads: int, on_progress: OnProgress) -> Outcome:
    """Make of a part what is to be made, and tell what has become of it, in whatever process."""
    error: UserError | None = None
    tokens = 0
    try:
        tokens = make_part(task, work, threads, on_progress).tokens
    except UserError as failure:
        error = failure
    return Outcome(task.part.number, error, tokens, peak_memory())


def make_part(task: Task, work: Work[R], threads: int, on_progress: OnProgress) -> R:
    """Make of a part what is to be made, under its name in `work.place`: whole, or not there.

    Raises:
        UserError: What is read is damaged or missing, or the disk is full.
    """
    final = work.place / task.name
    partial = final.with_name(f"{task.name}.partial-{platform.node()}-{os.getpid()}")
    with disk_errors_for_people(work.out), gone_on_failure(partial):
        partial.mkdir()
        result = work.make(task, partial, threads, on_progress)
        (partial / RESULT).write_text(result.model_dump_json(), encoding="utf-8")
        sync_files(partial)
        if work.read(final) is not None:  # by a process that was taken for dead; its bytes are the same
            remove(partial)
        else:
            remove(final)
            partial.rename(final)
    return result


def has_sizes(folder: Path, sizes: dict[str, int]) -> bool:
    """Whether files are there and as long as they must be, in bytes."""
    try:
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except OSError:
        return False
