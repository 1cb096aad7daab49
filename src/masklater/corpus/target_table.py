"""TABLE: how much each token has left to teach. By it a row's targets are chosen from the corrupted positions.

    TABLE/targets.json  of which rows, by which runs, at what cost; a checksum per file
    TABLE/excess.npy    float32 [V], by how many nats an early run lost more on a token than a reference, on average
    TABLE/seen.npy      int64 [V], over how many targets; 0: it never was one, and its excess is 0
    TABLE/tokenizer/    whose tokens they are

Letters: V vocabulary.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from masklater.corpus.same_ids import have_same_ids
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
from masklater.corpus.tokenizer import fingerprint
from masklater.errors import DamagedDataError, UserError
from masklater.folders import complete_folder

NAME, EXCESS, SEEN, TOKENIZER = "targets.json", "excess.npy", "seen.npy", "tokenizer"

PRIOR = 10
"""The number of targets of mean weight that are added to each token's own, since a few targets say little. The mean is
that of the excess where it is above 0, and 0 elsewhere. The mean of the excess itself would be decided by noise: on
noise, a reference that never saw any loses much more."""

FLOOR = 0.1
"""The share of that mean which every token has in addition. A token that is never predicted is forgotten, and the early
run's finding about it stays untested. At a tenth, noise costs little and is still predicted at times."""


class TargetRecord(ScoredRecord):
    """targets.json."""

    tokenizer_sha256: str
    targets: NonNegativeInt  # number of targets scored
    excess_sha256: str
    seen_sha256: str


class TargetTable:
    """An opened TABLE. Its `fingerprint` covers what decides the choice: runs under equal fingerprints are equal."""

    def __init__(self, folder: Path) -> None:
        """Open a TABLE.

        Raises:
            UserError: There is no TABLE of that name.
            DamagedDataError: A part is missing or differs from what was written.
        """
        if not is_target_table(folder):
            raise UserError(
                f"{folder} is no TABLE folder: it has no {NAME}", "Make one with `masklater select SHARDS --targets`."
            )
        self.folder = folder
        self.record = read_record_of(folder / NAME, TargetRecord)
        self.excess_V: NDArray[np.float32] = read_array(folder / EXCESS, self.record.excess_sha256)
        self.seen_V: NDArray[np.int64] = read_array(folder / SEEN, self.record.seen_sha256)
        if fingerprint(folder / TOKENIZER) != self.record.tokenizer_sha256:
            raise DamagedDataError(f"{folder / TOKENIZER} is not the tokenizer whose tokens were scored", RESTORE)
        self.fingerprint = hashlib.sha256(f"{self.record.excess_sha256} {self.record.seen_sha256}".encode()).hexdigest()

    def check_tokenizer(self, shards: Shards) -> None:
        """Raise UserError where the ids of SHARDS belong to other tokens."""
        if not have_same_ids(self.folder / TOKENIZER, shards.folder / TOKENIZER):
            raise UserError(
                f"masking.predict_by: {self.folder} is of the tokens of another tokenizer than {shards.name} has",
                "Make a table of these SHARDS with `masklater select SHARDS --targets`, or leave it out.",
            )

    @property
    def weights_V(self) -> NDArray[np.float64]:
        """The weight of each token when the targets of a row are drawn, float64 [V]."""
        return weigh(self.excess_V, self.seen_V)


def weigh(excess_V: NDArray[np.floating], seen_V: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return weights_V: the positive part of the excess, smoothed by PRIOR, plus FLOOR of the mean.

    Args:
        excess_V: Nats; above 0 for at least one token that was seen.
        seen_V: The number of targets of each token.
    """
    above_V = np.maximum(excess_V, 0.0, dtype=np.float64)
    mean = np.average(above_V, weights=seen_V)
    return (seen_V * above_V + PRIOR * mean) / (seen_V + PRIOR) + FLOOR * mean


def is_target_table(folder: Path) -> bool:
    """Tell whether a folder is a TABLE: it has a targets.json."""
    return (folder / NAME).is_file()


def write_target_table(
    folder: Path, shards: Shards, excess_V: NDArray[np.float32], seen_V: NDArray[np.int64], facts: Mapping[str, Any]
) -> None:
    """Write a TABLE.

    Args:
        folder: The folder to make.
        shards: The SHARDS of the rows that were scored.
        excess_V: The excess of every token.
        seen_V: The number of targets of each token.
        facts: The other entries of targets.json: early, reference, masking, precision, flops.

    Raises:
        UserError: The name is taken, or the folder cannot be written.
    """
    with complete_folder(folder) as partial:
        shutil.copytree(shards.folder / "tokenizer", partial / TOKENIZER)
        shards.check_tokenizer(partial / TOKENIZER)
        record = TargetRecord(
            format=FORMAT,
            shards=path_between(folder, shards.folder),
            shards_sha256=shards.fingerprint,
            tokenizer_sha256=shards.index.tokenizer_sha256,
            targets=int(seen_V.sum()),
            excess_sha256=write_array(partial / EXCESS, excess_V),
            seen_sha256=write_array(partial / SEEN, seen_V),
            **facts,
        )
        (partial / NAME).write_text(record.model_dump_json(indent=1), encoding="utf-8")
