"""Tables as text: comma-separated values with quotes, tab-separated values without."""

import csv
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain

from masklater.corpus.fields import Fields, MissingFieldError, missing_field, refuse_twice
from masklater.corpus.lines import TextLines
from masklater.corpus.readers.opened import Opened, Record, Records
from masklater.errors import DamagedDataError

SEPARATORS = ",;\t|"
"""Separators of cells in .csv, the usual one first; where a comma is the decimal sign, spreadsheets write
semicolons."""

ALONE = (
    r"Where it ends the rows, make it a line end: tr '\r' '\n' < FILE > NEW. "
    r"Where it stands in a cell, make it a space: sed 's/\r$//; s/\r/ /g' FILE > NEW."
)
"""The advice about carriage returns without a line feed; `tr` would end the row where one is inside a cell."""


def read_csv(opened: Opened) -> Records:
    """Yield rows under a header, as RFC 4180 defines: a cell in quotes may hold commas, line ends and doubled quotes.

    If the header has the fields that are used only with another separator, that separator is taken.
    """
    return _rows(opened, SEPARATORS, csv.QUOTE_MINIMAL)


def read_tsv(opened: Opened) -> Records:
    """Yield rows under a header, as the type text/tab-separated-values defines: a quote is an ordinary character."""
    return _rows(opened, "\t", csv.QUOTE_NONE)


def _rows(opened: Opened, separators: str, quoting: int) -> Iterator[tuple[int, Record]]:
    lines = opened.lines(cut=False)
    csv.field_size_limit(opened.limit)
    rest = iter(lines)
    first = next(rest, None)
    if first is None:
        return
    if opened.fields.are_all:
        separator = _most_cells(first, separators)
    else:
        separator = choose_separator(first, partial(_has_fields, opened.fields), separators)
    reader = csv.reader(chain([first], rest), delimiter=separator, quoting=quoting, strict=True)  # type: ignore[arg-type]
    header: list[str] | None = None
    needed: list[str] = []
    number = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            lines.check()  # in another encoding no quotes would be found
            if "new-line character" in str(error):  # its own advice is about code
                raise DamagedDataError(
                    f"{opened.name}, line {number}: a carriage return that no line feed follows", ALONE
                ) from None
            raise DamagedDataError(
                f"{opened.name}, line {number}: no row of a table ({error})",
                "Mend the quotes: a cell that holds a quote stands in quotes, with the quote doubled.",
            ) from None
        if cells is None:
            return
        if opened.fields.are_all:
            yield number, {str(place): cell for place, cell in enumerate(cells)}
        elif header is None:
            header, needed = cells, _needed(opened, lines, cells, number)
        elif cells:
            if len(cells) != len(header):
                lines.check()
                raise DamagedDataError(
                    f"{opened.name}, line {number}: {len(cells):,} cells, where the header names {len(header):,}",
                    "Mend the row. A cell that holds a separator or a line end stands in quotes (.csv); a tab or a "
                    "line end cannot stand in a cell of .tsv.",
                )
            row = dict(zip(header, cells, strict=True))
            yield number, {name: row[name] for name in needed}
        number = lines.odd.lines + 1


def choose_separator(header: str, fits: Callable[[list[str]], bool], separators: str = SEPARATORS) -> str:
    """Choose the first separator with which a header has the columns that are used; if none does, the first one.

    Args:
        header: The header's line.
        fits: Tells whether a list of columns has those that are used.
        separators: The separators to choose from.
    """
    for separator in separators:
        try:
            if fits(next(csv.reader([header], delimiter=separator, strict=True), [])):
                return separator
        except csv.Error:
            continue
    return separators[0]


def _most_cells(line: str, separators: str) -> str:
    """Return the separator that gives most cells; of equals the first. A cell in quotes may go on in the next line."""
    cells = {}
    for separator in separators:
        try:
            cells[separator] = len(next(csv.reader([line], delimiter=separator), []))
        except csv.Error:
            cells[separator] = 0
    return max(separators, key=lambda separator: cells[separator])


def _has_fields(fields: Fields, header: list[str]) -> bool:
    try:
        return bool(fields.columns(header))
    except MissingFieldError:
        return False


def _needed(opened: Opened, lines: TextLines, header: list[str], number: int) -> list[str]:
    where = f"{opened.name}, line {number}"
    try:
        needed = opened.fields.columns(header)
    except MissingFieldError as missing:
        lines.check()  # in another encoding no names would be found
        raise missing_field(where, str(missing), header) from None
    refuse_twice(where, needed, header)
    return needed
