"""The tables of arms over several budgets: laws, FLOPs at equal quality, and the record of both."""

import math

from masklater.report.arms import Spread, spread_of
from masklater.report.comparison import COMMON, Comparison, describe
from masklater.report.laws import NEVER, Estimate, slope_of
from masklater.report.quantities import power, signed
from masklater.report.scaling import Method, Quality, Scaling, foresight, next_budget
from masklater.report.table import Table

AT_EQUAL: dict[Quality, str] = {"loss": "equal loss", "pairs": "equal BLiMP"}
BEYOND = "~: beyond the budgets that were run, by the law alone."
NO_UPPER_END = "No upper end: some of these laws never get there."
INTERVALS = "In brackets: where 95% of the laws lie that other seeds might have given, as far as these tell."


def findings(scaling: Scaling) -> list[str]:
    """State in sentences each method's cost relative to the baseline's, at the baseline's largest budget."""
    baseline = scaling.baseline
    if baseline is None:
        return []
    arm = baseline.arms[-1]
    sentences = [f"FLOPs beside {baseline.name}'s at equal loss, by power laws, at its {power(arm.spent.flops)} FLOPs:"]
    for method in scaling.methods:
        if method is not baseline:
            found = scaling.multiplier("loss", method, arm)
            sentences.append(f"{method.name}: {'no law that falls' if found is None else 'x ' + estimate(found, 2)}")
    return sentences


def record(comparison: Comparison, scaling: Scaling) -> Table:
    """Return one line for each method, the cheapest first, at the baseline's largest budget."""
    baseline = scaling.baseline
    assert baseline is not None
    arm = baseline.arms[-1]
    lines = []
    for method in scaling.methods:
        cost = {quality: scaling.multiplier(quality, method, arm) for quality in AT_EQUAL}
        order = 1.0 if method is baseline else math.inf if cost["loss"] is None else cost["loss"].value
        cells = ["1" if method is baseline else estimate(each, 2) for each in cost.values()]
        cells += [_spread(method.arms[-1].loss, ".3f"), _spread(_pairs(comparison, method), ".1f")]
        seeds = ", ".join(str(len(arm.ended)) for arm in method.arms)
        lines.append((order, [method.name, describe(method.arms[-1].runs[0]), *cells, seeds]))
    columns = ["arm", "what it is", *(f"FLOPs at {what}" for what in AT_EQUAL.values()), "loss", "BLiMP", "seeds"]
    caption = (
        f"FLOPs as multiples of {baseline.name}'s, by the laws, where both are as good as {baseline.name} is at "
        f"{power(arm.spent.flops)} FLOPs. {BEYOND} Loss and BLiMP: at each arm's largest budget (lowest to highest "
        "seed). Seeds: at each budget."
    )
    return Table("Record", columns, [cells for _, cells in sorted(lines, key=lambda line: line[0])], caption, text=True)


def laws(scaling: Scaling) -> Table:
    """Return the power law of each method, how well it holds, and its prediction for the next budget."""
    rows = []
    for method in scaling.methods:
        law = scaling.laws["loss"][method.name]
        seen, (flops, next_loss) = foresight(law), next_budget(law)
        off = "–" if seen is None else f"{signed(100 * (seen.measured / seen.foreseen - 1), 1)}%"
        foreseen = "–" if seen is None else f"{seen.foreseen:.3f}, measured {seen.measured:.3f} ({off})"
        fewer = f"{power(math.exp(law.levels[0].x))} to {power(math.exp(law.levels[-1].x))}"
        rows.append([method.name, f"{len(law.budgets)}, {fewer}", str(sum(len(level.ys) for level in law.levels))])
        rows[-1] += [estimate(slope_of(law), 4), f"{100 * math.expm1(law.misfit):.1f}%", foreseen]
        rows[-1] += [f"{estimate(next_loss, 3)} at {power(flops)}"]
    columns = ["arm", "budgets (FLOPs)", "runs", "exponent", "furthest from the law", "largest budget foreseen", "next"]
    caption = (
        f"loss = a x FLOPs^exponent, at {COMMON}, by least squares over the last losses of finished runs. {INTERVALS} "
        "Largest budget foreseen: by the law of the smaller ones. Next: what the law says of the budget that follows."
    )
    return Table("Power laws", columns, rows, caption)


def multipliers(scaling: Scaling, quality: Quality) -> Table:
    """Return the FLOPs at equal quality, at every budget of the baseline."""
    baseline = scaling.baseline
    assert baseline is not None
    others = [method for method in scaling.methods if method is not baseline]
    found = {method.name: [scaling.multiplier(quality, method, arm) for arm in baseline.arms] for method in others}
    rows = [[name, *(estimate(each, 2) for each in costs)] for name, costs in found.items()]
    columns = ["arm", *(f"at {power(arm.spent.flops)}" for arm in baseline.arms)]
    law = "power laws" if quality == "loss" else "straight lines over the logarithm of FLOPs"
    caption = (
        f"FLOPs of each arm over those of {baseline.name} where both are as good as {baseline.name} is at the budget "
        f"that heads the column, by {law}. {INTERVALS} {BEYOND}"
    )
    if any(cost is not None and cost.is_endless for costs in found.values() for cost in costs):
        caption += f" {NO_UPPER_END}"
    return Table(f"Compute at {AT_EQUAL[quality]}", columns, rows, caption)


def estimate(found: Estimate | None, decimals: int) -> str:
    """Return a figure with its interval; a dash where there is none."""
    if found is None:
        return "–"
    text = ("" if found.measured else "~ ") + _figure(found.value, decimals)
    if found.low is None:
        return text
    high = "no upper end" if found.high is None else _figure(found.high, decimals)
    return f"{text} ({_figure(found.low, decimals)} to {high})"


def _figure(value: float, decimals: int) -> str:
    return f"over {NEVER:,.0f}" if value >= NEVER else f"{value:.{decimals}f}"


def _pairs(comparison: Comparison, method: Method) -> Spread | None:
    found = [comparison.pairs[run.name].accuracy for run in method.arms[-1].ended if run.name in comparison.pairs]
    return spread_of(found)


def _spread(spread: Spread | None, form: str) -> str:
    if spread is None:
        return "–"
    text = format(spread.mean, form)
    return text if spread.count == 1 else f"{text} ({spread.low:{form}} to {spread.high:{form}})"
