"""JSON records: read whole, or named with the field that is not what was written."""

from pathlib import Path

import pytest
from pydantic import BaseModel

from masklater.errors import DamagedDataError, UserError
from masklater.record import read_record


class Part(BaseModel):
    rows: int


class Written(BaseModel):
    format: int
    parts: list[Part]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text('{"format": 1, "parts": [{"rows": 3}]}')
    assert read_record(path, Written, "") == Written(format=1, parts=[Part(rows=3)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 1, "parts": [{"rows": "many"}]}', r"record\.json is damaged at parts\.0\.rows: .*valid integer"),
        ('{"format": 1}', r"record\.json is damaged at parts: Field required"),
        ('{"format": 1', r"record\.json is damaged: Invalid JSON"), ("", r"record\.json is damaged: "),
        ("[" * 100_000, r"record\.json is damaged: Invalid JSON"), ("\udcff", r"record\.json is damaged: "),
    ],
)  # fmt: skip
def test_a_damaged_record_is_named_with_the_field(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(DamagedDataError, match=message) as refused:
        read_record(path, Written, "Write it again.")
    assert refused.value.remedy == "Write it again."


def test_a_record_that_cannot_be_read_is_no_damage(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: Is a directory") as refused:
        read_record(tmp_path, Written, "")
    assert not isinstance(refused.value, DamagedDataError)
