"""Files to documents, streaming: memory stays flat whatever the size of a file, a line or a folder.

`.txt` is cut into documents by file, line or blank line; `.jsonl` has one document a line, in a named field. Either
may be gzipped. What is odd but harmless (a few invalid bytes or NULs, a BOM, empty documents) is counted; what is
damaged (a truncated gzip, a line that is not JSON, text in another encoding) is refused by file and line.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, NamedTuple

from masklater.corpus.files import is_gzipped, is_jsonl
from masklater.corpus.lines import LongLineError, Oddities, TextLines
from masklater.corpus.settings import DocumentUnit
from masklater.errors import DamagedDataError, UserError

MAX_DOCUMENT_CHARS = 2**18
"""A longer document is passed on in parts of about this size, cut at a line or a word, which keeps memory flat and all
cores busy. A part is hundreds of rows long, so that the cut costs nothing."""
MAX_LINE_BYTES = 64 * 2**20
"""A longer line of .jsonl is refused; a longer line of .txt is cut."""


class Document(NamedTuple):
    """One document, or one part of a very long one."""

    text: str
    key: int  # 64-bit hash of the text (of the first part, for all parts): decides what is held out


@dataclass
class ReadCounts:
    """Counts of what was read, and of what was not taken as it stands."""

    files: int = 0
    bytes: int = 0  # on disk, compressed where the file is
    documents: int = 0
    characters: int = 0
    empty: int = 0  # documents without text, left out
    invalid_lines: int = 0  # lines with bytes that are no text in their encoding, each replaced by U+FFFD
    half_pairs: int = 0  # JSON strings with half of a surrogate pair, replaced by U+FFFD
    nul: int = 0  # NUL characters removed
    bom: int = 0  # byte-order marks removed
    cut: int = 0  # documents longer than MAX_DOCUMENT_CHARS, passed on in parts

    def add(self, odd: Oddities) -> None:
        """Book what was odd about a file that has been read."""
        self.invalid_lines += odd.invalid_lines
        self.nul += odd.nul
        self.bom += odd.bom


@dataclass(frozen=True)
class Source:
    """Text files, and how documents are cut out of them."""

    files: list[Path]  # as `find_files` returns them
    unit: DocumentUnit = "file"  # one document of a `.txt` file
    text_field: str = "text"  # the field of each `.jsonl` record that holds the text
    encoding: str | None = None  # of all files but those that begin with a byte-order mark; None: UTF-8


def read_documents(
    source: Source, counts: ReadCounts, on_bytes: Callable[[int], None] = lambda _: None
) -> Iterator[Document]:
    """Yield the documents of all files in order.

    Args:
        source: The files.
        counts: Updated as reading goes on.
        on_bytes: Called with the number of bytes read from disk since its last call.

    Raises:
        DamagedDataError: A gzip file is truncated or damaged, a file is in another encoding, or a `.jsonl` line is not
            a JSON object with text.
        UserError: The text field is not in a record, or a file cannot be read.
    """
    encoding = source.encoding
    for path in source.files:
        counts.files += 1
        try:
            with path.open("rb") as raw:
                if is_gzipped(path) and not raw.read(1):
                    raise EOFError("it is empty, and not even the header of one is there")
                raw.seek(0)
                stream: BinaryIO = gzip.GzipFile(fileobj=raw) if is_gzipped(path) else raw  # type: ignore[assignment]
                lines = TextLines(path, stream, encoding, MAX_LINE_BYTES, cut=not is_jsonl(path))
                metered = _metered(lines, raw, counts, on_bytes)
                if is_jsonl(path):
                    yield from _jsonl_documents(lines, metered, source.text_field, counts)
                else:
                    yield from _text_documents(metered, source.unit, counts)
                counts.add(lines.odd)
        except LongLineError as line:
            raise DamagedDataError(
                f"{path}, line {line}: longer than {MAX_LINE_BYTES // 2**20} MiB",
                "Split the document before preparing it.",
            ) from None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DamagedDataError(
                f"{path} is a damaged or truncated gzip file ({error})", "Fetch it again, or leave it out."
            ) from None
        except UnicodeError as error:  # of a codec that cannot go on
            raise DamagedDataError(
                f"{path} is not {encoding}: {error}", "Name its encoding with --encoding: utf-16-le or utf-16-be, say."
            ) from None
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}", "Check its permissions and the disk.") from None


def _metered(lines: Iterable[str], raw: BinaryIO, counts: ReadCounts, on_bytes: Callable[[int], None]) -> Iterator[str]:
    """Pass lines through, reporting how far the file on disk has been read."""
    seen = 0
    for number, line in enumerate(lines):
        yield line
        if number % 256 == 0 and raw.tell() - seen:
            counts.bytes += raw.tell() - seen
            on_bytes(raw.tell() - seen)
            seen = raw.tell()
    counts.bytes += raw.tell() - seen
    on_bytes(raw.tell() - seen)


def _text_documents(lines: Iterator[str], unit: DocumentUnit, counts: ReadCounts) -> Iterator[Document]:
    """Documents of one plain text file."""
    if unit == "line":
        for line in lines:
            yield from _emit(line, counts)
        return
    parts: list[str] = []
    size, key = 0, None
    for line in lines:
        if unit == "blank-line" and not line.strip():
            if parts:
                yield from _emit("".join(parts), counts, key)
                parts, size, key = [], 0, None
            continue
        if parts and size + len(line) > MAX_DOCUMENT_CHARS:
            text = "".join(parts)
            if key is None:
                counts.cut += 1
                key = _key(text.strip())
            yield from _emit(text, counts, key, whole=False)
            parts, size = [], 0
        parts.append(line)
        size += len(line)
    if parts or unit == "file":
        yield from _emit("".join(parts), counts, key)


def _jsonl_documents(source: TextLines, lines: Iterator[str], field: str, counts: ReadCounts) -> Iterator[Document]:
    """Documents of one JSON-lines file; `lines` are its source's."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{source.path}, line {number}"
        try:
            record = json.loads(line, object_pairs_hook=partial(_object, field=field))
        except (ValueError, RecursionError) as error:
            doubt = source.doubt()  # in another encoding there is no JSON to be seen
            remedy = f"{doubt.what[0].upper()}{doubt.what[1:]}. {doubt.remedy}" if doubt else "Mend or remove the line."
            raise DamagedDataError(f"{where}: not JSON ({error})", remedy) from None
        if not isinstance(record, dict):
            raise DamagedDataError(f"{where}: a {type(record).__name__}, not an object", "Mend or remove the line.")
        if field not in record:
            raise UserError(
                f"{where}: no field {field!r}; the record has {', '.join(map(repr, record)) or 'no fields'}",
                "Name the field that holds the text with --text-field.",
            )
        text = record[field]
        if not isinstance(text, str):
            raise DamagedDataError(
                f"{where}: field {field!r} holds {type(text).__name__}, not text", "Mend or remove the line."
            )
        if not text.isascii():
            text = _without_surrogates(text, counts)
        if "\0" in text:
            counts.nul += text.count("\0")
            text = text.replace("\0", "")
        yield from _emit(text, counts)


