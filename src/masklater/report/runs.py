"""The parts of a RUN folder that a report needs: settings, spending, and the results of evaluations."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from masklater.errors import DamagedDataError, UserError
from masklater.recipe.load import settings_of
from masklater.recipe.recipe import Recipe
from masklater.run.identity import Identity, read_identity
from masklater.run.metrics import numbered_records

Unit = Literal["flops", "hours", "rows", "tokens"]
UNITS: tuple[Unit, ...] = get_args(Unit)
SELECTION = ("flops_selection", "flops_selection_runs")
"""The FLOPs of choosing rows, under their names in records of steps; recorded where rows were chosen."""


@dataclass(frozen=True)
class Spent:
    """The totals a run has spent since its step 0, at some point; between steps, counts are not whole numbers."""

    steps: float = 0.0
    rows: float = 0.0
    tokens: float = 0.0  # positions of the rows, including the dropped ones
    flops: float = 0.0  # of training, including LM head and, where recorded, the optimizer's products and selection
    hours: float = 0.0  # of training steps, without evaluation and checkpoints
    flops_without_head: float | None = None  # None where the run did not record its head's FLOPs
    flops_optimizer: float = 0.0  # of `flops`, the optimizer's own products
    flops_selection: float = 0.0  # of `flops`, choosing rows or targets: scoring, and training the runs that scored

    def of(self, measure: str) -> float | None:
        """Return the amount of one measure, by its field's name."""
        amount = getattr(self, measure)
        return None if amount is None else float(amount)

    def towards(self, later: "Spent", share: float) -> "Spent":
        """Return the point at this share of the way from here to a later one."""

        def between(measure: str) -> float | None:
            begin, end = self.of(measure), later.of(measure)
            return None if begin is None or end is None else begin + share * (end - begin)

        return Spent(**{measure: between(measure) for measure in Spent.__dataclass_fields__})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation on held-out rows. Losses in nats per target, accuracies from 0 to 1."""

    spent: Spent
    loss: float  # under the common corruption, 15% uniform [MASK], the same for every run
    accuracy: float
    targets: int  # predicted under the common corruption; tells how many rows were evaluated
    own_loss: float  # under the masking the run trains with; nan, like every figure here, without targets
    own_accuracy: float
    by_source: dict[str, float] = field(default_factory=dict)  # loss under the common corruption, by source


@dataclass(frozen=True)
class Run:
    """A RUN folder, read."""

    name: str  # distinct among the runs of a comparison
    path: Path
    recipe: Recipe
    data_sha256: str  # of all the data, whichever of its rows were chosen
    row_length: int
    spent: Spent  # at its last step
    evaluations: tuple[Evaluation, ...]  # in order; empty where no rows were held out
    beside_recipe: dict[str, str]  # SHA-256 of other things that decide the weights, by name

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that decides its weights: the effective settings of its recipe, and facts outside the recipe."""
        return settings_of(self.recipe) | self.beside_recipe

    @property
    def final(self) -> Evaluation | None:
        """The last evaluation; None where there is none."""
        return self.evaluations[-1] if self.evaluations else None

    @property
    def finished(self) -> bool:
        """True where the duration in the recipe was reached; sums of seconds may differ in their last digits."""
        return self.spent_of_duration >= self.recipe.duration.amount * (1 - 1e-9)

    @property
    def spent_of_duration(self) -> float:
        """The amount it has spent in the unit of its duration, without FLOPs of optimizer and selection."""
        unit, spent = self.recipe.duration.unit, self.spent
        return (spent.of(unit) or 0.0) - (spent.flops_optimizer + spent.flops_selection if unit == "flops" else 0.0)


def counted_in(runs: Sequence[Run]) -> str:
    """Say what the FLOPs of some runs include."""
    optimizer, selection = (any(run.spent.of(what) for run in runs) for what in ("flops_optimizer", "flops_selection"))
    parts = ["LM head", *(["optimizer"] if optimizer else []), *(["selection"] if selection else [])]
    return f"{' and '.join([', '.join(parts[:-1]), parts[-1]] if parts[1:] else parts)} included"


def distinct_names(paths: list[Path]) -> list[str]:
    """Return a name for each folder: its own if it is unique, else with as many parents as make it unique.

    Raises:
        UserError: A folder is named twice.
    """
    real = [path.resolve() for path in paths]
    for number, path in enumerate(paths):
        if real[number] in real[:number]:
            raise UserError(f"the run {path} is named twice", "Name each run once.")
    parts = [Path(os.path.abspath(path)).parts for path in paths]  # noqa: PTH100 - keeps the name of a link
    depths = [1] * len(paths)

    def named() -> list[str]:
        return [str(Path(*own[-depth:])) for own, depth in zip(parts, depths, strict=True)]

    while len(set(names := named())) < len(names):
        depths = [depth + (names.count(name) > 1) for name, depth in zip(names, depths, strict=True)]
    return names


