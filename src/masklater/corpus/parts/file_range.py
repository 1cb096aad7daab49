"""A range of bytes of a file, read as if it were a file."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO


@dataclass(frozen=True)
class FileRange:
    """The bytes of a file from `start` to before `end`; it ends at a document's end, and the next range follows."""

    path: Path
    start: int
    end: int

    @property
    def name(self) -> str:
        """The name of the file; its ending says what the file holds."""
        return self.path.name

    @property
    def size(self) -> int:
        """Bytes of the range."""
        return self.end - self.start

    def __str__(self) -> str:
        return f"{self.path} from byte {self.start:,}" if self.start else str(self.path)

    def open(self, mode: str = "rb", buffering: int = -1) -> BinaryIO:
        """Open the range at its beginning; always for bytes, without a buffer."""
        return _Range(self.path.open("rb", buffering=0), self.start, self.end)  # type: ignore[return-value]


class _Range(io.RawIOBase):
    def __init__(self, file: io.FileIO, start: int, end: int) -> None:
        self.file, self.start, self.end = file, start, end
        file.seek(start)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: self.start, io.SEEK_CUR: self.file.tell(), io.SEEK_END: self.end}[whence]
        return self.file.seek(origin + offset) - self.start

    def readinto(self, buffer: Any) -> int:
        data = self.file.read(max(0, min(len(buffer), self.end - self.file.tell())))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self.file.close()
        super().close()
