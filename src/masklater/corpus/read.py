"""Files to documents, streaming: memory stays flat whatever the size of a file, a line or a folder.

`.txt` is cut into documents by file, line or blank line; `.jsonl` has one document a line, in a named field. Either
may be gzipped. What is odd but harmless (invalid UTF-8, NUL bytes, a BOM, empty documents) is mended and counted;
what is damaged (a truncated gzip, a line that is not JSON) is refused by file and line.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from masklater.errors import DamagedDataError, UserError

DocumentUnit = Literal["file", "line", "blank-line"]

MAX_DOCUMENT_CHARS = 2**18
"""A longer document is passed on in parts of about this size, cut at a line or a word, which keeps memory flat and all
cores busy. A part is hundreds of rows long, so that the cut costs nothing."""
MAX_LINE_BYTES = 64 * 2**20
"""A longer line of .jsonl is refused; a longer line of .txt is cut."""

TEXT_ENDINGS = (".txt", ".txt.gz")
JSONL_ENDINGS = (".jsonl", ".jsonl.gz")
ENDINGS = TEXT_ENDINGS + JSONL_ENDINGS


class Document(NamedTuple):
    """One document, or one part of a very long one."""

    text: str
    key: int  # 64-bit hash of the text (of the first part, for all parts): decides what is held out


@dataclass
class ReadCounts:
    """What was read, and what had to be mended."""

    files: int = 0
    bytes: int = 0  # on disk, compressed where the file is
    documents: int = 0
    characters: int = 0
    empty: int = 0  # documents without text, left out
    invalid_utf8: int = 0  # lines with invalid bytes or lone surrogates, each replaced by U+FFFD
    nul: int = 0  # NUL characters removed
    bom: int = 0  # byte-order marks removed
    cut: int = 0  # documents longer than MAX_DOCUMENT_CHARS, passed on in parts


def find_files(inputs: list[Path]) -> list[Path]:
    """All text files among the inputs and, sorted, inside their folders; hidden ones are passed over.

    Raises:
        UserError: An input is missing, has an ending that is not read, or is a folder without text.
    """
    files: list[Path] = []
    for path in inputs:
        if path.is_dir():
            found = [
                file
                for file in sorted(path.rglob("*"))
                if file.name.endswith(ENDINGS)
                and file.is_file()
                and not any(part.startswith(".") for part in file.relative_to(path).parts)
            ]
            if not found:
                raise UserError(
                    f"the folder {path} holds no text: no file in it ends in {', '.join(ENDINGS)}",
                    "Name another folder, or rename the files to one of these endings.",
                )
            files += found
        elif not path.exists():
            raise UserError(f"there is no file or folder {path}", "Check the path.")
        elif not path.name.endswith(ENDINGS):
            raise UserError(
                f"{path} does not end in {', '.join(ENDINGS)}", "Rename it by its content: plain text or JSON lines."
            )
        else:
            files.append(path)
    return list(dict.fromkeys(files))


def read_documents(
    files: list[Path],
    unit: DocumentUnit,
    text_field: str,
    counts: ReadCounts,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> Iterator[Document]:
    """Yield the documents of all files in order.

    Args:
        files: As `find_files` returns them.
        unit: What one document is in a `.txt` file.
        text_field: The field of each `.jsonl` record that holds the text.
        counts: Updated as reading goes on.
        on_bytes: Called with the number of bytes read from disk since its last call.

    Raises:
        DamagedDataError: A gzip file is truncated or damaged, or a `.jsonl` line is not a JSON object with text.
        UserError: The text field is not in a record, or a file cannot be read.
    """
    for path in files:
        counts.files += 1
        try:
            with path.open("rb") as raw:
                if path.suffix == ".gz" and not raw.read(1):
                    raise EOFError("it is empty, and not even the header of one is there")
                raw.seek(0)
                stream: BinaryIO = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw  # type: ignore[assignment]
                is_jsonl = path.name.endswith(JSONL_ENDINGS)
                metered = _metered(_lines(stream, counts, cut=not is_jsonl), raw, counts, on_bytes)
                if is_jsonl:
                    yield from _jsonl_documents(path, metered, text_field, counts)
                else:
                    yield from _text_documents(metered, unit, counts)
        except _LongLineError as line:
            raise DamagedDataError(
                f"{path}, line {line}: longer than {MAX_LINE_BYTES // 2**20} MiB",
                "Split the document before preparing it.",
            ) from None
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DamagedDataError(
                f"{path} is a damaged or truncated gzip file ({error})", "Fetch it again, or leave it out."
            ) from None
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}", "Check its permissions and the disk.") from None


def _metered(lines: Iterator[str], raw: BinaryIO, counts: ReadCounts, on_bytes: Callable[[int], None]) -> Iterator[str]:
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


class _LongLineError(Exception):
    """The number of a line that is longer than MAX_LINE_BYTES."""


def _lines(stream: BinaryIO, counts: ReadCounts, cut: bool) -> Iterator[str]:
    """Decoded lines with their line ends, BOM and NULs removed; those longer than MAX_LINE_BYTES cut, or refused."""
    first, carried, number = True, b"", 0
    while chunk := stream.readline(MAX_LINE_BYTES):
        number += 1
        if not cut and len(chunk) == MAX_LINE_BYTES and not chunk.endswith(b"\n"):
            raise _LongLineError(number)
        chunk = carried + chunk
        carried = b""
        if not chunk.endswith(b"\n"):  # cut by the limit, or the last line: keep a split character for the next
            split = _split_character(chunk)
            if split and len(chunk) >= MAX_LINE_BYTES:
                chunk, carried = chunk[:-split], chunk[-split:]
        if first and chunk.startswith(b"\xef\xbb\xbf"):
            counts.bom += 1
            chunk = chunk[3:]
        first = False
        try:
            line = chunk.decode("utf-8")
        except UnicodeDecodeError:
            counts.invalid_utf8 += 1
            line = chunk.decode("utf-8", errors="replace")
        if "\0" in line:
            counts.nul += line.count("\0")
            line = line.replace("\0", "")
        if line.endswith("\r\n"):
            line = line[:-2] + "\n"
        yield line
    if carried:
        counts.invalid_utf8 += 1
        yield carried.decode("utf-8", errors="replace")


def _split_character(chunk: bytes) -> int:
    """How many bytes at the end begin a UTF-8 character that the chunk does not finish (0 to 3)."""
    for back in range(1, min(4, len(chunk)) + 1):
        byte = chunk[-back]
        if byte & 0xC0 != 0x80:  # not a continuation byte: the start of the last character
            length = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if length > back else 0
    return 0


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


def _jsonl_documents(path: Path, lines: Iterator[str], field: str, counts: ReadCounts) -> Iterator[Document]:
    """Documents of one JSON-lines file."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = json.loads(line, object_pairs_hook=partial(_object, field=field))
        except (ValueError, RecursionError) as error:
            raise DamagedDataError(f"{where}: not JSON ({error})", "Mend or remove the line.") from None
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
        counts.invalid_utf8 += 1
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