def _object(pairs: list[tuple[str, object]], field: str) -> dict[str, object]:
    """A JSON object; where its text stands twice, nothing says which one is meant."""
    record = dict(pairs)
    if len(record) < len(pairs) and [key for key, _ in pairs].count(field) > 1:
        raise ValueError(f"the field {field!r} stands twice")
    return record


def _without_surrogates(text: str, counts: ReadCounts) -> str:
    """JSON may hold half of a UTF-16 pair, which is no character and cannot be written as UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        counts.half_pairs += 1
        return "".join("\ufffd" if 0xD800 <= ord(character) < 0xE000 else character for character in text)
    return text


def _emit(text: str, counts: ReadCounts, key: int | None = None, whole: bool = True) -> Iterator[Document]:
    """Yield the document, in parts where it is too long; count it once, with its last part."""
    text = text.strip()
    if not text:
        counts.empty += whole and key is None
        return
    if key is None:
        key = _key(text)
        counts.cut += len(text) > MAX_DOCUMENT_CHARS
    counts.documents += whole
    counts.characters += len(text)
    start = 0
    while len(text) - start > MAX_DOCUMENT_CHARS:
        end = start + MAX_DOCUMENT_CHARS
        half = start + MAX_DOCUMENT_CHARS // 2
        line_end, word_end = text.rfind("\n", half, end), text.rfind(" ", half, end)
        end = line_end + 1 or word_end + 1 or end
        yield Document(text[start:end], key)
        start = end
    yield Document(text[start:] if start else text, key)


def _key(text: str) -> int:
    return int.from_bytes(blake2b(text.encode("utf-8"), digest_size=8).digest(), "big")
