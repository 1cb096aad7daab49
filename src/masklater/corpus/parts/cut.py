"""Sources to parts. The inputs and the size of a part alone decide where they are cut.

A part is several small files in a row, a file, or a range of bytes of a large file that can be cut between two
documents. A file that cannot be cut (compressed files, tables, arrays, XML, a text that is one document) is one part.
"""

import codecs
import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from masklater.corpus.elsewhere import ElsewhereFile
from masklater.corpus.inputs import size_of
from masklater.corpus.lines import MARKS
from masklater.corpus.parts.file_range import FileRange
from masklater.corpus.read import Source, TextFile
from masklater.corpus.readers import READERS, ending_of
from masklater.corpus.settings import PACKED_RATIO

LINE_PIECE_BYTES = 2**20
WIDE = tuple(mark for mark, name in MARKS if name != "utf-8")
"""Byte-order marks of encodings in which a line end takes more than one byte."""


@dataclass(frozen=True)
class Part:
    """Consecutive documents: the unit of work."""

    number: int  # its place, from 0
    sources: tuple[Source, ...]  # the sources of its files, each with only these files

    @property
    def bytes(self) -> int:
        """The part's size on disk, as far as known."""
        return sum(size_of(file) for source in self.sources for file in source.files)

    @property
    def is_portable(self) -> bool:
        """Whether another process can open all its files."""
        return all(
            source.rows is None
            and all(not isinstance(file, ElsewhereFile) or file.is_portable for file in source.files)
            for source in self.sources
        )

    def identity(self) -> list[object]:
        """Return what the part is made of: files by name, size and time, and how documents are made of them."""
        return [_identity(source) for source in self.sources]


def cut(sources: list[Source], part_bytes: int) -> list[Part]:
    """Cut sources into parts, in order.

    Args:
        sources: The sources, in the order given.
        part_bytes: About how much text a part holds; a part that cannot be cut may be larger.

    Raises:
        UserError: A file that has to be inspected cannot be read.
    """
    parts: list[list[Source]] = [[]]
    filled = 0
    for source in sources:
        if source.rows is not None:
            size = source.rows.size or part_bytes
            pieces: Iterator[tuple[list[TextFile], int]] = iter([([], size)])
        else:
            pieces = (([file], size) for one in source.files for file, size in _pieces(one, source, part_bytes))
        for files, size in pieces:
            if filled and filled + size > part_bytes:
                parts.append([])
                filled = 0
            filled += size
            if parts[-1] and parts[-1][-1].number == source.number:
                parts[-1][-1].files.extend(files)
            else:
                parts[-1].append(replace(source, files=files))
    return [Part(number, tuple(part)) for number, part in enumerate(parts)]


def digest(*what: object) -> str:
    """Return a short hash of values that JSON can hold."""
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]


def text_bytes(file: TextFile) -> int:
    """Return about how much text a file holds, in bytes, by its size."""
    ending = ending_of(file.name)
    is_packed = ending is not None and (ending.packing or ending.kind == ".parquet")
    return size_of(file) * (PACKED_RATIO if is_packed else 1)


def _pieces(file: TextFile, source: Source, part_bytes: int) -> Iterator[tuple[TextFile, int]]:
    size = text_bytes(file)
    if size <= part_bytes or not isinstance(file, Path) or not _can_be_cut(file, source):
        yield file, size
        return
    number = -(-size // part_bytes)
    wanted = [place * size // number for place in range(1, number)]
    reader = READERS[ending_of(file.name).kind]  # type: ignore[union-attr]
    blank_lines = reader.records is None and source.unit == "blank-line"
    places = [0, *_between_documents(file, wanted, blank_lines, reader.begins or b""), size]
    for start, end in pairwise(places):
        yield FileRange(file, start, end), end - start


def _can_be_cut(file: Path, source: Source) -> bool:
    """Tell whether line ends are single bytes in a file, and lines (or blank lines) end documents."""
    ending = ending_of(file.name)
    if ending is None or ending.packing or codecs.lookup(source.encoding or "utf-8").name != "utf-8":
        return False
    reader = READERS[ending.kind]
    ends_with_a_line = source.unit != "file" if reader.records is None else reader.begins is not None
    if not ends_with_a_line:
        return False
    with file.open("rb") as opened:
        return not opened.read(4).startswith(WIDE)


def _between_documents(path: Path, wanted: list[int], blank_lines: bool, begins: bytes) -> list[int]:
    """Return where documents begin, in bytes: the first start after each wanted place, fewer where there is none.

    Args:
        path: The file.
        wanted: The places.
        blank_lines: Whether blank lines separate documents; else every line end does.
        begins: The first bytes of a line that begins a document.
    """
    places: list[int] = []
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        for place in wanted:
            if places and place <= places[-1]:
                continue
            file.seek(place - 1)
            _pass_line(file)  # the rest of a line, which shows nothing
            while blank_lines and file.tell() < end and not _pass_line(file):
                pass
            while begins and file.tell() < end and not file.peek(1).startswith(begins):
                _pass_line(file)
            if file.tell() >= end:
                break
            places.append(file.tell())
    return places


def _pass_line(file: io.BufferedReader) -> bool:
    """Read to the end of a line; tell whether it held nothing but white space."""
    is_blank = True
    while piece := file.readline(LINE_PIECE_BYTES):
        is_blank = is_blank and not piece.strip()
        if piece.endswith(b"\n"):
            break
    return is_blank


def _identity(source: Source) -> list[object]:
    rows = source.rows and [source.rows.shown, source.rows.commit or os.urandom(8).hex()]
    return [
        source.number, source.name, source.unit, source.text_field, source.encoding, source.filters,
        source.null_texts, rows, [_file_identity(file) for file in source.files],
    ]  # fmt: skip


def _file_identity(file: TextFile) -> list[object]:
    if isinstance(file, ElsewhereFile):
        version = file.version or os.urandom(8).hex()  # content without a version counts as new
        return [file.shown, file.name, file.size, version]  # the name's ending says how the file is read
    path = file.path if isinstance(file, FileRange) else file
    status = path.stat()
    span = [file.start, file.end] if isinstance(file, FileRange) else None
    return [str(path.absolute()), status.st_size, status.st_mtime_ns, span]
