"""SCORES folders as a report sees them: what scores.json says of an encoder, and of which run the encoder is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from masklater.errors import DamagedDataError, UserError
from masklater.report.runs import Run
from masklater.run.metrics import training_sha256


class _Part(BaseModel):
    """A part of scores.json that a report reads; what else stands there is another's business."""

    model_config = ConfigDict(extra="ignore", frozen=True, allow_inf_nan=False)


class Spread(_Part):
    """One metric over the seeds, in percent."""

    median: float
    min: float
    max: float
    count: int


class TaskScore(_Part):
    """The metrics of one task."""

    metric: dict[str, Spread]
    main: str
    note: str | None = None
    in_average: bool | None = True  # whether GLUE's average counts it; None: it is none of GLUE's
    data_sha256: str | None = None  # of its texts and labels; None: scored by an earlier version

    @model_validator(mode="after")
    def _main_is_there(self) -> Self:
        if self.main not in self.metric:
            raise ValueError(f"main is {self.main}, and metric holds {', '.join(self.metric) or 'nothing'}")
        return self

    @property
    def spread(self) -> Spread:
        """The main metric's."""
        return self.metric[self.main]


class ScoredEncoder(_Part):
    """The encoder that was scored: a folder, and the RUN it was exported from where that is known.

    Names are as they were given; where they are no whole paths, they were seen from where the command stood.
    """

    path: str
    sha256: str
    run: str | None = None
    step: int | None = None  # of the run, when its encoder was exported
    training_sha256: str | None = None  # of the run up to that step; None: no run, or scored by an earlier version


class Average(_Part):
    """Over how many tasks, and what."""

    value: float
    tasks: int


class Scores(_Part):
    """scores.json."""

    encoder: ScoredEncoder
    settings: dict[str, Any] = {}
    tasks: dict[str, TaskScore]
    average: Average | None = None

    @property
    def averaged(self) -> set[str]:
        """The tasks that the average is over."""
        return {key for key, task in self.tasks.items() if task.in_average}


class Pairs(_Part):
    """The content of a file that `masklater blimp RUN --out RUN/blimp.json` wrote: minimal pairs told apart."""

    accuracy: float  # percent of the pairs
    pairs: int
    step: int  # of the run, when it was scored
    pairs_sha256: str | None = None  # of the sentences; None: scored by an earlier version
    training_sha256: str | None = None  # of the run up to that step; None: the same


@dataclass(frozen=True)
class Difference:
    """A run's main metric less the baseline's, in points of percent."""

    median: float  # of the medians
    lowest: float  # between any two seeds
    highest: float


def difference(run: TaskScore, baseline: TaskScore) -> Difference | None:
    """The difference to the baseline on one task; None where the two do not name the same main metric."""
    if run.main != baseline.main:
        return None
    own, other = run.spread, baseline.spread
    return Difference(own.median - other.median, own.min - other.max, own.max - other.min)


def together(each: Sequence[Scores]) -> Scores:
    """The scores of several pre-training seeds as one: means of medians, lowest and highest over all runs."""
    if len(each) == 1:
        return each[0]
    tasks: dict[str, list[TaskScore]] = {}
    for task, score in (item for scores in each for item in scores.tasks.items()):
        if task not in tasks or tasks[task][0].main == score.main:
            tasks.setdefault(task, []).append(score)
    averages = [scores.average for scores in each if scores.average]
    same = len(averages) == len(each) and all(one.averaged == each[0].averaged for one in each)
    return Scores(
        encoder=each[0].encoder,
        settings=each[0].settings,
        tasks={
            task: TaskScore(
                metric={found[0].main: _pooled(found)},
                main=found[0].main,
                note=_notes(found),
                in_average=found[0].in_average,
            )
            for task, found in tasks.items()
        },
        average=Average(value=fmean(one.value for one in averages), tasks=averages[0].tasks) if same else None,
    )


def _pooled(found: Sequence[TaskScore]) -> Spread:
    spreads = [score.spread for score in found]
    return Spread(
        median=fmean(spread.median for spread in spreads),
        min=min(spread.min for spread in spreads),
        max=max(spread.max for spread in spreads),
        count=sum(spread.count for spread in spreads),
    )


