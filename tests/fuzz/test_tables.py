"""Readers of JSON arrays, tables and dumps, and every packing, under damage: whole, or one plain message; memory bounded."""

import bz2
import csv
import json
import lzma
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from hypothesis import strategies as st
from pyarrow import ipc

from masklater.corpus.read import ReadCounts, Source, read_documents
from masklater.errors import UserError
from tests.corpus.test_readers import as_arrow, as_csv, as_parquet
from tests.fuzz.fuzz import EXAMPLES, fuzz
from tests.fuzz.test_readers import faulty_text, json_values, jsonl, records

LINES = [f"line {number} of a text" for number in range(120)]
ROWS: list[dict[str, Any]] = [{"id": number, "text": line} for number, line in enumerate(LINES)]


def read_all(path: Path, **settings: Any) -> list[str]:
    counts = ReadCounts()
    texts = [document.text for document in read_documents(Source([path], **settings), counts)]
    for text in texts:
        text.encode("utf-8")
        assert text.strip() and "\0" not in text
    assert counts.documents == len(texts) and counts.bytes == path.stat().st_size
    return texts


def damaged(whole: bytes) -> st.SearchStrategy[bytes]:
    """Cut anywhere, any byte changed, bytes put in, rubbish behind, or rubbish alone."""
    places = st.integers(0, len(whole) - 1)
    cut = places.map(lambda at: whole[:at])
    flipped = st.tuples(places, st.integers(1, 255)).map(
        lambda edit: whole[: edit[0]] + bytes([whole[edit[0]] ^ edit[1]]) + whole[edit[0] + 1 :]
    )
    inserted = st.tuples(places, st.binary(min_size=1, max_size=9)).map(
        lambda edit: whole[: edit[0]] + edit[1] + whole[edit[0] :]
    )
    return st.one_of(
        cut,
        flipped,
        inserted,
        st.binary(min_size=1, max_size=30).map(lambda more: whole + more),
        st.binary(max_size=60),
    )


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
}


@EXAMPLES
@pytest.mark.parametrize("packing", PACKINGS)
def test_any_packing_is_read_whole_or_refused(examples: int, packing: str, tmp_path: Path) -> None:
    """With the checksum that xz and bzip2 always have, and the zstd command by itself."""
    path, text = tmp_path / f"a.txt.{packing}", "\n".join(LINES)

    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            texts = read_all(path)
        except UserError as error:
            assert path.name in error.problem and error.remedy
            return
        assert texts == [text], "a part was taken for the whole"

    fuzz(f"{packing} files", examples, check, damaged(PACKINGS[packing](text.encode())))


TABLES: dict[str, Callable[[], bytes]] = {
    "parquet": lambda: as_parquet(ROWS, compression="none", write_page_checksum=True),
    "zstd.parquet": lambda: as_parquet(ROWS, compression="zstd"),
    "arrow": lambda: as_arrow(ROWS),
    "stream.arrow": lambda: as_arrow(ROWS, ipc.new_stream),
}


@EXAMPLES
@pytest.mark.parametrize("name", TABLES)
def test_any_table_is_read_or_refused(examples: int, name: str, tmp_path: Path) -> None:
    """Neither format has a checksum of everything, so that a changed letter may pass; a missing row may not."""
    path = tmp_path / f"a.{name}"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            texts = read_all(path)
        except UserError as error:
            assert path.name in error.problem and error.remedy
            return
        assert len(content) >= len(whole) or name == "stream.arrow" or len(texts) == len(LINES)

    whole = TABLES[name]()
    fuzz("tables of pyarrow", examples, check, damaged(whole))


cells = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ['"', '""', "a,b", "a\nb", "\r\n", "\0", "\ufeff", "a\tb", "'", "\\", " ", "é\u2028"]
)


