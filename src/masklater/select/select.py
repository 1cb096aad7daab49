"""From SHARDS and two runs to a SELECTION: open, refuse, score, keep the best, write."""

import hashlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from masklater.budget.cost import encoder_sizes, row_flops
from masklater.console import say
from masklater.corpus.selection import ScoringRun, is_selection, shards_of, write_selection
from masklater.corpus.shards import Shards
from masklater.corpus.tokenizer import have_same_ids
from masklater.errors import UserError
from masklater.folders import refuse_existing
from masklater.machine.distributed import ALONE
from masklater.machine.precision import Precision, choose_precision
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.batches import EVALUATION_SEED, make_batches
from masklater.recipe.load import Recipe
from masklater.recipe.masking import MaskingSettings
from masklater.recipe.sections import ON_A_CPU, DecoderSettings
from masklater.recipe.timeline import in_phase
from masklater.run.checkpoint import Checkpoint, load_newest
from masklater.run.folder import RunFolder
from masklater.select.score import best, mean_losses, score

Wanted = Literal["auto", "bfloat16", "float16", "float32"]

SHOWN = 5
"""Rows at either end whose numbers are told, to be looked at."""


@dataclass(frozen=True)
class SelectResult:
    """The rows that were kept, and what finding them has cost."""

    out: str
    rows: int  # scored
    kept: int
    lowest_kept: float | None  # score, nats a target; None, as below, where no row has a target
    mean_kept: float | None
    mean_dropped: float | None
    best_rows: list[int]  # numbers of the rows with the highest scores, highest first
    worst_rows: list[int]  # and with the lowest, lowest first
    flops: float
    seconds: float


@dataclass(frozen=True)
class _Scorer:
    """A run that scores: its newest checkpoint."""

    run: RunFolder
    checkpoint: Checkpoint

    @property
    def recipe(self) -> Recipe:
        """The run's, as it was when the checkpoint was made."""
        return in_phase(self.run.recipe, self.checkpoint.progress.phase)

    def record(self) -> ScoringRun:
        """What selection.json says of it."""
        sha256 = hashlib.sha256((self.checkpoint.path / "checkpoint.json").read_bytes()).hexdigest()
        ledger = self.checkpoint.ledger
        flops = ledger.flops + ledger.flops_optimizer + ledger.flops_selection + ledger.flops_selection_runs
        return ScoringRun(run=str(self.run.path), step=ledger.steps, sha256=sha256, flops=flops)

    def load(self) -> MaskLaterForMaskedLM:
        """Load its model, in evaluation mode."""
        model, step = self.run.load_model()
        if step != self.checkpoint.ledger.steps:
            raise UserError(f"{self.run.path} has a newer checkpoint meanwhile", "Let it finish, or stop it, first.")
        return model


def select(
    shards: Path,
    early: Path,
    reference: Path,
    keep: float,
    out: Path,
    *,
    micro_rows: int = ON_A_CPU,
    precision: Wanted = "auto",
) -> SelectResult:
    """Choose the rows that an early model has most to learn from, by what a reference has learned of their like.

    Args:
        shards: The SHARDS whose training rows are scored.
        early: A RUN that has begun to learn, usually on these rows.
        reference: A RUN that was trained on other text of the kind that is wanted.
        keep: The share of the rows that is kept.
        out: The SELECTION to make.
        micro_rows: Rows of a forward pass.
        precision: What is computed in, as a recipe has it.

    Raises:
        UserError: A folder is missing or not what it must be, the two do not go with the rows, or the reference was
            trained on them.
    """
    began = time.monotonic()
    refuse_existing(out)
    if not 0 < keep <= 1:
        raise UserError(f"--keep {keep:g}: it is a share of the rows, above 0 and at most 1", "For example 0.5.")
    if is_selection(shards):
        raise UserError(f"{shards} is a SELECTION", f"Select from all rows, those of {shards_of(shards)}.")
    opened = Shards(shards)
    scorers = [_open(early, opened), _open(reference, opened)]
    _check_disjoint(scorers, opened)
    arithmetic = choose_precision(precision, ALONE.device)
    masking = scorers[0].recipe.masking
    if scorers[1].recipe.masking != masking:
        say(f"rows are masked as in {early}; {reference} was trained under other masking, which its losses suffer from")
    say(f"{opened.train.num_rows:,} rows, {arithmetic.name}: {arithmetic.reason}")
    losses_N, flops = zip(
        *(
            _score_rows(opened, scorer, masking, micro_rows, arithmetic, name)
            for name, scorer in zip(("early", "reference"), scorers, strict=True)
        ),
        strict=True,
    )
    score_N = score(*losses_N)
    rows_K = best(score_N, keep)
    facts = {
        "keep": keep,
        "early": scorers[0].record(),
        "reference": scorers[1].record(),
        "masking": masking.model_dump(mode="json"),
        "precision": arithmetic.name,
        "flops": sum(flops),
    }
    write_selection(out, opened, rows_K, score_N, facts)
    return _sum_up(out, score_N, rows_K, sum(flops), time.monotonic() - began)


