"""Tables as records, one for each row: csv, tsv, JSON lines, Parquet. Columns are found by the names in the first line.

csv follows RFC 4180: a quoted field may hold commas, quotes and line ends. Semicolons, tabs or bars replace the commas
where the first line separates its columns by them. In tsv a quote is text, and no field contains a tab.
"""

import csv
import json
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from masklater.corpus.read import MAX_LINE_BYTES
from masklater.corpus.readers.separated import ALONE, choose_separator
from masklater.errors import DamagedDataError, UserError, first_line
from masklater.extras import import_extra
from masklater.judge.data import json_object, numbered_lines

Record = tuple[str, dict[str, Any] | None]
"""A row's place, for messages, and its values by the requested columns; None for a blank line between others."""

A_LINE_EACH = "Each line is one JSON object; `jq -c '.[]' FILE > NEW` makes such lines of an array. Else mend the file."
RESTORE = "Mend the file, or restore it from a copy."


def read_table(path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
    """Read the rows of a file.

    Args:
        path: The file, whose suffix tells its format.
        columns: The columns to read.

    Raises:
        UserError: The file cannot be read.
        DamagedDataError: A line cannot be read, or a column is missing; the message names the file and the line.
    """
    return READERS[path.suffix.lower()](path, columns)


def _csv(path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
    csv.field_size_limit(MAX_LINE_BYTES)  # the default is 131,072 characters, and a text may have more
    lines = (f"{line}\n" for _, line in numbered_lines(path))
    first = next(lines, None)
    if first is None:
        return
    separator = choose_separator(first, lambda header: {name.strip() for name in header} >= {*columns})
    reader = csv.reader(chain([first], lines), delimiter=separator, strict=True)
    places: list[int] = []
    width = 0
    while True:
        number = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "new-line character" in str(error):  # its own advice is about code
                raise DamagedDataError(
                    f"{path}, line {number}: a carriage return that no line feed follows", ALONE
                ) from None
            raise DamagedDataError(f"{path}, line {number}: not readable as csv: {error}", RESTORE) from None
        if not places and fields:
            places, width = _places(f"{path}, line {number}", fields, columns), len(fields)
        elif not "".join(fields).strip():
            yield f"{path}, line {number}", None
        else:
            yield _fields(f"{path}, line {number}", fields, width, places, columns)


def _tsv(path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
    places: list[int] = []
    width = 0
    for number, line in numbered_lines(path):
        where, fields = f"{path}, line {number}", line.split("\t")
        if not line.strip():
            yield where, None
        elif not places:
            places, width = _places(where, fields, columns), len(fields)
        else:
            yield _fields(where, fields, width, places, columns)


def _places(where: str, header: list[str], columns: tuple[str, ...]) -> list[int]:
    names = [name.strip() for name in header]
    _check(where, names, columns, "Name the columns in the first line, and use the names that stand there.")
    return [names.index(column) for column in columns]


def _check(where: str, names: list[str], columns: tuple[str, ...], remedy: str) -> None:
    """Raise DamagedDataError where a required column is missing, or occurs more than once."""
    for column in columns:
        if (count := names.count(column)) != 1:
            what = "no column" if count == 0 else f"{count} columns"
            raise DamagedDataError(f"{where}: {what} {column}; it has {', '.join(names)[:300]}", remedy)


def _fields(where: str, fields: list[str], width: int, places: list[int], columns: tuple[str, ...]) -> Record:
    if len(fields) != width:
        raise DamagedDataError(f"{where}: {len(fields)} fields; the first line has {width}", RESTORE)
    return where, dict(zip(columns, (fields[place] for place in places), strict=True))


def _jsonl(path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
    for number, line in numbered_lines(path):
        where = f"{path}, line {number}"
        if not line.strip():
            yield where, None
            continue
        try:
            record = json.loads(line, object_pairs_hook=json_object)
        except (ValueError, RecursionError) as error:
            raise DamagedDataError(f"{where}: not readable as JSON: {first_line(error)[:200]}", A_LINE_EACH) from None
        if not isinstance(record, dict):
            raise DamagedDataError(f"{where}: no JSON object", A_LINE_EACH)
        if missing := [column for column in columns if column not in record]:
            raise DamagedDataError(
                f"{where}: no field {missing[0]}; it has {', '.join(record)[:300]}",
                "Name the columns as the file does.",
            )
        yield where, {column: record[column] for column in columns}


def _parquet(path: Path, columns: tuple[str, ...]) -> Iterator[Record]:
    parquet = import_extra("pyarrow.parquet", "parquet", str(path), ", or save the table as csv")
    try:
        file = parquet.ParquetFile(path)
        names = list(file.schema_arrow.names)
        _check(str(path), names, columns, "Name the columns as the file does, each once.")
        values = file.read(columns=list(columns)).to_pydict()
    except UserError:
        raise
    except Exception as error:  # pyarrow raises its own errors, the operating system's and Python's
        raise DamagedDataError(f"{path}: not readable as Parquet: {first_line(error)[:200]}", RESTORE) from None
    for number, row in enumerate(zip(*(values[column] for column in columns), strict=True), start=1):
        yield f"{path}, row {number}", dict(zip(columns, row, strict=True))


READERS: dict[str, Callable[[Path, tuple[str, ...]], Iterator[Record]]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}
"""File suffixes, and the functions that read them."""
