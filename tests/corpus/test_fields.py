"""Fields of records: paths, several of them, filters, nulls; each said by place where it is not there."""

import json
from pathlib import Path
from typing import Any

import pytest

from masklater.corpus.fields import Fields, MissingFieldError
from masklater.corpus.read import ReadCounts, Source, read_documents
from masklater.errors import DamagedDataError, UserError


def read_all(path: Path, records: list[Any], **settings: Any) -> tuple[list[str], ReadCounts]:
    (path / "a.jsonl").write_text("\n".join(map(json.dumps, records)))
    counts = ReadCounts()
    return [document.text for document in read_documents(Source([path / "a.jsonl"], **settings), counts)], counts


RECORD = {
    "title": "T",
    "text": "body",
    "a": {"b": {"c": "deep"}, "null": None},
    "a.b": "dotted",
    "x,y": "comma",
    "n": 3,
    "p": ["one", "two"],
}
PATHS = {
    "text": "body", "a.b.c": "deep", "a.b": "dotted", "x,y": "comma", "title,text": "T\n\nbody", " title , a.b.c ": "T\n\ndeep",
}  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_the_text_is_where_the_path_leads(path: str, tmp_path: Path) -> None:
    assert read_all(tmp_path, [RECORD], text_field=path)[0] == [PATHS[path]]


@pytest.mark.parametrize("path", ["body", "a.x", "title.x", "a.b.c.d", "title,body", "n.x", ""])
def test_a_path_that_leads_nowhere_names_the_fields(path: str, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"line 1: no field .*; the record has 'title', 'text', 'a', 'a.b'.*\n.*--text-field"
    ):
        read_all(tmp_path, [RECORD], text_field=path)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a", r"holds dict, not text\n  Name a field inside it with --text-field: a\.b, "),
        ("n", r"holds int, not text\n  Name another field with --text-field"),
        ("title,n", "holds int, not text"),
        ("p", r"holds list, not text\n  .* make one text of each list"),
        ("a.null", "is null, not text"),
        ("a.null.x", "is null, not text"),
    ],
)
def test_what_is_no_text_is_refused_by_line(path: str, found: str, tmp_path: Path) -> None:
    with pytest.raises(DamagedDataError, match=rf"line 1: field .* {found}"):
        read_all(tmp_path, [RECORD], text_field=path)


def test_nulls_are_skipped_and_counted_where_that_is_asked_for(tmp_path: Path) -> None:
    records = [{"title": "T", "text": None}, {"title": None, "text": "body"}, {"title": None, "text": None}]
    texts, counts = read_all(tmp_path, records, null_texts="skip")
    assert texts == ["body"] and (counts.null, counts.documents) == (2, 1)
    texts, counts = read_all(tmp_path, records, text_field="title,text", null_texts="skip")
    assert texts == ["T", "body"] and (counts.null, counts.documents) == (1, 2)
    with pytest.raises(UserError, match="no field 'text'"):  # a field that is not there is no null
        read_all(tmp_path, [{"title": "T"}], null_texts="skip")


VALUES: list[tuple[Any, str, bool]] = [
    ("en", "en", True), ("en", "EN", False), ("", "", True), ("a=b", "a=b", True), ("3", "3", True), (3, "3", True),
    (3, "3.0", True), (3.5, "3.5", True), (3, "x", False), (True, "true", True), (True, "1", False), (False, "False", True),
    (None, "null", True), (None, "", False), (2**53, f"{2**53 + 1}", False), (2**53 + 1, f"{2**53 + 1}", True),
    (2**53 + 1, f"{2**53}", False), (2**53 + 1, f"{2**53 + 1}.0", True), (2**53 + 1, f"{2**53}.0", False),
    (2**53 + 1, f"{2**53}e0", False), (float(2**53), f"{2**53 + 1}", False), (-(2**64), f"-{2**64 + 1}", False),
    (3, "3e0", True), (0.1, "0.1", True), (1e23, "1e23", True), (3.0, "3", True), (3, "snan", False), (3, "inf", False),
    (3.5, "nan", False), (10**400, "1e400", True), (10**400, "inf", False), (3, "", False),
]  # fmt: skip


@pytest.mark.parametrize(("value", "wanted", "holds"), VALUES)
def test_a_filter_compares(value: Any, wanted: str, holds: bool, tmp_path: Path) -> None:
    texts, counts = read_all(tmp_path, [{"text": "body", "m": {"l": value}}], filters=(f"m.l={wanted}",))
    assert (texts, counts.filtered) == ((["body"], 0) if holds else ([], 1))


def test_all_filters_must_hold_and_come_before_the_text(tmp_path: Path) -> None:
    records = [{"l": "en", "s": 1, "text": "one"}, {"l": "en", "s": 2, "text": None}, {"l": "de", "s": 1, "text": 7}]
    texts, counts = read_all(tmp_path, records, filters=("l=en", "s=1"))
    assert texts == ["one"] and counts.filtered == 2


def test_filters_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 1: no field 'lang'; the record has 'text', 'l'"):
        read_all(tmp_path, [{"text": "a", "l": "en"}], filters=("lang=en",))
    with pytest.raises(
        DamagedDataError, match=r"line 1: field 'l', which --filter compares, holds list\n  Compare a field"
    ):
        read_all(tmp_path, [{"text": "a", "l": ["en"]}], filters=("l=en",))
    for one in ("language", "=en", " =en", ""):
        with pytest.raises(UserError, match=r"is not FIELD=VALUE\n.*--filter language=en"):
            Fields(filters=(one,)).check()
    for text in ("title,", ",", "a,,b"):
        with pytest.raises(UserError, match="a name is empty"):
            Fields(text).check()


def test_the_columns_of_a_table_that_are_needed() -> None:
    there = ["id", "a", "a.b", "text", "l", "x,y"]
    assert Fields().columns(there) == ["text"]
    assert Fields("text,a.c", ("l=en",)).columns(there) == ["a", "text", "l"]
    assert Fields("x,y", ("a.b=1",)).columns(there) == ["a.b", "x,y"]
    with pytest.raises(MissingFieldError, match=r"b\.c"):
        Fields("b.c").columns(there)
