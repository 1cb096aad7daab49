"""Words and runs of words, by which duplicates and contamination are found."""

import re
import unicodedata
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from masklater.corpus.split import JOINERS, is_mark
from masklater.corpus.text_hash import hash_of

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Scripts without spaces between words: Thai, Lao, Burmese, Khmer, kana and Han."""
_MAY_BE_MARKS = (range(0x300, 0x20000), range(0xE0100, 0xE01F0))
"""The ranges of Unicode that may have combining marks."""
_MOST_MARKS = 30
"""The most marks in a row that are put in order: Unicode's annex 15 has the same limit.

Sorting takes time that grows with the square of their number."""
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""An odd number with bits spread over all 64: the golden ratio's."""


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation; in scripts without spaces each character is one.

    A word continues over combining marks (vowel signs, points, accents) and over a joiner inside it. Letters composed
    with their marks (NFC) give the same words as decomposed ones (NFD).
    """
    word, _ = _patterns()
    return word.findall(_composed(text).lower())


def _composed(text: str) -> str:
    if unicodedata.is_normalized("NFC", text):
        return text
    _, many_marks = _patterns()
    return unicodedata.normalize("NFC", many_marks.sub(lambda found: found[0][:_MOST_MARKS], text))


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of a word, and of too many marks in a row. `re` has no name for marks: they are listed."""
    unspaced = re.compile(f"[{_UNSPACED}]")
    marks = [chr(number) for numbers in _MAY_BE_MARKS for number in numbers if is_mark(chr(number))]
    mark = "".join(_ranges([one for one in marks if not unspaced.match(one)]))
    letter = rf"[^\W{_UNSPACED}]"
    within = rf"(?<=[{mark}])|(?<=[{JOINERS}])(?=[{mark}]|{letter})"
    word = rf"[{_UNSPACED}]|{letter}+(?:[\u0300-\U0010ffff](?:{within}){letter}*)*"
    return re.compile(word), re.compile(rf"[{''.join(_ranges(marks))}]{{{_MOST_MARKS + 1},}}")


def _ranges(characters: list[str]) -> list[str]:
    """Return characters, given in order, as ranges of a regular expression: `a-z`."""
    ranges: list[str] = []
    for one in characters:
        if ranges and ord(one) == ord(ranges[-1][-1]) + 1:
            ranges[-1] = ranges[-1][:2] + one
        else:
            ranges.append(f"{one}-{one}")
    return ranges


_hash_of_word = lru_cache(2**18)(hash_of)


def hashes_of(words: list[str]) -> NDArray[np.uint64]:
    """Return the hash of each word, hashes_W."""
    return np.fromiter(map(_hash_of_word, words), np.uint64, len(words))


def run_hashes(hashes_W: NDArray[np.uint64], length: int) -> NDArray[np.uint64]:
    """Return the hashes of all runs of `length` words, one for each start; none where there are fewer words."""
    places = len(hashes_W) - length + 1
    if places <= 0:
        return np.empty(0, np.uint64)
    runs_P = np.zeros(places, np.uint64)
    for offset in range(length):  # the order of the words counts; sums wrap around
        runs_P = runs_P * _FACTOR + hashes_W[offset : offset + places]
    return runs_P