@EXAMPLES
def test_what_a_csv_writer_writes_is_read(examples: int, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"

    def check(texts: list[str]) -> None:
        path.write_bytes(
            as_csv([{"id": "", "text": text} for text in texts], quoting=csv.QUOTE_ALL, lineterminator="\n")
        )
        try:
            found = read_all(path)
        except UserError as error:
            assert sum(text.count("\0") for text in texts) > 3 and "NUL" in error.problem
            return
        mended = (text.replace("\0", "").replace("\r\n", "\n").strip() for text in texts)
        assert found == [text for text in mended if text]

    fuzz("csv files", examples, check, st.lists(cells, min_size=1, max_size=6))


@EXAMPLES
@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_any_csv_is_read_or_refused(examples: int, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            read_all(path)
        except UserError as error:
            assert f"a.{ending}, line" in error.problem and error.remedy

    pieces = st.sampled_from(
        [b"text", b",", b"\t", b'"', b"\n", b"\r", b"id,text\n", b"id\ttext\n", b"a", b"\0", b"\xef\xbb\xbf"]
    )
    fuzz("csv files", examples, check, st.lists(pieces, max_size=20).map(b"".join) | faulty_text)


arrays = st.lists(records, max_size=5).flatmap(
    lambda rows: st.sampled_from([json.dumps(rows), json.dumps(rows, indent=1), "\n".join(map(json.dumps, rows))])
).map(str.encode)  # fmt: skip


@EXAMPLES
def test_any_json_is_read_as_python_reads_it_or_refused(examples: int, tmp_path: Path) -> None:
    path = tmp_path / "a.json"

    def check(content: bytes) -> None:
        path.write_bytes(content)
        try:
            texts = read_all(path)
        except UserError as error:
            assert "a.json, line" in error.problem and error.remedy
            return
        mended = content.decode("utf-8", "replace").removeprefix("\ufeff").replace("\0", "").strip()
        if mended.startswith("["):
            rows = json.loads(mended)
            assert len([row for row in rows if row["text"].replace("\0", "").strip()]) == len(texts)

    broken = arrays.flatmap(lambda whole: damaged(whole) if whole else st.just(b""))
    fuzz(
        "json files",
        examples,
        check,
        st.one_of(arrays, jsonl, broken, json_values.map(lambda value: json.dumps(value).encode())),
    )


LINE_MIB = 400
"""What a line of plain text takes: 64 MiB of it at once, as bytes, as characters and cut."""

BOMBS = {
    "a bzip2 of 1.2 GB of text": ("a.txt.bz2", "member = bz2.compress(b'word ' * 2**22)\n    [f.write(member) for _ in range(60)]", ""),
    "an xz of 1.2 GB of text": ("a.txt.xz", "member = lzma.compress(b'word ' * 2**22, preset=0)\n    [f.write(member) for _ in range(60)]", ""),
    "a zstd of 1.2 GB of text": ("a.txt.zst", "member = zstd.compress(b'word ' * 2**24)\n    [f.write(member) for _ in range(15)]", ""),
    "a zstd of 1.2 GB of lines": ("a.txt.zst", "member = zstd.compress(b'a few words\\n' * 2**22)\n    [f.write(member) for _ in range(25)]", ""),
    "a zstd of one JSON line of 2 GB": ("a.jsonl.zst", "member = zstd.compress(b' {' + b'word ' * 2**24)\n    [f.write(member) for _ in range(26)]", "line 1: longer than 64 MiB"),
    "a JSON array in one line of 400 MB": ("a.json", "f.write(b'['); one = b', '.join([b'{\"text\": \"' + b'word ' * 2**18 + b'\"}'] * 50)\n    [f.write(one + b',') for _ in range(6)]; f.write(one + b']')", ""),
    "a JSON array of one endless record": ("a.json", "f.write(b'[{\"text\": \"')\n    [f.write(b'word ' * 2**22) for _ in range(90)]", "line 1: longer than 64 MiB"),
    "a CSV cell without an end": ("a.csv", "f.write(b'id,text\\n1,\"')\n    [f.write(b'some words\\n' * 2**20) for _ in range(150)]", "field larger than field limit"),
    "a dump of one page of 2 GB": ("a.xml", "f.write(b'<mediawiki><page><title>a</title><revision><text>')\n    [f.write(b'word ' * 2**22) for _ in range(100)]", "page 1: longer than 64 MiB"),
    "a dump with an attribute of 2 GB": ("a.xml", "f.write(b'<mediawiki a=\"')\n    [f.write(b'word ' * 2**22) for _ in range(100)]", "longer than 64 MiB"),
    "a Parquet file in one row group of 400 MB": ("a.parquet", "parquet.write_table(pa.table({'text': [str(i) + 'word ' * 2**14 for i in range(5000)]}), f, row_group_size=10**6, compression='zstd', use_dictionary=False)", ""),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.parametrize("name", BOMBS)
def test_memory_stays_bounded(name: str, tmp_path: Path) -> None:
    """Beyond what the libraries take; the file is made by another process."""
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell the most memory that a process has had")
    file, make, message = BOMBS[name]
    path = tmp_path / file
    making = (
        "import bz2, lzma\nfrom pathlib import Path\nfrom backports import zstd\nimport pyarrow as pa, pyarrow.parquet as parquet\n"
        f"with Path({str(path)!r}).open('wb') as f:\n    {make}\n"
    )
    subprocess.run([sys.executable, "-c", making], check=True, timeout=600)
    reading = (
        "from pathlib import Path\nimport pyarrow.parquet\n"
        "from masklater.corpus.read import ReadCounts, Source, read_documents\nfrom masklater.errors import UserError\n"
        "def highest():\n    return int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])\n"
        "before = highest()\n"
        "try:\n"
        f"    for document in read_documents(Source([Path({str(path)!r})]), ReadCounts()):\n"
        "        assert len(document.text) <= 2**18\n"
        "except UserError as error:\n    print(error)\n"
        "print((highest() - before) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", reading], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    *said, mebibytes = done.stdout.splitlines()
    assert message in "\n".join(said) and bool(said) == bool(message), done.stdout
    one_line = file.startswith("a.txt") and "\\n" not in make.split("compress")[1].split(")")[0]
    row_group = file.endswith(".parquet")  # a page of 1 MB is a few rows, unpacked, decoded and made Python's
    most = 600 if message else LINE_MIB if one_line else 200 if row_group else 100
    assert int(mebibytes) < most, mebibytes  # a record may have 64 MiB, and four bytes a character
