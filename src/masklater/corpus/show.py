"""Rows as text, for people who want to see what a run was fed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from masklater.corpus.index import Split
from masklater.corpus.shards import Shards, SplitRows
from masklater.corpus.tokenizer import load
from masklater.errors import UserError


@dataclass(frozen=True)
class ShownRow:
    """One row."""

    number: int
    documents: tuple[str, ...]  # documents, or pieces of them, with their special tokens; padding is left out
    positions: int  # that are no padding


def show_rows(shards: Shards, split: Split, numbers: Sequence[int]) -> list[ShownRow]:
    """Rows by their number, in the order asked for.

    Raises:
        UserError: There is no row of that number.
        DamagedDataError: A shard is not what was written.
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
    shown = []
    for number, ids_L, documents_L in zip(numbers, block.ids_NL, block.documents_NL, strict=True):
        documents = tuple(
            tokenizer.decode(ids_L[documents_L == document].tolist(), skip_special_tokens=False)
            for document in range(int(documents_L.max()) + 1)
        )
        shown.append(ShownRow(number, documents, int((documents_L >= 0).sum())))
    return shown


def as_text(rows: Sequence[ShownRow], split: Split) -> str:
    """Rows for a terminal. Control characters stand as escapes, so that no text can take the terminal over."""
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
    """Return a character, or a control character other than tab and newline as an escape."""
    control = ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0
    if control and character not in "\n\t":
        return character.encode("unicode_escape").decode("ascii")
    return character
