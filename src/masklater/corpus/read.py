"""Sources to documents, streaming: memory stays flat whatever the size of a file, a line or a folder.

Plain text is cut into documents by file, line or blank line. Any other file has records, and named fields of each
record hold the text. Odd but harmless content (a few invalid bytes or NULs, a BOM, empty documents) is counted. Damaged
content (a truncated file, a line that is not JSON, text in another encoding) is refused, with file and line.
"""

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from masklater.corpus.counts import ReadCounts
from masklater.corpus.elsewhere import STDIN_SHOWN, ElsewhereFile, begins_as
from masklater.corpus.fields import (
    Fields,
    MissingFieldError,
    NullTextError,
    WrongValueError,
    missing_field,
)
from masklater.corpus.half_pairs import without_half_pairs
from masklater.corpus.hub_rows import HubRows
from masklater.corpus.lines import EncodingError, LongLineError
from masklater.corpus.parts.file_range import FileRange
from masklater.corpus.readers import READERS, Ending, Reader, ending_of
from masklater.corpus.readers.opened import BUFFER_BYTES, Metered, Opened, Records
from masklater.corpus.settings import DocumentUnit, NullTexts
from masklater.corpus.text_hash import hash_of
from masklater.corpus.unpack import DAMAGES, PACKINGS, unpack
from masklater.errors import DamagedDataError, UserError, first_line
from masklater.hub import refuse_pointer

MAX_DOCUMENT_CHARS = 2**18
"""A longer document is passed on in parts of about this size, which keeps memory flat and all cores busy. A part is
hundreds of rows long, so that the cut has no cost."""
CUT_WITHIN = 1 / 16
"""A part ends at a line end, or else at a word's end, if one lies in its last 1/16. So the first part, by which a long
document is judged, holds nearly MAX_DOCUMENT_CHARS characters, however long the lines are."""
MAX_LINE_BYTES = 64 * 2**20
"""A longer record is refused; a longer line of plain text is cut."""


TextFile = Path | FileRange | ElsewhereFile
"""A file, or a piece of one."""


class Document(NamedTuple):
    """One document, or one part of a very long one."""

    text: str
    key: int  # 64-bit hash of the text (for all parts, of the first part): decides what is held out
    source: int = 0  # number of its source
    begins: bool = True  # False: a later part of the same document


@dataclass(frozen=True)
class Source:
    """One input as it was given: its files or rows, and how documents are made of them."""

    files: list[TextFile]
    unit: DocumentUnit = "file"  # what one document of plain text is
    text_field: str = "text"  # the fields of a record that hold the text
    encoding: str | None = None  # of all text files without a byte-order mark; None: UTF-8
    filters: tuple[str, ...] = ()
    null_texts: NullTexts = "refuse"
    number: int = 0
    name: str = ""
    rows: HubRows | None = None  # instead of files

    @property
    def fields(self) -> Fields:
        """The fields of records that are used."""
        return Fields(self.text_field, self.filters, self.null_texts)


def read_documents(
    source: Source, counts: ReadCounts, on_bytes: Callable[[int], None] = lambda _: None
) -> Iterator[Document]:
    """Yield the documents of a source in order.

    Args:
        source: The source.
        counts: Updated as reading goes on.
        on_bytes: Called with the number of bytes read from disk since its last call.

    Raises:
        DamagedDataError: A file is truncated or damaged, or in another encoding, or a record has no text.
        UserError: A field is missing from a record, a library is missing, or a file cannot be read.
    """
    if source.rows is not None:
        rows = source.rows.records(source.fields)
        yield from _record_documents(rows, f"{source.rows.shown}, row", source, counts)
    for path in source.files:
        counts.files += _is_beginning(path)
        with open_file(path, source.encoding, source.fields, counts, on_bytes) as (reader, opened):
            if reader.records is None:
                yield from _text_documents(opened.lines(cut=True), source, counts)
            else:
                yield from _record_documents(reader.records(opened), f"{path}, {reader.place}", source, counts)


@contextmanager
def open_file(
    path: TextFile,
    encoding: str | None,
    fields: Fields,
    counts: ReadCounts,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Iterator[tuple[Reader, Opened]]:
    """Open a file for its reader, decompressed. Errors while it is open are raised with the file's name.

    Args:
        path: The file; a reader must exist for its ending.
        encoding: Of text without a byte-order mark; None: UTF-8.
        fields: The fields of its records that are used.
        counts: Updated as reading goes on.
        on_bytes: Called with the number of bytes read from disk since its last call.

    Raises:
        DamagedDataError: The file is truncated or damaged, in another encoding, or has a line that is too long.
        UserError: A library is missing, or the file cannot be read.
    """
    ending = _ending(path)
    reader = READERS[ending.kind]

    def book(read: int) -> None:
        counts.bytes += read
        on_bytes(read)

    try:
        with path.open("rb", buffering=0) as file:
            metered = Metered(file, book)
            raw = io.BufferedReader(metered, BUFFER_BYTES)
            if _is_beginning(path):
                refuse_pointer(str(path), raw.peek())
            stream = unpack(raw, ending.packing, str(path)) if ending.packing else raw
            opened = Opened(str(path), stream, bool(ending.packing), encoding, MAX_LINE_BYTES, fields, counts)
            opened.begins = _is_beginning(path)
            opened.if_not = path.if_not if isinstance(path, ElsewhereFile) else ""
            yield reader, opened
            if opened.text:
                counts.add(opened.text.odd)
            metered.finish()
    except LongLineError as line:
        raise DamagedDataError(
            f"{path}, {reader.place} {line}: longer than {MAX_LINE_BYTES // 2**20} MiB",
            "Split the document before preparing it.",
        ) from None
    except DAMAGES as error:
        kind = PACKINGS[ending.packing]
        otherwise = f"Fetch it again, leave it out, or, if it is not compressed, take {ending.packing} off its name."
        raise DamagedDataError(
            f"{path} is a damaged or truncated {kind} file ({error})",
            _as_it_begins(path, ending) or otherwise,
        ) from None
    except UserError as error:
        if begins := _as_it_begins(path, ending):
            raise type(error)(error.problem, f"{begins} Otherwise: {error.remedy}") from None
        raise
    except UnicodeError as error:  # raised by a codec that cannot go on
        raise EncodingError(
            f"{path} is not {encoding}: {error}", "Name its encoding with --encoding: utf-16-le or utf-16-be, say."
        ) from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror or first_line(error)}", "Check its permissions and the disk."
        ) from None


