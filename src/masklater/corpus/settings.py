"""The settings of `masklater prepare` and their defaults, which the command line shows (nothing heavy is imported)."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from masklater.corpus.keep.settings import KeepSettings

TokenizerKind = Literal["bpe", "wordpiece", "unigram", "characters"]
DocumentUnit = Literal["file", "line", "blank-line"]
Packing = Literal["documents", "continuous"]
NullTexts = Literal["refuse", "skip"]
PART_BYTES = 256 * 2**20
"""About how much text a part has: a minute or two of one core's work."""
PACKED_RATIO = 3
"""The factor by which a compressed file is taken to grow when unpacked, where that is estimated."""


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class PrepareSettings:
    """The settings that decide what SHARDS are made of some files."""

    tokenizer: Path | None = None  # a saved tokenizer, in a folder or by its name on the hub; None: train one
    train_tokenizer: TokenizerKind = "bpe"
    vocab_size: int = 32_000
    normalise: tuple[str, ...] = ()  # what the trained tokenizer does to a text first, in this order
    row_length: int = 128
    encoding: str | None = None  # of files without a byte-order mark; None: UTF-8
    documents: DocumentUnit = "file"
    text_field: str = "text"  # one field, or several between commas
    filters: tuple[str, ...] = ()  # FIELD=VALUE, of which all must hold
    null_texts: NullTexts = "refuse"
    stdin_as: str | None = None  # what a file of standard input would end in; None: told from how it begins
    valid_fraction: float = 0.005
    pack: Packing = "documents"
    max_unknown: float = 0.2  # share of unknown tokens above which nothing is written
    keep: KeepSettings = field(default_factory=KeepSettings)  # what is kept of the documents
    part_bytes: int = PART_BYTES
    workers: int = available_cores()  # no setting of what SHARDS are, which are the same with any number
