"""Every kind of file gives the documents that are in it; every packing is unpacked whole or refused."""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import shutil
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from backports import zstd
from pyarrow import ipc, parquet

from masklater import extras
from masklater.corpus import read
from masklater.corpus.files import find_files
from masklater.corpus.read import ReadCounts, Source, read_documents
from masklater.corpus.readers import ending_of, fasta, json_records
from masklater.errors import DamagedDataError, UserError
from tests.conftest import make_text

RECORDS: list[dict[str, Any]] = [
    *({"id": i, "language": ("en", "de")[i % 2], "text": make_text(i, 5 + i % 40)} for i in range(150)),
    {"id": 150, "language": "en", "text": 'He said "no",\nand\tleft; [1, {2}] \\ done\u2028end'},
    {"id": 151, "language": "hi", "text": "देवनागरी 中文 👩‍👩‍👧 e\u0301"},
]
TEXTS = [record["text"] for record in RECORDS]


def as_csv(records: list[dict[str, Any]], **options: Any) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(records[0]), **options)
    writer.writeheader()
    writer.writerows(records)
    return out.getvalue().encode()


def as_parquet(records: list[dict[str, Any]], **options: Any) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(records), out, **{"row_group_size": 40, **options})
    return out.getvalue()


def as_arrow(records: list[dict[str, Any]], new: Callable[..., Any] = ipc.new_file) -> bytes:
    out = io.BytesIO()
    table = pa.Table.from_pylist(records)
    with new(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    return out.getvalue()


def as_tsv(records: list[dict[str, Any]]) -> bytes:
    lines = ["\t".join(records[0]), *("\t".join(map(str, record.values())) for record in records)]
    return "\n".join(lines).encode()


FORMS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "jsonl": lambda records: "\n".join(map(json.dumps, records)).encode(),
    "ndjson": lambda records: "\n".join(json.dumps(one, ensure_ascii=False) for one in records).encode(),
    "json": lambda records: json.dumps(records).encode(),
    "csv": as_csv,
    "parquet": as_parquet,
    "arrow": as_arrow,
}
OTHER_FORMS: dict[str, Callable[[list[dict[str, Any]]], bytes]] = {
    "a JSON array over many lines": lambda records: json.dumps(records, indent=2, ensure_ascii=False).encode(),
    "JSON records one after the other": lambda records: "\n\n ".join(
        json.dumps(one, indent=1) for one in records
    ).encode(),
    "JSON lines in .json": FORMS["jsonl"],
    "a CSV with CRLF and a BOM": lambda records: b"\xef\xbb\xbf" + as_csv(records, lineterminator="\r\n"),
    "a CSV with every cell in quotes": lambda records: as_csv(records, quoting=csv.QUOTE_ALL),
    "a Parquet file in one row group, by zstd": lambda records: as_parquet(
        records, row_group_size=999, compression="zstd"
    ),
    "an Arrow stream": lambda records: as_arrow(records, ipc.new_stream),
}
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstd.compress,
}  # fmt: skip


