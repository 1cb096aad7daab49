"""Arms over several budgets: methods, the law of each, and its cost at equal quality, relative to the baseline."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal

from masklater.report.arms import Arm, name_groups
from masklater.report.laws import Estimate, Law, Level, can_have_law, draw_deviations, fit_law, height_at, multiplier
from masklater.report.runs import Run
from masklater.report.scores import Pairs

SIZES = (
    "seed", "model.hidden_size", "model.num_hidden_layers", "model.num_attention_heads", "model.intermediate_size",
    "batch.rows", "batch.micro_rows", "duration.", "schedule.warmup.", "evaluation.", "checkpoint.", "health.",
    "precision", "compile", "deterministic", "distributed", "activation_checkpointing", "tracking", "max_epochs",
)  # fmt: skip
"""Settings in which the runs of one method may differ, also in phases: size, length, and settings without effect."""
RATES = ("optimizer.lr", "optimizer.adamw_lr")
"""Learning rates, which may differ too because larger models need other ones, unless several were tried at one size."""

Quality = Literal["loss", "pairs"]


@dataclass(frozen=True)
class Method:
    """Arms of one recipe at several budgets, the smallest first."""

    name: str
    arms: tuple[Arm, ...]


@dataclass(frozen=True)
class Scaling:
    """The methods that were run at budgets far enough apart, and their laws by name."""

    methods: tuple[Method, ...]
    baseline: Method | None  # None: the baseline's method is not among them
    laws: dict[Quality, dict[str, Law]]

    def multiplier(self, quality: Quality, method: Method, arm: Arm) -> Estimate | None:
        """Estimate a method's FLOPs over the baseline's where both are as good as the baseline at an arm's budget."""
        assert self.baseline is not None
        own, reference = (self.laws[quality].get(each.name) for each in (method, self.baseline))
        if own is None or reference is None or method is self.baseline:
            return None
        return multiplier(own, reference, math.log(arm.spent.flops), falls=quality == "loss")

    def costs(self, quality: Quality) -> bool:
        """Return whether there is a multiplier to show."""
        assert self.baseline is not None
        return any(self.multiplier(quality, method, self.baseline.arms[-1]) for method in self.methods)


def find_scaling(arms: Sequence[Arm], runs: Sequence[Run], baseline: Arm, pairs: dict[str, Pairs]) -> Scaling | None:
    """Find the methods that have laws; None where there are none. Runs that are not finished do not count."""
    methods = find_methods(arms, runs)
    levels: dict[Quality, dict[str, list[Level]]] = {"loss": {}, "pairs": {}}
    for method in methods:
        levels["loss"][method.name] = [level for arm in method.arms if (level := _level(_losses(arm)))]
        levels["pairs"][method.name] = [level for arm in method.arms if (level := _level(_accuracies(arm, pairs)))]
    laws: dict[Quality, dict[str, Law]] = {}
    for quality, found in levels.items():
        deviations = draw_deviations(list(found.values()))
        laws[quality] = {
            name: fit_law(each, deviations, f"{quality} {name}") for name, each in found.items() if can_have_law(each)
        }
    of_baseline = next((method.name for method in methods if baseline in method.arms), None)
    chosen = tuple(
        replace(method, arms=tuple(arm for arm in method.arms if _losses(arm)))
        for method in methods
        if method.name in laws["loss"]
    )
    own = next((method for method in chosen if method.name == of_baseline), None)
    return Scaling(chosen, own, laws) if chosen else None


def find_methods(arms: Sequence[Arm], runs: Sequence[Run]) -> list[Method]:
    """Group the arms by their recipes without sizes, in the order of their first arm."""
    groups: dict[str, list[Arm]] = {}
    for arm in arms:
        groups.setdefault(_key(arm, lambda key: not is_of_size(key) and key not in RATES), []).append(arm)
    split: list[list[Arm]] = []
    for members in groups.values():
        sizes = [_key(arm, lambda key: is_of_size(key) and key != "seed") for arm in members]
        if len(set(sizes)) == len(sizes):
            split.append(members)
            continue
        by_rate: dict[str, list[Arm]] = {}
        for arm in members:
            by_rate.setdefault(_key(arm, lambda key: key in RATES), []).append(arm)
        split += by_rate.values()
    split.sort(key=lambda members: min(arms.index(arm) for arm in members))
    names = name_groups([[run for arm in members for run in arm.runs] for members in split], runs)
    return [
        Method(name, tuple(sorted(members, key=lambda arm: arm.spent.flops)))
        for name, members in zip(names, split, strict=True)
    ]


def is_of_size(key: str) -> bool:
    """Return whether the runs of one method may differ in a setting."""
    return re.sub(r"^phases\.\d+\.", "", key).startswith(SIZES)


def _key(arm: Arm, wanted: Any) -> str:
    return repr({key: value for key, value in arm.runs[0].settings.items() if wanted(key)})


def _losses(arm: Arm) -> list[tuple[float, float]]:
    """Return FLOPs and logarithm of the last loss of each finished run."""
    return [
        (run.final.spent.flops, math.log(run.final.loss))
        for run in arm.runs
        if run.final and run.finished and math.isfinite(run.final.loss) and run.final.loss > 0
    ]


def _accuracies(arm: Arm, pairs: dict[str, Pairs]) -> list[tuple[float, float]]:
    return [
        (run.spent.flops, pairs[run.name].accuracy)
        for run in arm.runs
        if run.name in pairs and run.finished and pairs[run.name].step == run.spent.steps
    ]


def _level(found: Sequence[tuple[float, float]]) -> Level | None:
    if not found:
        return None
    flops = sum(spent for spent, _ in found) / len(found)
    return Level(math.log(flops), tuple(value for _, value in found))


@dataclass(frozen=True)
class Foresight:
    """The loss that the law of the smaller budgets predicts for the largest, and the loss measured there."""

    foreseen: float
    measured: float


def foresight(law: Law) -> Foresight | None:
    """Leave the largest budget out and forecast its loss; None with fewer than three budgets."""
    largest = law.budgets[-1]
    before = [level for level in law.levels if level.x <= law.budgets[-2]]
    if not can_have_law(before):
        return None
    measured = fmean(y for level in law.levels if level not in before for y in level.ys)
    return Foresight(math.exp(fit_law(before, (), "").line.at(largest)), math.exp(measured))


def next_budget(law: Law) -> tuple[float, Estimate]:
    """Return the FLOPs that follow the largest budget by the last ratio, and the loss that the law predicts there."""
    *_, before, largest = law.budgets
    x = largest + (largest - before)
    log_loss = height_at(law, x)
    low, high = (None if end is None else math.exp(end) for end in (log_loss.low, log_loss.high))
    return math.exp(x), Estimate(math.exp(log_loss.value), low, high, log_loss.measured)
