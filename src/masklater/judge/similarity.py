"""Files of pairs of texts, which `judge --zero-shot` scores: FILE:FIRST,SECOND,SCORE or FILE:QUERY,PASSAGE.

Three columns: how similar two texts are, as in STS-B. Two columns: a query and the passage that answers it, among all
passages of the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from masklater.errors import DamagedDataError, UserError
from masklater.judge.data import Split, hash_rows
from masklater.judge.own_data import read_number, read_value
from masklater.judge.own_task import TABLES
from masklater.judge.readers import read_table

FORM = "Write FILE:FIRST,SECOND,SCORE for texts that are more or less alike, FILE:QUERY,PASSAGE for searching."


@dataclass(frozen=True)
class PairFile:
    """A file and the columns that are read."""

    given: str  # as the user wrote it
    path: Path
    columns: tuple[str, ...]

    @property
    def kind(self) -> Literal["sts", "retrieval"]:
        """The kind of its pairs: texts with a similarity, or a query and its passage."""
        return "sts" if len(self.columns) == 3 else "retrieval"


@dataclass(frozen=True)
class PairRows:
    """The rows of a file; labels are the scores, or 0 where there are none."""

    file: PairFile
    split: Split
    notes: tuple[str, ...]
    sha256: str  # of texts and scores in order


def find_pair_files(given: Sequence[str]) -> list[PairFile]:
    """Find the files that --zero-shot names.

    Raises:
        UserError: Some are missing, of another kind, or without columns; the message lists all of them.
    """
    faults: list[str] = []
    files: list[PairFile] = []
    for each in given:
        name, _, listed = each.rpartition(":")
        path, columns = Path(name or each), tuple(column.strip() for column in listed.split(",")) if name else ()
        if path.suffix.lower() not in TABLES:
            faults.append(f"{each}: a file of pairs ends in one of {', '.join(TABLES)}")
        elif not path.is_file():
            faults.append(f"{each}: there is no file {path}")
        elif len(columns) not in {2, 3} or not all(columns) or len(set(columns)) < len(columns):
            faults.append(f"{each}: two or three different columns have to be named behind the file")
        elif any(path == other.path and columns == other.columns for other in files):
            faults.append(f"{each}: it is named twice")
        else:
            files.append(PairFile(each, path, columns))
    if faults:
        count = "" if len(faults) == 1 else f"{len(faults)} of them cannot be read:\n  - "
        raise UserError(f"--zero-shot {count}" + "\n  - ".join(faults), FORM)
    return files


def read_pairs(file: PairFile) -> PairRows:
    """Read a file of pairs.

    Raises:
        UserError: The file cannot be read.
        DamagedDataError: A line cannot be used, or there is nothing to compare; the message names the place.
    """
    texts: tuple[list[str], list[str]] = ([], [])
    scores: list[float] = []
    blank = empty = 0
    for where, record in read_table(file.path, file.columns):
        if record is None:
            blank += 1
            continue
        row = [read_value(record[column], where, column, number == 2) for number, column in enumerate(file.columns)]
        empty += not all(map(str.strip, row[:2]))
        for column, text in zip(texts, row, strict=False):
            column.append(text)
        scores.append(read_number(row[2].strip(), where, None) if file.kind == "sts" else 0.0)
    if not scores:
        raise DamagedDataError(f"{file.path} holds no rows", "Name a file that holds some.")
    if file.kind == "sts" and min(scores) == max(scores):
        raise DamagedDataError(
            f"{file.path}: {file.columns[2]} is {scores[0]:g} in every row: there is nothing to tell apart",
            "Is it the right column?",
        )
    passages = len(set(texts[1]))
    if file.kind == "retrieval" and passages == 1:
        raise DamagedDataError(
            f"{file.path}: {file.columns[1]} is the same in every row: there is nothing to search among",
            "Is it the right column?",
        )
    remarks = {
        f"{blank:,} blank lines passed over": blank,
        f"{empty:,} rows have an empty text": empty,
        f"{passages} passages: recall@10 says little": file.kind == "retrieval" and passages <= 20,
    }
    split = Split(texts, np.array(scores))
    return PairRows(file, split, tuple(note for note, holds in remarks.items() if holds), hash_rows({"pairs": split}))
