"""One file of rows, read by position: what cannot be read is an exception at that very read.

A memory map would answer a file that was cut, or a disk that fails, by ending the process (SIGBUS), and no look at the
file beforehand can prevent it.
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
"""Open files, at most, beside those of rows."""


class RowFile:
    """A file of rows of one width, open until nothing refers to it any more."""

    def __init__(self, path: Path, rows: int, width: int) -> None:
        """Open a file and check its size.

        Args:
            path: The file.
            rows: How many rows it holds.
            width: Bytes of a row.

        Raises:
            UserError: This process has as many files open as it may.
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
        """Raise DamagedDataError where the file has gone, or another size, under its name."""
        _check_size(self.path, self.size)

    def read_into(self, first: int, rows_NL: NDArray[np.unsignedinteger]) -> None:
        """Fill an array with neighbouring rows, from the first on.

        Raises:
            DamagedDataError: They are not there any more, or cannot be read.
        """
        self._fill(first * self.width, rows_NL.view(np.uint8).data.cast("B"))

    def verify(self, sha256: str, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        """Read the whole file and compare its checksum.

        Raises:
            DamagedDataError: It differs, or cannot be read.
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
                # Nothing stands at this position; by now the file may be shorter still, or as long as ever.
                raise _wrong_size(self.path, min(position, os.fstat(self.descriptor).st_size), self.size)
            unread, position = unread[count:], position + count


def _check_size(path: Path, expected: int) -> None:
    """Raise DamagedDataError unless a file is there and has so many bytes."""
    try:
        found = path.stat().st_size
    except OSError as error:
        raise DamagedDataError(f"{path} is missing or unreadable ({error.strerror})", RESTORE) from None
    if found != expected:
        raise _wrong_size(path, found, expected)


def allow_open_files(number: int) -> None:
    """Let this process keep so many files of rows open, as far as the system lets it say so.

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
