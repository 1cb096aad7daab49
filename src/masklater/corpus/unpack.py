"""Compressed files as streams of what is in them: whole, or refused; memory stays flat whatever they unpack to."""

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
"""Endings that follow the one that tells what a file holds, and what their format is called."""
CHUNK_BYTES = 2**16
XZ_MEMORY_BYTES = 2**28
"""An xz file may ask for gigabytes to be unpacked in; `xz -9` asks for 65 MiB."""


class PackedError(Exception):
    """A compressed file is truncated or damaged."""


class Decompressor(Protocol):
    """The decompressors of Python's library, of one stream each; several may follow each other in a file."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def needs_input(self) -> bool:
        """Whether nothing more comes out before something goes in."""

    @property
    def unused_data(self) -> bytes:
        """What stands behind the end."""

    def decompress(self, data: bytes, /, max_length: int) -> bytes:
        """Return at most so many bytes."""


class Unpacked(io.RawIOBase):
    """The bytes inside a compressed file. Python's own files of bz2 and lzma take what is damaged for an end.

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
        """Go to a position counted from the beginning, from which everything is unpacked again."""
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
                raise  # the disk's, not the format's
            raise PackedError(first_line(error)) from None
        except Exception as error:
            if type(error).__name__ != "ZstdError":  # of a library that is imported where it is needed
                raise
            raise PackedError(first_line(error)) from None

    def _behind_the_end(self) -> bytes:
        packed = self.decompressor.unused_data.lstrip(self.padding) if self.padding else self.decompressor.unused_data
        while not packed and (more := self.packed.read(CHUNK_BYTES)):
            packed = more.lstrip(self.padding) if self.padding else more
        return packed


def unpack(packed: BinaryIO, ending: str, name: str) -> BinaryIO:
    """Open what is inside a compressed file.

    Args:
        packed: Its bytes, at their beginning.
        ending: Of its name: one of PACKINGS.
        name: What messages call it.

    Raises:
        UserError: A library is missing.
        PackedError: While reading (or, of gzip, EOFError, zlib.error or gzip.BadGzipFile): it is truncated or damaged.
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
        # The longest window there is, as of `zstd --long=31`: each frame takes the memory of its own window alone.
        longest = {zstd.DecompressionParameter.window_log_max: zstd.DecompressionParameter.window_log_max.bounds()[1]}
        inside = Unpacked(packed, lambda: zstd.ZstdDecompressor(options=longest))
    return io.BufferedReader(inside, CHUNK_BYTES)


def zstd_library(name: str) -> Any:
    """Python's own `compression.zstd`, from 3.14 on; before, the same as `backports.zstd`."""
    if sys.version_info >= (3, 14):
        return import_extra("compression.zstd", "zstd", name)
    return import_extra("backports.zstd", "zstd", name)


DAMAGES = (PackedError, EOFError, zlib.error, gzip.BadGzipFile)
"""The errors of reading a compressed file that is truncated or damaged."""
