"""Duplicates: of whole documents, of such as are nearly the same, and lines that stand in many documents."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from masklater.corpus.keep.buckets import Buckets
from masklater.corpus.keep.tokens import hash_of, words_of
from masklater.extras import import_extra

SHINGLE = 5
"""Words in a run that near duplicates are compared by; shorter documents are compared as one run."""
PERMUTATIONS, BANDS, SEED = 128, 16, 42
"""Of MinHash: 16 bands of 8 find 95% of the pairs at a similarity of 0.8, and nearly all at 0.9."""
SHORTEST_LINE = 10
"""Characters of a line below which it is kept wherever else it stands: headings, names, single words."""


class ExactDuplicates:
    """Documents whose text has stood before, told by a 64-bit hash.

    Among a billion documents the chance that any two different ones share a hash is 3%.
    """

    def __init__(self) -> None:
        self.buckets = Buckets()

    def add(self, key: int, document: int) -> None:
        """Take the hash of a document's text."""
        self.buckets.add(np.array([key], np.uint64), document)

    def later_ones(self) -> list[int]:
        """Return the documents whose text an earlier one has."""
        found: list[int] = []
        for entries in self.buckets.sorted():
            is_later = entries["hash"][1:] == entries["hash"][:-1]
            found += entries["document"][1:][is_later].tolist()
        return found


class NearDuplicates:
    """Documents that share most of their runs of words with one that is kept, by MinHash and LSH (`rensa`).

    The first of each cluster stays. Memory grows by about a kilobyte a document that is kept.

    Raises:
        UserError: The library is not installed.
    """

    def __init__(self, threshold: float) -> None:
        self.rensa: Any = import_extra("rensa", "dedup", "--dedup near")
        self.kept = self.rensa.RMinHashDeduplicator(threshold, PERMUTATIONS, True, BANDS, SEED)

    def is_later(self, text: str, document: int) -> bool:
        """Tell whether a document is much like one before it; where it is not, remember it."""
        signature = self.rensa.RMinHash(PERMUTATIONS, SEED)
        signature.update(shingles_of(text))
        return not self.kept.add(str(document), signature)


def shingles_of(text: str) -> list[str]:
    """Return the runs of words that a document is compared by."""
    words = words_of(text)
    runs = [" ".join(words[start : start + SHINGLE]) for start in range(len(words) - SHINGLE + 1)]
    return runs or [" ".join(words) or text]


class RepeatedLines:
    """Lines that stand in more documents than allowed: menus, notices, templates."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.buckets = Buckets()

    def add(self, text: str, document: int) -> None:
        """Take the lines of a document, or of a part of one."""
        lines = {hash_of(line) for line in map(str.strip, text.splitlines()) if len(line) >= SHORTEST_LINE}
        if lines:
            self.buckets.add(np.fromiter(lines, np.uint64, len(lines)), document)

    def in_many(self) -> NDArray[np.uint64]:
        """Return the hashes of those lines, in order."""
        found = []
        for entries in self.buckets.sorted():
            hashes = np.unique(entries)["hash"]  # the parts of a long document may share a line
            values, numbers = np.unique(hashes, return_counts=True)
            found.append(values[numbers > self.most])
        return np.sort(np.concatenate(found))


def without_lines(text: str, hashes_N: NDArray[np.uint64]) -> tuple[str, int]:
    """Return a text without some lines, and how many they were.

    Args:
        text: Of a document, or of a part of one.
        hashes_N: Of the lines that go, in order.
    """
    lines = text.splitlines(keepends=True)
    stripped = [line.strip() for line in lines]
    asked = np.array([hash_of(line) if len(line) >= SHORTEST_LINE else 0 for line in stripped], np.uint64)
    place = np.searchsorted(hashes_N, asked).clip(max=max(len(hashes_N) - 1, 0))
    goes = (hashes_N[place] == asked) & (asked != 0) if len(hashes_N) else np.zeros(len(asked), bool)
    if not goes.any():
        return text, 0
    return "".join(line for line, gone in zip(lines, goes, strict=True) if not gone), int(goes.sum())
