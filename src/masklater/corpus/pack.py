"""Documents to rows of exactly L token ids: `<s> ... </s>`. Pure functions of the documents, in order.

There are two ways. `continuous` fills every row completely, across documents with `</s>` between them. Only the last
few tokens of a corpus (less than one row) are left out, unless there are no others. `documents` puts each whole
document into the row that fits best, splits only documents longer than a row, and pads the rest of each row.

Each row records where its pieces start, so that attention can stay inside documents.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from masklater.corpus.settings import Packing
from masklater.corpus.vocabulary import Vocabulary

MAX_OPEN_ROWS = 4096
"""The most rows that `documents` keeps open to find the best fit; beyond it, the fullest row is closed."""


class Row(NamedTuple):
    """One packed row."""

    ids: NDArray[np.integer]  # [L]
    starts: list[int]  # positions where a document, or a piece of one, begins
    tokens: int  # number of positions that hold a token of a document


class ContinuousPacker:
    """Rows without padding, filled across documents."""

    def __init__(self, row_length: int, vocabulary: Vocabulary, dtype: type[np.unsignedinteger]) -> None:
        self.row_length = row_length
        self.vocabulary = vocabulary
        self.dtype = dtype
        self.closed_rows = 0
        self._open_row()

    def add(self, ids: NDArray[np.integer]) -> Iterator[Row]:
        """Take one document (without special tokens); yield the rows it completes."""
        if self.used > 1:  # the row holds a document, so a separator comes first
            self.row[self.used] = self.vocabulary.eos
            self.used += 1
            if self.used == self.row_length - 1:
                yield self._close_row()
        position = 0
        while position < len(ids):
            self.starts.append(self.used)
            take = min(self.row_length - 1 - self.used, len(ids) - position)
            self.row[self.used : self.used + take] = ids[position : position + take]
            self.used += take
            self.tokens += take
            position += take
            if self.used == self.row_length - 1:
                yield self._close_row()

    def flush(self) -> Iterator[Row]:
        """End the corpus. The open row is not full and is left out, unless it is the only one, which is yielded."""
        if self.tokens and not self.closed_rows:
            yield self._close_row()

    @property
    def left_out(self) -> int:
        """Tokens in the row that is still open; at the end of the corpus they are lost."""
        return self.tokens

    def _open_row(self) -> None:
        self.row = np.full(self.row_length, self.vocabulary.pad, dtype=self.dtype)
        self.row[0] = self.vocabulary.bos
        self.used = 1
        self.tokens = 0
        self.starts: list[int] = []

    def _close_row(self) -> Row:
        self.row[self.used] = self.vocabulary.eos
        row = Row(self.row, self.starts, self.tokens)
        self.closed_rows += 1
        self._open_row()
        return row


class DocumentPacker:
    """Whole documents, each in the row that fits best; rows are padded."""

    def __init__(self, row_length: int, vocabulary: Vocabulary, dtype: type[np.unsignedinteger]) -> None:
        self.row_length = row_length
        self.vocabulary = vocabulary
        self.dtype = dtype
        self.capacity = row_length - 2  # between <s> and </s>
        # open_rows[r]: rows with room for r more positions. Bit r of `rooms` is set where there are any, so that one
        # bit operation finds the smallest room that fits.
        self.open_rows: list[list[list[NDArray[np.integer]]]] = [[] for _ in range(self.capacity + 1)]
        self.rooms = 0
        self.num_open = 0

    def add(self, ids: NDArray[np.integer]) -> Iterator[Row]:
        """Take one document (without special tokens); yield the rows it completes."""
        whole = len(ids) - len(ids) % self.capacity
        for position in range(0, whole, self.capacity):
            yield self._row([ids[position : position + self.capacity]])
        rest = ids[whole:].copy() if whole else ids  # a view would keep a long document in memory whole
        if len(rest):
            yield from self._place(rest)

    def flush(self) -> Iterator[Row]:
        """End the corpus: yield all rows still open, the fullest first."""
        while self.num_open:
            yield self._close_fullest()

    @property
    def left_out(self) -> int:
        """Tokens lost at the end of the corpus: none, rows are padded instead."""
        return 0

    def _place(self, piece: NDArray[np.integer]) -> Iterator[Row]:
        fitting = self.rooms >> (len(piece) + 1) << (len(piece) + 1)  # one more, for the separator before the piece
        if fitting:
            room = (fitting & -fitting).bit_length() - 1
            pieces = self._take(room)
            room -= len(piece) + 1
        else:
            pieces, room = [], self.capacity - len(piece)
        pieces.append(piece)
        if room < 2:  # a separator and one token would not fit
            yield self._row(pieces)
            return
        self.open_rows[room].append(pieces)
        self.rooms |= 1 << room
        self.num_open += 1
        if self.num_open > MAX_OPEN_ROWS:
            yield self._close_fullest()

    def _take(self, room: int) -> list[NDArray[np.integer]]:
        pieces = self.open_rows[room].pop()
        if not self.open_rows[room]:
            self.rooms &= ~(1 << room)
        self.num_open -= 1
        return pieces

    def _close_fullest(self) -> Row:
        return self._row(self._take((self.rooms & -self.rooms).bit_length() - 1))

    def _row(self, pieces: list[NDArray[np.integer]]) -> Row:
        row = np.full(self.row_length, self.vocabulary.pad, dtype=self.dtype)
        row[0] = self.vocabulary.bos
        used, starts = 1, []
        for piece in pieces:
            starts.append(used)
            row[used : used + len(piece)] = piece
            row[used + len(piece)] = self.vocabulary.eos
            used += len(piece) + 1
        return Row(row, starts, sum(map(len, pieces)))


def make_packer(
    packing: Packing, row_length: int, vocabulary: Vocabulary, dtype: type[np.unsignedinteger]
) -> ContinuousPacker | DocumentPacker:
    """Return the packer of that name."""
    return (ContinuousPacker if packing == "continuous" else DocumentPacker)(row_length, vocabulary, dtype)
