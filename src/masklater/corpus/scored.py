"""The part that SELECTION and TABLE share: the records and arrays `select` writes of rows that two runs have scored."""

import hashlib
import os
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeFloat

from masklater.errors import DamagedDataError, UserError
from masklater.recipe.section import Section
from masklater.record import read_record

FORMAT = 1
RESTORE = "Restore the folder from a copy, or make it again with `masklater select`."


class ScoringRun(Section):
    """A run whose checkpoint has scored rows."""

    run: str
    step: int
    sha256: str  # of its checkpoint.json, which holds the hashes of the checkpoint's files
    flops: NonNegativeFloat  # its training compute up to this checkpoint


class ScoredRecord(Section):
    """What the records of SELECTION and TABLE say of the rows and of the runs that scored them."""

    format: int
    shards: str  # the SHARDS folder, relative to the record's folder
    shards_sha256: str
    early: ScoringRun
    reference: ScoringRun
    masking: dict[str, Any]  # the recipe's masking section under which rows were scored
    precision: str
    flops: NonNegativeFloat  # of scoring, both runs together


Record = TypeVar("Record", bound=ScoredRecord)


def read_record_of(path: Path, kind: type[Record]) -> Record:
    """Read the record of a folder.

    Raises:
        DamagedDataError: The record differs from what was written.
        UserError: The record cannot be read, or is of another format.
    """
    record = read_record(path, kind, RESTORE)
    if record.format != FORMAT:
        raise UserError(f"{path} has format {record.format}; this version reads format {FORMAT}", RESTORE)
    return record


def path_between(folder: Path, other: Path) -> str:
    """Return the path from one folder to another, as a record stores it."""
    return Path(os.path.relpath(os.path.realpath(other), os.path.realpath(folder))).as_posix()


def write_array(path: Path, array: NDArray[Any]) -> str:
    """Write an array as .npy, little-endian; return the SHA-256 of the file."""
    content = BytesIO()
    np.save(content, array.astype(array.dtype.newbyteorder("<")), allow_pickle=False)
    path.write_bytes(content.getvalue())
    return hashlib.sha256(content.getvalue()).hexdigest()


def read_array(path: Path, sha256: str) -> NDArray[Any]:
    """Read an array.

    Raises:
        DamagedDataError: The file differs from what was written.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DamagedDataError(f"{path} cannot be read: {error.strerror}", RESTORE) from None
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DamagedDataError(f"{path} has changed since it was written (its checksum does not match)", RESTORE)
    array: NDArray[Any] = np.load(BytesIO(content), allow_pickle=False)
    return array
