"""Duplicates: documents with the same text, documents that are nearly the same, and lines of many documents."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masklater.corpus.keep.buckets import Buckets
from masklater.corpus.keep.tokens import words_of
from masklater.corpus.marked import WORD_MARK
from masklater.corpus.text_hash import hash_of
from masklater.extras import import_extra

SHINGLE = 5
"""The number of words in the runs by which near duplicates are compared; a shorter document is one run."""
PERMUTATIONS, BANDS, SEED = 128, 16, 42
"""Settings of MinHash: 16 bands of 8 find 95% of the pairs at a similarity of 0.8, and nearly all at 0.9."""
SHORTEST_LINE = 10
"""Lines with fewer characters are kept, however often they occur: headings, names, single words."""


LINE = np.dtype([("hash", np.uint64), ("documents", np.uint64)])
"""A line, and the number of documents of a part that contain it."""


class ExactDuplicates:
    """Documents whose text occurred before, recognised by a 64-bit hash.

    Among a billion documents the chance that any two different ones share a hash is 3%.
    """

    def __init__(self) -> None:
        self.buckets = Buckets()

    def add(self, hashes_N: NDArray[np.uint64], documents_N: NDArray[np.uint64]) -> None:
        """Add the hashes of the texts of some documents."""
        self.buckets.add(hashes_N, documents_N)

    def later_ones(self) -> Iterator[NDArray[np.uint64]]:
        """Yield the documents whose text an earlier document has, some at a time."""
        for entries in self.buckets.sorted():
            is_later = entries["hash"][1:] == entries["hash"][:-1]
            yield entries["document"][1:][is_later]


class NearDuplicates:
    """Documents that share most of their runs of words with an earlier one that is kept, by MinHash and LSH (`rensa`).

    The first document of each cluster is kept. Memory grows by 2.5 to 2.9 kB per document that is kept.

    Raises:
        UserError: The library is not installed.
    """

    def __init__(self, threshold: float) -> None:
        self.rensa = _rensa()
        self.kept = self.rensa.RMinHashDeduplicator(threshold, PERMUTATIONS, True, BANDS, SEED)

    def is_later(self, signature: bytes, document: int) -> bool:
        """Tell whether a document is much like an earlier one; where it is not, remember it."""
        minhash = self.rensa.RMinHash(PERMUTATIONS, SEED)
        minhash.__setstate__(signature)
        return not self.kept.add(str(document), minhash)


def near_signature(text: str) -> bytes:
    """Return the MinHash signature by which a text is compared, as `rensa` writes it.

    Raises:
        UserError: The library is not installed.
    """
    minhash = _rensa().RMinHash(PERMUTATIONS, SEED)
    minhash.update(shingles_of(text))
    signature: bytes = minhash.__getstate__()
    return signature


def _rensa() -> Any:
    return import_extra("rensa", "dedup", "--dedup near")


def shingles_of(text: str) -> list[str]:
    """Return the runs of words that a document is compared by."""
    words = words_of(text)
    runs = [" ".join(words[start : start + SHINGLE]) for start in range(len(words) - SHINGLE + 1)]
    return runs or [" ".join(words) or text]


class LineCounts:
    """The lines in the documents of a part, each with the number of documents that contain it."""

    def __init__(self) -> None:
        self.buckets = Buckets()

    def add(self, text: str, document: int) -> None:
        """Add the lines of a document, or of a part of one."""
        lines = {hash_of(line) for line in map(str.strip, text.splitlines()) if _is_long(line)}
        if lines:
            hashes_N = np.fromiter(lines, np.uint64, len(lines))
            self.buckets.add(hashes_N, np.full(len(lines), document, np.uint64))

    def counted(self) -> Iterator[NDArray[np.void]]:
        """Yield LINE entries, bucket by bucket; in each bucket they are ordered by hash."""
        for entries in self.buckets.sorted():
            hashes = np.unique(entries)["hash"]  # several parts of a long document may contain a line
            values, numbers = np.unique(hashes, return_counts=True)
            counted = np.empty(len(values), LINE)
            counted["hash"], counted["documents"] = values, numbers
            yield counted


def _is_long(line: str) -> bool:
    return len(line) >= SHORTEST_LINE and len(line) - line.count(WORD_MARK) >= SHORTEST_LINE


def in_many(counted: NDArray[np.void], most: int) -> NDArray[np.uint64]:
    """Return the hashes, in order, of the lines in more documents than allowed: menus, notices, templates.

    Args:
        counted: LINE entries of all parts, of one bucket.
        most: The number of documents that may contain a line.
    """
    values, place = np.unique(counted["hash"], return_inverse=True)
    return values[np.bincount(place, counted["documents"], len(values)) > most]


def without_lines(text: str, hashes_N: NDArray[np.uint64]) -> tuple[str, int]:
    """Return a text without some lines, and the number of lines removed.

    Args:
        text: The text of a document, or of a part of one.
        hashes_N: Hashes of the lines to remove, in order.
    """
    lines = text.splitlines(keepends=True)
    stripped = [line.strip() for line in lines]
    asked = np.array([hash_of(line) if _is_long(line) else 0 for line in stripped], np.uint64)
    place = np.searchsorted(hashes_N, asked).clip(max=max(len(hashes_N) - 1, 0))
    goes = (hashes_N[place] == asked) & (asked != 0) if len(hashes_N) else np.zeros(len(asked), bool)
    if not goes.any():
        return text, 0
    return "".join(line for line, gone in zip(lines, goes, strict=True) if not gone), int(goes.sum())
