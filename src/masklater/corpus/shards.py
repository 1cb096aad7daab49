"""SHARDS: rows of token ids on disk, read in place.

    SHARDS/index.json         what is here: counts, dtype, tokenizer hash, special ids, a checksum per file
    SHARDS/tokenizer/         the tokenizer, a Hugging Face folder
    SHARDS/train-00000.rows   [rows, L] unsigned integers, little-endian
    SHARDS/train-00000.starts [rows, ceil(L / 8)] bytes: one bit a position, set where a document (or a piece) starts
    SHARDS/valid-00000.rows   the held-out rows, likewise

Opening costs one stat a shard and maps the files; nothing is read until a row is asked for.
Letters: N rows asked for, L row length.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveInt, ValidationError

from masklater.corpus.pack import Packing, Row
from masklater.corpus.tokenizer import Vocabulary, fingerprint
from masklater.errors import DamagedDataError, UserError
from masklater.recipe.section import Section

FORMAT = 1
SHARD_BYTES = 256 * 2**20
Split = Literal["train", "valid"]
SPLITS: tuple[Split, ...] = ("train", "valid")


class ShardEntry(Section):
    """One shard: its files, what they hold and their checksums."""

    name: str = Field(pattern=r"^(train|valid)-\d{5}$")
    rows: PositiveInt
    tokens: NonNegativeInt  # positions that hold a token of a document
    first_document: NonNegativeInt  # ordinal, within the split, of the first document or piece in it
    documents: NonNegativeInt  # documents and pieces of documents in it
    rows_sha256: str
    starts_sha256: str


class SplitEntry(Section):
    """The shards of one split. All but the last have the same number of rows."""

    rows: NonNegativeInt
    tokens: NonNegativeInt
    full_rows: NonNegativeInt  # rows without padding
    full_row_maskable: NonNegativeInt  # their positions without a special token: what masking can choose from
    mixed_rows: NonNegativeInt  # rows that hold more than one document
    shards: list[ShardEntry]

    @property
    def maskable_per_row(self) -> float:
        """Mean number of maskable positions of a row without padding; nan where there is no such row."""
        return self.full_row_maskable / self.full_rows if self.full_rows else float("nan")


class SpecialEntry(Section):
    """The special ids, by their part."""

    bos: NonNegativeInt
    eos: NonNegativeInt
    pad: NonNegativeInt
    mask: NonNegativeInt
    all: list[NonNegativeInt]


class Index(Section):
    """index.json."""

    format: int
    row_length: PositiveInt
    dtype: Literal["uint16", "uint32"]
    vocabulary_size: PositiveInt
    tokenizer_sha256: str
    special: SpecialEntry
    pack: Packing
    train: SplitEntry
    valid: SplitEntry
    source: dict[str, int | float | str]  # what was read, for the record

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokenizer's sizes and special ids."""
        special = self.special
        return Vocabulary(self.vocabulary_size, special.bos, special.eos, special.pad, special.mask, tuple(special.all))


def make_index(
    vocabulary: Vocabulary,
    row_length: int,
    tokenizer_sha256: str,
    packing: Packing,
    train: SplitEntry,
    valid: SplitEntry,
    source: dict[str, int | float | str],
) -> Index:
    """The index of two finished splits."""
    special = SpecialEntry(
        bos=vocabulary.bos,
        eos=vocabulary.eos,
        pad=vocabulary.pad,
        mask=vocabulary.mask,
        all=list(vocabulary.special),
    )
    return Index(
        format=FORMAT,
        row_length=row_length,
        dtype="uint16" if row_dtype(vocabulary.size) is np.uint16 else "uint32",
        vocabulary_size=vocabulary.size,
        tokenizer_sha256=tokenizer_sha256,
        special=special,
        pack=packing,
        train=train,
        valid=valid,
        source=source,
    )


