"""The tables of what runs spent, measured and reached."""

from masklater.report.arms import Arm, Spread, spread_of
from masklater.report.comparison import COMMON, Comparison, describe, different_settings
from masklater.report.quantities import Scale, scale_for, share, signed
from masklater.report.table import Table

SHORT = {"flops": "FLOPs", "flops_without_head": "FLOPs without head", "hours": "hours", "rows": "rows",
         "tokens": "tokens"}  # fmt: skip


def findings(comparison: Comparison) -> list[str]:
    """State in sentences where each arm but the baseline reached the baseline's quality.

    The first gives that quality.
    """
    baseline, target = comparison.baseline_arm, comparison.target
    if not any(run.final for run in baseline.ended) or not comparison.others:
        return []
    if target is None:
        return [f"The last loss of {baseline.name} is not finite: there is nothing to reach."]
    loss = baseline.loss
    assert loss is not None
    over = f" (mean of {loss.count} seeds, {loss.low:.4f} to {loss.high:.4f})" if loss.count > 1 else ""
    sentences = [f"Where the others reach the final loss of {baseline.name}, {target:.4f} nats{over} at {COMMON}:"]
    return [*sentences, *(f"{arm.name}: {_finding(comparison, arm)}" for arm in comparison.others)]


def _finding(comparison: Comparison, arm: Arm) -> str:
    unit, verdict = comparison.unit, comparison.verdict(arm)
    if verdict is None:
        return _why_no_loss(comparison, arm)
    if not verdict.beyond:
        assert verdict.spread is not None
        lower = f"ended {abs(verdict.gap):.4f} nats {'lower' if verdict.gap > 0 else 'higher'}"
        return f"no share to be stated: it {lower}, and seeds of one arm are up to {verdict.spread:.4f} apart"
    reached, part = comparison.arm_reached(arm), comparison.arm_share(arm, unit)
    if reached is None or part is None:
        return "not reached"
    most = "most " if reached.at_most else ""
    found = f"at {most}{_shares(part)} of {comparison.baseline_arm.name}'s {SHORT[unit]}"
    if round(verdict.gap, 4) < 0:  # the arm has lost the quality again
        found += f", and it ended {-verdict.gap:.4f} nats higher"
    return f"{found} ({_single_seeds(comparison, arm)})" if _single_seeds(comparison, arm) else found


def _why_no_loss(comparison: Comparison, arm: Arm) -> str:
    finals = [run.final for run in arm.ended if run.final]
    if not finals:
        return "no evaluation yet"
    if not any(final.targets for final in finals):
        return "nothing to predict in its held-out rows"
    return "its last loss is not finite" if any(comparison.reached(run) for run in arm.ended) else "not reached"


def _single_seeds(comparison: Comparison, arm: Arm) -> str:
    """Return the remark next to a share where one side has a single seed; empty where both have several."""
    own, base = arm.loss, comparison.baseline_arm.loss
    assert own is not None
    assert base is not None
    single = [each.name for each, loss in ((comparison.baseline_arm, base), (arm, own)) if loss.count == 1]
    if len(single) == 2:
        return "one seed each: how far seeds alone lie apart is not known"
    return f"one seed of {single[0]}" if single else ""


def _shares(part: Spread) -> str:
    return share(part.mean) + (f" ({share(part.low)} to {share(part.high)})" if part.count > 1 else "")


def identities(comparison: Comparison) -> Table:
    """Return the table of the arms and their settings."""
    several = any(len(arm.runs) > 1 for arm in comparison.arms)
    rows = []
    for arm in comparison.arms:
        mark = " (baseline)" if arm is comparison.baseline_arm else ""
        row = [arm.name + mark, describe(arm.runs[0])]
        rows.append([*row, ", ".join(str(run.recipe.seed) for run in arm.runs)] if several else row)
    columns = ["run", "what it is", *(["seeds"] if several else [])]
    return Table("Runs", columns, rows, _ONE_ARM if several else "", text=True)


def _scales(comparison: Comparison) -> dict[str, Scale]:
    return {
        measure: scale_for(measure, max(run.spent.of(measure) or 0.0 for run in comparison.runs))
        for measure in comparison.measures
    }


