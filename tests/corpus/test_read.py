"""Reading: every oddity is mended and counted, every damage refused by file and line."""

import gzip
import json
from pathlib import Path

import pytest

from masklater.corpus import read
from masklater.corpus.files import find_files
from masklater.corpus.read import ReadCounts, Source, read_documents
from masklater.errors import DamagedDataError, UserError
from tests.conftest import make_text


def documents(path: Path, unit: str = "file", field: str = "text") -> tuple[list[str], ReadCounts]:
    counts = ReadCounts()
    found = [document.text for document in read_documents(Source(find_files([path]), unit, field), counts)]  # type: ignore[arg-type]
    return found, counts


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("file", ["one\ntwo\n\nthree"]),
        ("line", ["one", "two", "three"]),
        ("blank-line", ["one\ntwo", "three"]),
    ],
)
def test_units_of_a_text_file(tmp_path: Path, unit: str, expected: list[str]) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n\r\nthree")
    found, counts = documents(path, unit)
    assert found == expected
    assert (counts.bom, counts.documents, counts.bytes) == (1, len(expected), path.stat().st_size)


def test_what_is_odd_is_mended_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"good\nb\xffad\nn\0u\0l\n   \n\n")
    found, counts = documents(path, "line")
    assert found == ["good", "b\ufffdad", "nul"]
    assert (counts.invalid_lines, counts.nul, counts.empty, counts.documents) == (1, 2, 2, 3)


def test_gzip_and_folders_are_read_and_hidden_files_are_not(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt.gz").write_bytes(gzip.compress(b"zwei"))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": "eins"}).encode()))
    (tmp_path / ".hidden.txt").write_text("no")
    (tmp_path / "notes.rst").write_text("no")
    assert documents(tmp_path)[0] == ["eins", "zwei"]


def test_unicode_survives(tmp_path: Path) -> None:
    text = "العربية देवनागरी 中文 👩‍👩‍👧 e\u0301 a\u200bb"
    (tmp_path / "a.jsonl").write_text(
        json.dumps({"text": text}) + "\n" + json.dumps({"text": text}, ensure_ascii=False)
    )
    assert documents(tmp_path)[0] == [text, text]


def test_half_a_surrogate_pair_is_mended(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a\\ud83d b"}\n')
    found, counts = documents(tmp_path)
    assert found == ["a\ufffd b"]
    assert (counts.half_pairs, counts.invalid_lines) == (1, 0)


def test_long_documents_come_in_parts_with_one_key_and_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "MAX_DOCUMENT_CHARS", 100)
    lines = [f"line {i} of the text\n" for i in range(40)]
    (tmp_path / "a.txt").write_text("".join(lines))
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "".join(lines)}))
    (tmp_path / "c.txt").write_text("x" * 1000)
    for name, expected in (("a.txt", "".join(lines)), ("b.jsonl", "".join(lines)), ("c.txt", "x" * 1000)):
        counts = ReadCounts()
        found = list(read_documents(Source([tmp_path / name]), counts))
        assert len(found) > 5
        assert max(len(part.text) for part in found) <= 120
        assert len({part.key for part in found}) == 1
        assert "".join("".join(part.text.split()) for part in found) == "".join(expected.split())
        assert (counts.documents, counts.cut) == (1, 1)


