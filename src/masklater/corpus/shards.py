"""SHARDS: rows of token ids on disk, read in place.

    SHARDS/index.json         what is here: counts, dtype, tokenizer hash, special ids, a checksum per file
    SHARDS/tokenizer/         the tokenizer, a Hugging Face folder
    SHARDS/train-00000.rows   [rows, L] unsigned integers, little-endian; their highest bits as corpus/marked.py says
    SHARDS/train-00000.starts [rows, ceil(L / 8)] bytes: one bit a position, set where a document (or a piece) starts
    SHARDS/valid-00000.rows   the held-out rows, likewise

Opening takes a look at each file's size and one descriptor per file; nothing is read until a row is asked for. Letters:
N rows asked for, U different ones among them, L row length, S shards.
"""

import hashlib
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from masklater.corpus.index import Index, ShardEntry, Split, SplitEntry, read_index_file
from masklater.corpus.marked import row_dtype, split_bit
from masklater.corpus.pack import Row
from masklater.corpus.row_file import RESTORE, RowFile, allow_open_files
from masklater.corpus.tokenizer import fingerprint, load
from masklater.corpus.vocabulary import Vocabulary
from masklater.corpus.words import WordTable, word_table_of
from masklater.errors import DamagedDataError

SHARD_BYTES = 256 * 2**20


