"""The content of a model card: the run that an export is from, and the scores of exactly this export."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from masklater.errors import UserError
from masklater.ledger import Ledger
from masklater.recipe.recipe import Recipe
from masklater.recipe.timeline import in_phase
from masklater.report.runs import Evaluation, read_run
from masklater.report.scores import Pairs, Scores, read_pairs, read_scores
from masklater.report.whose import why_not_of
from masklater.run.data import TrainedShards, read_data
from masklater.run.identity import Identity, read_identity


@dataclass(frozen=True)
class Exported:
    """The content of the folder that the card is for."""

    name: str  # of the folder
    kind: str  # the model's class
    parameters: int
    has_head: bool  # whether an LM head is in it
    has_pooler: bool
    license: str | None  # an identifier of the hub's, as the user told it


@dataclass(frozen=True)
class Origin:
    """The source of an export: a run at one of its checkpoints."""

    recipe: Recipe
    identity: Identity
    ledger: Ledger  # as of the checkpoint
    data: tuple[TrainedShards, ...] | None  # None: the run began before this was recorded
    evaluation: Evaluation | None  # an identifier of the hub's, as the user gave it
    phase: int = 0  # of its last step

    @property
    def causal(self) -> bool:
        """Whether its last step predicted next tokens."""
        return in_phase(self.recipe, self.phase).masking.causal

    @property
    def done(self) -> float:
        """The share of the recipe's duration that it had spent."""
        return self.recipe.duration.spent(self.ledger) / self.recipe.duration.amount


def read_origin(run: Path, ledger: Ledger, phase: int = 0) -> tuple[Origin, list[str]]:
    """Read the records of a RUN; weights can be exported even where records are missing.

    Args:
        run: Its folder.
        ledger: The ledger of the exported checkpoint.
        phase: The phase of its last step.

    Returns:
        origin, and a sentence for each record that could not be read.

    Raises:
        UserError: The folder is not a RUN.
    """
    identity, recipe = read_identity(run)
    data, evaluation, notes = None, None, []
    try:
        data = read_data(run)
    except UserError as error:
        notes.append(error.problem)
    try:
        evaluations = read_run(run, run.name).evaluations
        evaluation = next((each for each in reversed(evaluations) if each.spent.steps <= ledger.steps), None)
    except UserError as error:
        notes.append(error.problem)
    return Origin(recipe, identity, ledger, data, evaluation, phase), notes


def scores_of(
    run: Path, step: int, hashes: set[str], named: Sequence[Path]
) -> tuple[list[Scores], Pairs | None, list[str]]:
    """Find the scores of an export, in named folders and RUN/scores, and minimal pairs in RUN/blimp.json.

    Args:
        run: The RUN that the export is from.
        step: The step of the checkpoint.
        hashes: The hashes that SCORES may have of the encoder.
        named: SCORES folders.

    Returns:
        scores, minimal pairs, and a sentence for each thing left out.

    Raises:
        UserError: A named folder is not a SCORES folder, or scored another encoder.
    """
    found, notes = [], []
    by_place = {folder.resolve(): folder for folder in named}
    for folder in by_place.values():
        scores = read_scores(folder)
        if not _belong(scores, hashes, run, step):
            raise UserError(
                f"--scores {folder} scored {scores.encoder.run or scores.encoder.path}"
                f"{'' if scores.encoder.step is None else f' at step {scores.encoder.step:,}'}, which is not what is "
                f"exported here, {run} at step {step:,}: {_hashes(scores, hashes)}",
                "Score the encoder that is exported, or leave --scores out.",
            )
        found.append(scores)
    own, pairs = run / "scores", None
    try:
        if (own / "scores.json").is_file() and own.resolve() not in by_place:
            scores = read_scores(own)
            if _belong(scores, hashes, run, step):
                found.append(scores)
            else:
                notes.append(f"{own} scored other weights, and was left out: {_hashes(scores, hashes)}")
    except UserError as error:
        notes.append(error.problem)
    try:
        pairs = read_pairs(run)
    except UserError as error:
        notes.append(error.problem)
    if pairs and pairs.step != step:
        notes.append(f"the minimal pairs of {run} were scored at step {pairs.step:,}, and were left out")
        pairs = None
    elif pairs and (why := why_not_of(run, pairs)):
        notes.append(f"the minimal pairs of {run} were scored with other weights ({why}), and were left out")
        pairs = None
    return found, pairs, notes


def _belong(scores: Scores, hashes: set[str], run: Path, step: int) -> bool:
    """Return whether the scored weights are the exported ones, wherever run and SCORES are.

    Either the hash of the folder decides, or the run's log up to these weights: another version of transformers writes
    another config for the same weights.
    """
    encoder = scores.encoder
    same_training = encoder.training_sha256 is not None and why_not_of(run, encoder) is None
    return encoder.sha256 in hashes or (same_training and encoder.step == step)


def _hashes(scores: Scores, hashes: set[str]) -> str:
    expected = " or ".join(f"{each[:12]}..." for each in sorted(hashes))
    return f"its encoder has SHA-256 {scores.encoder.sha256[:12]}..., and {expected} was expected"
