"""Words and runs of words, as duplicates and contamination are told by."""

import re
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, kana and Han."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""An odd number with bits all over: the golden ratio's."""


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without marks; in scripts without spaces each character is one."""
    return _WORD.findall(text.lower())


def hash_of(text: str) -> int:
    """A 64-bit hash, the same on every machine."""
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")


_hash_of_word = lru_cache(2**18)(hash_of)


def hashes_of(words: list[str]) -> NDArray[np.uint64]:
    """The hash of each word, hashes_W."""
    return np.fromiter(map(_hash_of_word, words), np.uint64, len(words))


def run_hashes(hashes_W: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """The hashes of all runs of so many words, one for each place that a run begins at; none where words are fewer."""
    places = len(hashes_W) - length + 1
    if places <= 0:
        return np.empty(0, np.uint64)
    runs_P = np.zeros(places, np.uint64)
    for offset in range(length):  # in the order of the words: another order is another hash; sums wrap around
        runs_P = runs_P * _FACTOR + hashes_W[offset : offset + places]
    return runs_P
