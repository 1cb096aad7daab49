"""One file of rows, read by position, so that a failed read raises an exception at once.

If a file was cut or a disk fails, a memory map would end the process (SIGBUS), and no check of the file beforehand can
prevent this.
"""

import errno
import hashlib
import os
import resource
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from masklater.errors import DamagedDataError, UserError

RESTORE = "Restore it from a copy, or prepare the data again."
BLOCK_BYTES = 4 * 2**20
OTHER_FILES = 256
"""The number of open files allowed for in addition to those of rows."""


class RowFile:
    """A file of rows of one width, open until nothing refers to it."""

    def __init__(self, path: Path, rows: int, width: int) -> None:
        """Open a file and check its size.

        Args:
            path: The file.
            rows: How many rows it holds.
            width: Bytes of a row.

        Raises:
            UserError: This process has as many files open as the system allows.
            DamagedDataError: The file is missing or unreadable, or has another size.
        """
        self.path = path
        self.width = width
        self.size = rows * width
        _check_size(path, self.size)
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.EMFILE:
                raise UserError(
                    f"{path.parent} has more shards than this process may have files open "
                    f"({resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,}; each shard is two files)",
                    "Raise the limit (`ulimit -n`, or LimitNOFILE, nofile and the like in what starts the process).",
                ) from None
            raise DamagedDataError(f"{path} cannot be read: {error.strerror}", RESTORE) from None
        weakref.finalize(self, os.close, self.descriptor)

    def check(self) -> None:
        """Raise DamagedDataError where the file at this path is gone or has another size."""
        _check_size(self.path, self.size)

    def read_into(self, first: int, rows_NL: NDArray[np.unsignedinteger]) -> None:
        """Fill an array with consecutive rows, from `first` on.

        Raises:
            DamagedDataError: The rows are gone, or cannot be read.
        """
        self._fill(first * self.width, rows_NL.view(np.uint8).data.cast("B"))

    def verify(self, sha256: str, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        """Read the whole file and compare its checksum.

        Raises:
            DamagedDataError: The checksum differs, or the file cannot be read.
        """
        self.check()
        digest = hashlib.sha256()
        block = memoryview(bytearray(min(self.size, BLOCK_BYTES)))
        for position in range(0, self.size, BLOCK_BYTES):
            part = block[: self.size - position]
            self._fill(position, part)
            digest.update(part)
            on_bytes(len(part))
        if digest.hexdigest() != sha256:
            raise DamagedDataError(
                f"{self.path}: the content has changed since it was written (its checksum does not match)", RESTORE
            )

    def _fill(self, position: int, unread: memoryview) -> None:
        while unread:
            try:
                count = os.preadv(self.descriptor, [unread], position)
            except OSError as error:
                raise DamagedDataError(f"{self.path} cannot be read: {error.strerror}", RESTORE) from None
            if not count:
                # The file ends before this position; its size may have changed again by now.
                raise _wrong_size(self.path, min(position, os.fstat(self.descriptor).st_size), self.size)
            unread, position = unread[count:], position + count


def _check_size(path: Path, expected: int) -> None:
    """Raise DamagedDataError unless a file exists and has the expected number of bytes."""
    try:
        found = path.stat().st_size
    except OSError as error:
        raise DamagedDataError(f"{path} is missing or unreadable ({error.strerror})", RESTORE) from None
    if found != expected:
        raise _wrong_size(path, found, expected)


def allow_open_files(number: int) -> None:
    """Let this process keep `number` files of rows open, as far as the system allows.

    Each holds a descriptor, and the usual limit of 1,024 is reached at 128 GiB of shards.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number + OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _wrong_size(path: Path, found: int, expected: int) -> DamagedDataError:
    return DamagedDataError(
        f"{path} has {found:,} bytes where the index says {expected:,}: "
        f"{'it was truncated' if found < expected else 'something was added to it'}",
        RESTORE,
    )