def read_all(path: Path, **settings: Any) -> tuple[list[str], ReadCounts]:
    counts = ReadCounts()
    documents = [document.text for document in read_documents(Source(find_files([path]), **settings), counts)]
    return documents, counts


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("form", FORMS)
def test_the_same_documents_in_every_form(form: str, packing: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{form}{packing}"
    path.write_bytes(PACKINGS[packing](FORMS[form](RECORDS)))
    documents, counts = read_all(path)
    assert documents == TEXTS
    assert (counts.documents, counts.bytes, counts.files) == (152, path.stat().st_size, 1)
    assert counts.characters == sum(map(len, TEXTS))


@pytest.mark.parametrize("form", OTHER_FORMS)
def test_the_same_documents_in_other_forms(form: str, tmp_path: Path) -> None:
    words = form.lower().split()
    ending = next(ending for ending in ("json", "csv", "parquet", "arrow") if ending in words or f".{ending}" in words)
    (tmp_path / f"a.{ending}").write_bytes(OTHER_FORMS[form](RECORDS))
    assert read_all(tmp_path)[0] == TEXTS


def test_tab_separated_values_have_no_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(as_tsv([{"id": 1, "text": '"Well," he said'}, {"id": 2, "text": 'a "b'}]))
    assert read_all(tmp_path)[0] == ['"Well," he said', 'a "b']


@pytest.mark.parametrize("packing", PACKINGS)
def test_text_in_every_packing_and_encoding(packing: str, tmp_path: Path) -> None:
    text = "\n".join(TEXTS)
    for name, encoding in (("a.md", "utf-8"), ("b.txt", "utf-16")):
        (tmp_path / f"{name}{packing}").write_bytes(PACKINGS[packing](text.encode(encoding)))
    documents, counts = read_all(tmp_path)
    assert documents == [text, text] and counts.bom == 1


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz", ".zst"])
def test_streams_that_follow_each_other_are_all_read(packing: str, tmp_path: Path) -> None:
    pack = PACKINGS[packing]
    padding = bytes(8) if packing == ".xz" else b""
    skippable = b"\x50\x2a\x4d\x18\x04\0\0\0skip" if packing == ".zst" else b""
    content = pack(b"one two ") + padding + skippable + pack(b"three ") + pack(b"") + pack(b"four") + padding
    (tmp_path / f"a.txt{packing}").write_bytes(content)
    assert read_all(tmp_path)[0] == ["one two three four"]


@pytest.mark.parametrize("packing", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("damage", ["cut", "rubbish behind", "a broken second stream", "empty", "no such format"])
def test_a_damaged_packing_is_refused(packing: str, damage: str, tmp_path: Path) -> None:
    one = PACKINGS[packing]("\n".join(str(number) for number in range(4000)).encode())
    content = {
        "cut": one[: len(one) // 2],
        "rubbish behind": one + b"rubbish",
        "a broken second stream": one + one[:1] + b"\xff" + one[2:],
        "empty": b"",
        "no such format": b"plain text",
    }[damage]
    (tmp_path / f"a.txt{packing}").write_bytes(content)
    kind = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}[packing]
    with pytest.raises(DamagedDataError, match=rf"a\.txt{packing} is a damaged or truncated {kind} file"):
        read_all(tmp_path)


def test_a_zst_with_the_longest_window_is_read(tmp_path: Path) -> None:
    """As `zstd --long=31` writes it: a frame with a window of 2^31 bytes and one block that is stored as it is."""
    text = b"one two three"
    window, last_block = (31 - 10) << 3, 1
    frame = b"\x28\xb5\x2f\xfd" + bytes([0, window]) + (len(text) << 3 | last_block).to_bytes(3, "little") + text
    (tmp_path / "a.txt.zst").write_bytes(frame + zstd.compress(b" four"))
    assert read_all(tmp_path)[0] == ["one two three four"]


def test_an_xz_that_asks_for_gigabytes_of_memory_is_refused(tmp_path: Path) -> None:
    header = bytearray(lzma.compress(b"text" * 100, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 2**20}]))
    at = header.index(b"\x21\x01") + 2  # LZMA2, one byte of properties: the size of its dictionary
    header[at] = 40  # 4 GiB
    size = (header[12] + 1) * 4
    header[12 + size - 4 : 12 + size] = zlib.crc32(bytes(header[12 : 12 + size - 4])).to_bytes(4, "little")
    (tmp_path / "a.txt.xz").write_bytes(header)
    with pytest.raises(DamagedDataError, match=r"a\.txt\.xz is a damaged .* xz file .*[Mm]emory"):
        read_all(tmp_path)


@pytest.mark.parametrize("limit", [1, 2, 7, 64])
def test_an_array_is_read_in_parts_of_any_size(limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_records, "PART_CHARS", limit)
    few = RECORDS[:3] + RECORDS[-2:]
    (tmp_path / "a.json").write_bytes(json.dumps(few).encode())
    assert read_all(tmp_path)[0] == [record["text"] for record in few]


