"""Sequences of a FASTA file (proteins, DNA, RNA): one record each, with `id`, `description` and `text`."""

from masklater.corpus.readers.opened import Opened, Record, Records
from masklater.errors import DamagedDataError

PIECE_LETTERS = 2**18
"""A longer sequence, such as a chromosome, is cut into pieces of this size, each a record. So memory stays flat, and
held-out rows can be pieces of a chromosome."""


def read_fasta(opened: Opened) -> Records:
    """Yield one record per sequence, numbered by the line of its header; its lines are joined, without white space.

    `id` is the header up to the first white space, `description` the text after it. Lines that begin with `;` are
    comments.
    """
    lines = opened.lines(cut=True, limit=PIECE_LETTERS)
    header, number = "", 0
    parts: list[str] = []
    size, is_cut = 0, False
    for line in lines:
        if line.startswith(">"):
            if number and (size or not is_cut):
                yield number, _record(header, parts)
            header, number = line, lines.odd.lines
            parts, size, is_cut = [], 0, False
        elif not line.startswith(";"):
            letters = "".join(line.split())
            if letters and not number:
                lines.check()  # in another encoding no > would be found
                raise DamagedDataError(
                    f"{opened.name}, line {lines.odd.lines}: no FASTA: a sequence without a header (a line with >)",
                    "Give it one, or rename the file by its content: .txt for plain text.",
                )
            parts.append(letters)
            size += len(letters)
            if size > PIECE_LETTERS:  # by less than a piece, as no line is longer than one
                whole = "".join(parts)
                yield number, _record(header, [whole[:PIECE_LETTERS]])
                parts, size, is_cut = [whole[PIECE_LETTERS:]], size - PIECE_LETTERS, True
    if number and (size or not is_cut):
        yield number, _record(header, parts)


def _record(header: str, parts: list[str]) -> Record:
    name, *description = header[1:].split(maxsplit=1) or [""]
    return {"id": name, "description": "".join(description).rstrip(), "text": "".join(parts)}
