"""Parts hold all documents of the inputs, in order, each once, wherever they are cut."""

import gzip
import json
import random
from pathlib import Path

import pytest

from masklater.corpus.counts import ReadCounts
from masklater.corpus.files import find_files
from masklater.corpus.parts.cut import Part, cut
from masklater.corpus.parts.file_range import FileRange
from masklater.corpus.read import Document, Source, read_documents


def documents_of(parts: list[Part]) -> tuple[list[Document], ReadCounts]:
    counts = ReadCounts()
    found = [document for part in parts for source in part.sources for document in read_documents(source, counts)]
    return found, counts


def some_lines(number: int) -> list[str]:
    rng = random.Random(number)
    return ["\u00e4\u20ac\U0001f600x"[rng.randrange(4)] * rng.randrange(40) for _ in range(number)]


TEXTS = {  # a file's name, what is in it, how it is cut into documents
    "lines": ("a.txt", "\n".join(some_lines(300)).encode(), "line"),
    "blank lines": ("a.txt", "\n".join(some_lines(300)).replace("xxx", "\n \n").encode() + b"\n\n", "blank-line"),
    "windows": ("a.txt", "\r\n".join(some_lines(300)).encode(), "blank-line"),
    "a mark in front": ("a.txt", b"\xef\xbb\xbf" + "\n".join(some_lines(300)).encode(), "line"),
    "json": ("a.jsonl", "\n".join(json.dumps({"text": line}) for line in some_lines(300)).encode(), "file"),
    "sequences": ("a.fasta", b"; a comment\n" + "\n".join(
        f">{n} kan lot\n{line}\n{line[::-1]}" for n, line in enumerate(some_lines(200))
    ).encode(), "file"),
    "no line ends": ("a.ndjson", json.dumps({"text": "x" * 3000}).encode(), "file"),
    "no blank lines": ("a.txt", b"x\n" * 2000, "blank-line"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_ranges_hold_what_the_file_holds(name: str, tmp_path: Path) -> None:
    file, content, unit = TEXTS[name]
    (tmp_path / file).write_bytes(content)
    sources = [Source([tmp_path / file], unit)]  # type: ignore[arg-type]
    whole, whole_counts = documents_of(cut(sources, 2**20))
    assert whole
    for part_bytes in (97, 500, 1000, 2000):
        parts = cut(sources, part_bytes)
        assert (len(parts) > 1) == (not name.startswith("no "))
        assert documents_of(parts) == (whole, whole_counts)
        assert sum(part.bytes for part in parts) == len(content)


def test_what_cannot_be_cut_is_a_part_whole(tmp_path: Path) -> None:
    text = "\n".join(some_lines(200))
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / "wide.txt").write_text(text, encoding="utf-16")
    (tmp_path / "table.csv").write_text("text\n" + text)
    (tmp_path / "one.md").write_text(text)
    for file, unit, encoding in (
        ("packed.txt.gz", "line", None), ("wide.txt", "line", None), ("table.csv", "line", None),
        ("one.md", "file", None), ("one.md", "line", "utf-16-le"),
    ):  # fmt: skip
        assert len(cut([Source([tmp_path / file], unit, encoding=encoding)], 100)) == 1, file  # type: ignore[arg-type]
    assert len(cut([Source([tmp_path / "one.md"], "line", encoding="UTF8")], 100)) > 10


def test_small_files_go_together_over_the_borders_of_sources(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.txt").write_text("x" * 100)
    files = find_files([tmp_path])
    sources = [Source([*files[:3]], number=0, name="a"), Source([*files[3:]], number=1, name="b")]
    parts = cut(sources, 250)
    assert [[[file.name for file in source.files] for source in part.sources] for part in parts] == [
        [["0.txt", "1.txt"]], [["2.txt"], ["3.txt"]], [["4.txt", "5.txt"]], [["6.txt", "7.txt"]], [["8.txt", "9.txt"]],
    ]  # fmt: skip
    assert [[source.number for source in part.sources] for part in parts] == [[0], [0, 1], [1], [1], [1]]
    assert len(cut(sources, 1000)) == 1
    assert sources[0].files == files[:3]


def test_a_part_is_known_by_what_it_reads(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x" * 100)
    one = cut([Source([tmp_path / "a.txt"])], 1000)[0].identity()
    assert cut([Source([tmp_path / "a.txt"])], 1000)[0].identity() == one
    assert cut([Source([tmp_path / "a.txt"], encoding="latin-1")], 1000)[0].identity() != one
    (tmp_path / "a.txt").write_text("x" * 101)
    assert cut([Source([tmp_path / "a.txt"])], 1000)[0].identity() != one


def test_a_range_says_where_it_begins(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"0123456789")
    later = FileRange(tmp_path / "a.txt", 4, 8)
    assert (str(later), later.size) == (f"{tmp_path / 'a.txt'} from byte 4", 4)
    assert str(FileRange(tmp_path / "a.txt", 0, 4)) == str(tmp_path / "a.txt")
    with later.open() as file:
        assert (file.read(3), file.tell(), file.read(), file.read()) == (b"456", 3, b"7", b"")
        assert (file.seek(-2, 2), file.read(), file.seek(1), file.read(1)) == (2, b"67", 1, b"5")
