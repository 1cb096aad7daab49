"""Numbers with the hash they belong to, on disk. One part at a time is in memory, so memory does not grow."""

import tempfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

NUMBER = 64
"""The number of buckets, each an open file.

Two kinds of duplicates have them open at a time, and some systems allow 256 open files in all."""
SHIFT = np.uint64(58)
"""Shifts a hash so that its first six bits remain: the number of its bucket."""
HELD = 2**16
"""Entries held in memory before they are written."""
ENTRY = np.dtype([("hash", np.uint64), ("document", np.uint64)])


class Buckets:
    """Pairs of a hash and the ordinal of a document, in temporary files."""

    def __init__(self) -> None:
        self.files: list[BinaryIO] = [tempfile.TemporaryFile() for _ in range(NUMBER)]  # noqa: SIM115 - kept until read
        self.held: list[tuple[NDArray[np.uint64], NDArray[np.uint64]]] = []
        self.num_held = 0

    def add(self, hashes_N: NDArray[np.uint64], documents_N: NDArray[np.uint64]) -> None:
        """Add hashes, and the document of each."""
        self.held.append((hashes_N, documents_N))
        self.num_held += len(hashes_N)
        if self.num_held >= HELD:
            self._write()

    def sorted(self) -> Iterator[NDArray[np.void]]:
        """Yield the entries of one bucket after the other, ordered by hash and document; the files are closed."""
        self._write()
        for file in self.files:
            file.seek(0)
            entries = np.frombuffer(file.read(), ENTRY)
            file.close()
            yield np.sort(entries, order=("hash", "document"))

    def _write(self) -> None:
        if not self.held:
            return
        entries = np.empty(self.num_held, ENTRY)
        entries["hash"] = np.concatenate([hashes_N for hashes_N, _ in self.held])
        entries["document"] = np.concatenate([documents_N for _, documents_N in self.held])
        number_N = (entries["hash"] >> SHIFT).astype(np.int64)
        order = np.argsort(number_N, kind="stable")
        ends = np.searchsorted(number_N[order], np.arange(NUMBER + 1))
        for number, file in enumerate(self.files):
            file.write(entries[order[ends[number] : ends[number + 1]]].tobytes())
        self.held, self.num_held = [], 0
