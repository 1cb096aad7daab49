"""SHARDS: rows of token ids on disk, read in place.

    SHARDS/index.json         what is here: counts, dtype, tokenizer hash, special ids, a checksum per file
    SHARDS/tokenizer/         the tokenizer, a Hugging Face folder
    SHARDS/train-00000.rows   [rows, L] unsigned integers, little-endian
    SHARDS/train-00000.starts [rows, ceil(L / 8)] bytes: one bit a position, set where a document (or a piece) starts
    SHARDS/valid-00000.rows   the held-out rows, likewise

Opening costs one stat a shard and maps the files; nothing is read until a row is asked for.
Letters: N rows asked for, L row length.
"""

import errno
import hashlib
import resource
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from masklater.corpus.index import Index, ShardEntry, Split, SplitEntry, read_index, row_dtype
from masklater.corpus.pack import Row
from masklater.corpus.tokenizer import Vocabulary, fingerprint, load
from masklater.corpus.words import WordClasses, word_classes
from masklater.errors import DamagedDataError, UserError

SHARD_BYTES = 256 * 2**20
RESTORE = "Restore it from a copy, or prepare the data again."
OTHER_FILES = 256
"""Open files, at most, beside those of shards."""


class SplitWriter:
    """Writes the rows of one split into shards of SHARD_BYTES, hashing as it goes."""

    def __init__(
        self, folder: Path, split: Split, row_length: int, vocabulary: Vocabulary, shard_bytes: int = SHARD_BYTES
    ) -> None:
        self.folder = folder
        self.split = split
        self.row_length = row_length
        self.vocabulary = vocabulary
        self.dtype = row_dtype(vocabulary.size)
        self.is_special = np.zeros(vocabulary.size, dtype=bool)
        self.is_special[list(vocabulary.special)] = True
        self.rows_per_shard = max(1, shard_bytes // (row_length * np.dtype(self.dtype).itemsize))
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
            self.full_row_maskable += int((~self.is_special[ids_NL[full_N]]).sum())
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
    documents_NL: NDArray[np.int64]  # which of the row's documents each position belongs to, from 0; padding -1


class SplitRows:
    """The rows of one split, by their number."""

    def __init__(self, folder: Path, index: Index, split: Split) -> None:
        self.entry: SplitEntry = getattr(index, split)
        self.num_rows = self.entry.rows
        self.row_length = index.row_length
        self.pad = index.special.pad
        self.special = list(index.special.all)
        self.rows_per_shard = self.entry.shards[0].rows if self.entry.shards else 1
        dtype = np.dtype(index.dtype).newbyteorder("<")
        self.vocabulary_size = index.vocabulary_size
        self.ids: list[NDArray[np.integer]] = []
        self.starts: list[NDArray[np.integer]] = []
        self.files: list[dict[Path, int]] = []  # of each shard, with their sizes
        bits = (index.row_length + 7) // 8
        for shard in self.entry.shards:
            rows, starts = (folder / f"{shard.name}.{ending}" for ending in ("rows", "starts"))
            self.ids.append(_map(rows, dtype, (shard.rows, index.row_length)))
            self.starts.append(_map(starts, np.dtype(np.uint8), (shard.rows, bits)))
            self.files.append({rows: self.ids[-1].nbytes, starts: self.starts[-1].nbytes})

    def read(self, numbers_N: NDArray[np.int64]) -> RowBlock:
        """Read rows by number, in the order asked for.

        Raises:
            DamagedDataError: A shard has gone or shrunk since it was opened, or holds an id that is no token.
        """
        ids_NL = np.empty((len(numbers_N), self.row_length), dtype=np.int64)
        bits_NL = np.empty((len(numbers_N), (self.row_length + 7) // 8), dtype=np.uint8)
        shard_N, local_N = np.divmod(numbers_N, self.rows_per_shard)
        for shard in np.unique(shard_N):
            here_N = shard_N == shard
            # To read beyond the end of a file that was cut would end the process without a word.
            for path, size in self.files[shard].items():
                _check_size(path, size)
            ids_NL[here_N] = self.ids[shard][local_N[here_N]]
            bits_NL[here_N] = self.starts[shard][local_N[here_N]]
            if (largest := int(ids_NL[here_N].max(initial=0))) >= self.vocabulary_size:
                raise DamagedDataError(
                    f"{next(iter(self.files[shard]))} holds the id {largest:,}; the tokenizer has "
                    f"{self.vocabulary_size:,} entries",
                    RESTORE,
                )
        starts_NL = np.unpackbits(bits_NL, axis=1, count=self.row_length)
        starts_NL[:, :2] = 0  # <s> belongs with the first document, which begins at position 1
        documents_NL = np.cumsum(starts_NL, axis=1, dtype=np.int64)
        documents_NL[ids_NL == self.pad] = -1
        return RowBlock(ids_NL, documents_NL)


class Shards:
    """An opened SHARDS folder."""

    def __init__(self, folder: Path) -> None:
        """Open and check what is cheap to check: the index, the tokenizer and the files' sizes.

        Raises:
            UserError: There is no such folder, it is no SHARDS folder, or it has more files than may be open.
            DamagedDataError: A part is missing, truncated, or belongs to another tokenizer.
        """
        self.folder = folder
        self.index = read_index(folder)
        if fingerprint(folder / "tokenizer") != self.index.tokenizer_sha256:
            raise DamagedDataError(
                f"{folder}: the tokenizer in {folder / 'tokenizer'} is not the one its rows were made with",
                "Put the original tokenizer back, or prepare the data again with the new one.",
            )
        self.vocabulary = self.index.vocabulary
        _allow_open_files(2 * (len(self.index.train.shards) + len(self.index.valid.shards)))
        self.train = SplitRows(folder, self.index, "train")
        self.valid = SplitRows(folder, self.index, "valid")

    def verify(self, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        """Read every shard and compare its checksum.

        Raises:
            DamagedDataError: A shard differs from what was written.
        """
        for fault in find_damage(self.folder, self.index, on_bytes):
            raise fault

    @cached_property
    def words(self) -> WordClasses:
        """Where words begin, read off the tokenizer when first asked for."""
        return word_classes(load(self.folder / "tokenizer"))

    @property
    def bytes(self) -> int:
        """Size of all shards on disk."""
        return sum(array.nbytes for split in (self.train, self.valid) for array in (*split.ids, *split.starts))

    @property
    def fingerprint(self) -> str:
        """Identity of the data: SHA-256 of the index, which holds the checksums of everything else."""
        return hashlib.sha256((self.folder / "index.json").read_bytes()).hexdigest()


def find_damage(
    folder: Path, index: Index, on_bytes: Callable[[int], None] = lambda _: None
) -> Iterator[DamagedDataError]:
    """Read every file of the index and yield what is wrong, one error a file."""
    for split in (index.train, index.valid):
        for shard in split.shards:
            widths = {"rows": index.row_length * np.dtype(index.dtype).itemsize, "starts": (index.row_length + 7) // 8}
            for ending, expected in (("rows", shard.rows_sha256), ("starts", shard.starts_sha256)):
                path = folder / f"{shard.name}.{ending}"
                try:
                    _check_size(path, shard.rows * widths[ending])
                    _check_sha256(path, expected, on_bytes)
                except DamagedDataError as fault:
                    yield fault


def _check_sha256(path: Path, expected: str, on_bytes: Callable[[int], None]) -> None:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(4 * 2**20):
                digest.update(block)
                on_bytes(len(block))
    except OSError as error:
        raise DamagedDataError(f"{path} cannot be read: {error.strerror}", RESTORE) from None
    if digest.hexdigest() != expected:
        raise DamagedDataError(
            f"{path}: the content has changed since it was written (its checksum does not match)", RESTORE
        )


def _check_size(path: Path, expected: int) -> None:
    try:
        found = path.stat().st_size
    except OSError as error:
        raise DamagedDataError(f"{path} is missing or unreadable ({error.strerror})", RESTORE) from None
    if found != expected:
        raise DamagedDataError(
            f"{path} has {found:,} bytes where the index says {expected:,}: "
            f"{'it was truncated' if found < expected else 'something was added to it'}",
            RESTORE,
        )


def _allow_open_files(number: int) -> None:
    """Let this process keep so many files of shards open, as far as the system lets it say so.

    A map keeps its file open, and the usual limit of 1,024 is reached at 128 GiB of shards.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = number + OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _map(path: Path, dtype: np.dtype, shape: tuple[int, int]) -> NDArray[np.integer]:
    _check_size(path, shape[0] * shape[1] * dtype.itemsize)
    try:
        return np.memmap(path, dtype=dtype, mode="r", shape=shape)
    except OSError as error:
        if error.errno == errno.EMFILE:
            raise UserError(
                f"{path.parent} has more shards than this process may have files open "
                f"({resource.getrlimit(resource.RLIMIT_NOFILE)[0]:,}; each shard is two files)",
                "Raise the limit (`ulimit -n`, or LimitNOFILE, nofile and the like in what starts the process).",
            ) from None
        raise DamagedDataError(f"{path} cannot be read: {error.strerror}", RESTORE) from None
