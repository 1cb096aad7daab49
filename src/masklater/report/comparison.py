"""Several runs next to one of them, the baseline: what each spent, measured and reached."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from masklater.errors import UserError
from masklater.recipe.load import settings_of
from masklater.report.arms import Arm, Spread, find_arms, mean_spent, spread_of
from masklater.report.masked import in_short
from masklater.report.quality import Reached, first_reach
from masklater.report.runs import Run, Unit
from masklater.report.scaling import Scaling, find_scaling, is_of_size
from masklater.report.scores import Pairs, Scores, together

COMMON = "15% uniform [MASK]"
"""The corruption under which every run is evaluated, whatever it trains with."""

MEASURES = ("flops", "flops_without_head", "hours", "rows", "tokens")
"""The measures of a run's spending, in the order of the tables."""


@dataclass(frozen=True)
class Verdict:
    """The end of an arm compared with the end of the baseline."""

    gap: float  # how much lower its mean loss is than the baseline's
    spread: float | None  # distance between seeds, in the arm or in the baseline; None: both have one seed

    @property
    def beyond(self) -> bool:
        """True where the two differ by more than seeds do, or where the spread of seeds is not known."""
        return self.spread is None or abs(self.gap) > self.spread


@dataclass(frozen=True)
class Comparison:
    """The content of a report, before it is written down."""

    runs: tuple[Run, ...]
    baseline: Run
    unit: Unit  # the x axis of the first plots, and the unit of compute
    scores: dict[str, Scores]  # by run name; runs without any are not in it
    notes: tuple[str, ...]  # facts that a reader must know before trusting a figure
    pairs: dict[str, Pairs] = field(default_factory=dict)  # minimal pairs by run name, where a run was scored on them

    @cached_property
    def scaling(self) -> Scaling | None:
        """The arms over several budgets; None where there are none."""
        return find_scaling(self.arms, self.runs, self.baseline_arm, self.pairs)

    @property
    def over_budgets(self) -> bool:
        """True where the baseline was run at several budgets, so that there is no single loss to reach."""
        return self.scaling is not None and self.scaling.baseline is not None

    @cached_property
    def arms(self) -> tuple[Arm, ...]:
        """The runs grouped into arms: runs that differ only in their seed form one arm."""
        return find_arms(self.runs)

    @property
    def baseline_arm(self) -> Arm:
        """The arm of the baseline."""
        return next(arm for arm in self.arms if self.baseline in arm.runs)

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that the runs have recorded: flops_without_head is left out where none has it."""
        return tuple(name for name in MEASURES if any(run.spent.of(name) is not None for run in self.runs))

    @property
    def others(self) -> tuple[Arm, ...]:
        """The arms other than the baseline's."""
        return tuple(arm for arm in self.arms if arm is not self.baseline_arm)

    @cached_property
    def arm_scores(self) -> dict[str, Scores]:
        """Scores by arm name: the scores of its runs, taken together."""
        found = {arm.name: [self.scores[run.name] for run in arm.ended if run.name in self.scores] for arm in self.arms}
        return {name: together(scores) for name, scores in found.items() if scores}

    @property
    def benchmark(self) -> str:
        """The name of the scores: GLUE where all tasks are GLUE's, else Tasks."""
        tasks = [task for scores in self.arm_scores.values() for task in scores.tasks.values()]
        return "GLUE" if all(task.in_average is not None for task in tasks) else "Tasks"

    @property
    def target(self) -> float | None:
        """The loss to reach: the baseline's last, the mean over its seeds; None where there is none."""
        loss = self.baseline_arm.loss
        return None if loss is None else loss.mean

    def verdict(self, arm: Arm) -> Verdict | None:
        """Compare the end of an arm with the end of the baseline; None where one of them has no loss."""
        own, base = arm.loss, self.baseline_arm.loss
        if own is None or base is None:
            return None
        known = [loss.range for loss in (own, base) if loss.count > 1]
        return Verdict(base.mean - own.mean, max(known) if known else None)

    def reached(self, run: Run) -> Reached | None:
        """Find where a run first reaches the baseline's last loss; None where it does not or that is not known."""
        return None if self.target is None else first_reach(run.evaluations, self.target)

    def share(self, run: Run, measure: str) -> float | None:
        """Return a run's spending when it reached the baseline's quality, divided by the baseline's spending for it."""
        reached, target = self.reached(run), self.baseline_arm.spent_at_final
        if reached is None or target is None:
            return None
        own, whole = reached.spent.of(measure), target.of(measure)
        return own / whole if own is not None and whole else None

    def arm_reached(self, arm: Arm) -> Reached | None:
        """Find where an arm reaches the target loss on average.

        None unless all runs reach it, and the arm differs from the baseline by more than seeds do.
        """
        verdict = self.verdict(arm)
        if verdict is None or not (verdict.beyond or arm is self.baseline_arm):
            return None
        if arm is self.baseline_arm and len(arm.ended) > 1:
            return None  # its seeds reach their own mean, or not, by chance
        found = [self.reached(run) for run in arm.ended if run.evaluations]
        reached = [each for each in found if each is not None]
        if not found or len(reached) < len(found):
            return None
        return Reached(mean_spent([each.spent for each in reached]), any(each.at_most for each in reached))

    def arm_share(self, arm: Arm, measure: str) -> Spread | None:
        """Return the share over the seeds of an arm; None where `arm_reached` is None."""
        if self.arm_reached(arm) is None:
            return None
        shares = [self.share(run, measure) for run in arm.ended if run.evaluations]
        return spread_of([math.nan if share is None else share for share in shares])


