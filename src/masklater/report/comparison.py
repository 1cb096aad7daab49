"""Several runs beside one of them, the baseline: what each spent, measured and reached."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masklater.errors import UserError
from masklater.recipe.load import settings_of
from masklater.report.quality import Reached, first_reach
from masklater.report.runs import Run, Unit
from masklater.report.scores import Scores

COMMON = "15% uniform [MASK]"
"""The corruption under which every run is evaluated, whatever it trains with."""

MEASURES = ("flops", "flops_without_head", "hours", "rows", "tokens")
"""What a run spends, in the order of the tables."""


@dataclass(frozen=True)
class Comparison:
    """All that a report says, before it is written down."""

    runs: tuple[Run, ...]
    baseline: Run
    unit: Unit  # what plots stand over first, and compute is stated in
    scores: dict[str, Scores]  # by run name; runs without any are not in it
    notes: tuple[str, ...]  # what a reader must know before trusting a figure

    @property
    def measures(self) -> tuple[str, ...]:
        """What the runs have recorded of their spending: flops_without_head is left out where none has it."""
        return tuple(name for name in MEASURES if any(run.spent.of(name) is not None for run in self.runs))

    @property
    def others(self) -> tuple[Run, ...]:
        """All runs but the baseline."""
        return tuple(run for run in self.runs if run is not self.baseline)

    def reached(self, run: Run) -> Reached | None:
        """Where a run first comes down to the baseline's last loss; None where it does not, or cannot be told."""
        target = self.baseline.final
        return None if target is None else first_reach(run.evaluations, target.loss)

    def share(self, run: Run, measure: str) -> float | None:
        """What a run had spent when it reached the baseline's quality, as a share of what the baseline spent for it."""
        reached, target = self.reached(run), self.baseline.final
        if reached is None or target is None:
            return None
        own, whole = reached.spent.of(measure), target.spent.of(measure)
        return own / whole if own is not None and whole else None


def choose_baseline(runs: Sequence[Run], wanted: Path | None) -> Run:
    """The run that the others are compared with: the first, unless one is named.

    Raises:
        UserError: The one named is not among them.
    """
    if wanted is None:
        return runs[0]
    for run in runs:
        if str(wanted) == run.name or wanted.resolve() == run.path.resolve():
            return run
    names = ", ".join(run.name for run in runs)
    raise UserError(f"--baseline {wanted} is none of the runs compared: {names}", "Name it among the runs too.")


def check_comparable(runs: Sequence[Run]) -> None:
    """Raise UserError where losses do not compare: rows of another length, or other data."""
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


def caveats(runs: Sequence[Run], baseline: Run, scores: dict[str, Scores]) -> list[str]:
    """What is unequal among the runs, or missing, and bears on how far their figures compare."""
    notes = []
    for run in runs:
        if not run.finished:
            spent = run.spent.of(run.recipe.duration.unit) or 0.0
            notes.append(f"{run.name} is not finished: it stands at {spent:,.6g} of {run.recipe.duration}.")
        if (start := settings_of(run.recipe).get("model.from")) is not None:
            notes.append(f"{run.name} began from {start}: what that had cost is not counted.")
        if not run.evaluations:
            notes.append(
                f"{run.name} has no evaluation: no rows are held out, they hold nothing to predict, or the first is "
                "still to come."
            )
    targets = {run.name: run.final.targets for run in runs if run.final}
    if len(set(targets.values())) > 1:
        counts = ", ".join(f"{name} {count:,}" for name, count in targets.items())
        notes.append(f"The runs were not evaluated on equally many held-out rows (targets: {counts}).")
    if scores and len(runs) > 1:
        if baseline.name not in scores:
            notes.append(f"The baseline {baseline.name} has no SCORES: there are no differences to it.")
        trees = [scored.settings for scored in scores.values()]
        unequal = [key for key in trees[0] if any(other.get(key) != trees[0][key] for other in trees[1:])]
        if unequal:
            notes.append(
                f"The encoders were not fine-tuned alike; settings of their scores.json differ in {', '.join(unequal)}."
            )
    for run in runs:
        step = scores[run.name].encoder.step if run.name in scores else None
        if step is not None and step != run.spent.steps:
            notes.append(
                f"{run.name} was scored as it was at step {step:,}, and has gone on to step {run.spent.steps:,.0f}."
            )
    return notes


def different_settings(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The recipes' settings that are not the same in all runs: the value in each run, by dotted key."""
    recipes = [settings_of(run.recipe) for run in runs]
    keys = list(dict.fromkeys(key for leaves in recipes for key in leaves))
    values = {key: [leaves.get(key) for leaves in recipes] for key in keys}
    return {key: each for key, each in values.items() if any(value != each[0] for value in each[1:])}


def describe(run: Run) -> str:
    """One line on what a run is: its objective, masking and encoder, as far as its recipe states them."""
    settings = settings_of(run.recipe)
    return ", ".join(part for part in (_objective(settings), _masking(settings), _encoder(settings)) if part)


def _objective(settings: dict[str, Any]) -> str:
    kind = settings.get("decoder.kind", "none")
    if kind == "none":
        return "vanilla MLM"
    if kind == "late":
        return f"[MASK]s enter the encoder at layer {settings.get('decoder.enter_layer')}"
    layers, width = settings.get("decoder.num_layers"), settings.get("decoder.hidden_size")
    size = _layers(layers) + (f" of {width}" if width else "") if layers else ""
    return f"3ML_{kind} ({size})" if size else f"3ML_{kind}"


def _masking(settings: dict[str, Any]) -> str:
    rate = settings.get("masking.rate")
    if rate is None:
        return ""
    schedule = settings.get("masking.schedule.name", "constant")
    shares = [settings.get(f"masking.{part}") for part in ("mask", "random", "keep")]
    split = "-".join(f"{100 * part:g}" for part in shares if part is not None)
    how = ["all [MASK]" if shares[0] == 1 else split]
    how += [schedule] if schedule != "constant" else []
    how += [f"by {settings['masking.choose']}"] if settings.get("masking.choose", "uniform") != "uniform" else []
    return f"rate {rate:.4g} ({', '.join(how)})"


def _encoder(settings: dict[str, Any]) -> str:
    if settings.get("model.from") is not None:
        return f"encoder from {settings['model.from']}"
    layers, width = settings.get("model.num_hidden_layers"), settings.get("model.hidden_size")
    return f"encoder {_layers(layers)} of {width}" if layers and width else ""


def _layers(count: int) -> str:
    return f"{count} layer" if count == 1 else f"{count} layers"
