"""Compressed files as streams of their content: complete, or refused. Memory stays flat whatever their size."""

import bz2
import gzip
import io
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, Protocol

from masklater.errors import first_line
from masklater.extras import import_extra

PACKINGS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
"""Endings of compressed files, which follow the ending of the content, with the names of their formats."""
CHUNK_BYTES = 2**16
XZ_MEMORY_BYTES = 2**28
"""The limit of an xz file's memory, as a file may ask for gigabytes; `xz -9` asks for 65 MiB."""


class PackedError(Exception):
    """A compressed file is truncated or damaged."""


class Decompressor(Protocol):
    """The interface of the standard library's decompressors, for one stream; a file may hold several in a row."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def needs_input(self) -> bool:
        """Whether more input is needed for more output."""

    @property
    def unused_data(self) -> bytes:
        """The input after the end of the stream."""

    def decompress(self, data: bytes, /, max_length: int) -> bytes:
        """Return at most `max_length` bytes."""


class Unpacked(io.RawIOBase):
    """The content of a compressed file. Python's own bz2 and lzma files take some damage for the end of the file.

    Raises:
        PackedError: While reading: the file is truncated or damaged.
    """

    def __init__(self, packed: BinaryIO, make: Callable[[], Decompressor], padding: bytes = b"") -> None:
        self.packed, self.make, self.padding = packed, make, padding
        self.decompressor = make()

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True, by unpacking again from the beginning."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position counted from the beginning; everything up to it is unpacked again."""
        if whence != io.SEEK_SET:
            raise io.UnsupportedOperation("a compressed file is read from its beginning")
        self.packed.seek(0)
        self.decompressor = self.make()
        left = offset
        while left and (data := self.read(min(left, CHUNK_BYTES))):
            left -= len(data)
        return offset - left

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer."""
        data = self._next(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _next(self, size: int) -> bytes:
        try:
            while True:
                packed = b""
                if self.decompressor.eof:
                    packed = self._behind_the_end()
                    if not packed:
                        return b""
                    self.decompressor = self.make()
                elif self.decompressor.needs_input:
                    packed = self.packed.read(CHUNK_BYTES)
                    if not packed:
                        raise PackedError("it ends in the middle")
                if data := self.decompressor.decompress(packed, size):
                    return data
        except (OSError, ValueError, EOFError, MemoryError, lzma.LZMAError) as error:
            if getattr(error, "errno", None) is not None:
                raise  # an error of the disk, not of the format
            raise PackedError(first_line(error)) from None
        except Exception as error:
            if type(error).__name__ != "ZstdError":  # compared by name, as its library is imported only where needed
                raise
            raise PackedError(first_line(error)) from None

    def _behind_the_end(self) -> bytes:
        packed = self.decompressor.unused_data.lstrip(self.padding) if self.padding else self.decompressor.unused_data
        while not packed and (more := self.packed.read(CHUNK_BYTES)):
            packed = more.lstrip(self.padding) if self.padding else more
        return packed


def unpack(packed: BinaryIO, ending: str, name: str) -> BinaryIO:
    """Open the content of a compressed file.

    Args:
        packed: The file's bytes, at their beginning.
        ending: The ending of its name: one of PACKINGS.
        name: Its name in messages.

    Raises:
        UserError: A library is missing.
        PackedError: While reading (for gzip: EOFError, zlib.error or gzip.BadGzipFile): the file is truncated or
            damaged.
    """
    if ending == ".gz":
        if not packed.read(1):
            raise PackedError("it is empty, and not even the header of one is there")
        packed.seek(0)
        return gzip.GzipFile(fileobj=packed)  # type: ignore[return-value]
    if ending == ".bz2":
        inside = Unpacked(packed, bz2.BZ2Decompressor)
    elif ending == ".xz":
        inside = Unpacked(packed, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY_BYTES), padding=b"\0")
    else:
        zstd = zstd_library(name)
        # The longest window possible, as of `zstd --long=31`. Each frame takes only the memory of its own window.
        longest = {zstd.DecompressionParameter.window_log_max: zstd.DecompressionParameter.window_log_max.bounds()[1]}
        inside = Unpacked(packed, lambda: zstd.ZstdDecompressor(options=longest))
    return io.BufferedReader(inside, CHUNK_BYTES)


def zstd_library(name: str) -> Any:
    """Return the `compression.zstd` of Python 3.14 or later, or `backports.zstd`, the same for older versions."""
    if sys.version_info >= (3, 14):
        return import_extra("compression.zstd", "zstd", name)
    return import_extra("backports.zstd", "zstd", name)


DAMAGES = (PackedError, EOFError, zlib.error, gzip.BadGzipFile)
"""The errors of reading a compressed file that is truncated or damaged."""
