"""JSON records that masklater wrote, read whole: one that is not what was written is named, with the field."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from masklater.errors import DamagedDataError, UserError

Record = TypeVar("Record", bound=BaseModel)


def read_record(path: Path, kind: type[Record], remedy: str) -> Record:
    """Read a record.

    Args:
        path: The JSON file.
        kind: The fields of the record.
        remedy: What to do about a record that is damaged.

    Raises:
        UserError: The file cannot be read.
        DamagedDataError: The file is not what was written.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "Check its permissions.") from None
    return parse_record(path, content, kind, remedy)


def parse_record(path: Path, content: bytes, kind: type[Record], remedy: str) -> Record:
    """Parse the content of a record's file.

    Raises:
        DamagedDataError: The content is not what was written.
    """
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DamagedDataError(f"{path} is damaged{f' at {where}' if where else ''}: {first['msg']}", remedy) from None