def is_plain_text(path: TextFile) -> bool:
    """Tell whether a file is plain text, which is cut into documents, or has records, each of which is a document."""
    return READERS[_ending(path).kind].records is None


def _as_it_begins(path: TextFile, ending: Ending) -> str:
    """Return the advice about a file whose first bytes are those of another kind than its name says; else empty."""
    if not _is_beginning(path):
        return ""
    with path.open("rb") as file:
        other = begins_as(file.read(8))
    if not other or other in ending:
        return ""
    read_as = f"{ending.kind if other in PACKINGS else ''}{other}".lstrip(".")
    remedy = f"say so with --read-as {read_as}" if str(path) == STDIN_SHOWN else "give it a name that ends so"
    return f"It begins as {other} does: if it is one, {remedy}."


def _is_beginning(path: TextFile) -> bool:
    return not isinstance(path, FileRange) or path.start == 0


def _ending(path: TextFile) -> Ending:
    ending = ending_of(path.name)
    if ending is None:
        raise ValueError(f"{path} has an ending that no reader takes: inputs.py let it pass")
    return ending


def _text_documents(lines: Iterable[str], source: Source, counts: ReadCounts) -> Iterator[Document]:
    """Yield the documents of one plain text file."""
    unit, number = source.unit, source.number
    if unit == "line":
        for line in lines:
            yield from _whole(line, counts, number)
        return
    document = _Passed(counts, number)
    parts: list[str] = []
    size = 0
    for line in lines:
        if not line.strip() and (unit == "blank-line" or not parts):
            if parts:
                yield from document.on("".join(parts))
                document, parts, size = _Passed(counts, number), [], 0
            continue
        rest = line
        while parts and size + len(rest) > MAX_DOCUMENT_CHARS:
            if size < (1 - CUT_WITHIN) * MAX_DOCUMENT_CHARS:  # the next part cannot take a long line whole
                end = _end_of_part(rest, 0, MAX_DOCUMENT_CHARS - size)
                parts.append(rest[:end])
                rest = rest[end:]
            yield from document.on("".join(parts))
            parts, size = [], 0
        parts.append(rest)
        size += len(rest)
    if parts or unit == "file":
        yield from document.on("".join(parts))
        counts.empty += not document.parts


def _record_documents(records: Records, place: str, source: Source, counts: ReadCounts) -> Iterator[Document]:
    """Yield a document for each record; errors name the record's place and number."""
    fields = source.fields
    for number, record in records:
        try:
            if fields.wanted and fields.leaves_out(record):
                counts.filtered += 1
                continue
            text = fields.text_of(record)
        except MissingFieldError as missing:
            raise missing_field(f"{place} {number}", str(missing), record) from None
        except NullTextError as null:
            raise DamagedDataError(
                f"{place} {number}: field {str(null)!r} is null, not text",
                "Mend or remove it, or leave such records out, counted, with --null-texts skip.",
            ) from None
        except WrongValueError as wrong:
            raise DamagedDataError(f"{place} {number}: {wrong}", wrong.remedy) from None
        if text is None:
            counts.null += 1
            continue
        if (whole := without_half_pairs(text)) != text:
            counts.half_pairs += 1
            text = whole
        if "\0" in text:
            counts.nul += text.count("\0")
            text = text.replace("\0", "")
        yield from _whole(text, counts, source.number)


def _whole(text: str, counts: ReadCounts, source: int) -> Iterator[Document]:
    """Yield a document that is in memory whole, in parts where it is too long."""
    document = _Passed(counts, source)
    yield from document.on(text)
    counts.empty += not document.parts


@dataclass
class _Passed:
    """What has been passed on of one document. The document is counted once, with its first part."""

    counts: ReadCounts
    source: int
    parts: int = 0
    key: int = 0

    def on(self, text: str) -> Iterator[Document]:
        """Yield the text that comes next, in parts where it is too long; nothing where it is white space."""
        text = text.strip()
        if not text:
            return
        if not self.parts:
            self.key = hash_of(text)
        self.counts.characters += len(text)
        start = 0
        while len(text) - start > MAX_DOCUMENT_CHARS:
            end = _end_of_part(text, start, start + MAX_DOCUMENT_CHARS)
            yield self._part(text[start:end])
            start = end
        yield self._part(text[start:] if start else text)

    def _part(self, text: str) -> Document:
        self.parts += 1
        self.counts.documents += self.parts == 1
        self.counts.cut += self.parts == 2
        return Document(text, self.key, self.source, self.parts == 1)


def _end_of_part(text: str, start: int, most: int) -> int:
    """Return where a part ends: after a line or else a word, if one ends shortly before `most`; else at `most`."""
    earliest = max(start, most - int(CUT_WITHIN * MAX_DOCUMENT_CHARS))
    return text.rfind("\n", earliest, most) + 1 or text.rfind(" ", earliest, most) + 1 or most