def _notes(found: Sequence[TaskScore]) -> str | None:
    return "; ".join(dict.fromkeys(score.note for score in found if score.note)) or None


def read_scores(folder: Path) -> Scores:
    """Read a SCORES folder.

    Raises:
        UserError: There is no scores.json in it.
        DamagedDataError: It is not what scoring writes.
    """
    path = folder / "scores.json"
    if not path.is_file():
        raise UserError(f"{folder} is no SCORES folder: it has no scores.json", "Name a folder of finished scores.")
    return _read(path, Scores)


Kind = TypeVar("Kind", bound=_Part)


def _read(path: Path, kind: type[Kind]) -> Kind:
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}", "Check its permissions.") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise DamagedDataError(f"{path} is damaged: {where}: {first['msg']}", "Score the encoder again.") from None


def find_pairs(runs: Sequence[Run]) -> tuple[dict[str, Pairs], list[str]]:
    """Read the scores of runs on minimal pairs, by the run's name: RUN/blimp.json, or RUN/scores/blimp.json.

    Returns:
        scores by run name, and notes on what was left out.

    Raises:
        DamagedDataError: It is not what scoring writes.
    """
    found, notes = {}, []
    for run in runs:
        pairs = read_pairs(run.path)
        if pairs is not None and (why := why_not_of(run.path, pairs)):
            notes.append(f"{run.name}: its minimal pairs are of other weights ({why}), and were left out.")
        elif pairs is not None:
            found[run.name] = pairs
    return found, notes


def read_pairs(run: Path) -> Pairs | None:
    """Read the scores of a run on minimal pairs: RUN/blimp.json, or RUN/scores/blimp.json; None without either.

    Raises:
        DamagedDataError: It is not what scoring writes.
    """
    for path in (run / "blimp.json", run / "scores" / "blimp.json"):
        if path.is_file():
            return _read(path, Pairs)
    return None


def why_not_of(run: Path, scored: ScoredEncoder | Pairs) -> str | None:
    """Say what rules out that weights are a run's, wherever they lie and whatever they are called; None: nothing does.

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
    """The scores of each run, by the run's name: RUN/scores, and named folders that say they scored one of the runs.

    Args:
        runs: That are compared.
        named: SCORES folders.
        hash_of: The hash that SCORES would have of an encoder's folder; None: no folder is looked into.

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
    """Of runs with one beginning (a run and its longer copy), the one at the scores' step, else the one they name."""

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
    """Tell whether scores belong to a run.

    What it logged on its way to the weights decides where that was recorded. Else the encoder was exported from it, or
    they or the encoder lie inside it.
    """
    if encoder.step is not None and encoder.training_sha256 is not None:
        return why_not_of(run.path, encoder) is None
    if _names(run, folder, encoder):
        return encoder.step is None or encoder.step <= run.spent.steps
    home = run.path.resolve()
    return folder.resolve().is_relative_to(home) or _lies_inside(home, encoder, hash_of)


def _names(run: Run, folder: Path, encoder: ScoredEncoder) -> bool:
    """Tell whether scores say that they are of the run that lies there."""
    return encoder.run is not None and (_stood_in(folder, encoder) / encoder.run).resolve() == run.path.resolve()


def _stood_in(folder: Path, encoder: ScoredEncoder) -> Path:
    """The folder that the names in SCORES are seen from: today's, unless the place of SCORES tells which it was then.

    The encoder of a RUN is exported into SCORES, and named with the name of SCORES before it.
    """
    exported, here = Path(encoder.path), folder.resolve()
    above = Path(*here.parts[: len(here.parts) - len(exported.parent.parts)])
    if exported.name == "encoder" and not exported.is_absolute() and (above / exported.parent).resolve() == here:
        return above
    return Path.cwd()


def _lies_inside(home: Path, encoder: ScoredEncoder, hash_of: Callable[[Path], str] | None) -> bool:
    """Tell whether the encoder lies inside of a run: what stands there must be what was scored, if anything does."""
    path = Path(encoder.path)
    if not path.resolve().is_relative_to(home):
        return False
    if not path.is_dir() or hash_of is None:
        return path.is_absolute()  # any other name may have been seen from elsewhere
    try:
        return hash_of(path) == encoder.sha256
    except UserError:
        return False