def ends(comparison: Comparison) -> Table:
    """Return the table of what each run had spent and measured at its end."""
    scales = _scales(comparison)
    columns = ["run", "loss", "accuracy", "loss, own masking", "accuracy, own masking"]
    columns += [*(["BLiMP"] if comparison.pairs else []), "steps"]
    columns += [_heading(measure, scale) for measure, scale in scales.items()]
    rows = []
    for arm in comparison.arms:
        scored = [_over_seeds(arm.final(name), ".4f" if "loss" in name else ".2%") for name in _QUALITIES]
        if comparison.pairs:
            told_apart = [
                comparison.pairs[run.name].accuracy / 100 for run in arm.ended if run.name in comparison.pairs
            ]
            scored.append(_over_seeds(spread_of(told_apart), ".2%"))
        spent = [scale(arm.spent.of(measure)) for measure, scale in scales.items()]
        rows.append([arm.name, *scored, f"{arm.spent.steps:,.0f}", *spent])
    caption = (
        f"Losses in nats per target, on held-out rows. Loss and accuracy are under one common corruption, {COMMON}, "
        "and compare; those at each run's own masking do not. FLOPs and time are those of training steps, the LM head "
        "included unless said otherwise."
    )
    if comparison.pairs:
        caption += " BLiMP: minimal pairs told apart by pseudo-log-likelihood (RUN/blimp.json)."
    if any(len(arm.runs) > 1 for arm in comparison.arms):
        caption += " Of several seeds: the mean (lowest to highest; number of seeds)."
    return Table("Where each run ended", columns, rows, caption)


def by_source(comparison: Comparison) -> Table | None:
    """Return the table of the last losses of each source; None where no run has several."""
    found = {arm.name: arm.final_by_source() for arm in comparison.arms}
    sources = list(dict.fromkeys(source for each in found.values() for source in each))
    if not sources:
        return None
    rows = [[name, *(_over_seeds(each.get(source), ".4f") for source in sources)] for name, each in found.items()]
    caption = (
        f"Losses in nats per target at {COMMON}, on held-out rows of each source that the last phase reads; equally "
        "many rows of each make up the loss over all."
    )
    return Table("Held-out loss by source", ["run", *sources], rows, caption)


_QUALITIES = ("loss", "accuracy", "own_loss", "own_accuracy")
_ONE_ARM = "Runs that differ in nothing but the seed are one arm; curves and tables show it as one."


def _over_seeds(spread: Spread | None, form: str) -> str:
    if spread is None:
        return "–"
    if spread.count == 1:
        return format(spread.mean, form)
    return f"{spread.mean:{form}} ({spread.low:{form}} to {spread.high:{form}}; {spread.count})"


def _heading(measure: str, scale: Scale) -> str:
    if scale.unit == measure:
        return measure
    what = "time" if measure == "hours" else SHORT[measure]
    return f"{what} ({scale.unit.removesuffix(' FLOPs')})"


def reach(comparison: Comparison) -> Table:
    """Return the table of where each arm reached the baseline's quality; the baseline must have been evaluated."""
    baseline, unit, target = comparison.baseline_arm, comparison.unit, comparison.target
    scale = _scales(comparison)[unit]
    measures = sorted(comparison.measures, key=lambda measure: measure != unit)  # the chosen one comes first
    rows = []
    for arm in comparison.arms:
        loss, verdict, reached = arm.loss, comparison.verdict(arm), comparison.arm_reached(arm)
        ended = ["–", "–"]
        if loss is not None:
            ended = [_over_seeds(loss, ".4f"), "–" if target is None else signed(loss.mean - target, 4)]
        if reached is None:
            within = verdict is not None and not verdict.beyond
            where = "within the spread" if within else "not reached" if loss else "–"
            found = ["–" if arm is baseline else where] + ["–"] * len(measures)
        else:
            most = "≤ " if reached.at_most else ""
            shares = [comparison.arm_share(arm, measure) for measure in measures]
            found = [
                most + scale(reached.spent.of(unit)),
                *("–" if part is None else most + _shares(part) for part in shares),
            ]
        rows.append([arm.name, *found, *ended, str(len(arm.ended))])
    columns = ["run", f"reached at ({scale.unit})", *(f"share of {SHORT[measure]}" for measure in measures)]
    what = "there is none" if target is None else f"{target:.4f} nats at {COMMON}"
    caption = (
        f"Where a run first comes down to the last loss of {baseline.name}, {what}, by "
        f"linear interpolation between evaluations; shares are of what {baseline.name} had spent at its last "
        "evaluation. ≤: the loss was below already at the first evaluation. A run planned to end there, its learning "
        "rate decayed by then, may come down sooner. A share is stated only where final losses differ by more than "
        "seeds of one arm do; with one seed of either, how far seeds lie apart is not known."
    )
    columns += ["final loss", "to the baseline's", "seeds"]
    return Table("Compute to the baseline's final quality", columns, rows, caption)


def _setting(value: object) -> str:
    """Return a recipe's value for a cell; a duration such as 35,053,977,600,000 FLOPs in fewer digits."""
    if value is None:
        return "–"
    return f"{value:.5g}" if isinstance(value, float) and abs(value) >= 1e6 else str(value)


def settings(comparison: Comparison) -> Table:
    """Return the table of settings that differ between arms."""
    found = different_settings(comparison)
    rows = [[key, *(_setting(value) for value in values.values())] for key, values in found.items()]
    columns = ["setting", *next(iter(found.values()))]
    caption = "All other settings of the recipes are the same."
    if comparison.over_budgets:
        caption = "All other settings are the same, apart from sizes, rows a step, durations and seeds."
    return Table("Settings that differ", columns, rows, caption, text=True)
