"""Bytes to lines of text, in any encoding. A file in another encoding than expected is refused, not repaired.

UTF-8 is read unless a file begins with the byte-order mark of UTF-16 or UTF-32, or the user names an encoding. A few
stray bytes become U+FFFD and a few NULs are removed; both are counted. Larger numbers of them mean that the encoding is
another one.
"""

import codecs
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from encodings.aliases import aliases
from pathlib import Path
from typing import BinaryIO, NamedTuple

from masklater.errors import DamagedDataError, UserError, did_you_mean

MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"), (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
"""Byte-order marks with their encodings. UTF-32 comes first, as its little-endian mark begins with UTF-16's."""
SMALL_SHARE, BLATANT_SHARE = 0.01, 0.1
"""Limits of the share that is wrong: SMALL_SHARE for a whole file, BLATANT_SHARE for a file still being read, which is
then given up."""
FEW = 3
"""This many replaced bytes or NULs are accepted in a file of any size; so is a single line with such bytes."""
LOOK_EVERY_CHARS = 2**20

_REPLACED = "\udfff"
"""Marks what a codec could not decode, until it is counted: half a surrogate pair, which valid text never has."""
_SURROGATES = re.compile("[\ud800-\udfff]")
_ERRORS = "masklater.counted"


def _count(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return _REPLACED, error.end


codecs.register_error(_ERRORS, _count)


class LongLineError(Exception):
    """The number of a line that is longer than the limit and may not be cut."""


class EncodingError(DamagedDataError):
    """A file is in another encoding than the one it is read in."""


@dataclass
class Oddities:
    """Counts of what was odd about the lines of one file so far, with the line where it began."""

    lines: int = 0
    characters: int = 0
    bom: int = 0  # a byte-order mark at the beginning, removed
    invalid_lines: int = 0  # lines with bytes that are not valid text
    replaced: int = 0  # U+FFFD that stand for such bytes
    nul: int = 0  # NUL characters, removed
    first_invalid: int = 0  # the number of the first line with such bytes
    last_invalid: int = 0
    first_nul: int = 0


class Doubt(NamedTuple):
    """A reason to believe that a file is in another encoding than it is read in."""

    line: int  # the first line that shows it
    what: str
    remedy: str


def check_encoding(name: str) -> str:
    """Return the codec's own name of an encoding.

    Raises:
        UserError: Python has no text encoding of that name.
    """
    try:
        io.TextIOWrapper(io.BytesIO(b""), name, _ERRORS).read()  # refuses codecs that do not decode to text
        codecs.getincrementaldecoder(name)(_ERRORS).decode("text".encode(name), True)
        return codecs.lookup(name).name
    except Exception:  # codecs raise anything
        asked = did_you_mean(name.lower(), {*aliases, *aliases.values()})
        raise UserError(
            f"--encoding {name!r}: Python knows no text encoding of that name",
            "Name one that it knows, such as utf-8, utf-16-le, latin-1, cp1252, cp1251, gb18030 or shift_jis. "
            f"{asked}".rstrip(),
        ) from None


class TextLines:
    """The lines of one file with their ends, `\\r\\n` as `\\n`; iterated over once.

    Args:
        path: The name of the file in messages.
        stream: Its bytes, at their beginning.
        encoding: The encoding the user named; None for UTF-8. A byte-order mark takes precedence.
        limit: The longest line, in bytes for UTF-8, in characters for other encodings.
        cut: Whether a longer line is cut into parts; else it is an error.
        begins: Whether the stream is the beginning of a file, where a byte-order mark may be.

    Raises:
        LongLineError: While iterating: a line is longer than the limit, and may not be cut.
        EncodingError: While iterating: the file is in another encoding, or is not text.
    """

    def __init__(
        self, path: Path | str, stream: BinaryIO, encoding: str | None, limit: int, cut: bool, begins: bool = True
    ) -> None:
        self.path, self.stream, self.limit, self.cut = path, stream, limit, cut
        self.odd = Oddities()
        self.head = stream.read(1024)
        mark, self.encoding = next(
            ((mark, name) for mark, name in MARKS if begins and self.head.startswith(mark)),
            (b"", codecs.lookup(encoding or "utf-8").name),
        )
        self.odd.bom = int(bool(mark))
        stream.seek(len(mark))

    def __iter__(self) -> Iterator[str]:
        odd, next_look, begins = self.odd, LOOK_EVERY_CHARS, True
        for line, replaced in self._utf8() if self.encoding == "utf-8" else self._decoded():
            odd.characters += len(line)
            if begins:
                odd.lines += 1
            if replaced:
                odd.replaced += replaced
                odd.invalid_lines += odd.last_invalid != odd.lines  # a long line comes in parts
                odd.first_invalid, odd.last_invalid = odd.first_invalid or odd.lines, odd.lines
            if "\0" in line:
                odd.nul += line.count("\0")
                odd.first_nul = odd.first_nul or odd.lines
                line = line.replace("\0", "")  # noqa: PLW2901 - the line without NULs
            if odd.characters >= next_look:
                next_look = odd.characters + LOOK_EVERY_CHARS
                self.check(BLATANT_SHARE, "first ")
            begins = line.endswith("\n")
            yield line[:-2] + "\n" if line.endswith("\r\n") else line
        self.check()

    def check(self, share: float = SMALL_SHARE, first: str = "") -> None:
        """Raise EncodingError where more than a share of what was read is not valid in the encoding."""
        if doubt := self.doubt(share, first):
            raise EncodingError(f"{self.path}, line {doubt.line}: {doubt.what}", doubt.remedy)

    def doubt(self, share: float = SMALL_SHARE, first: str = "") -> Doubt | None:
        """Return the evidence against the encoding; None where no more than a share is invalid."""
        odd = self.odd
        if odd.nul > max(FEW, share * odd.characters):
            guess = _guess(self.head)
            return Doubt(
                odd.first_nul,
                f"{odd.nul:,} of its {first}{odd.characters:,} characters are NUL, as of UTF-16 or UTF-32 without a "
                "byte-order mark, or of no text",
                f"Name its encoding: --encoding {guess}." if guess else "Name its encoding with --encoding.",
            )
        has_few_lines = odd.lines * share < 1  # a single line is a large share then, so characters are counted instead
        if odd.invalid_lines > max(1, share * odd.lines) or (
            has_few_lines and odd.replaced > max(FEW, share * odd.characters)
        ):
            return Doubt(
                odd.first_invalid,
                f"bytes that are not {self.encoding}, in {odd.invalid_lines:,} of its {first}{odd.lines:,} lines",
                "Name its encoding with --encoding, such as cp1252 or latin-1 (Western Europe), cp1251 (Cyrillic), "
                "gb18030 (Chinese)\n  or shift_jis (Japanese): any that Python knows. Files of several encodings are "
                "made UTF-8 before, with iconv.",
            )
        return None

    def _utf8(self) -> Iterator[tuple[str, int]]:
        """Yield decoded lines, each with how many of its U+FFFD replace bytes that are not UTF-8."""
        carried = b""
        while chunk := self.stream.readline(self.limit):
            if not self.cut and len(chunk) == self.limit and not chunk.endswith(b"\n"):
                raise LongLineError(self.odd.lines + 1)
            chunk = carried + chunk
            carried = b""
            if not chunk.endswith(b"\n"):  # cut by the limit, or the last line: carry an incomplete character over
                split = _split_character(chunk)
                if split and len(chunk) >= self.limit:
                    chunk, carried = chunk[:-split], chunk[-split:]
            yield _decode(chunk)
        if carried:
            yield _decode(carried)

    def _decoded(self) -> Iterator[tuple[str, int]]:
        """Yield the same for any other encoding."""
        text = io.TextIOWrapper(self.stream, self.encoding, _ERRORS, newline="\n")
        while line := text.readline(self.limit):
            if not self.cut and len(line) == self.limit and not line.endswith("\n"):
                raise LongLineError(self.odd.lines + 1)
            yield (line, 0) if line.isascii() else _SURROGATES.subn("\ufffd", line)
        text.detach()  # else the wrapper would close the file, whose position is still needed


def _decode(chunk: bytes) -> tuple[str, int]:
    try:
        return chunk.decode("utf-8"), 0
    except UnicodeDecodeError:
        line = chunk.decode("utf-8", errors="replace")
        return line, line.count("\ufffd") - chunk.count("\ufffd".encode())


def _split_character(chunk: bytes) -> int:
    """Count the bytes at the end that begin a UTF-8 character and do not complete it (0 to 3)."""
    for back in range(1, min(4, len(chunk)) + 1):
        byte = chunk[-back]
        if byte & 0xC0 != 0x80:  # not a continuation byte: the start of the last character
            length = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if length > back else 0
    return 0


def _guess(head: bytes) -> str | None:
    """Guess the encoding of first bytes with NULs: the one that decodes most ASCII (spaces, line ends), or None."""
    found: dict[str, int] = {}
    for name in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        try:
            text = codecs.getincrementaldecoder(name)().decode(head)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            found[name] = sum(character.isascii() for character in text)
    best = max(found, key=lambda name: found[name], default=None)
    return best if best and found[best] else None