def row_dtype(vocabulary_size: int) -> type[np.unsignedinteger]:
    """The smallest unsigned integer that holds every id."""
    return np.uint16 if vocabulary_size <= 2**16 else np.uint32


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
        self.ids, self.starts = [], []
        for shard in self.entry.shards:
            self.ids.append(_map(folder / f"{shard.name}.rows", dtype, (shard.rows, index.row_length)))
            bits = (index.row_length + 7) // 8
            self.starts.append(_map(folder / f"{shard.name}.starts", np.dtype(np.uint8), (shard.rows, bits)))

    def read(self, numbers_N: NDArray[np.int64]) -> RowBlock:
        """Read rows by number, in the order asked for."""
        ids_NL = np.empty((len(numbers_N), self.row_length), dtype=np.int64)
        bits_NL = np.empty((len(numbers_N), (self.row_length + 7) // 8), dtype=np.uint8)
        shard_N, local_N = np.divmod(numbers_N, self.rows_per_shard)
        for shard in np.unique(shard_N):
            here_N = shard_N == shard
            ids_NL[here_N] = self.ids[shard][local_N[here_N]]
            bits_NL[here_N] = self.starts[shard][local_N[here_N]]
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
            UserError: There is no such folder, or it is no SHARDS folder.
            DamagedDataError: A part is missing, truncated, or belongs to another tokenizer.
        """
        self.folder = folder
        self.index = _read_index(folder)
        if fingerprint(folder / "tokenizer") != self.index.tokenizer_sha256:
            raise DamagedDataError(
                f"{folder}: the tokenizer in {folder / 'tokenizer'} is not the one its rows were made with",
                "Put the original tokenizer back, or prepare the data again with the new one.",
            )
        self.vocabulary = self.index.vocabulary
        self.train = SplitRows(folder, self.index, "train")
        self.valid = SplitRows(folder, self.index, "valid")

    def verify(self, on_bytes: Callable[[int], None] = lambda _: None) -> None:
        """Read every shard and compare its checksum.

        Raises:
            DamagedDataError: A shard differs from what was written.
        """
        for split in (self.index.train, self.index.valid):
            for shard in split.shards:
                for ending, expected in (("rows", shard.rows_sha256), ("starts", shard.starts_sha256)):
                    path = self.folder / f"{shard.name}.{ending}"
                    digest = hashlib.sha256()
                    with path.open("rb") as file:
                        while block := file.read(4 * 2**20):
                            digest.update(block)
                            on_bytes(len(block))
                    if digest.hexdigest() != expected:
                        raise DamagedDataError(
                            f"{path}: the content has changed since it was written (its checksum does not match)",
                            "Restore the file from a copy, or prepare the data again.",
                        )

    @property
    def bytes(self) -> int:
        """Size of all shards on disk."""
        return sum(array.nbytes for split in (self.train, self.valid) for array in (*split.ids, *split.starts))

    @property
    def fingerprint(self) -> str:
        """Identity of the data: SHA-256 of the index, which holds the checksums of everything else."""
        return hashlib.sha256((self.folder / "index.json").read_bytes()).hexdigest()


def _read_index(folder: Path) -> Index:
    path = folder / "index.json"
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}", "Make it with `masklater prepare ... --out`.")
    if not path.is_file():
        raise UserError(f"{folder} is no SHARDS folder: it has no index.json", "Make one with `masklater prepare`.")
    try:
        index = Index.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DamagedDataError(
            f"{path} is damaged{f' at {where}' if where else ''}: {first['msg']}",
            "Restore the file from a copy, or prepare the data again.",
        ) from None
    if index.format != FORMAT:
        raise UserError(
            f"{path} has format {index.format}; this version reads format {FORMAT}", "Prepare the data again."
        )
    for name in SPLITS:
        split: SplitEntry = getattr(index, name)
        if split.rows != sum(shard.rows for shard in split.shards):
            raise DamagedDataError(
                f"{path}: the {name} split has {split.rows} rows, its shards together "
                f"{sum(shard.rows for shard in split.shards)}",
                "Restore the file from a copy, or prepare the data again.",
            )
    return index


def _map(path: Path, dtype: np.dtype, shape: tuple[int, int]) -> NDArray[np.integer]:
    expected = shape[0] * shape[1] * dtype.itemsize
    try:
        found = path.stat().st_size
    except OSError as error:
        raise DamagedDataError(
            f"{path} is missing or unreadable ({error.strerror})", "Restore it from a copy, or prepare the data again."
        ) from None
    if found != expected:
        raise DamagedDataError(
            f"{path} has {found:,} bytes where the index says {expected:,}: "
            f"{'it was truncated' if found < expected else 'something was added to it'}",
            "Restore it from a copy, or prepare the data again.",
        )
    return np.memmap(path, dtype=dtype, mode="r", shape=shape)
