"""SELECTION: the rows of SHARDS that were chosen to train on.

    SELECTION/selection.json  of which SHARDS, how many, by which runs, at what cost; a checksum per file
    SELECTION/rows.npy        int64, the numbers of the rows that are kept, ascending
    SELECTION/scores.npy      float32, the score of every row of the SHARDS; -inf where it had no target

A SELECTION holds no rows. They are read from the SHARDS, which must be the ones that were scored. Letters: N rows of
the SHARDS, K rows of them kept.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from masklater.corpus.scored import (
    FORMAT,
    RESTORE,
    ScoredRecord,
    path_between,
    read_array,
    read_record_of,
    write_array,
)
from masklater.corpus.shards import Shards
from masklater.errors import DamagedDataError, UserError
from masklater.folders import complete_folder

NAME, ROWS, SCORES = "selection.json", "rows.npy", "scores.npy"
AGAIN = "Make the selection again with `masklater select`."


class SelectionRecord(ScoredRecord):
    """selection.json."""

    keep: float = Field(gt=0, le=1)
    kept: PositiveInt
    rows: PositiveInt  # number of rows scored
    rows_sha256: str
    scores_sha256: str


class SelectedShards(Shards):
    """The SHARDS of a SELECTION: only the rows it keeps are trained on; the held-out rows are those of the SHARDS."""

    def __init__(self, folder: Path) -> None:
        """Open a SELECTION and its SHARDS.

        Raises:
            UserError: The SHARDS are gone, or are not the ones that were scored.
            DamagedDataError: A part is missing or differs from what was written.
        """
        record = read_record(folder)
        place = shards_of(folder)
        if not (place / "index.json").is_file():
            raise UserError(
                f"the selection {folder} is of rows of {place}, where there are no SHARDS",
                f'Put them back, or say where they are from there on, in "shards" of {folder / NAME}.',
            )
        super().__init__(place)
        if self.fingerprint != record.shards_sha256:
            raise UserError(
                f"the selection {folder} was made of other SHARDS than {place} holds now (index.json has SHA-256 "
                f"{self.fingerprint[:12]}..., that of the SHARDS scored was {record.shards_sha256[:12]}...)",
                f"Put the former ones back. {AGAIN}",
            )
        self.name, self.selection, self.selected_from = folder, record, self.fingerprint
        self.rows_K = read_array(folder / ROWS, record.rows_sha256)
        if not _is_sound(self.rows_K, record.kept, self.train.num_rows):
            raise DamagedDataError(f"{folder / ROWS} does not hold the numbers of {record.kept:,} rows", RESTORE)
        # These two decide what is trained on, wherever the folders are and whichever runs scored the rows.
        self.fingerprint = hashlib.sha256(f"{record.shards_sha256} {record.rows_sha256}".encode()).hexdigest()


def open_data(folder: Path) -> Shards:
    """Open SHARDS, or a SELECTION; raise as their classes do."""
    return SelectedShards(folder) if is_selection(folder) else Shards(folder)


def is_selection(folder: Path) -> bool:
    """Tell whether a folder is a SELECTION: it has a selection.json."""
    return (folder / NAME).is_file()


def shards_of(folder: Path) -> Path:
    """Return the SHARDS folder of a SELECTION; return any other folder as it is."""
    if not is_selection(folder):
        return folder
    return Path(os.path.normpath(folder / read_record(folder).shards))


def read_record(folder: Path) -> SelectionRecord:
    """Read selection.json.

    Raises:
        DamagedDataError: The file differs from what was written.
        UserError: The file cannot be read, or is of another format.
    """
    return read_record_of(folder / NAME, SelectionRecord)


def read_scores(folder: Path) -> NDArray[np.float32]:
    """Read the score of every row of the SHARDS, kept or not, float32 [N].

    Raises:
        DamagedDataError: The file differs from what was written.
    """
    return read_array(folder / SCORES, read_record(folder).scores_sha256)


def write_selection(
    folder: Path, shards: Shards, rows_K: NDArray[np.int64], scores_N: NDArray[np.float32], facts: Mapping[str, Any]
) -> SelectionRecord:
    """Write a SELECTION.

    Args:
        folder: The folder to make.
        shards: The SHARDS of the rows.
        rows_K: The rows that are kept, ascending.
        scores_N: The scores of all rows.
        facts: The other entries of selection.json: keep, early, reference, masking, precision, flops.

    Raises:
        UserError: The name is taken, or the folder cannot be written.
    """
    with complete_folder(folder) as partial:
        record = SelectionRecord(
            format=FORMAT,
            shards=path_between(folder, shards.folder),
            shards_sha256=shards.fingerprint,
            kept=len(rows_K),
            rows=len(scores_N),
            rows_sha256=write_array(partial / ROWS, rows_K),
            scores_sha256=write_array(partial / SCORES, scores_N),
            **facts,
        )
        (partial / NAME).write_text(record.model_dump_json(indent=1), encoding="utf-8")
    return record


def _is_sound(rows_K: NDArray[np.int64], kept: int, num_rows: int) -> bool:
    if rows_K.dtype != np.int64 or rows_K.shape != (kept,):
        return False
    return bool((np.diff(rows_K) > 0).all() and rows_K[0] >= 0 and rows_K[-1] < num_rows)
