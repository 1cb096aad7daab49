"""One file that is open, as every reader is given it."""

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
"""Records with the number of their line, row or page, counted from 1."""


class Metered(io.RawIOBase):
    """A file that reports how far it has been read. Reading a part again reports nothing."""

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
        """Report what a reader passed over, such as columns that it did not need."""
        if (size := self.file.seek(0, io.SEEK_END)) > self.furthest:
            self.on_bytes(size - self.furthest)
            self.furthest = size


@dataclass
class Opened:
    """One file that is open."""

    name: str  # what messages call it
    stream: BinaryIO  # what is in it, unpacked
    is_packed: bool
    encoding: str | None
    limit: int  # longest line or document, in bytes
    fields: Fields
    counts: ReadCounts
    if_not: str = ""  # what to do where it is not what it was taken for, of what was guessed

    begins: bool = True  # False: a later piece of a file, which no byte-order mark begins
    text: TextLines | None = None  # once it is read as text, for what is odd about it

    def lines(self, cut: bool, limit: int | None = None) -> TextLines:
        """Its lines, to be iterated over once; longer ones than a limit are cut or refused."""
        self.text = TextLines(self.name, self.stream, self.encoding, limit or self.limit, cut, self.begins)
        return self.text

    def anywhere(self) -> BinaryIO:
        """The same for a reader that goes to and fro: where the file is compressed, from a temporary copy."""
        if not self.is_packed:
            return self.stream
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - gone when it is closed, which its last user does
        shutil.copyfileobj(self.stream, copy, BUFFER_BYTES)
        copy.seek(os.SEEK_SET)
        return copy
