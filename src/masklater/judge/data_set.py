"""A split of a dataset as records, in the form that `readers.py` makes of files; class labels are replaced by names."""

from collections.abc import Iterator
from typing import Any

from masklater.corpus.hub_rows import HubRows
from masklater.errors import DamagedDataError
from masklater.judge.readers import Record


def read_data_set(rows: HubRows, columns: tuple[str, ...]) -> Iterator[Record]:
    """Read the rows of a split; the number of a class that has a name is replaced by the name.

    Raises:
        UserError: The hub or the data fail.
        DamagedDataError: A column is missing.
    """
    known = rows.rows.column_names  # None for some files until they are read
    _refuse_missing(rows.shown, columns, columns if known is None else known)
    names = {column: class_names(rows, column) for column in columns}
    for number, record in rows.select(None if known is None else columns):
        where = f"{rows.shown}, row {number}"
        _refuse_missing(where, columns, [*record])
        yield where, {column: _named(record[column], names[column]) for column in columns}


def class_names(rows: HubRows, column: str) -> tuple[str, ...]:
    """Return the class names of a column, or of the values in its lists, in the order of their numbers; () if none."""
    feature = (rows.rows.features or {}).get(column)
    feature = feature[0] if isinstance(feature, list) else getattr(feature, "feature", feature)
    return tuple(name.strip() for name in getattr(feature, "names", None) or ())


def _refuse_missing(where: str, columns: tuple[str, ...], there: Any) -> None:
    if missing := [column for column in columns if column not in there]:
        raise DamagedDataError(
            f"{where}: no column {missing[0]}; it has {', '.join(there)[:300]}", "Name the columns as the data do."
        )


def _named(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, list):
        return [_named(each, names) for each in value]
    is_class = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names)
    return names[value] if is_class else value
