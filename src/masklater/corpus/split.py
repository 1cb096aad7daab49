"""The split of a text into pieces, within which a byte-level BPE merges: GPT-2's, with combining marks kept.

GPT-2 splits letters from everything that is not a letter. This includes combining marks (vowel signs, accents), so that
a word of Hindi or Thai falls into pieces which never merge. Here a mark stays with its letter, and so does a joiner
inside a word. Numbers, spaces, punctuation and contractions are split as in GPT-2.
"""

import unicodedata
from itertools import pairwise

from tokenizers import Regex, pre_tokenizers

JOINERS = "\u200c\u200d"
"""ZERO WIDTH NON-JOINER and JOINER, which occur inside words of Persian, Sinhala and others."""
WORDS = (
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}[\p{L}\p{M}]*(?:[\u200c\u200d][\p{L}\p{M}]+)*| ?\p{N}+| ?[^\s\p{L}\p{N}]+"
    r"|\s+(?!\S)|\s+"
)
LONGEST_STRETCH = 256
"""The most characters in a piece given to a trainer: the time to merge grows faster than the piece (docs/log.md)."""


def gpt2_split() -> pre_tokenizers.PreTokenizer:
    """Return GPT-2's own split, which every program that reads such tokenizers knows."""
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


def mark_keeping_split(longest: int | None = None) -> pre_tokenizers.PreTokenizer:
    """Return GPT-2's split, except that marks and joiners stay with their letters.

    Args:
        longest: The number of characters at which pieces are cut; None: they are not cut.
    """
    words = pre_tokenizers.Split(Regex(WORDS), "isolated")
    cut = [] if longest is None else [cut_stretches(longest)]
    return pre_tokenizers.Sequence([words, *cut, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def cut_stretches(longest: int) -> pre_tokenizers.PreTokenizer:
    """Return a step that cuts pieces into ones of at most `longest` characters."""
    return pre_tokenizers.Split(Regex(rf"[\s\S]{{1,{longest}}}"), "isolated")


def joins_marks(text: str) -> bool:
    """Tell whether a combining mark or a joiner follows a letter, where GPT-2's split cuts."""
    return any(before.isalpha() and belongs_to_what_is_before(after) for before, after in pairwise(text))


def belongs_to_what_is_before(character: str) -> bool:
    """Tell whether a character is a combining mark or a joiner."""
    return character in JOINERS or is_mark(character)


def is_mark(character: str) -> bool:
    """Tell whether a character is a combining mark."""
    return unicodedata.category(character)[0] == "M"
