"""One text as a file of every kind that `masklater prepare` reads."""

import bz2
import csv
import gzip
import json
import lzma
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

from masklater.extras import import_extra

PLAIN_TEXTS = 16
"""Number of files that the text becomes where a file is one document."""


def _plain(texts: list[str], path: Path) -> None:
    size = -(-len(texts) // PLAIN_TEXTS)
    for start in range(0, len(texts), size):
        name = path.with_name(f"{path.stem}-{start}{path.suffix}")
        name.write_text("\n\n".join(texts[start : start + size]), encoding="utf-8")


def _lines(texts: list[str], path: Path) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")


def _array(texts: list[str], path: Path) -> None:
    path.write_text(json.dumps([{"text": text} for text in texts]), encoding="utf-8")


def _commas(texts: list[str], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["number", "text"], *enumerate(texts)])


def _tabs(texts: list[str], path: Path) -> None:
    """Write a tsv file. Line ends and tabs become spaces, because a cell cannot hold them."""
    rows = (f"{number}\t{' '.join(text.split())}\n" for number, text in enumerate(texts))
    path.write_text("number\ttext\n" + "".join(rows), encoding="utf-8")


def _parquet(texts: list[str], path: Path) -> None:
    arrow = import_extra("pyarrow", "parquet", "a .parquet file")
    import_extra("pyarrow.parquet", "parquet", "a .parquet file").write_table(arrow.table({"text": texts}), path)


def _arrow(texts: list[str], path: Path) -> None:
    arrow = import_extra("pyarrow", "parquet", "an .arrow file")
    table = arrow.table({"text": texts})
    with arrow.OSFile(str(path), "wb") as file, arrow.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=1000)


def _dump(texts: list[str], path: Path) -> None:
    """Write pages without markup, except where the text happens to hold some."""
    pages = (
        f"<page><title>{i}</title><ns>0</ns><id>{i}</id><revision><id>{i}</id><model>wikitext</model>"
        f"<text xml:space='preserve'>{escape(text)}</text></revision></page>\n"
        for i, text in enumerate(texts, 1)
    )
    start = "<mediawiki xmlns='http://www.mediawiki.org/xml/export-0.10/' version='0.10' xml:lang='en'>\n"
    path.write_text(start + "".join(pages) + "</mediawiki>\n", encoding="utf-8")


WRITERS: dict[str, Callable[[list[str], Path], None]] = {
    ".txt": _plain,
    ".md": _plain,
    ".jsonl": _lines,
    ".ndjson": _lines,
    ".json": _array,
    ".csv": _commas,
    ".tsv": _tabs,
    ".parquet": _parquet,
    ".arrow": _arrow,
    ".xml": _dump,
}

PACKED = (".jsonl.gz", ".jsonl.bz2", ".jsonl.xz", ".jsonl.zst")

KINDS = (*WRITERS, *PACKED)


def write_kind(texts: list[str], kind: str, folder: Path) -> Path:
    """Write documents as one kind of file into a new folder, and return it.

    Args:
        texts: The documents.
        kind: One of `KINDS`.
        folder: The folder to make.
    """
    folder.mkdir()
    if kind in WRITERS:
        WRITERS[kind](texts, folder / f"text{kind}")
        return folder
    plain = folder / "text.jsonl"
    _lines(texts, plain)
    zstd = import_extra("backports.zstd", "zstd", "a .zst file") if kind.endswith(".zst") else None
    openers = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open, ".zst": getattr(zstd, "open", None)}
    opener = openers[Path(kind).suffix]
    assert opener is not None
    with plain.open("rb") as source, opener(folder / f"text{kind}", "wb") as packed:
        shutil.copyfileobj(source, packed)
    plain.unlink()
    return folder