def choose_baseline(runs: Sequence[Run], wanted: Path | None) -> Run:
    """Return the run that the others are compared with: the first, unless one is named.

    Raises:
        UserError: The named run is not among them.
    """
    if wanted is None:
        return runs[0]
    for run in runs:
        if str(wanted) == run.name or wanted.resolve() == run.path.resolve():
            return run
    names = ", ".join(run.name for run in runs)
    raise UserError(f"--baseline {wanted} is none of the runs compared: {names}", "Name it among the runs too.")


def check_comparable(runs: Sequence[Run]) -> None:
    """Raise UserError where losses cannot be compared: rows of another length, or other data."""
    first = runs[0]
    for run in runs[1:]:
        if run.row_length != first.row_length:
            raise UserError(
                f"{run.path} trained on rows of {run.row_length} tokens and {first.path} on rows of "
                f"{first.row_length}: their losses do not compare",
                "Compare runs on the same SHARDS.",
            )
        if run.data_sha256 != first.data_sha256:
            raise UserError(
                f"{run.path} trained on other data than {first.path} (run.json: data_sha256 "
                f"{run.data_sha256[:12]}... and {first.data_sha256[:12]}...): their losses do not compare",
                "Compare runs on the same SHARDS.",
            )


def different_settings(comparison: Comparison) -> dict[str, dict[str, Any]]:
    """Return the settings that differ between arms, with each arm's value, by dotted key or a name outside the recipe.

    Where the baseline was run at several budgets, compare all methods, without sizes.
    """
    if comparison.over_budgets and comparison.scaling is not None:
        leaves = {each.name: each.arms[-1].runs[0].settings for each in comparison.scaling.methods}
        leaves = {name: {k: v for k, v in each.items() if not is_of_size(k)} for name, each in leaves.items()}
    else:
        leaves = {
            arm.name: arm.runs[0].settings | {"seed": ", ".join(str(run.recipe.seed) for run in arm.runs)}
            for arm in comparison.arms
        }
    keys = list(dict.fromkeys(key for each in leaves.values() for key in each))
    values = {key: {name: each.get(key) for name, each in leaves.items()} for key in keys}
    return {key: each for key, each in values.items() if len(set(map(repr, each.values()))) > 1}


def describe(run: Run) -> str:
    """Return one line on a run: its objective, masking and encoder, as far as its recipe states them."""
    settings = settings_of(run.recipe)
    return ", ".join(part for part in (_objective(settings), in_short(run.recipe), _encoder(settings)) if part)


def _objective(settings: dict[str, Any]) -> str:
    kind = settings.get("decoder.kind", "none")
    if kind == "none":
        return "vanilla MLM"
    if kind == "late":
        return f"[MASK]s enter the encoder at layer {settings.get('decoder.enter_layer')}"
    layers, width = settings.get("decoder.num_layers"), settings.get("decoder.hidden_size")
    size = _layers(layers) + (f" of {width}" if width else "") if layers else ""
    if states := settings.get("decoder.states"):
        size += f"{', ' if size else ''}{states} states for each [MASK]"
    return f"3ML_{kind} ({size})" if size else f"3ML_{kind}"


def _encoder(settings: dict[str, Any]) -> str:
    if settings.get("model.from") is not None:
        return f"encoder from {settings['model.from']}"
    layers, width = settings.get("model.num_hidden_layers"), settings.get("model.hidden_size")
    return f"encoder {_layers(layers)} of {width}" if layers and width else ""


def _layers(count: int) -> str:
    return f"{count} layer" if count == 1 else f"{count} layers"
