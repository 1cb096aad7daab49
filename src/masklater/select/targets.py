"""From SHARDS and two runs to a TABLE: open, check, find how much each token has yet to teach, write."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from masklater.corpus.target_table import write_target_table
from masklater.corpus.tokenizer import load
from masklater.errors import UserError
from masklater.folders import refuse_existing
from masklater.recipe.recipe import PrecisionName
from masklater.recipe.sections import ON_A_CPU
from masklater.select.score import excess, token_losses
from masklater.select.scorers import open_scorers

SHOWN = 8
"""Number of tokens at either end that are printed."""


@dataclass(frozen=True)
class TargetsResult:
    """What the tokens have yet to teach, and the cost of finding it."""

    out: str
    targets: int  # scored
    tokens: int  # different tokens among them
    mean_excess: float  # nats per target
    share_above: float  # share of the targets whose token has an excess above 0
    most: list[str]  # tokens of the highest excess, highest first
    least: list[str]  # and of the lowest, lowest first
    flops: float
    seconds: float


def make_targets(
    shards: Path,
    early: Path,
    reference: Path,
    out: Path,
    *,
    micro_rows: int = ON_A_CPU,
    precision: PrecisionName = "auto",
) -> TargetsResult:
    """Find how much an early model has yet to learn of each token, compared with a reference.

    Args:
        shards: The SHARDS whose training rows are scored.
        early: A RUN that has begun to learn, usually on these rows.
        reference: A RUN that was trained on other text of the wanted kind.
        out: The TABLE to make.
        micro_rows: Rows of a forward pass.
        precision: The precision to compute in, as in a recipe.

    Raises:
        UserError: As in `open_scorers`; or `out` exists already, or no token has anything to teach.
    """
    began = time.monotonic()
    refuse_existing(out)
    scorers = open_scorers(shards, early, reference, precision)
    of_early, of_reference, facts = scorers.measure(token_losses, micro_rows)
    excess_V, seen_V = excess(of_early, of_reference), of_early.seen_V
    if not (excess_V > 0).any():
        raise UserError(
            f"no token has anything to teach: {early} loses no more than {reference} on any of them",
            "Train the reference longer, or on text that is more like these rows.",
        )
    write_target_table(out, scorers.shards, excess_V, seen_V, facts)
    seconds = time.monotonic() - began
    return _sum_up(out, scorers.shards.folder / "tokenizer", excess_V, seen_V, facts["flops"], seconds)


def _sum_up(
    out: Path, tokenizer: Path, excess_V: NDArray[np.float32], seen_V: NDArray[np.int64], flops: float, seconds: float
) -> TargetsResult:
    seen_U = seen_V.nonzero()[0]  # U: the tokens seen
    ids_U = seen_U[np.argsort(-excess_V[seen_U], kind="stable")].tolist()
    texts = load(tokenizer)
    return TargetsResult(
        out=str(out),
        targets=int(seen_V.sum()),
        tokens=len(seen_U),
        mean_excess=float(np.average(excess_V, weights=seen_V)),
        share_above=float(np.average(excess_V > 0, weights=seen_V)),
        most=[texts.decode([token_id]) for token_id in ids_U[:SHOWN]],
        least=[texts.decode([token_id]) for token_id in ids_U[::-1][:SHOWN]],
        flops=flops,
        seconds=seconds,
    )
