"""Encodings: known by their mark, named by the user, or refused by line; never a text that only looks read."""

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from masklater.corpus.lines import LongLineError, TextLines, check_encoding
from masklater.corpus.prepare import prepare
from masklater.corpus.read import ReadCounts, Source, read_documents
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.shards import Shards
from masklater.errors import DamagedDataError, UserError

RUSSIAN = "Мама мыла раму, а папа читал газету у окна."
FRENCH = "Été à la forêt : les élèves étaient déjà là."
CHINESE = "你好，世界。𠮷野家"


def read(path: Path, unit: str = "line", encoding: str | None = None) -> tuple[list[str], ReadCounts]:
    counts = ReadCounts()
    documents = read_documents(Source([path], unit, encoding=encoding), counts)  # type: ignore[arg-type]
    return [document.text for document in documents], counts


def write(path: Path, lines: list[str], encoding: str, pack: Callable[[bytes], bytes] = bytes) -> Path:
    """Lines of text, or of JSON with that text, in an encoding."""
    if ".jsonl" in path.name:
        lines = [json.dumps({"text": line}, ensure_ascii=False) for line in lines]
    path.write_bytes(pack("".join(f"{line}\n" for line in lines).encode(encoding)))
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz", "a.jsonl.gz"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_byte_order_mark_says_the_encoding(encoding: str, name: str, tmp_path: Path) -> None:
    lines = [RUSSIAN, FRENCH, CHINESE, "plain", "\u0a0a\u0d0d ends of lines are characters, not bytes"] * 20
    mark = "" if encoding == "utf-8-sig" else "\ufeff"
    path = write(tmp_path / name, [lines[0]], encoding, gzip.compress if name.endswith("gz") else bytes)
    whole = "".join(f"{json.dumps({'text': line}) if 'jsonl' in name else line}\n" for line in lines)
    content = (mark + whole).encode(encoding)
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    found, counts = read(path)
    assert found == lines
    assert (counts.documents, counts.bom, counts.nul, counts.invalid_lines) == (100, 1, 0, 0)
    assert (counts.characters, counts.bytes) == (sum(map(len, lines)), path.stat().st_size)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.txt.gz"])
@pytest.mark.parametrize(
    ("encoding", "line"),
    [("latin-1", FRENCH), ("cp1251", RUSSIAN), ("shift_jis", "日本語の文章"), ("gb18030", CHINESE), ("cp037", "plain")],
)
def test_another_encoding_is_refused_by_line_and_read_when_named(
    encoding: str, line: str, name: str, tmp_path: Path
) -> None:
    lines = ["plain first line" if encoding != "cp037" else "", *[line] * 40]
    path = write(tmp_path / name, lines, encoding, gzip.compress if name.endswith("gz") else bytes)
    with pytest.raises(DamagedDataError, match=rf"{name}, line [12]:") as refused:
        read(path)
    assert "ytes that are not utf-8, in" in str(refused.value) and "--encoding" in refused.value.remedy
    found, counts = read(path, encoding=encoding)
    assert found == [line for line in lines if line]
    assert (counts.invalid_lines, counts.nul) == (0, 0)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("line", [RUSSIAN, FRENCH, "plain text"])
def test_nuls_show_utf_16_and_32_without_a_mark(line: str, encoding: str, name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, [line] * 10, encoding, gzip.compress if name.endswith("gz") else bytes)
    with pytest.raises(DamagedDataError, match=rf"{name}, line 1: ") as refused:
        read(path)
    assert "characters are NUL" in str(refused.value)
    assert f"--encoding {encoding}." in refused.value.remedy
    assert read(path, encoding=encoding)[0] == [line] * 10


def test_chinese_in_utf_16_without_a_mark_is_refused_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(CHINESE * 10, encoding="utf-16-be")
    with pytest.raises(DamagedDataError, match=r"a\.txt, line 1: bytes that are not utf-8"):
        read(tmp_path / "a.txt")
    assert read(tmp_path / "a.txt", encoding="utf-16-be")[0] == [CHINESE * 10]


