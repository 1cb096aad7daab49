"""From records to texts: which fields hold the text, which records are read, and what a missing text means."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from itertools import islice
from typing import Any, ClassVar

from masklater.corpus.settings import NullTexts
from masklater.errors import DamagedDataError, UserError

BETWEEN_FIELDS = "\n\n"
"""The separator between the texts of several fields."""
FIELDS_SHOWN = 20


class MissingFieldError(Exception):
    """The name of a field that a record does not have."""


class WrongValueError(Exception):
    """What is wrong with the value of a field, as the end of a sentence that begins with the record's place."""

    def __init__(self, wrong: str, remedy: str) -> None:
        self.remedy = remedy
        super().__init__(wrong)


class NullTextError(Exception):
    """The name of a field that should hold text and holds null."""


@dataclass(frozen=True)
class Fields:
    """The fields of records that are used.

    A dotted path leads into records inside records. A field whose own name contains the dots takes precedence (for the
    text, also one whose name contains commas).
    """

    text: str = "text"  # one field, or several between commas; their texts are joined by a blank line
    filters: tuple[str, ...] = ()  # FIELD=VALUE; all must hold
    null_texts: NullTexts = "refuse"
    wanted: tuple[tuple[str, str], ...] = field(init=False)
    are_all: ClassVar[bool] = False

    def __post_init__(self) -> None:
        pairs = tuple((name.strip(), value) for name, _, value in (one.partition("=") for one in self.filters))
        object.__setattr__(self, "wanted", pairs)

    @property
    def names(self) -> tuple[str, ...]:
        """The fields that hold the text."""
        return tuple(name.strip() for name in self.text.split(",")) if "," in self.text else (self.text,)

    def check(self) -> None:
        """Raise UserError where the settings make no sense."""
        if not all(self.names):
            raise UserError(
                f"--text-field {self.text!r}: a name is empty", "Name fields between commas: --text-field title,text."
            )
        for one in self.filters:
            if not one.partition("=")[0].strip() or "=" not in one:
                raise UserError(f"--filter {one!r} is not FIELD=VALUE", "Write it as in --filter language=en.")

    def leaves_out(self, record: Mapping[str, Any]) -> bool:
        """Tell whether the filters leave a record out.

        Raises:
            MissingFieldError: The record lacks a field that is compared.
            WrongValueError: A compared field holds something other than text, a number, true, false or null.
        """
        return not all(_equals(_find(record, name), value, name) for name, value in self.wanted)

    def text_of(self, record: Mapping[str, Any]) -> str | None:
        """Return the text of a record; None where it is null, and null texts are skipped.

        Raises:
            MissingFieldError: The record lacks a field of the text.
            WrongValueError: The field holds something other than text.
            NullTextError: The field is null, and null texts are refused.
        """
        if self.text in record:
            return self._text(record[self.text], self.text)
        texts = [self._text(_find(record, name), name) for name in self.names]
        kept = [text for text in texts if text is not None]
        return BETWEEN_FIELDS.join(text for text in kept if text) if kept else None

    def _text(self, value: object, name: str) -> str | None:
        if isinstance(value, str):
            return value
        if value is None:
            if self.null_texts == "refuse":
                raise NullTextError(name)
            return None
        if isinstance(value, bytes):
            try:
                return value.decode("utf-8")
            except UnicodeDecodeError:
                raise WrongValueError(
                    f"field {name!r} holds bytes that are not UTF-8", "Mend or remove the record."
                ) from None
        raise WrongValueError(f"field {name!r} holds {type(value).__name__}, not text", _remedy_for(value, name))

    def columns(self, there: Iterable[str]) -> list[str]:
        """Return the columns of a table that have to be read, in the table's order.

        Raises:
            MissingFieldError: The table lacks one of them.
        """
        there = list(there)
        texts = (self.text,) if self.text in there else self.names
        needed = {_column(name, there) for name in texts}
        needed |= {_column(name, there) for name, _ in self.wanted}
        return [name for name in there if name in needed]

    @property
    def keys(self) -> frozenset[str] | None:
        """The names that may occur only once in a record; None: no name may occur twice."""
        paths = [*self.names, *(name for name, _ in self.wanted)]
        return frozenset([*paths, *(part for path in paths for part in path.split("."))])


@dataclass(frozen=True)
class AllFields(Fields):
    """Every field, whatever its name: for evaluation sets, in which any string is a text.

    The first row of a table counts as text, not as a header, and JSON that is not an object is a record too.
    """

    are_all: ClassVar[bool] = True

    def columns(self, there: Iterable[str]) -> list[str]:
        """All columns."""
        return list(there)

    @property
    def keys(self) -> None:
        """None: no name may occur twice."""
        return None


def missing_field(where: str, name: str, there: Iterable[str]) -> UserError:
    """Return the error for a record, or a table, that lacks a field."""
    there = [repr(one) for one in there]
    more = f" and {len(there) - FIELDS_SHOWN:,} more" if len(there) > FIELDS_SHOWN else ""
    return UserError(
        f"{where}: no field {name!r}; the record has {', '.join(there[:FIELDS_SHOWN]) or 'no fields'}{more}",
        "Name a field that is there: with --text-field the one that holds the text, in --filter one that is compared.",
    )


def refuse_twice(where: str, needed: Iterable[str], there: Sequence[str]) -> None:
    """Raise DamagedDataError where a column that is read shares its name with another column."""
    if twice := [name for name in needed if there.count(name) > 1]:
        raise DamagedDataError(f"{where}: the column {twice[0]!r} stands twice", "Rename one of the two.")


def _remedy_for(value: object, name: str) -> str:
    if isinstance(value, Mapping) and value:
        inside = ", ".join(f"{name}.{one}" for one in islice(value, FIELDS_SHOWN))
        return f"Name a field inside it with --text-field: {inside}."
    if isinstance(value, list):
        return "Name another field with --text-field, or make one text of each list before."
    return "Name another field with --text-field, or mend or remove the record."


def _find(record: Mapping[str, Any], path: str) -> Any:
    """Return the value of a field; None where a record on the path to it is null."""
    if path in record:
        return record[path]
    value: Any = record
    for part in path.split("."):
        if value is None:
            return None
        if not isinstance(value, Mapping) or part not in value:
            raise MissingFieldError(path)
        value = value[part]
    return value


def _column(path: str, there: list[str]) -> str:
    if path in there:
        return path
    first = path.split(".", maxsplit=1)[0]
    if first not in there:
        raise MissingFieldError(path)
    return first


def _equals(value: object, wanted: str, name: str) -> bool:
    if isinstance(value, str):
        return value == wanted
    if value is None or isinstance(value, bool):
        return json.dumps(value) == wanted.lower()
    if isinstance(value, int | float):
        return _is_number(wanted, value)
    raise WrongValueError(
        f"field {name!r}, which --filter compares, holds {type(value).__name__}",
        "Compare a field that holds text or a number, true, false or null; with dots a field inside a field.",
    )


def _is_number(wanted: str, value: float) -> bool:
    """Compare whole numbers digit by digit, as a float holds only 16 digits; compare others as floats."""
    try:
        return int(wanted) == value
    except ValueError:
        pass
    try:
        return Decimal(wanted) == value if isinstance(value, int) else float(wanted) == value
    except (ValueError, InvalidOperation):
        return False