def _sum_up(
    out: Path, score_N: NDArray[np.float32], rows_K: NDArray[np.int64], flops: float, seconds: float
) -> SelectResult:
    order_N = np.argsort(-score_N, kind="stable").tolist()
    kept, dropped = (
        [value for value in each.tolist() if math.isfinite(value)]
        for each in (score_N[rows_K], np.delete(score_N, rows_K))
    )
    return SelectResult(
        out=str(out),
        rows=len(score_N),
        kept=len(rows_K),
        lowest_kept=min(kept, default=None),
        mean_kept=fmean(kept) if kept else None,
        mean_dropped=fmean(dropped) if dropped else None,
        best_rows=order_N[:SHOWN],
        worst_rows=order_N[::-1][:SHOWN],
        flops=flops,
        seconds=seconds,
    )


def _open(path: Path, shards: Shards) -> _Scorer:
    """Open a RUN that is to score rows, and check that it can read them."""
    run = RunFolder(path)
    checkpoint = load_newest(run.checkpoints)
    if checkpoint is None:
        raise UserError(f"the run {path} has no checkpoint yet", "Let it run until its first checkpoint.")
    if not have_same_ids(run.tokenizer, shards.folder / "tokenizer"):
        raise UserError(
            f"the run {path} was trained with another tokenizer than {shards.folder} has",
            f"Prepare its data with --tokenizer {shards.folder / 'tokenizer'}.",
        )
    if (most := run.load_config().row_length) < shards.index.row_length:
        raise UserError(
            f"{shards.folder} has rows of {shards.index.row_length}, and the run {path} positions for {most}",
            "Select from rows of its length, or train it with model.max_positions.",
        )
    return _Scorer(run, checkpoint)


def _check_disjoint(scorers: list[_Scorer], shards: Shards) -> None:
    """Raise UserError where the reference knows the rows already, or is the early model itself."""
    early, reference = (scorer.run for scorer in scorers)
    if early.path.resolve() == reference.path.resolve():
        raise UserError(f"--early and --reference both name {early.path}", "Each score would be 0: name two runs.")
    if reference.identity.trained_on(shards.fingerprint):
        raise UserError(
            f"the reference {reference.path} was trained on rows of {shards.folder}: what it knows by heart would "
            "score as what can be learned",
            "Train it on text apart from them; `masklater prepare --slice` makes two SHARDS that share no document.",
        )


def _score_rows(
    shards: Shards, scorer: _Scorer, masking: MaskingSettings, micro_rows: int, precision: Precision, name: str
) -> tuple[NDArray[np.float64], float]:
    """Compute the mean loss of every row by one run; return it, and the FLOPs that it took.

    Masks are the same for either run, each of which is given what it reads of a row.
    """
    model = scorer.load().to(precision.device)
    config, attend = model.config, scorer.recipe.batch.attend
    batches = make_batches(shards, shards.train, masking, config.decoder.drops, attend, EVALUATION_SEED)
    losses_N = mean_losses(model, batches, micro_rows, precision, f"Scoring with the {name} model")
    decoder = DecoderSettings(kind="none") if masking.causal else config.decoder
    flops = row_flops(encoder_sizes(config.encoder), decoder, batches.corruption.counts)
    return losses_N, float(shards.train.num_rows * flops.forward)
