"""The lock files of RUN, SCORES and parts: one process at a time trains a run, works on a sweep or on a corpus.

The kernel holds the lock and releases it when the process ends, in whatever way. The file stays, and names the last
holder.
"""

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from masklater.console import say
from masklater.errors import UserError
from masklater.folders import LOCK, disk_errors_for_people


@dataclass(frozen=True)
class Holder:
    """The process that took a lock last; it may have ended since."""

    pid: int
    host: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@contextmanager
def only_process(folder: Path, busy: str = "the run {} is being trained by") -> Iterator[None]:
    """Hold the lock of a folder inside the block.

    Args:
        folder: The folder.
        busy: The message where another process holds the lock, up to the name of that process.

    Raises:
        UserError: Another process holds the lock, or the folder cannot be written to.
    """
    path = folder / LOCK
    with disk_errors_for_people(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _take(descriptor, folder, busy)
        with disk_errors_for_people(path):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(asdict(Holder(os.getpid(), socket.gethostname()))).encode())
        yield
    finally:
        os.close(descriptor)  # releases the lock


def last_holder(folder: Path) -> Holder | None:
    """Return the process that took the lock last; None where there was none, or the file does not say."""
    try:
        return Holder(**json.loads((folder / LOCK).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def _take(descriptor: int, folder: Path, busy: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"{busy.format(folder)} {last_holder(folder) or 'another process'}",
            "Two processes would write over each other: wait for it or stop it, or name another folder with --out.",
        ) from None
    except OSError as error:
        if error.errno not in {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}:
            raise
        say(f"{folder} cannot be locked on this file system ({error.strerror}): see to it that nobody else is at it")
