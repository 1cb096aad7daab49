"""Records written as JSON: one per line, or one after the other as in an array."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from masklater.corpus.lines import EncodingError, LongLineError, TextLines
from masklater.corpus.readers.opened import Opened, Records
from masklater.errors import DamagedDataError

PART_CHARS = 2**20
"""An array may be one line of any length, so it is read in parts of this size."""
_SIGNS = re.compile(r'["{}\[\],]')
_IN_STRING = re.compile(r'["\\]')


def read_json_lines(opened: Opened) -> Records:
    """Yield one record per line; empty lines are skipped."""
    lines = opened.lines(cut=False)
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, _record(line, number, opened, lines)


def read_json(opened: Opened) -> Records:
    """Yield the elements of an array, or records one after the other, whatever their line breaks."""
    lines = opened.lines(cut=True, limit=PART_CHARS)
    splitter = _Splitter(opened.limit)
    for part in lines:
        for number, value in splitter.feed(part, lines.odd.lines):
            yield number, _record(value, number, opened, lines)
    for number, value in splitter.finish(lines.odd.lines):
        yield number, _record(value, number, opened, lines)
    if splitter.fault:
        raise _no_json(f"line {lines.odd.lines}", splitter.fault, opened, lines)


def _record(text: str, number: int, opened: Opened, lines: TextLines) -> dict[str, Any]:
    try:
        record = json.loads(text, object_pairs_hook=partial(_object, names=opened.fields.keys))
    except (ValueError, RecursionError) as error:
        raise _no_json(f"line {number}", str(error), opened, lines) from None
    if not isinstance(record, dict):
        if opened.fields.are_all:
            return {"": record}
        what = f"a {type(record).__name__}, not an object"
        raise DamagedDataError(f"{opened.name}, line {number}: {what}", _mend(opened))
    return record


def _no_json(place: str, why: str, opened: Opened, lines: TextLines) -> DamagedDataError:
    problem = f"{opened.name}, {place}: not JSON ({why})"
    if doubt := lines.doubt():  # in another encoding no JSON would be found
        remedy = f"{doubt.what[0].upper()}{doubt.what[1:]}. {doubt.remedy} {opened.if_not}"
        return EncodingError(problem, remedy.strip())
    return DamagedDataError(problem, _mend(opened))


def _mend(opened: Opened) -> str:
    return f"Mend or remove the line. {opened.if_not}".strip()


def _object(pairs: list[tuple[str, object]], names: Iterable[str] | None) -> dict[str, object]:
    """Return a JSON object; raise where a field that is used occurs twice, as either could be meant."""
    record = dict(pairs)
    if len(record) < len(pairs):
        there = Counter(key for key, _ in pairs)
        for name in there if names is None else names:
            if there[name] > 1:
                raise ValueError(f"the field {name!r} stands twice")
    return record


class _Splitter:
    """Cuts a stream of JSON into its values by brackets, commas and quotes alone; json.loads checks each value.

    Where the stream begins with `[`, the values are the elements of that array; else they follow each other.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.depth = self.base = 0  # base: the depth of the values, 1 in an array
        self.in_string = self.is_escaped = self.is_begun = self.is_over = self.is_followed = self.after_comma = False
        self.parts: list[str] = []
        self.size = self.line = 0

    def feed(self, text: str, line: int) -> Iterator[tuple[int, str]]:
        """Yield the values that end in this part of the stream, with the line on which they began."""
        if not self.is_begun:
            text = text.lstrip()
            if not text:
                return
            self.is_begun, self.base = True, int(text[0] == "[")
        if self.is_over:
            self.is_followed = self.is_followed or bool(text.strip())
            return
        at, start = int(self.is_escaped), 0
        self.is_escaped = False
        while found := (_IN_STRING if self.in_string else _SIGNS).search(text, at):
            sign, at = found[0], found.end()
            if self.in_string:
                self.in_string = sign != '"'
                self.is_escaped = sign == "\\" and at == len(text)
                at += sign == "\\"
            elif sign == '"':
                self.in_string = True
            elif sign in "[{":
                self.depth += 1
                start = at if self.depth == self.base and sign == "[" else start
            elif sign in "]}":
                self.depth -= 1
                if self.depth == 0 and self.base == 1:
                    self._take(text[start : at - 1], line)
                    self.is_over, self.is_followed = True, bool(text[at:].strip())
                    if self.size or self.after_comma:
                        yield self._value(line)
                    return
                elif self.depth == self.base == 0:
                    self._take(text[start:at], line)
                    start = at
                    yield self._value(line)
            elif self.depth == self.base == 1:  # a comma between elements
                self._take(text[start : at - 1], line)
                start, self.after_comma = at, True
                yield self._value(line)
        self._take(text[start:], line)

    def finish(self, line: int) -> Iterator[tuple[int, str]]:
        """Yield what is left, an incomplete value."""
        if self.size:
            yield self._value(line)

    @property
    def fault(self) -> str | None:
        """Return what is wrong with the array as a whole, or None."""
        if self.is_followed:
            return "something stands behind the array"
        return "the array is cut short" if self.base and not self.is_over else None

    def _take(self, text: str, line: int) -> None:
        if not self.size:
            text = text.lstrip()
            self.line = line
        if text:
            self.parts.append(text)
            self.size += len(text)
            if self.size > self.limit:
                raise LongLineError(self.line)

    def _value(self, line: int) -> tuple[int, str]:
        value = self.line or line, "".join(self.parts)
        self.parts, self.size = [], 0
        return value