def long_line(seed: int, size: int) -> str:
    return make_text(seed, size // 4)[:size].strip()


@pytest.mark.parametrize("unit", ["file", "blank-line"])
@pytest.mark.parametrize(
    "before",
    [
        "Chapter 1\n",
        f"{long_line(0, 140_000)}\n",
        f"{long_line(0, 240_000)}\n",
        "a short line\n" * 9000,
        "\n" * 300_000,
    ],
    ids=["title", "long line", "longer line", "short lines", "blank lines"],
)
def test_the_first_part_of_a_long_document_is_full_however_long_its_lines_are(
    before: str, unit: str, tmp_path: Path
) -> None:
    """By it a document is judged, told from others and held out."""
    (tmp_path / "a.txt").write_text(f"{before}{long_line(1, 306_000)}\nThe end.")
    (tmp_path / "b.txt").write_text(f"{before}{long_line(2, 306_000)}\nThe end.")
    counts, keys = ReadCounts(), set()
    for name in ("a.txt", "b.txt"):
        first, *later = read_documents(Source([tmp_path / name], unit), counts)  # type: ignore[arg-type]
        assert read.MAX_DOCUMENT_CHARS * 15 / 16 < len(first.text) + 1 <= read.MAX_DOCUMENT_CHARS + 1
        assert first.begins and later and not any(part.begins for part in later)
        assert max(len(part.text) for part in later) <= read.MAX_DOCUMENT_CHARS
        expected = " ".join((tmp_path / name).read_text().split())  # parts begin with whole words
        assert " ".join(" ".join(part.text for part in [first, *later]).split()) == expected
        keys |= {part.key for part in [first, *later]}
    assert len(keys) == 2 and (counts.documents, counts.cut, counts.empty) == (2, 2, 0)


def test_short_lines_stay_whole_in_the_parts_of_a_long_document(tmp_path: Path) -> None:
    lines = [f"{make_text(number, 40)}\n" for number in range(4000)]
    (tmp_path / "a.txt").write_text("".join(lines))
    parts, _ = documents(tmp_path / "a.txt")
    assert len(parts) > 2 and [f"{line}\n" for part in parts for line in part.split("\n")] == lines
    assert min(map(len, parts[:-1])) > read.MAX_DOCUMENT_CHARS - max(map(len, lines)) - 1


def test_a_document_with_nothing_but_blank_lines_behind_its_text_is_one_part(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(long_line(1, 200_000) + "\n" * 300_000)
    parts, counts = documents(tmp_path / "a.txt")
    assert parts == [long_line(1, 200_000)] and (counts.documents, counts.cut, counts.empty) == (1, 0, 0)


def test_a_line_longer_than_the_limit_is_cut_between_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "MAX_LINE_BYTES", 64)
    text = "中" * 200
    (tmp_path / "a.txt").write_text(text)
    found, counts = documents(tmp_path)
    assert "".join(found) == text
    assert counts.invalid_lines == 0
    (tmp_path / "a.txt").unlink()
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "a" * 200}))
    with pytest.raises(DamagedDataError, match="line 1: longer than"):
        documents(tmp_path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file or folder"):
        find_files([tmp_path / "nowhere.txt"])


def test_folder_without_text(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(UserError, match="holds no text: no file in it ends in"):
        find_files([tmp_path])


def test_unknown_ending(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_text("a,b")
    with pytest.raises(UserError, match="does not end in"):
        find_files([tmp_path / "a.pdf"])


def test_wrong_text_field_names_those_there_are(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"title": "t", "content": "c"}\n')
    with pytest.raises(UserError, match=r"line 1: no field 'text'; the record has 'title', 'content'\n.*--text-field"):
        documents(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "line 2: not JSON"),
        ("[1, 2]", "line 2: a list, not an object"),
        ('{"text": 7}', "line 2: field 'text' holds int, not text"),
        ('{"text": null}', "line 2: field 'text' is null, not text"),
        ("[" * 100_000, "line 2: not JSON"),
    ],
)
def test_damaged_jsonl_is_refused_by_line(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(DamagedDataError, match=message):
        documents(tmp_path)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "not gzip"])
def test_damaged_gzip_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    content = bytearray(gzip.compress("\n".join(str(i) for i in range(5000)).encode()))
    if damage == "truncated":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    else:
        content = bytearray(b"plain text\n")
    (tmp_path / "a.txt.gz").write_bytes(content)
    with pytest.raises(DamagedDataError, match=r"a\.txt\.gz is a damaged or truncated gzip"):
        documents(tmp_path)


LINES = "\n".join(json.dumps({"text": f"number {number}"}) for number in range(50)).encode()


@pytest.mark.parametrize(
    ("name", "content", "remedy"),
    [
        ("a.jsonl", gzip.compress(LINES), r"begins as \.gz does.* a name that ends so"),
        ("a.txt", gzip.compress(LINES), r"begins as \.gz does"),
        ("a.csv", gzip.compress(LINES), r"begins as \.gz does"),
        ("a.jsonl", b"PAR1" + LINES, r"begins as \.parquet does"),
        ("a.jsonl.xz", gzip.compress(LINES), r"begins as \.gz does"),
        ("a.jsonl.gz", LINES, r"if it is not compressed, take \.gz"),
        ("a.jsonl.bz2", LINES, r"if it is not compressed, take \.bz2"),
        ("a.jsonl.gz", gzip.compress(LINES)[:-9], r"Fetch it again, leave it out"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(name: str, content: bytes, remedy: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}.*\n  .*{remedy}"):
        documents(tmp_path)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_header_in_another_encoding_is_told_as_that(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes("id\ttext\n1\tone\n".encode("utf-16-le"))
    with pytest.raises(DamagedDataError, match=r"line 1: .* are NUL.*\n.*--encoding utf-16-le"):
        documents(tmp_path)