def read_run(path: Path, name: str) -> Run:
    """Read a RUN folder.

    Raises:
        UserError: There is none, or it has not made a step yet.
        DamagedDataError: One of its files differs from what pre-training wrote.
    """
    identity, recipe = read_identity(path)
    spent, evaluations = _follow(path / "metrics.jsonl")
    beside = _beside_recipe(identity)
    return Run(name, path, recipe, identity.shards_sha256, identity.row_length, spent, evaluations, beside)


def _beside_recipe(identity: Identity) -> dict[str, str]:
    hashes = {
        "rows trained on": identity.data_sha256,
        "table of targets": identity.targets_sha256,
        "weights begun from": identity.source_sha256,
    }
    return {f"{what} (SHA-256)": f"{found[:12]}..." for what, found in hashes.items() if found}


def _follow(path: Path) -> tuple[Spent, tuple[Evaluation, ...]]:
    """Read the totals up to the last step of a metrics.jsonl, and all evaluations."""
    spent, evaluations = Spent(), {}
    for number, record in numbered_records(path):
        where = f"{path}, line {number}"
        if "loss" in record:
            spent = _after_step(spent, record, where)
        elif any(key.startswith("valid_") for key in record):
            if record["step"] != spent.steps:
                raise _damaged(
                    where, f"an evaluation at step {record['step']} after the record of step {spent.steps:g}"
                )
            targets = int(_amount(record, "valid_targets_15", where))
            # A finished run that was resumed evaluates its last step again: the later record counts.
            evaluations[record["step"]] = Evaluation(
                spent,
                loss=_measured(record, "valid_loss", "_15", where),
                accuracy=_measured(record, "valid_accuracy", "_15", where),
                targets=targets,
                own_loss=_measured(record, "valid_loss", "", where),
                own_accuracy=_measured(record, "valid_accuracy", "", where),
                by_source={
                    source: _measured(record, "valid_loss", f"_15/{source}", where)
                    for key in record
                    if (source := key.removeprefix("valid_targets_15/")) != key
                },
            )
    if not spent.steps:
        raise UserError(f"the run {path.parent} has not made a step yet", "Compare runs that have begun to train.")
    return spent, tuple(evaluations.values())


def _after_step(before: Spent, record: dict[str, Any], where: str) -> Spent:
    """Return the totals after one more step. Records hold totals, except seconds, which they hold for each step."""
    if record["step"] != before.steps + 1:
        raise _damaged(where, f"step {record['step']} follows step {before.steps:g}")
    flops = _amount(record, "flops", where)
    head = _amount(record, "flops_head", where) if "flops_head" in record else None
    optimizer = _amount(record, "flops_optimizer", where) if "flops_optimizer" in record else 0.0
    selection = sum(_amount(record, key, where) for key in SELECTION if key in record)
    beside = optimizer + selection
    after = Spent(
        steps=record["step"],
        rows=_amount(record, "rows", where),
        tokens=_amount(record, "tokens", where),
        flops=flops + beside,
        hours=before.hours + _amount(record, "step_seconds", where) / 3600,
        flops_without_head=None if head is None else flops + beside - head,
        flops_optimizer=optimizer,
        flops_selection=selection,
    )
    if after.rows <= before.rows or after.tokens <= before.tokens or after.flops <= before.flops:
        raise _damaged(where, "rows, tokens and flops are totals, and must rise with each step")
    return after


def _number(record: dict[str, Any], key: str, where: str) -> float:
    """Return a number of a record. A diverged run writes losses that are not finite."""
    value = record.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _damaged(where, f"{key} is {value!r}, not a number")
    return float(value)


def _measured(record: dict[str, Any], key: str, suffix: str, where: str) -> float:
    """Return a loss or an accuracy on held-out rows; nan where there was no target, whatever the record says."""
    nothing = record.get(f"valid_targets{suffix}") == 0 or (key + suffix in record and record[key + suffix] is None)
    return math.nan if nothing else _number(record, key + suffix, where)


def _amount(record: dict[str, Any], key: str, where: str) -> float:
    value = _number(record, key, where)
    if not (math.isfinite(value) and value >= 0):
        raise _damaged(where, f"{key} is {value}, and must be 0 or more")
    return value


def _damaged(where: str, what: str) -> DamagedDataError:
    return DamagedDataError(f"{where}: {what}", "Restore metrics.jsonl from a copy, or leave the run out.")
