"""The runs that SCORES and minimal pairs belong to."""

from collections.abc import Callable, Sequence
from pathlib import Path

from masklater.errors import UserError
from masklater.report.runs import Run
from masklater.report.scores import Pairs, ScoredEncoder, Scores, read_pairs, read_scores
from masklater.run.metrics import training_sha256


def find_pairs(runs: Sequence[Run]) -> tuple[dict[str, Pairs], list[str]]:
    """Read the scores of runs on minimal pairs, by the run's name: RUN/blimp.json, or RUN/scores/blimp.json.

    Returns:
        scores by run name, and notes on what was left out.

    Raises:
        DamagedDataError: A file differs from what scoring writes.
    """
    found, notes = {}, []
    for run in runs:
        pairs = read_pairs(run.path)
        if pairs is not None and (why := why_not_of(run.path, pairs)):
            notes.append(f"{run.name}: its minimal pairs are of other weights ({why}), and were left out.")
        elif pairs is not None:
            found[run.name] = pairs
    return found, notes


def why_not_of(run: Path, scored: ScoredEncoder | Pairs) -> str | None:
    """Return why scored weights cannot be this run's, whatever their place and name; None: nothing rules it out.

    Scores of earlier versions, and of encoders whose run is not known, do not say enough.
    """
    if scored.step is None or scored.training_sha256 is None:
        return None
    expected = training_sha256(run, scored.step)
    if expected == scored.training_sha256:
        return None
    of_run = "the run has not come that far" if expected is None else f"{expected[:12]}... was expected"
    return f"training up to step {scored.step:,} has SHA-256 {scored.training_sha256[:12]}..., and {of_run}"


def find_scores(
    runs: Sequence[Run], named: Sequence[Path], hash_of: Callable[[Path], str] | None = None
) -> tuple[dict[str, Scores], list[str]]:
    """Find the scores of each run, by its name: RUN/scores, and named folders that say they scored one of the runs.

    Args:
        runs: The runs that are compared.
        named: SCORES folders.
        hash_of: Returns the hash that SCORES would have of an encoder's folder; None: such folders are not read.

    Returns:
        scores by run name, and notes on what was left out.

    Raises:
        UserError: A named folder scored none of the runs, or a run has two.
    """
    found: dict[str, tuple[Path, Scores]] = {}
    notes = []
    for run in runs:
        folder = run.path / "scores"
        is_named = any(folder.resolve() == path.resolve() for path in named)
        if (folder / "scores.json").is_file():
            scores = read_scores(folder)
            if (why := why_not_of(run.path, scores.encoder)) is None:
                found[run.name] = (folder, scores)
            elif not is_named:
                notes.append(f"{run.name}: its scores are of other weights ({why}), and were left out.")
        elif folder.is_dir() and not is_named:
            notes.append(f"{run.name}: scores holds no scores.json yet, and was left out.")
    for folder in named:
        scores = read_scores(folder)
        owners = [run for run in runs if _is_of(run, folder, scores.encoder, hash_of)]
        if not owners:
            raise _of_none(runs, folder, scores.encoder)
        owner = _likeliest(owners, folder, scores.encoder).name
        if owner in found and found[owner][0].resolve() != folder.resolve():
            raise UserError(f"the run {owner} has two SCORES: {found[owner][0]} and {folder}", "Name one of them.")
        found[owner] = (folder, scores)
    return {name: scores for name, (_, scores) in found.items()}, notes


def _likeliest(owners: Sequence[Run], folder: Path, encoder: ScoredEncoder) -> Run:
    """Of runs with the same beginning (a run and its longer copy), return the one at the scores' step, or the named."""

    def fits(run: Run) -> tuple[bool, bool]:
        return encoder.step == run.spent.steps, _names(run, folder, encoder)

    return max(owners, key=fits)  # the first of equals


def _of_none(runs: Sequence[Run], folder: Path, encoder: ScoredEncoder) -> UserError:
    source = f"run {encoder.run}" if encoder.run else f"encoder {encoder.path}"
    reasons = {run.name: why for run in runs if (why := why_not_of(run.path, encoder))}
    why = "".join(f"; {name}: {reason}" for name, reason in reasons.items())
    remedy = "Name that run too"
    if not encoder.run:
        remedy = "If it was exported from one of them, put the scores into RUN/scores there, or judge the RUN itself"
    elif not reasons:
        remedy += "; or, where the folders were moved, put the scores into RUN/scores of their run"
    return UserError(f"--scores {folder} scored the {source}, which is none of the runs compared{why}", f"{remedy}.")


def _is_of(run: Run, folder: Path, encoder: ScoredEncoder, hash_of: Callable[[Path], str] | None) -> bool:
    """Return whether scores belong to a run.

    Where the run's log up to the scored weights was hashed, the hash decides. Otherwise the encoder must have been
    exported from the run, or scores or encoder must be inside its folder.
    """
    if encoder.step is not None and encoder.training_sha256 is not None:
        return why_not_of(run.path, encoder) is None
    if _names(run, folder, encoder):
        return encoder.step is None or encoder.step <= run.spent.steps
    home = run.path.resolve()
    return folder.resolve().is_relative_to(home) or _lies_inside(home, encoder, hash_of)


def _names(run: Run, folder: Path, encoder: ScoredEncoder) -> bool:
    """Return whether the scores name this run, by its present path."""
    return encoder.run is not None and (_stood_in(folder, encoder) / encoder.run).resolve() == run.path.resolve()


def _stood_in(folder: Path, encoder: ScoredEncoder) -> Path:
    """Return the folder that the names in SCORES are relative to.

    It is the present working directory, unless the place of SCORES tells which directory it was then. The encoder of a
    RUN is exported into SCORES, and its name begins with the name of SCORES.
    """
    exported, here = Path(encoder.path), folder.resolve()
    above = Path(*here.parts[: len(here.parts) - len(exported.parent.parts)])
    if exported.name == "encoder" and not exported.is_absolute() and (above / exported.parent).resolve() == here:
        return above
    return Path.cwd()


def _lies_inside(home: Path, encoder: ScoredEncoder, hash_of: Callable[[Path], str] | None) -> bool:
    """Return whether the encoder is inside a run's folder. A folder that exists there must be the scored encoder."""
    path = Path(encoder.path)
    if not path.resolve().is_relative_to(home):
        return False
    if not path.is_dir() or hash_of is None:
        return path.is_absolute()  # a relative name may have been seen from another folder
    try:
        return hash_of(path) == encoder.sha256
    except UserError:
        return False
