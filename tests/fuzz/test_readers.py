"""Text readers under random bytes, faults of encoding, JSON of every shape, and gzip of every damage."""

import codecs
import gzip
import json
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import strategies as st

from masklater.corpus import read
from masklater.corpus.files import find_files
from masklater.corpus.read import ReadCounts, Source, read_documents
from masklater.errors import UserError
from tests.fuzz.fuzz import EXAMPLES, fuzz

FAULTY_UTF8 = [
    b"\xff", b"\xfe\xff", b"\xff\xfea\0", b"\xc0\x80", b"\xc3", b"\xe2\x82", b"\xed\xa0\xbd", b"\xf0\x9f\x98",
    b"\xf4\x90\x80\x80", b"\x80", b"\xef\xbb\xbf", b"\0", b"\r", b"\r\n", b"\n", b"\x0b\x0c", b"\xc2\x85",
    "\u2028".encode(), "\ufeff".encode(), "\ufffd".encode(), "e\u0301".encode(), b"text ", b" ",
]  # fmt: skip
"""Truncated, overlong and surrogate sequences, other encodings' marks, and every kind of line end."""

json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
records = st.fixed_dictionaries({}, optional={"text": json_values, "id": json_values})
odd_lines = st.sampled_from(
    [
        '{"text": "a", "text": "b"}', '{"text": "\\ud83d"}', '{"text": "\\u0000"}', "[" * 5000, '{"text":' * 3000,
        '{"text": ' + "9" * 5000 + "}", '{"text": NaN}', "null", '"text"', "{", '{"text"', '{"text": "a"} {"text": "b"}',
        '\ufeff{"text": "a"}', '{"text": "a",}', "{'text': 'a'}",
    ]
)  # fmt: skip
jsonl = st.lists(st.one_of(records.map(json.dumps), odd_lines, st.text(max_size=30)), max_size=6).map(
    lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")
)
faulty_text = st.lists(st.sampled_from(FAULTY_UTF8) | st.binary(max_size=8), max_size=30).map(b"".join)


def read_all(path: Path, unit: str = "file") -> tuple[list[str], ReadCounts]:
    counts = ReadCounts()
    documents = [document.text for document in read_documents(Source([path], unit), counts)]  # type: ignore[arg-type]
    for text in documents:
        text.encode("utf-8")  # no half of a pair, ever
        assert text.strip() and "\0" not in text
    assert counts.documents <= len(documents) and (counts.documents > 0) == bool(documents)
    return documents, counts


MARKS = [
    (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"), (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"), (b"", "utf-8"),
]  # fmt: skip


def decoded(content: bytes) -> tuple[str, list[int]]:
    """What Python makes of it, by its byte-order mark where it has one, and how many U+FFFD that adds to each line."""
    mark, name = next((mark, name) for mark, name in MARKS if content.startswith(mark))
    text, ignored = (content[len(mark) :].decode(name, errors) for errors in ("replace", "ignore"))
    added = zip(text.split("\n"), ignored.split("\n"), strict=True)
    return text, [one.count("\ufffd") - other.count("\ufffd") for one, other in added]


def is_too_odd(text: str, replaced: list[int]) -> bool:
    """Whether a whole file of fewer than 100 lines and 300 characters is refused as being in another encoding."""
    assert len(replaced) < 100 and len(text) < 300
    return text.count("\0") > 3 or sum(replaced) > 3 or sum(number > 0 for number in replaced) > 1


