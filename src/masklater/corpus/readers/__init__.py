"""The table of readers: how a file is read, by the ending of its name.

Another kind of file takes one more line here: a function from an open file to its records, and what its records are
counted by.
"""

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import NamedTuple

from masklater.corpus.readers.fasta import read_fasta
from masklater.corpus.readers.json_records import read_json, read_json_lines
from masklater.corpus.readers.mediawiki import read_mediawiki
from masklater.corpus.readers.opened import Opened, Records
from masklater.corpus.readers.separated import read_csv, read_tsv
from masklater.corpus.readers.tables import read_arrow, read_parquet
from masklater.corpus.unpack import PACKINGS


class Reader(NamedTuple):
    """The function from an open file to records; plain text has none, and is cut into documents."""

    records: Callable[[Opened], Records] | None
    place: str = "line"  # what the numbers of its records count
    has_encoding: bool = True  # whether it is text whose encoding the user can name
    begins: bytes | None = None  # the first bytes of a line that begins a record; None: lines do not show it


READERS: dict[str, Reader] = {
    ".txt": Reader(None),
    ".md": Reader(None),
    ".jsonl": Reader(read_json_lines, begins=b""),
    ".ndjson": Reader(read_json_lines, begins=b""),
    ".json": Reader(read_json),
    ".csv": Reader(read_csv),
    ".tsv": Reader(read_tsv),
    ".parquet": Reader(read_parquet, "row", has_encoding=False),
    ".arrow": Reader(read_arrow, "row", has_encoding=False),
    ".xml": Reader(read_mediawiki, "page", has_encoding=False),
    **dict.fromkeys((".fasta", ".fa", ".faa", ".fna"), Reader(read_fasta, begins=b">")),
}

ENDINGS = tuple(READERS)
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".7z")
"""Endings of compression, which follow the ending that says what a file holds."""
REMEDIES = {
    (".zip", ".tar", ".tgz", ".7z", ".rar", ".lz4", ".z"): "Unpack it first, and name what comes out.",
    (".html", ".htm", ".pdf", ".docx", ".doc", ".odt", ".rtf", ".epub", ".tex"): (
        "Take the text out of it first: of web pages with trafilatura, of .pdf with pdftotext, else with pandoc."
    ),
    (".warc", ".wet", ".wat"): "Write the text of its records as JSON lines first: warcio reads them.",
    (".xlsx", ".xls", ".ods"): "Save it as .csv first.",
    (".sqlite", ".db", ".orc", ".avro", ".pkl", ".pickle", ".npy", ".npz", ".h5", ".hdf5", ".ipynb"): (
        "Write what it holds as JSON lines or .parquet first."
    ),
    (".fastq", ".fq", ".gb", ".gbk", ".gbff", ".embl"): "Make FASTA of it first, with Biopython's SeqIO.convert.",
    (".conllu",): "Take the sentences out of it first: sed -n 's/^# text = //p'.",
}
"""What to do about files whose content is text, or holds text, but that would be misread as plain text."""
ENDINGS_SAID = f"{', '.join(ENDINGS)}, also with {', '.join(PACKINGS)}"


_PAGES = re.compile(r"\.xml-p\d+p\d+[^./]*$")
"""Wikimedia names the parts of a dump by the pages they hold: articles1.xml-p1p41242.bz2."""


class Ending(NamedTuple):
    """The two parts of the ending of a name."""

    kind: str  # one of READERS
    packing: str  # one of PACKINGS, or empty


def ending_of(name: str) -> Ending | None:
    """Return the kind of a file by its name, without regard to case; None: it is not read."""
    name = name.lower()
    packing = next((ending for ending in PACKINGS if name.endswith(ending)), "")
    name = _PAGES.sub(".xml", name.removesuffix(packing))
    kind = next((ending for ending in READERS if name.endswith(ending)), None)
    return None if kind is None else Ending(kind, packing)


def ending_shown(name: str) -> str:
    """Return the ending of a file that is not read: `.pdf`, or `.pdf.bz2` with its compression."""
    path = PurePosixPath(name.lower())
    packed = PurePosixPath(path.stem).suffix if path.suffix in COMPRESSIONS else ""
    return packed + path.suffix or "without an ending"


def remedy_for(name: str, otherwise: str) -> str:
    """Return the advice about a file that is not read: by its ending, else `otherwise`."""
    parts = {f".{part}" for part in name.lower().split(".")[1:]}
    return next((remedy for endings, remedy in REMEDIES.items() if parts.intersection(endings)), otherwise)