BAD_JSON = {
    "an array that is cut short": ('[{"text": "a"}, {"text": "b"}', r"line 1: not JSON"),
    "an array without its end": ('[{"text": "a"},\n', r"line 1: not JSON \(the array is cut short\)"),
    "a comma too many": ('[{"text": "a"},\n]', r"line 2: not JSON"),
    "more behind the array": ('[{"text": "a"}]\n[1]', r"line 2: not JSON \(something stands behind the array"),
    "numbers": ("[1, 2]", r"line 1: a int, not an object"),
    "a record around the array": ('{"rows": [{"text": "a"}]}', r"line 1: no field 'text'; the record has 'rows'"),
    "an open string": ('[{"text": "a}, \n', r"line 1: not JSON"),
    "nothing but brackets": ("[" * 100_000, r"line 1: not JSON"),
    "a text that stands twice": ('[{"text": "a", "text": "b"}]', r"line 1: not JSON \(the field 'text' stands twice\)"),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_json_that_is_none(name: str, tmp_path: Path) -> None:
    content, message = BAD_JSON[name]
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=rf"a\.json, {message}"):
        read_all(tmp_path)


@pytest.mark.parametrize("content", ["", "  \n", "[]", " [ ] "])
def test_json_without_records(content: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    assert read_all(tmp_path)[0] == []


BAD_TABLES = {
    "a cell too many": ("a.csv", "id,text\n1,one\n2,two,three\n", r"line 3: 3 cells, where the header names 2"),
    "a cell too few": ("a.tsv", "id\ttext\n1\n", r"line 2: 1 cells, where the header names 2"),
    "a quote that does not close": ("a.csv", 'id,text\n1,"one\n2,two\n', r"line 2: no row of a table"),
    "text behind a quote": ("a.csv", 'id,text\n1,"one" two\n', r"line 2: no row of a table"),
    "a column that stands twice": ("a.csv", "text,text\n1,one\n", r"line 1: the column 'text' stands twice"),
    "no such column": ("a.csv", "id;words\n1;one\n", r"line 1: no field 'text'; the record has 'id;words'"),
    "another encoding": ("a.csv", "text\n" + "\udcff\n" * 40, r"line 2: bytes that are not utf-8"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_tables_that_are_none(name: str, tmp_path: Path) -> None:
    file, content, message = BAD_TABLES[name]
    (tmp_path / file).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=rf"{file}, {message}"):
        read_all(tmp_path)


@pytest.mark.skipif(shutil.which("sed") is None or sys.platform == "darwin", reason="the sed of macOS knows no \\r")
@pytest.mark.parametrize("name", ["a.tsv", "a.csv"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_carriage_return_alone_is_told_with_what_helps(name: str, end: str, tmp_path: Path) -> None:
    """The first command where it ends the rows, the second where it stands in a cell."""
    separator = "," if name == "a.csv" else "\t"
    there = "hello" if end == "\r" else "hello\rthere"
    rows = [["id", "text"], ["1", there], ["2", "more"]]
    (tmp_path / name).write_text(end.join(map(separator.join, rows)) + end, newline="")
    line = 1 if end == "\r" else 2
    with pytest.raises(
        DamagedDataError, match=rf"{name}, line {line}: a carriage return that no line feed follows"
    ) as said:
        read_all(tmp_path)
    assert "quotes" not in said.value.remedy
    ends_rows, in_a_cell = re.findall(r"(?:tr|sed) .*? > NEW", said.value.remedy)
    command = (ends_rows if end == "\r" else in_a_cell).replace("FILE", name).replace("NEW", f"new-{name}")
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    assert read_all(tmp_path / f"new-{name}")[0] == [there.replace("\r", " "), "more"]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_a_csv_with_another_separator(separator: str, tmp_path: Path) -> None:
    """The header tells, in quotes or not; a comma in a cell is a character then."""
    for name, quoting in (("plain.csv", csv.QUOTE_MINIMAL), ("quoted.csv", csv.QUOTE_ALL)):
        (tmp_path / name).write_bytes(as_csv(RECORDS, delimiter=separator, quoting=quoting))
        assert read_all(tmp_path / name)[0] == TEXTS
        assert read_all(tmp_path / name, filters=("language=hi",))[0] == TEXTS[-1:]
    (tmp_path / "a.csv").write_text(f"id{separator}text,text\n1{separator}one,two\n")
    assert read_all(tmp_path / "a.csv", text_field="text")[0] == ["two"]


SEQUENCES = {"P1": "MKTAYIAKQR" * 13, "P2": "acgtN" * 40, "P3": "M*"}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_sequences(packing: str, end: str, tmp_path: Path) -> None:
    lines = ["; of two kinds", ""]
    for name, letters in SEQUENCES.items():
        lines += [f">{name}  kan | lot=1", *textwrap.wrap(letters, 60), ""]
    path = tmp_path / f"a.FASTA{packing}"
    path.write_bytes(PACKINGS[packing](end.join([*lines, ">P4", ">"]).encode()))
    documents, counts = read_all(path)
    assert documents == list(SEQUENCES.values())
    assert (counts.documents, counts.empty) == (3, 2)
    assert read_all(path, text_field="id,description,text", filters=("id=P3",))[0] == ["P3\n\nkan | lot=1\n\nM*"]


@pytest.mark.parametrize("width", [60, 10**6])
def test_a_long_sequence_comes_in_pieces(width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fasta, "PIECE_LETTERS", 1000)
    for length in (999, 1000, 1001, 2000, 2500):
        letters = "".join("ACGT"[number * number % 7 % 4] for number in range(length))
        lines = [">chr1", *textwrap.wrap(letters, width), ">chr2", "ACGT"]
        (tmp_path / "a.fna").write_text("\n".join(lines))
        documents, _ = read_all(tmp_path / "a.fna")
        assert [*map(len, documents)] == [1000] * ((length - 1) // 1000) + [(length - 1) % 1000 + 1, 4]
        assert "".join(documents) == letters + "ACGT"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("MKT\n>P1\nMKT\n", r"line 1: no FASTA: a sequence without a header"),
        ("\n@read1\nACGT\n+\nIIII\n", r"line 2: no FASTA"),
        (">P1\nMKT\n".encode("utf-16-le").decode("latin-1"), r"line 1: .*NUL"),
    ],
)
def test_a_fasta_that_is_none(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.faa").write_bytes(content.encode("latin-1"))
    with pytest.raises(DamagedDataError, match=rf"a\.faa, {message}"):
        read_all(tmp_path)


def test_only_the_columns_that_matter_are_read(tmp_path: Path) -> None:
    """A column that would not even become Python objects, and one that is far larger than the text."""
    table = pa.table({"text": ["a", "b"], "at": pa.array([2**62, 1], pa.timestamp("ns")), "large": ["x" * 10**6] * 2})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert read_all(tmp_path)[0] == ["a", "b"]


WRONG_TYPES = {
    "numbers": (pa.array([1, 2]), r"row 1: field 'text' holds int, not text"),
    "lists": (pa.array([["a"], ["b"]]), r"row 1: field 'text' holds list, not text"),
    "bytes that are no text": (pa.array([b"a", b"\xff"]), r"row 2: field 'text' holds bytes that are not UTF-8"),
    "null": (pa.array(["a", None]), r"row 2: field 'text' is null, not text\n.*--null-texts skip"),
}


def write_table(table: pa.Table, path: Path) -> None:
    """In the form that its name ends in: .parquet, .arrow, or .stream.arrow."""
    if path.suffix == ".parquet":
        parquet.write_table(table, path)
        return
    with (ipc.new_stream if ".stream" in path.suffixes else ipc.new_file)(path, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("name", WRONG_TYPES)
@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_columns_of_another_type(form: str, name: str, tmp_path: Path) -> None:
    column, message = WRONG_TYPES[name]
    table, path = pa.table({"text": column}), tmp_path / f"a.{form}"
    write_table(table, path)
    with pytest.raises(DamagedDataError, match=rf"a\.{form}, {message}"):
        read_all(path)


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.binary(), pa.dictionary(pa.int8(), pa.string())]
)
def test_every_type_of_text(kind: pa.DataType, tmp_path: Path) -> None:
    array = (
        pa.array(["eins", "zwei", "eins\0"]).cast(kind)
        if kind != pa.string_view()
        else pa.array(["eins", "zwei", "eins\0"], kind)
    )
    parquet.write_table(pa.table({"text": array}), tmp_path / "a.parquet")
    documents, counts = read_all(tmp_path)
    assert documents == ["eins", "zwei", "eins"] and counts.nul == 1


@pytest.mark.parametrize("form", ["parquet", "arrow", "stream.arrow"])
def test_a_column_whose_name_another_one_has_is_refused_where_it_is_read(form: str, tmp_path: Path) -> None:
    table = pa.table([["a"], ["b"], [1], [2]], names=["text", "text", "n", "n"])
    path = tmp_path / f"a.{form}"
    write_table(table, path)
    with pytest.raises(DamagedDataError, match=rf"a\.{form}: the column 'text' stands twice\n.*Rename one"):
        read_all(path)
    parquet.write_table(table.select([0, 2, 3]), tmp_path / "b.parquet")
    assert read_all(tmp_path / "b.parquet")[0] == ["a"]
    with pytest.raises(DamagedDataError, match="the column 'n' stands twice"):
        read_all(tmp_path / "b.parquet", filters=("n=1",))


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_a_field_inside_whose_name_another_one_has_is_refused(form: str, tmp_path: Path) -> None:
    inside = pa.StructArray.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["body", "body"])
    table, path = pa.table({"meta": inside}), tmp_path / f"a.{form}"
    write_table(table, path)
    with pytest.raises(DamagedDataError, match="duplicate field names"):
        read_all(path, text_field="meta.body")


def test_long_texts_of_a_table_come_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "MAX_DOCUMENT_CHARS", 100)
    (tmp_path / "a.parquet").write_bytes(as_parquet([{"text": "word " * 500}]))
    documents, counts = read_all(tmp_path)
    assert max(map(len, documents)) <= 100 and "".join(documents) == ("word " * 500).strip()
    assert (counts.documents, counts.cut) == (1, 1)


LIBRARIES = {
    "a.parquet": ("pyarrow", "parquet"), "a.arrow": ("pyarrow", "parquet"), "a.txt.zst": ("backports.zstd", "zstd"),
    "a.xml": ("mwparserfromhell", "wiki"),
}  # fmt: skip


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_missing_library_is_named_with_its_extra(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library, extra = LIBRARIES[name]

    def missing(module: str) -> None:
        raise ImportError(module)

    monkeypatch.setattr(extras, "import_module", missing)
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(UserError) as refused:
        read_all(tmp_path)
    assert f"{name} needs {library}, which is not installed" in refused.value.problem
    assert f"pip install 'masklater[{extra}]'" in refused.value.remedy


def test_nothing_is_imported_before_it_is_needed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    code = (
        "import sys\nfrom masklater.corpus.inputs import find_sources\nfrom masklater.corpus.read import *\n"
        f"print([d.text for d in read_documents(Source([Path({str(tmp_path / 'a.txt')!r})]), ReadCounts())])\n"
        "assert not {'pyarrow', 'datasets', 'fsspec', 'mwparserfromhell', 'backports.zstd', 'torch'} & {*sys.modules}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout == "['text']\n", done.stderr


def test_what_a_name_ends_in() -> None:
    named = {
        "A.TXT.Gz": (".txt", ".gz"), "x.parquet": (".parquet", ""), "enwiki-articles1.xml-p1p41242.bz2": (".xml", ".bz2"),
        "a.json.xz": (".json", ".xz"), "dump.XML": (".xml", ""),
    }  # fmt: skip
    assert {name: ending_of(name) for name in named} == named
    assert [ending_of(name) for name in ("a.tar.gz", "txt", "a.gz", "a.xml-notes", "a.lz4")] == [None] * 5
