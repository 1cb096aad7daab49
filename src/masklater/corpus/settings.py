"""The settings of `masklater prepare` and their defaults, which the command line shows (no heavy imports)."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from masklater.corpus.keep.settings import KeepSettings
from masklater.errors import UserError

TokenizerKind = Literal["bpe", "wordpiece", "unigram", "characters"]
DocumentUnit = Literal["file", "line", "blank-line"]
Packing = Literal["documents", "continuous"]
NullTexts = Literal["refuse", "skip"]
PART_BYTES = 256 * 2**20
"""About how much text a part holds, in bytes: a minute or two of work for one core."""
MOST_ROW_LENGTH = 65536
PACKED_RATIO = 3
"""The factor by which a compressed file is assumed to grow when unpacked, where an estimate is needed."""


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parse_row_lengths(text: str) -> tuple[int, ...]:
    """Read the value of `--row-length`, such as 128 or 128,512.

    Raises:
        UserError: One is not a valid number of tokens for a row, or is given twice.
    """
    lengths = tuple(int(part) if part.strip().isdecimal() else 0 for part in text.split(","))
    wrong = [part for part, length in zip(text.split(","), lengths, strict=True) if not 8 <= length <= MOST_ROW_LENGTH]
    if wrong or len(set(lengths)) < len(lengths):
        what = f"{wrong[0].strip() or 'nothing'} is no row length" if wrong else "a row length stands there twice"
        raise UserError(
            f"--row-length {text}: {what}",
            f"Give a number of tokens greater than or equal to 8, at most {MOST_ROW_LENGTH}, or several with commas.",
        )
    return lengths


@dataclass(frozen=True)
class PrepareSettings:
    """The settings that decide the content of SHARDS."""

    tokenizer: Path | None = None  # a saved tokenizer, as a folder or a name on the hub; None: train one
    train_tokenizer: TokenizerKind = "bpe"
    vocab_size: int = 32_000
    trim: bool = False  # keep only those entries of the saved tokenizer that the text uses
    trim_to: int | None = None  # at most this many of them, the most frequent; None: all
    normalise: tuple[str, ...] = ()  # steps that the trained tokenizer applies to a text first, in this order
    row_length: int = 128
    further_row_lengths: tuple[int, ...] = ()  # of additional SHARDS made in the same reading
    encoding: str | None = None  # of files without a byte-order mark; None: UTF-8
    documents: DocumentUnit = "file"
    text_field: str = "text"  # one field, or several between commas
    filters: tuple[str, ...] = ()  # FIELD=VALUE; all must hold
    null_texts: NullTexts = "refuse"
    marked_words: bool = False  # the text has WORD_MARK between its words
    read_as: str | None = None  # the ending by which standard input and files of unknown endings are read
    valid_fraction: float = 0.005
    pack: Packing = "documents"
    max_unknown: float = 0.2  # share of unknown tokens above which nothing is written
    keep: KeepSettings = field(default_factory=KeepSettings)  # which documents are kept
    part_bytes: int = PART_BYTES
    workers: int = available_cores()  # does not affect SHARDS: they are the same with any number

    @property
    def row_lengths(self) -> tuple[int, ...]:
        """All row lengths, in the order given."""
        return (self.row_length, *self.further_row_lengths)
