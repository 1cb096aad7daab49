"""The tables of what runs spent, measured and reached."""

import math

from masklater.report.comparison import COMMON, Comparison, describe, different_settings
from masklater.report.quantities import Scale, scale_for, share, signed
from masklater.report.table import Table

SHORT = {"flops": "FLOPs", "flops_without_head": "FLOPs without head", "hours": "hours", "rows": "rows",
         "tokens": "tokens"}  # fmt: skip


def findings(comparison: Comparison) -> list[str]:
    """Where each run but the baseline reached the baseline's quality, in sentences; the first one says what that is."""
    baseline, unit = comparison.baseline, comparison.unit
    target = baseline.final
    if target is None or not comparison.others:
        return []
    if not math.isfinite(target.loss):
        return [f"The last loss of {baseline.name} is not finite: there is nothing to reach."]
    sentences = [f"Where the others reach the final loss of {baseline.name}, {target.loss:.4f} nats at {COMMON}:"]
    for run in comparison.others:
        reached, part = comparison.reached(run), comparison.share(run, unit)
        if run.final is None:
            found = "no evaluation yet"
        elif reached is None:
            found = "not reached"
        else:
            found = f"at {'most ' if reached.at_most else ''}{share(part)} of {baseline.name}'s {SHORT[unit]}"
        sentences.append(f"{run.name}: {found}")
    return sentences


def identities(comparison: Comparison) -> Table:
    """Who the runs are."""
    rows = [
        [run.name + (" (baseline)" if run is comparison.baseline else ""), describe(run)] for run in comparison.runs
    ]
    return Table("Runs", ["run", "what it is"], rows, text=True)


def _scales(comparison: Comparison) -> dict[str, Scale]:
    return {
        measure: scale_for(measure, max(run.spent.of(measure) or 0.0 for run in comparison.runs))
        for measure in comparison.measures
    }


def ends(comparison: Comparison) -> Table:
    """What each run had spent and measured at its end."""
    scales = _scales(comparison)
    columns = ["run", "loss", "accuracy", "loss, own masking", "accuracy, own masking", "steps"]
    columns += [_heading(measure, scale) for measure, scale in scales.items()]
    rows = []
    for run in comparison.runs:
        end = run.final
        scored = ["–"] * 4
        if end is not None:
            own = ["–", "–"] if end.own_loss is None else [f"{end.own_loss:.4f}", f"{end.own_accuracy:.2%}"]
            scored = [f"{end.loss:.4f}", f"{end.accuracy:.2%}", *own]
        spent = [scale(run.spent.of(measure)) for measure, scale in scales.items()]
        rows.append([run.name, *scored, f"{run.spent.steps:,.0f}", *spent])
    caption = (
        f"Losses in nats per target, on held-out rows. Loss and accuracy are under one common corruption, {COMMON}, "
        "and compare; those at each run's own masking do not. FLOPs and time are those of training steps, the LM head "
        "included unless said otherwise."
    )
    return Table("Where each run ended", columns, rows, caption)


def _heading(measure: str, scale: Scale) -> str:
    if scale.unit == measure:
        return measure
    what = "time" if measure == "hours" else SHORT[measure]
    return f"{what} ({scale.unit.removesuffix(' FLOPs')})"


def reach(comparison: Comparison) -> Table:
    """Where each run reached the baseline's quality; for a baseline that was evaluated."""
    baseline, unit = comparison.baseline, comparison.unit
    target = baseline.final
    assert target is not None
    scale = _scales(comparison)[unit]
    measures = sorted(comparison.measures, key=lambda measure: measure != unit)  # the chosen one leads
    rows = []
    for run in comparison.runs:
        reached = comparison.reached(run)
        ended = ["–", "–"] if run.final is None else [f"{run.final.loss:.4f}", signed(run.final.loss - target.loss, 4)]
        if reached is None:
            found = ["not reached" if run.evaluations else "–"] + ["–"] * len(measures)
        else:
            most = "≤ " if reached.at_most else ""
            shares = [comparison.share(run, measure) for measure in measures]
            found = [
                most + scale(reached.spent.of(unit)),
                *("–" if part is None else most + share(part) for part in shares),
            ]
        rows.append([run.name, *found, *ended])
    columns = ["run", f"reached at ({scale.unit})", *(f"share of {SHORT[measure]}" for measure in measures)]
    caption = (
        f"Where a run first comes down to the last loss of {baseline.name}, {target.loss:.4f} nats at {COMMON}, by "
        f"linear interpolation between evaluations; shares are of what {baseline.name} had spent at its last "
        "evaluation. ≤: the loss was below already at the first evaluation. A run planned to end there, its learning "
        "rate decayed by then, may come down sooner."
    )
    columns += ["final loss", "to the baseline's"]
    return Table("Compute to the baseline's final quality", columns, rows, caption)


def _setting(value: object) -> str:
    """A recipe's value in a cell; a duration of 35,053,977,600,000 FLOPs in fewer digits."""
    if value is None:
        return "–"
    return f"{value:.5g}" if isinstance(value, float) and abs(value) >= 1e6 else str(value)


def settings(comparison: Comparison) -> Table:
    """What is not the same in all recipes."""
    rows = [
        [key, *(_setting(value) for value in values)] for key, values in different_settings(comparison.runs).items()
    ]
    columns = ["setting", *(run.name for run in comparison.runs)]
    return Table("Settings that differ", columns, rows, "All other settings of the recipes are the same.", text=True)
