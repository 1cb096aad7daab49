"""CoNLL columns as sentences: a word a line, its label in a column of the same line, a blank line between sentences.

Columns are separated by tabs, or by spaces in a line without tabs. A line of only spaces or tabs is blank, and several
blank lines in a row count as one. In CoNLL-U, comments, ranges (`3-4`) and empty words (`3.1`) are skipped.
`-DOCSTART-` lines are skipped too.
"""

import re
from pathlib import Path

from masklater.errors import DamagedDataError
from masklater.judge.data import numbered_lines

UNIVERSAL = {"word": 2, "label": 4}
"""The columns of CoNLL-U that are read where none are named: form and universal part of speech."""
NO_WORD = re.compile(r"[0-9]+[-.][0-9]+")

Sentence = tuple[list[str], list[str], int]
"""Words, labels, and the number of the first word's line."""


def read_sentences(path: Path, columns: dict[str, int]) -> list[Sentence]:
    """Read the sentences of a file.

    Args:
        path: The file; `.conllu` is read as CoNLL-U.
        columns: The numbers of `word` and `label`, counted from 1. Defaults: 1 and the last column; in CoNLL-U 2 and 4.

    Raises:
        DamagedDataError: A line has a different number of columns than the first, or lacks the word or the label.
    """
    universal = path.suffix.lower() == ".conllu"
    sentences: list[Sentence] = []
    words: list[str] = []
    labels: list[str] = []
    width = first = 0
    is_comment = False  # the first line, from which the width is
    for number, line in numbered_lines(path):
        fields = (line.split("\t") if "\t" in line else line.split(" ")) if line.strip() else []
        if universal and (line.startswith("#") or (fields and NO_WORD.fullmatch(fields[0]))):
            continue
        if not fields or fields[0] == "-DOCSTART-":
            if words:
                sentences.append((words, labels, first))
                words, labels = [], []
            continue
        if not width:
            width, is_comment = len(fields), line.startswith("#")
        if len(fields) != width:
            rule = f"{len(fields)} columns; the lines before have {width}"
            remedy = "Mend the line: one word, one tab or space between columns."
            if line.startswith("#") or is_comment:
                remedy += " Lines of # are comments in .conllu alone: take comments out of other files."
            raise DamagedDataError(f"{path}, line {number}: {rule}", remedy)
        first = first if words else number
        word, label = (_field(path, number, fields, name, columns, universal) for name in ("word", "label"))
        words.append(word)
        labels.append(label)
    if words:
        sentences.append((words, labels, first))
    return sentences


def _field(path: Path, number: int, fields: list[str], name: str, columns: dict[str, int], universal: bool) -> str:
    usual = UNIVERSAL if universal else {"word": 1, "label": len(fields)}
    column = columns.get(name, usual[name])
    if column > len(fields):
        raise DamagedDataError(
            f"{path}, line {number}: there is no column {column}, which is the {name}'s; the line has {len(fields)}",
            "Separate columns by tabs, or say in TASKS.yaml which one it is: columns: {word: 1, label: 2}.",
        )
    if not (value := fields[column - 1].strip()):
        raise DamagedDataError(f"{path}, line {number}: the {name}, column {column}, is empty", "Mend the line.")
    return value
