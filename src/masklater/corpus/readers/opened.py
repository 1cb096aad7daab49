"""One open file, as every reader gets it."""

import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from masklater.corpus.counts import ReadCounts
from masklater.corpus.fields import Fields
from masklater.corpus.lines import TextLines

BUFFER_BYTES = 2**16

Record = Mapping[str, Any]
Records = Iterator[tuple[int, Record]]
"""Records, each with the number of its line, row or page, counted from 1."""


class Metered(io.RawIOBase):
    """A file that reports how many bytes have been read; bytes read again are not reported again."""

    def __init__(self, file: BinaryIO, on_bytes: Callable[[int], None]) -> None:
        self.file, self.on_bytes, self.furthest = file, on_bytes, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        return self.file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        data = self.file.read(len(buffer))
        buffer[: len(data)] = data
        if (position := self.file.tell()) > self.furthest:
            self.on_bytes(position - self.furthest)
            self.furthest = position
        return len(data)

    def finish(self) -> None:
        """Report the bytes that a reader skipped, such as columns that it did not need."""
        if (size := self.file.seek(0, io.SEEK_END)) > self.furthest:
            self.on_bytes(size - self.furthest)
            self.furthest = size


@dataclass
class Opened:
    """One open file."""

    name: str  # its name in messages
    stream: BinaryIO  # its content, decompressed
    is_packed: bool
    encoding: str | None
    limit: int  # of the longest line or document, in bytes
    fields: Fields
    counts: ReadCounts
    if_not: str = ""  # what to do where the kind of file was guessed, and wrongly

    begins: bool = True  # False: a later piece of a file, which has no byte-order mark
    text: TextLines | None = None  # set once the file is read as text; counts its oddities

    def lines(self, cut: bool, limit: int | None = None) -> TextLines:
        """Return the lines, to be iterated over once; lines longer than a limit are cut or refused."""
        self.text = TextLines(self.name, self.stream, self.encoding, limit or self.limit, cut, self.begins)
        return self.text

    def anywhere(self) -> BinaryIO:
        """Return the content as a stream that can seek: where the file is compressed, a temporary copy."""
        if not self.is_packed:
            return self.stream
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - deleted when its last user closes it
        shutil.copyfileobj(self.stream, copy, BUFFER_BYTES)
        copy.seek(os.SEEK_SET)
        return copy