@EXAMPLES
@pytest.mark.parametrize("unit", ["file", "line", "blank-line"])
def test_any_bytes_are_text_or_refused(examples: int, unit: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        text, replaced = decoded(content)
        try:
            documents, counts = read_all(path, unit)
        except UserError as error:  # plain text is refused for its encoding alone
            assert is_too_odd(text, replaced) and "a.txt, line" in error.problem and "--encoding" in error.remedy
            return
        assert not is_too_odd(text, replaced)
        assert "".join("".join(documents).split()) == "".join(text.replace("\0", "").split())
        assert counts.invalid_lines == sum(number > 0 for number in replaced) and counts.nul == text.count("\0")

    fuzz("text files", examples, check, faulty_text)


@EXAMPLES
@pytest.mark.parametrize("limit", [8, 64])
def test_lines_longer_than_the_limit(
    examples: int, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the limits made tiny: nothing of a long line is lost, no character is cut in two, no part is too large."""
    monkeypatch.setattr(read, "MAX_LINE_BYTES", limit)
    monkeypatch.setattr(read, "MAX_DOCUMENT_CHARS", 2 * limit)
    path = tmp_path / "a.txt"

    def check(text: str) -> None:
        path.write_text(text, encoding="utf-8", newline="")
        documents, counts = read_all(path)
        assert counts.invalid_lines == 0 and all(len(part) <= 3 * limit for part in documents)
        assert "".join("".join(documents).split()) == "".join(text.removeprefix("\ufeff").replace("\0", "").split())

    fuzz("text files", examples, check, st.text(st.characters(codec="utf-8"), max_size=400))


@EXAMPLES
def test_any_jsonl_is_read_or_refused(examples: int, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            documents, _ = read_all(path)
        except UserError as error:
            assert "a.jsonl, line" in error.problem and error.remedy
            return
        mended = decoded(content)[0].replace("\0", "")
        texts = [json.loads(line)["text"] for line in mended.split("\n") if line.strip()]
        assert all(isinstance(text, str) for text in texts)
        assert len([text for text in texts if text.replace("\0", "").strip()]) == len(documents)

    fuzz("jsonl files", examples, check, jsonl | faulty_text)


def test_a_text_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": 1, "id": 2, "text": "fine"}\n{"text": "one", "text": "two"}\n')
    with pytest.raises(UserError, match=r"line 2: not JSON .the field 'text' stands twice"):
        read_all(path)


@EXAMPLES
def test_any_gzip_is_read_whole_or_refused(examples: int, tmp_path: Path) -> None:
    """Cut anywhere, any byte changed, another gzip inside, rubbish behind: never a part of the text as if it were all."""
    text = "\n".join(f"line {number} of a text" for number in range(300)).encode()
    whole = gzip.compress(text, mtime=0)
    path = tmp_path / "a.txt.gz"
    cut = st.integers(0, len(whole) - 1).map(lambda at: whole[:at])
    flipped = st.tuples(st.integers(0, len(whole) - 1), st.integers(1, 255)).map(
        lambda edit: whole[: edit[0]] + bytes([whole[edit[0]] ^ edit[1]]) + whole[edit[0] + 1 :]
    )
    extended = st.binary(min_size=1, max_size=30).map(lambda more: whole + more)

    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            documents, _ = read_all(path)
        except UserError as error:
            assert "a.txt.gz" in error.problem
            return
        assert "".join(documents).encode() == text, "a part was taken for the whole"

    fuzz("gzip files", examples, check, st.one_of(cut, flipped, extended, st.binary(max_size=60)))


def test_a_gzip_inside_a_gzip_is_not_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(gzip.compress(b'{"text": "x"}')))
    with pytest.raises(UserError, match=r"a\.jsonl\.gz, line 1: not JSON"):
        read_all(tmp_path / "a.jsonl.gz")


def test_the_name_inside_a_gzip_is_no_place(tmp_path: Path) -> None:
    """Archives are streams here: nothing is unpacked to a path, whatever the member is called."""
    compressor = zlib.compressobj(wbits=-15)
    body = compressor.compress(b"text") + compressor.flush()
    header = b"\x1f\x8b\x08\x08" + b"\0" * 6 + b"../../escaped\0"
    tail = zlib.crc32(b"text").to_bytes(4, "little") + (4).to_bytes(4, "little")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt.gz").write_bytes(header + body + tail)
    assert read_all(tmp_path / "in" / "a.txt.gz")[0] == ["text"]
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "a.txt.gz"]


BOMBS = {
    "2 GB of NULs": ("a.txt", "f.seek(2**31 - 1); f.write(b'a')", 2),
    "a line of 2 GB": ("a.txt", "[f.write(b'word ' * 2**20) for _ in range(410)]", 0),
    "a JSON line of 2 GB": ("a.jsonl", "f.write(b'{\"text\": \"'); f.seek(2**31); f.write(b'\"}')", 2),
    "a gzip of 1.5 GB of text": ("a.txt.gz", "[f.write(member) for _ in range(24)]", 0),
    "a gzip of one JSON line of 1.5 GB": ("a.jsonl.gz", "[f.write(member) for _ in range(24)]", 2),
}


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.parametrize("name", BOMBS)
def test_memory_stays_bounded(name: str, tmp_path: Path) -> None:
    """In a process that may have 1 GiB of memory and no more."""
    file, make, status = BOMBS[name]
    code = (
        "import gzip, resource, sys\nfrom pathlib import Path\n"
        "from masklater.corpus.read import ReadCounts, Source, read_documents\nfrom masklater.errors import UserError\n"
        f"path = Path({str(tmp_path / file)!r})\n"
        "member = gzip.compress(b'word ' * (2**26 // 5), 1)\n"
        f"with path.open('wb') as f:\n    {make}\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))\n"
        "try:\n"
        "    for document in read_documents(Source([path]), ReadCounts()):\n"
        "        assert len(document.text) <= 2**18\n"
        "except UserError as error:\n    print(error); sys.exit(2)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == status, done.stderr
    if status == 2:
        assert ("characters are NUL" if "NUL" in name else "line 1: longer than 64 MiB") in done.stdout


def test_an_input_in_a_folder_that_loops(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [path.name for path in find_files([tmp_path])] == ["a.txt"]
