"""Rows as text, for people who want to see what a run reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from masklater.corpus.index import Split
from masklater.corpus.shards import RowBlock, Shards, SplitRows
from masklater.corpus.tokenizer import load
from masklater.errors import UserError

BORDER = "\u2502"
"""The mark between words, from box drawing, which hardly occurs in texts."""


@dataclass(frozen=True)
class ShownRow:
    """One row."""

    number: int
    documents: tuple[str, ...]  # documents, or pieces of them, with their special tokens; padding is left out
    positions: int  # number of positions that are not padding


def show_rows(
    shards: Shards, split: Split, numbers: Sequence[int], words: Callable[[RowBlock], NDArray[np.int64]] | None = None
) -> list[ShownRow]:
    """Return rows by their numbers, in the order asked for.

    Args:
        shards: The SHARDS.
        split: The split.
        numbers: Row numbers, from 0.
        words: Returns word_NL, the word of each position, negative where there is none. If given, words are separated
            by BORDER.

    Raises:
        UserError: There is no row of that number.
        DamagedDataError: A shard differs from what was written.
    """
    rows: SplitRows = getattr(shards, split)
    outside = [number for number in numbers if not 0 <= number < rows.num_rows]
    if outside:
        raise UserError(
            f"there is no row {outside[0]} in the {split} split of {shards.folder}: it has {rows.num_rows:,} rows",
            f"Numbers go from 0 to {rows.num_rows - 1}." if rows.num_rows else "Name the other split with --split.",
        )
    tokenizer = load(shards.folder / "tokenizer").backend_tokenizer
    block = rows.read(np.array(numbers, dtype=np.int64))
    # Without words, the whole document is shown as one.
    word_NL = np.zeros_like(block.ids_NL) if words is None else words(block)
    shown = []
    for number, ids_L, documents_L, word_L in zip(numbers, block.ids_NL, block.documents_NL, word_NL, strict=True):
        places = [documents_L == document for document in range(int(documents_L.max()) + 1)]
        documents = tuple(
            BORDER.join(
                tokenizer.decode(ids, skip_special_tokens=False) for ids in _by_word(ids_L[is_in], word_L[is_in])
            )
            for is_in in places
        )
        shown.append(ShownRow(number, documents, int((documents_L >= 0).sum())))
    return shown


def _by_word(ids_T: NDArray[np.int64], word_T: NDArray[np.int64]) -> list[list[int]]:
    """Return the ids of each word; a token that is in no word is by itself."""
    begins_T = (np.diff(word_T, prepend=-2) != 0) | (word_T < 0)
    return [ids.tolist() for ids in np.split(ids_T, np.flatnonzero(begins_T)[1:])]


def as_text(rows: Sequence[ShownRow], split: Split) -> str:
    """Return rows as text for a terminal. Control characters are escaped, so that no text can control the terminal."""
    blocks = []
    for row in rows:
        count = "1 document" if len(row.documents) == 1 else f"{len(row.documents)} documents"
        lines = [f"row {row.number} ({split}): {count}, {row.positions} positions"]
        for text in row.documents:
            first, *others = "".join(map(visible, text)).split("\n")
            lines += [f"  - {first}", *(f"    {line}" for line in others)]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def visible(character: str) -> str:
    """Return a character; a control character other than tab and newline is returned as an escape."""
    control = ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0
    if control and character not in "\n\t":
        return character.encode("unicode_escape").decode("ascii")
    return character
