"""A TABLE that says what a test wants, without runs that have scored anything."""

from pathlib import Path

import numpy as np

from masklater.corpus.scored import ScoringRun
from masklater.corpus.shards import Shards
from masklater.corpus.target_table import TargetTable, write_target_table


def make_table(out: Path, shards: Shards, excess: dict[int, float], others: float = 0.0) -> TargetTable:
    """Write a TABLE in which each token was seen a hundred times, and open it.

    Args:
        out: Its name.
        shards: Whose tokens they are.
        excess: By token.
        others: That of all other tokens.
    """
    V = shards.vocabulary.size
    excess_V = np.full(V, others, dtype=np.float32)
    excess_V[list(excess)] = list(excess.values())
    scorer = ScoringRun(run="run", step=1, sha256="0" * 64, flops=3e9)
    facts = {"early": scorer, "reference": scorer.model_copy(update={"sha256": "1" * 64}), "masking": {},
             "precision": "float32", "flops": 2e9}  # fmt: skip
    write_target_table(out, shards, excess_V, np.full(V, 100, dtype=np.int64), facts)
    return TargetTable(out)
