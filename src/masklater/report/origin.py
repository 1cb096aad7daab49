"""What a model card is made of: the run that an export is from, and the scores that are of this export and no other."""

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
    """What stands in the folder that the card is for."""

    name: str  # of the folder
    kind: str  # the model's class
    parameters: int
    has_head: bool  # an LM head is in it
    has_pooler: bool
    license: str | None  # an identifier of the hub's, as the user told it


@dataclass(frozen=True)
class Origin:
    """Where it comes from: a run at one of its checkpoints."""

    recipe: Recipe
    identity: Identity
    ledger: Ledger  # as of the checkpoint
    data: tuple[TrainedShards, ...] | None  # None: the run began before this was recorded
    evaluation: Evaluation | None  # the last one up to the checkpoint
    phase: int = 0  # of its last step

    @property
    def causal(self) -> bool:
        """Whether its last step predicted next tokens."""
        return in_phase(self.recipe, self.phase).masking.causal

    @property
    def done(self) -> float:
        """How much of the duration in the recipe it had spent."""
        return self.recipe.duration.spent(self.ledger) / self.recipe.duration.amount


def read_origin(run: Path, ledger: Ledger, phase: int = 0) -> tuple[Origin, list[str]]:
    """Read what a RUN says of itself; weights can be exported where its records are gone.

    Args:
        run: Its folder.
        ledger: Of the checkpoint that is exported.
        phase: Of its last step.

    Returns:
        origin, and what could not be read, a sentence each.

    Raises:
        UserError: It is no RUN.
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
    """Find the scores of an export: folders named, RUN/scores, and minimal pairs in RUN/blimp.json.

    Args:
        run: The RUN it is from.
        step: Of the checkpoint.
        hashes: What may stand in SCORES as the encoder's hash.
        named: SCORES folders.

    Returns:
        scores, minimal pairs, and what was left out, a sentence each.

    Raises:
        UserError: A named folder is no SCORES folder, or scored another encoder.
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
    """Tell whether the weights that were scored are those exported, wherever run and SCORES lie.

    The hash of the folder decides, or what the run logged on its way to the weights: another version of transformers
    writes another config beside the same ones.
    """
    encoder = scores.encoder
    same_training = encoder.training_sha256 is not None and why_not_of(run, encoder) is None
    return encoder.sha256 in hashes or (same_training and encoder.step == step)


def _hashes(scores: Scores, hashes: set[str]) -> str:
    expected = " or ".join(f"{each[:12]}..." for each in sorted(hashes))
    return f"its encoder has SHA-256 {scores.encoder.sha256[:12]}..., and {expected} was expected"
