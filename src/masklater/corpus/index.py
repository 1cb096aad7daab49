"""index.json of a SHARDS folder: what the folder holds, and the checksums that show whether it is unchanged."""

import hashlib
from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from masklater.corpus.marked import row_dtype
from masklater.corpus.settings import Packing
from masklater.corpus.vocabulary import ROLES, SpecialIds, Vocabulary, find_shared
from masklater.errors import DamagedDataError, UserError
from masklater.recipe.section import Section
from masklater.record import parse_record

FORMAT = 2
WITHOUT_CHECKSUM = 1
"""The format of SHARDS whose index has no checksum of itself; they are still read."""
OF_ANY_SIZE = 3
"""The format of SHARDS in which any shard of a split may have fewer rows, as they are made of several parts."""
MARKED = 4
"""The format of SHARDS, with shards of any size, in which the highest bit of an id marks a token that continues a
word."""
RESTORE = "Restore the file from a copy, or prepare the data again."
MAX_INDEX_BYTES = 256 * 2**20
"""A larger index.json is refused: only tens of terabytes of SHARDS would have one."""
Split = Literal["train", "valid"]
SPLITS: tuple[Split, ...] = ("train", "valid")


class ShardEntry(Section):
    """One shard: its files, what they hold and their checksums."""

    name: str = Field(pattern=r"^(train|valid)-\d{5}$")
    rows: PositiveInt
    tokens: NonNegativeInt  # positions that hold a token of a document
    first_document: NonNegativeInt  # number, within the split, of the first document or piece in the shard
    documents: NonNegativeInt  # documents and pieces of documents in the shard
    rows_sha256: str
    starts_sha256: str


class SplitEntry(Section):
    """The shards of one split, in order."""

    rows: NonNegativeInt
    tokens: NonNegativeInt
    full_rows: NonNegativeInt  # rows without padding
    full_row_maskable: NonNegativeInt  # positions of those rows without a special token: masking chooses from these
    mixed_rows: NonNegativeInt  # rows that hold more than one document
    shards: list[ShardEntry]

    @property
    def has_even_shards(self) -> bool:
        """Whether all shards but the last, which may have fewer, have the same number of rows."""
        rows = [shard.rows for shard in self.shards]
        return len({*rows[:-1]}) <= 1 and (not rows or rows[-1] <= rows[0])

    @property
    def maskable_per_row(self) -> float:
        """Mean number of maskable positions of a row without padding; nan where there is no such row."""
        return self.full_row_maskable / self.full_rows if self.full_rows else float("nan")


class SourceEntry(Section):
    """One input as the user gave it, and what was made of it."""

    name: str
    revision: str | None = None  # the commit of a dataset of the hub
    files: NonNegativeInt
    documents: NonNegativeInt
    characters: NonNegativeInt
    tokens: NonNegativeInt  # as they were read, before packing
    tokens_per_document: NonNegativeFloat
    unknown_share: NonNegativeFloat  # share of its tokens that the tokenizer does not know


class Index(Section):
    """index.json."""

    format: int
    row_length: PositiveInt
    dtype: Literal["uint16", "uint32"]
    vocabulary_size: PositiveInt
    tokenizer_sha256: str
    special: SpecialIds
    pack: Packing
    train: SplitEntry
    valid: SplitEntry
    source: dict[str, int | float | str | list[SourceEntry]]  # what was read, for information
    checksum: str | None = None  # SHA-256 of the rest of the index

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer's sizes and special ids."""
        return Vocabulary(size=self.vocabulary_size, **self.special.model_dump())

    @property
    def marked(self) -> bool:
        """Whether rows say which tokens continue a word (corpus/marked.py)."""
        return self.format == MARKED

    @property
    def maskable_per_row(self) -> float:
        """Mean number of maskable positions of a training row without padding; L - 2 where there is no such row."""
        return self.row_length - 2 if isnan(mean := self.train.maskable_per_row) else mean


