"""The two runs that score what there is to learn in rows: opened, refused where they do not fit, and evaluated."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from masklater.budget.cost import row_flops
from masklater.budget.sizes import encoder_sizes
from masklater.console import say
from masklater.corpus.same_ids import have_same_ids
from masklater.corpus.scored import ScoringRun
from masklater.corpus.selection import is_selection, shards_of
from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.machine.distributed import ALONE
from masklater.machine.kernels import set_up_process
from masklater.machine.precision import Precision, choose_precision
from masklater.model.check import check_dtype
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.batches import EVALUATION_SEED, BatchMaker, make_batches
from masklater.recipe.masking import MaskingSettings
from masklater.recipe.recipe import PrecisionName, Recipe
from masklater.recipe.sections import DecoderSettings
from masklater.recipe.timeline import in_phase
from masklater.run.checkpoint import Checkpoint
from masklater.run.folder import RunFolder

Found = TypeVar("Found")
Measure = Callable[[MaskLaterForMaskedLM, BatchMaker, int, Precision, str], Found]
"""A function that measures all rows with one model: `score.mean_losses`, `score.token_losses`."""


@dataclass(frozen=True)
class Scorer:
    """A run that scores: its newest checkpoint."""

    run: RunFolder
    checkpoint: Checkpoint

    @property
    def recipe(self) -> Recipe:
        """The run's recipe, as it was when the checkpoint was made."""
        return in_phase(self.run.recipe, self.checkpoint.progress.phase)

    @property
    def masking(self) -> MaskingSettings:
        """The masking of its rows. Targets are scored alike, even if the run preferred some (`predict_by`)."""
        return self.recipe.masking.model_copy(update={"predict_by": None})

    def record(self) -> ScoringRun:
        """Return the run's fields for a folder's record."""
        sha256 = hashlib.sha256((self.checkpoint.path / "checkpoint.json").read_bytes()).hexdigest()
        ledger = self.checkpoint.ledger
        return ScoringRun(run=str(self.run.path), step=ledger.steps, sha256=sha256, flops=ledger.total_flops)


@dataclass(frozen=True)
class Scorers:
    """SHARDS, and the two runs that score their training rows under the same masks, those of the early run."""

    shards: Shards
    early: Scorer
    reference: Scorer
    precision: Precision

    def measure(self, measure: Measure[Found], micro_rows: int) -> tuple[Found, Found, dict[str, Any]]:
        """Return the results of the early model and of the reference, and the facts for a record."""
        set_up_process()
        say(f"{self.shards.train.num_rows:,} rows, {self.precision.name}: {self.precision.reason}")
        early, of_early = self._ask(self.early, measure, micro_rows, "early")
        reference, of_reference = self._ask(self.reference, measure, micro_rows, "reference")
        facts = {
            "early": self.early.record(),
            "reference": self.reference.record(),
            "masking": self.early.masking.model_dump(mode="json"),
            "precision": self.precision.name,
            "flops": of_early + of_reference,
        }
        return early, reference, facts

    def _ask(self, scorer: Scorer, measure: Measure[Found], micro_rows: int, name: str) -> tuple[Found, float]:
        """Measure all rows with one run; return the result, and the FLOPs that it took.

        Masks are the same for both runs. Each run is given the part of a row that it reads.
        """
        model = scorer.run.model_of(scorer.checkpoint).to(self.precision.device)
        config, attend, rows = model.config, scorer.recipe.batch.attend, self.shards.train
        batches = make_batches(self.shards, rows, self.early.masking, config.decoder.drops, attend, EVALUATION_SEED)
        found = measure(model, batches, micro_rows, self.precision, f"Scoring with the {name} model")
        decoder = DecoderSettings(kind="none") if self.early.masking.causal else config.decoder
        flops = row_flops(encoder_sizes(config.encoder), decoder, batches.corruption.counts)
        return found, float(rows.num_rows * flops.forward)


def open_scorers(shards: Path, early: Path, reference: Path, precision: PrecisionName) -> Scorers:
    """Open SHARDS and the runs that score their training rows.

    Args:
        shards: The SHARDS.
        early: A RUN that has begun to learn, usually on these rows.
        reference: A RUN that was trained on other text of the wanted kind.
        precision: The precision to compute in, as in a recipe.

    Raises:
        UserError: A folder is missing or of the wrong kind, the two runs do not fit the rows, or the reference was
            trained on them.
    """
    if is_selection(shards):
        raise UserError(f"{shards} is a SELECTION", f"Select from all rows, those of {shards_of(shards)}.")
    opened = Shards(shards)
    scorers = Scorers(opened, _open(early, opened), _open(reference, opened), choose_precision(precision, ALONE.device))
    _check_disjoint(scorers)
    for one in (scorers.early, scorers.reference):
        check_dtype(one.run.load_config(), ALONE.device, scorers.precision.dtype, "--precision float32")
    if scorers.reference.masking != scorers.early.masking:
        say(f"rows are masked as in {early}; {reference} was trained under other masking, which its losses suffer from")
    return scorers


def _open(path: Path, shards: Shards) -> Scorer:
    """Open a RUN that is to score rows, and check that it can read them."""
    run = RunFolder(path)
    checkpoint = run.open_newest()
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
    return Scorer(run, checkpoint)


def _check_disjoint(scorers: Scorers) -> None:
    """Raise UserError where the reference was trained on the rows, or is the early model itself."""
    early, reference, shards = scorers.early.run, scorers.reference.run, scorers.shards
    if early.path.resolve() == reference.path.resolve():
        raise UserError(f"--early and --reference both name {early.path}", "Each score would be 0: name two runs.")
    if reference.identity.trained_on(shards.fingerprint):
        raise UserError(
            f"the reference {reference.path} was trained on rows of {shards.folder}: what it knows by heart would "
            "score as what can be learned",
            "Train it on text apart from them; `masklater prepare --slice` makes two SHARDS that share no document.",
        )
