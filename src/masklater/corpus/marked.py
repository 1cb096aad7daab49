"""Words that the text itself marks, for languages without spaces between words, and how rows store them.

A segmenter (jieba, MeCab, PyThaiNLP) writes WORD_MARK between words. The mark is removed before the text is tokenised.
Each token that continues a word says so in the highest bit of its id on disk, so that whatever moves rows moves this
too. Letters: T tokens, C characters, N rows, L row length.
"""

import numpy as np
from numpy.typing import NDArray

WORD_MARK = "\u200b"
"""ZERO WIDTH SPACE, which Unicode provides for word borders in scripts that do not show them."""
_SPACES = np.array([number for number in range(0x3001) if chr(number).isspace()], np.uint32)


def row_dtype(vocabulary_size: int, marked: bool = False) -> type[np.unsignedinteger]:
    """Return the smallest unsigned integer type for all ids, with a bit above them where words are marked."""
    return np.uint16 if vocabulary_size <= 2 ** (15 if marked else 16) else np.uint32


def take_out(text: str) -> tuple[str, NDArray[np.int64]]:
    """Return a text without its marks, and word_C: the number of the word that each character is in.

    White space ends a word as a mark does, and belongs to the word after it.
    """
    pieces = text.split(WORD_MARK)
    plain = "".join(pieces)
    is_space_C = np.isin(np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), np.uint32), _SPACES)
    after_space_C = np.concatenate([[False], is_space_C])[: len(plain)]
    begins_C = is_space_C & ~after_space_C
    marks = np.cumsum([len(piece) for piece in pieces[:-1]], dtype=np.int64)
    marked_C = np.zeros(len(plain), bool)
    marked_C[marks[marks < len(plain)]] = True
    return plain, np.cumsum(begins_C | (marked_C & ~after_space_C))


def continues(word_C: NDArray[np.int64], first_T: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return bool [T]: whether each token continues the word of the token before it.

    Args:
        word_C: The word of each character.
        first_T: The first character of each token. Tokens that are bytes of one character share it, and are in one
            word.
    """
    if not len(word_C):
        return np.zeros(len(first_T), bool)
    word_T = word_C[np.minimum(first_T, len(word_C) - 1)]
    return np.concatenate([[False], word_T[1:] == word_T[:-1]])[: len(first_T)]


def join_bit(ids: NDArray[np.unsignedinteger], continues: NDArray[np.bool_]) -> NDArray[np.unsignedinteger]:
    """Return ids whose highest bit says whether they continue a word."""
    return ids | continues.astype(ids.dtype) * _bit(ids.dtype)


def split_bit(ids: NDArray[np.unsignedinteger]) -> tuple[NDArray[np.unsignedinteger], NDArray[np.bool_]]:
    """Undo `join_bit`."""
    bit = _bit(ids.dtype)
    return ids & ~bit, (ids & bit) != 0


def _bit(dtype: np.dtype[np.unsignedinteger]) -> np.unsignedinteger:
    return dtype.type(1 << (8 * dtype.itemsize - 1))