class SplitWriter:
    """Writes the rows of one split into shards of SHARD_BYTES, hashing as it goes."""

    def __init__(self, folder: Path, split: Split, row_length: int, vocabulary: Vocabulary, marked: bool) -> None:
        self.folder = folder
        self.split = split
        self.row_length = row_length
        self.vocabulary = vocabulary
        self.marked = marked
        self.dtype = row_dtype(vocabulary.size, marked)
        self.is_special = np.zeros(vocabulary.size, dtype=bool)
        self.is_special[list(vocabulary.special)] = True
        self.rows_per_shard = max(1, SHARD_BYTES // (row_length * np.dtype(self.dtype).itemsize))
        self.pending: list[Row] = []
        self.shards: list[ShardEntry] = []
        self.rows = self.tokens = self.full_row_maskable = self.full_rows = self.mixed_rows = self.documents = 0
        self._shard: _OpenShard | None = None

    def write(self, row: Row) -> None:
        """Add one row."""
        self.pending.append(row)
        if len(self.pending) == 1024:
            self._write_pending()

    def close(self) -> SplitEntry:
        """Finish the last shard and return what the index records."""
        self._write_pending()
        self._close_shard()
        return SplitEntry(
            rows=self.rows,
            tokens=self.tokens,
            full_rows=self.full_rows,
            full_row_maskable=self.full_row_maskable,
            mixed_rows=self.mixed_rows,
            shards=self.shards,
        )

    def _write_pending(self) -> None:
        while self.pending:
            if self._shard is None:
                self._shard = _OpenShard(self.folder, f"{self.split}-{len(self.shards):05d}", self.documents)
            taken = self.pending[: self.rows_per_shard - self._shard.rows]
            self.pending = self.pending[len(taken) :]
            ids_NL = np.stack([row.ids for row in taken])
            starts_NL = np.zeros(ids_NL.shape, dtype=bool)
            for i, row in enumerate(taken):
                starts_NL[i, row.starts] = True
            tokens, documents = sum(row.tokens for row in taken), int(starts_NL.sum())
            self._shard.write(ids_NL, starts_NL, tokens, documents)
            self.rows += len(taken)
            self.tokens += tokens
            self.documents += documents
            full_N = ids_NL[:, -1] != self.vocabulary.pad
            self.full_rows += int(full_N.sum())
            full_NL = split_bit(ids_NL[full_N])[0] if self.marked else ids_NL[full_N]
            self.full_row_maskable += int((~self.is_special[full_NL]).sum())
            self.mixed_rows += int((starts_NL.sum(axis=1) > 1).sum())
            if self._shard.rows == self.rows_per_shard:
                self._close_shard()

    def _close_shard(self) -> None:
        if self._shard is not None:
            self.shards.append(self._shard.close())
            self._shard = None


class _OpenShard:
    """The two files of the shard being written."""

    def __init__(self, folder: Path, name: str, first_document: int) -> None:
        self.name = name
        self.first_document = first_document
        self.rows = self.tokens = self.documents = 0
        self.rows_file = (folder / f"{name}.rows").open("wb")
        self.starts_file = (folder / f"{name}.starts").open("wb")
        self.rows_hash, self.starts_hash = hashlib.sha256(), hashlib.sha256()

    def write(self, ids_NL: NDArray[np.integer], starts_NL: NDArray[np.bool_], tokens: int, documents: int) -> None:
        ids, starts = ids_NL.astype(ids_NL.dtype.newbyteorder("<")).tobytes(), np.packbits(starts_NL, axis=1).tobytes()
        self.rows_file.write(ids)
        self.starts_file.write(starts)
        self.rows_hash.update(ids)
        self.starts_hash.update(starts)
        self.rows += len(ids_NL)
        self.tokens += tokens
        self.documents += documents

    def close(self) -> ShardEntry:
        self.rows_file.close()
        self.starts_file.close()
        return ShardEntry(
            name=self.name,
            rows=self.rows,
            tokens=self.tokens,
            first_document=self.first_document,
            documents=self.documents,
            rows_sha256=self.rows_hash.hexdigest(),
            starts_sha256=self.starts_hash.hexdigest(),
        )


class RowBlock(NamedTuple):
    """Rows read from a split."""

    ids_NL: NDArray[np.int64]
    documents_NL: NDArray[np.int64]  # number, within its row, of each position's document, from 0; padding -1
    continues_NL: NDArray[np.bool_] | None = None  # whether the position continues a word; None: words are not marked


class ShardFiles(NamedTuple):
    """The open files of one shard."""

    rows: RowFile
    starts: RowFile


class SplitRows:
    """The rows of one split, by their number."""

    def __init__(self, folder: Path, index: Index, split: Split) -> None:
        self.entry: SplitEntry = getattr(index, split)
        self.num_rows = self.entry.rows
        self.row_length = index.row_length
        self.vocabulary = index.vocabulary
        self.marked = index.marked
        self.firsts_S = np.cumsum([0, *(shard.rows for shard in self.entry.shards[:-1])])
        self.dtype = np.dtype(index.dtype).newbyteorder("<")
        self.bytes_of_starts = (index.row_length + 7) // 8
        self.shards = [
            ShardFiles(
                RowFile(folder / f"{shard.name}.rows", shard.rows, self.row_length * self.dtype.itemsize),
                RowFile(folder / f"{shard.name}.starts", shard.rows, self.bytes_of_starts),
            )
            for shard in self.entry.shards
        ]

    def read(self, numbers_N: NDArray[np.int64]) -> RowBlock:
        """Read rows by number, in the order asked for.

        Raises:
            DamagedDataError: A shard is gone or has shrunk since it was opened, cannot be read, or holds an id that is
                not a token's.
        """
        numbers_U, places_N = np.unique(numbers_N, return_inverse=True)
        ids_UL = np.empty((len(numbers_U), self.row_length), dtype=self.dtype)
        bits_UL = np.empty((len(numbers_U), self.bytes_of_starts), dtype=np.uint8)
        shard_U = np.searchsorted(self.firsts_S, numbers_U, side="right") - 1
        local_U = numbers_U - self.firsts_S[shard_U]
        # True where a row does not follow the previous one on disk.
        begins_U = (np.diff(numbers_U, prepend=-2) != 1) | (np.diff(shard_U, prepend=-1) != 0)
        for first, last in pairwise([*np.flatnonzero(begins_U).tolist(), len(numbers_U)]):
            files = self.shards[shard_U[first]]
            if first == 0 or shard_U[first] != shard_U[first - 1]:
                # Rows of a deleted open file can still be read, but a run on them could not be resumed.
                files.rows.check()
                files.starts.check()
            files.rows.read_into(int(local_U[first]), ids_UL[first:last])
            files.starts.read_into(int(local_U[first]), bits_UL[first:last])
        continues_UL = None
        if self.marked:
            ids_UL, continues_UL = split_bit(ids_UL)
        if (largest := int(ids_UL.max(initial=0))) >= self.vocabulary.size:
            path = self.shards[shard_U[ids_UL.max(axis=1).argmax()]].rows.path
            raise DamagedDataError(
                f"{path} holds the id {largest:,}; the tokenizer has {self.vocabulary.size:,} entries", RESTORE
            )
        ids_NL = ids_UL[places_N].astype(np.int64)
        starts_NL = np.unpackbits(bits_UL[places_N], axis=1, count=self.row_length)
        starts_NL[:, :2] = 0  # <s> belongs with the first document, which begins at position 1
        documents_NL = np.cumsum(starts_NL, axis=1, dtype=np.int64)
        documents_NL[ids_NL == self.vocabulary.pad] = -1
        return RowBlock(ids_NL, documents_NL, None if continues_UL is None else continues_UL[places_N])


class Shards:
    """An opened SHARDS folder.

    `fingerprint` is the identity of the data: the SHA-256 of the index, which holds the checksums of everything else.
    `name` is the folder as it was asked for; for a SELECTION (corpus/selection.py) this differs from the folder of its
    SHARDS.
    """

    rows_K: NDArray[np.int64] | None = None
    """The numbers of the rows to train on, ascending; None: all."""
    selected_from: str | None = None
    """For a SELECTION: the fingerprint of its SHARDS with all their rows."""

    def __init__(self, folder: Path) -> None:
        """Open a SHARDS folder, and check what is cheap to check: the index, the tokenizer and the files' sizes.

        Raises:
            UserError: There is no such folder, it is no SHARDS folder, or it has more files than may be open at once.
            DamagedDataError: A part is missing, truncated, or belongs to another tokenizer.
        """
        self.folder = self.name = folder
        self.index, self.fingerprint = read_index_file(folder)
        self.check_tokenizer(folder / "tokenizer")
        self.vocabulary = self.index.vocabulary
        allow_open_files(2 * (len(self.index.train.shards) + len(self.index.valid.shards)))
        self.train = SplitRows(folder, self.index, "train")
        self.valid = SplitRows(folder, self.index, "valid")

    def check_tokenizer(self, folder: Path) -> None:
        """Raise DamagedDataError unless a folder holds the tokenizer that the rows were made with."""
        if fingerprint(folder) != self.index.tokenizer_sha256:
            raise DamagedDataError(
                f"{self.folder}: the tokenizer in {folder} is not the one its rows were made with",
                "Put the original tokenizer back, or prepare the data again with the new one.",
            )

    def verify(self, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        """Read every shard and compare its checksum.

        Raises:
            DamagedDataError: A shard differs from what was written.
        """
        for split in (self.train, self.valid):
            for entry, files in zip(split.entry.shards, split.shards, strict=True):
                files.rows.verify(entry.rows_sha256, on_bytes)
                files.starts.verify(entry.starts_sha256, on_bytes)

    @cached_property
    def words(self) -> WordTable[NDArray[Any]]:
        """The table of word beginnings, read from the tokenizer on first use."""
        return word_table_of(load(self.folder / "tokenizer"))

    @property
    def bytes(self) -> int:
        """The size of all shards on disk."""
        return sum(file.size for split in (self.train, self.valid) for shard in split.shards for file in shard)


def find_damage(
    folder: Path, index: Index, on_bytes: Callable[[int], None] = lambda _: None
) -> Iterator[DamagedDataError]:
    """Read every file of the index and yield its damage, one error per file."""
    for split in (index.train, index.valid):
        for shard in split.shards:
            widths = {"rows": index.row_length * np.dtype(index.dtype).itemsize, "starts": (index.row_length + 7) // 8}
            for ending, expected in (("rows", shard.rows_sha256), ("starts", shard.starts_sha256)):
                path = folder / f"{shard.name}.{ending}"
                try:
                    RowFile(path, shard.rows, widths[ending]).verify(expected, on_bytes)
                except DamagedDataError as fault:
                    yield fault