def make_index(
    vocabulary: Vocabulary,
    row_length: int,
    tokenizer_sha256: str,
    packing: Packing,
    train: SplitEntry,
    valid: SplitEntry,
    source: Mapping[str, int | float | str | list[SourceEntry]],
    marked: bool = False,
) -> Index:
    """Return the index of two finished splits. `marked`: whether their rows say which tokens continue a word."""
    of_rows = FORMAT if train.has_even_shards and valid.has_even_shards else OF_ANY_SIZE
    index = Index(
        format=MARKED if marked else of_rows,
        row_length=row_length,
        dtype="uint16" if row_dtype(vocabulary.size, marked) is np.uint16 else "uint32",
        vocabulary_size=vocabulary.size,
        tokenizer_sha256=tokenizer_sha256,
        special=SpecialIds(**vocabulary.model_dump(exclude={"size"})),
        pack=packing,
        train=train,
        valid=valid,
        source=dict(source),
    )
    return index.model_copy(update={"checksum": _checksum(index)})


def joined(splits: Sequence[SplitEntry], split: Split) -> SplitEntry:
    """Return one split made of several, their shards in order under new names."""
    shards: list[ShardEntry] = []
    documents = 0
    for shard in (shard for one in splits for shard in one.shards):
        named = {"name": f"{split}-{len(shards):05d}", "first_document": documents}
        shards.append(shard.model_copy(update=named))
        documents += shard.documents
    names = ("rows", "tokens", "full_rows", "full_row_maskable", "mixed_rows")
    sums = {name: sum(getattr(one, name) for one in splits) for name in names}
    return SplitEntry(**sums, shards=shards)


def _checksum(index: Index) -> str:
    return hashlib.sha256(index.model_dump_json(exclude={"checksum"}).encode()).hexdigest()


def read_index(folder: Path) -> Index:
    """Read and check the index of a SHARDS folder; raise as `read_index_file` does."""
    return read_index_file(folder)[0]


def shards_inside(folder: Path) -> list[str]:
    """Return the names of the SHARDS folders inside a folder, where `prepare` made several row lengths."""
    return sorted(each.parent.name for each in folder.glob("*/index.json"))


def read_index_file(folder: Path) -> tuple[Index, str]:
    """Read and check the index of a SHARDS folder.

    Returns:
        The index, and the SHA-256 of the file it was read from.

    Raises:
        UserError: There is no such folder, it is no SHARDS folder of this format, or its padding or mask token also has
            another role.
        DamagedDataError: The index differs from what was written.
    """
    path = folder / "index.json"
    if folder.is_file():
        raise UserError(
            f"{folder} is a file, and what is named here is a SHARDS folder",
            f"If it is text, make one of it with `masklater prepare {folder} --out shards`.",
        )
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", "Make it with `masklater prepare ... --out`.")
    if (folder / "selection.json").is_file():
        raise UserError(
            f"{folder} is a SELECTION, and what is named here is SHARDS", "Name those that it says it is of."
        )
    if not path.is_file():
        inside = shards_inside(folder)
        remedy = f"Name one that is inside: {', '.join(inside)}." if inside else "Make one with `masklater prepare`."
        raise UserError(f"{folder} is no SHARDS folder: it has no index.json", remedy)
    content = _read(path)
    index = parse_record(path, content, Index, RESTORE)
    if index.format not in {WITHOUT_CHECKSUM, FORMAT, OF_ANY_SIZE, MARKED}:
        raise UserError(
            f"{path} has format {index.format}; this version reads formats {WITHOUT_CHECKSUM} to {MARKED}",
            "Prepare the data again.",
        )
    if index.checksum != (None if index.format == WITHOUT_CHECKSUM else _checksum(index)):
        raise DamagedDataError(
            f"{path} has changed since it was written (its checksum does not match)",
            RESTORE,
        )
    if shared := find_shared(index.special.model_dump(exclude={"all"})):
        role, other = shared
        raise UserError(
            f"{path} has the id {getattr(index.special, role)} for the {ROLES[role]} and the {ROLES[other]}, which "
            "rows cannot tell apart",
            f"Prepare the data again with a tokenizer that has a {ROLES[role]} of its own.",
        )
    for name in SPLITS:
        split: SplitEntry = getattr(index, name)
        if split.rows != sum(shard.rows for shard in split.shards):
            raise DamagedDataError(
                f"{path}: the {name} split has {split.rows} rows, its shards together "
                f"{sum(shard.rows for shard in split.shards)}",
                RESTORE,
            )
    return index, hashlib.sha256(content).hexdigest()


def _read(path: Path) -> bytes:
    try:
        if (size := path.stat().st_size) > MAX_INDEX_BYTES:
            raise DamagedDataError(
                f"{path} has {size:,} bytes, and an index has at most {MAX_INDEX_BYTES:,}",
                RESTORE,
            )
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "Check its permissions.") from None