def test_utf_16_without_a_mark_needs_its_byte_order(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", [RUSSIAN], "utf-16-be")
    with pytest.raises(DamagedDataError, match=r"a\.txt is not utf-16: .*BOM\n.*utf-16-be"):
        read(tmp_path / "a.txt", encoding="utf-16")
    write(tmp_path / "a.txt", [RUSSIAN], "utf-16")
    assert read(tmp_path / "a.txt", encoding="utf-16")[0] == [RUSSIAN]


@pytest.mark.parametrize(("broken", "refused"), [(1, False), (5, False), (10, False), (11, True), (1000, True)])
def test_a_small_share_of_lines_is_an_accident(broken: int, refused: bool, tmp_path: Path) -> None:
    lines = [b"caf\xe9 and tea" if number < broken else "café and tea".encode() for number in range(1000)]
    path = tmp_path / "a.txt"
    path.write_bytes(b"\n".join(reversed(lines)))
    if refused:
        with pytest.raises(
            DamagedDataError, match=rf"a\.txt, line {1001 - broken}: .* in {broken:,} of its 1,000 lines"
        ):
            read(path)
    else:
        found, counts = read(path)
        assert counts.invalid_lines == broken == sum("\ufffd" in text for text in found)
        assert counts.documents == 1000


@pytest.mark.parametrize("content", [FRENCH.encode("latin-1"), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0"])
def test_a_file_of_one_line_has_no_share_of_lines(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DamagedDataError, match=r"a\.txt, line [123]: "):
        read(tmp_path / "a.txt", "file")
    (tmp_path / "a.txt").write_bytes(b"one caf\xe9 in it")
    assert read(tmp_path / "a.txt", "file")[0] == ["one caf\ufffd in it"]


def test_a_long_line_that_comes_in_parts_is_one_line(tmp_path: Path) -> None:
    content = b"good\n" + b"w\xffrd " * 100 + b"\ngood\n" * 500
    lines = TextLines(tmp_path / "a.txt", io.BytesIO(content), None, limit=64, cut=True)
    assert "".join(lines) == content.decode("utf-8", "replace")
    odd = lines.odd
    assert (odd.lines, odd.invalid_lines, odd.first_invalid, odd.replaced) == (content.count(b"\n"), 1, 2, 100)


def test_what_comes_late_in_a_long_file_is_refused_in_every_pass(tmp_path: Path) -> None:
    """Far behind the first block that is read, behind the documents that decide what is held out, in the last file."""
    good = "".join(f"line {number} of a text about cafés\n" for number in range(3000))
    (tmp_path / "a.txt").write_text(good * 10)
    (tmp_path / "b.txt").write_bytes((good * 10).encode() + (FRENCH + "\n").encode("latin-1") * 1000)
    with pytest.raises(DamagedDataError, match=r"b\.txt, line 30001: .* in 1,000 of its 31,000 lines"):
        read(tmp_path / "b.txt")
    settings = PrepareSettings(vocab_size=300, documents="line")
    with pytest.raises(DamagedDataError, match=r"b\.txt, line 30001: "):  # while a tokenizer is trained
        prepare([tmp_path], tmp_path / "out", settings)
    prepare([tmp_path / "a.txt"], tmp_path / "good", settings)
    ready = PrepareSettings(tokenizer=tmp_path / "good" / "tokenizer", documents="line")
    with pytest.raises(DamagedDataError, match=r"b\.txt, line 30001: "):  # while rows are written
        prepare([tmp_path / "b.txt"], tmp_path / "out", ready)
    assert not list(tmp_path.glob("out*"))


def test_a_long_file_in_another_encoding_is_given_up_early(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", [FRENCH] * 200_000, "latin-1")
    counts = ReadCounts()
    read_so_far = []
    with pytest.raises(DamagedDataError, match=r"in [\d,]+ of its first [\d,]+ lines"):
        for _ in read_documents(Source([path], "line"), counts, read_so_far.append):
            pass
    assert sum(read_so_far) < path.stat().st_size / 4


def test_what_a_codec_cannot_decode_is_counted(tmp_path: Path) -> None:
    lines = [FRENCH] * 500
    content = "\n".join(lines).encode("utf-16-le")
    half_a_pair = b"\x3d\xd8"
    (tmp_path / "a.txt").write_bytes(
        b"\xff\xfe" + half_a_pair + content + b"\n"
    )  # cut in the middle of the last character
    found, counts = read(tmp_path / "a.txt")
    assert found == ["\ufffd" + FRENCH, *lines[1:-1], lines[-1] + "\ufffd"]
    assert (counts.invalid_lines, counts.documents) == (2, 500)
    (tmp_path / "b.txt").write_bytes(b"\x81 is nothing in it\n" + b"fine \xe9\n" * 500)
    found, counts = read(tmp_path / "b.txt", encoding="cp1252")
    assert found[:2] == ["\ufffd is nothing in it", "fine é"] and counts.invalid_lines == 1


def test_long_lines_of_another_encoding_are_cut_or_refused(tmp_path: Path) -> None:
    content = (RUSSIAN * 100 + "\n").encode("utf-16-le")
    lines = TextLines(tmp_path / "a.txt", io.BytesIO(b"\xff\xfe" + content), None, limit=64, cut=True)
    parts = list(lines)
    assert "".join(parts) == RUSSIAN * 100 + "\n" and max(map(len, parts)) == 64 and lines.odd.lines == 1
    whole = TextLines(tmp_path / "a.jsonl", io.BytesIO(b"\xff\xfe" + content), None, limit=64, cut=False)
    with pytest.raises(LongLineError, match="1"):
        list(whole)


@pytest.mark.parametrize(
    "name", ["nosuch", "utf-88", "hex", "rot13", "idna", "undefined", "", "a\0b", "ümlaut", "x" * 5000, "../x"]
)
def test_an_unknown_encoding_is_one_message(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Python knows no text encoding of that name\n +Name one that it knows"):
        check_encoding(name)
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(UserError, match="--encoding"):
        prepare([tmp_path], tmp_path / "out", PrepareSettings(vocab_size=300, encoding=name))
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_names_of_encodings_are_pythons() -> None:
    assert [check_encoding(name) for name in ("UTF8", "latin-1", "Windows-1252", "u16")] == [
        "utf-8",
        "iso8859-1",
        "cp1252",
        "utf-16",
    ]
    with pytest.raises(UserError, match="Did you mean cp1252"):
        check_encoding("cp12522")


def test_shards_say_the_encoding(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", [f"{FRENCH} {number}" for number in range(50)], "cp1252")
    settings = PrepareSettings(vocab_size=300, documents="line", encoding="cp1252", row_length=64)
    assert prepare([tmp_path], tmp_path / "out", settings).read.documents == 50
    assert Shards(tmp_path / "out").index.source["encoding"] == "cp1252"
