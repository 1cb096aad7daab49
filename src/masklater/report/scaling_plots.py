"""The plots of arms over several budgets: quality over compute with its law, and FLOPs at equal quality."""

import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from masklater.report.arms import spread_of
from masklater.report.comparison import COMMON, Comparison
from masklater.report.curves import LONGEST_LINE, WIDTH, Picture, legend, looks_of, picture
from masklater.report.laws import Law, height_at
from masklater.report.plots import INK, logarithmic_x, new_figure, style
from masklater.report.quantities import power
from masklater.report.runs import counted_in
from masklater.report.scaling import Method, Quality, Scaling
from masklater.report.scaling_tables import AT_EQUAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ACROSS = 60
"""Number of points at which a law is drawn."""
HIGHEST_LINE = 36
"""Most characters in a line next to the axes that fit the height of a plot."""
WIDE = 30
"""An axis whose numbers span this factor has powers of ten; evenly spaced numbers would crowd at its top."""


def law_plot(comparison: Comparison, quality: Quality) -> Picture:
    """Plot each arm's last loss, or its BLiMP score, over the FLOPs of its budgets, with its law."""
    scaling = comparison.scaling
    assert scaling is not None
    handles, names = [], []
    with style():
        figure = new_figure(WIDTH, 3.8)
        axes = figure.subplots()
        for method, look in _looks(scaling):
            law = scaling.laws[quality].get(method.name)
            if law is not None:
                handles.append(_draw_law(axes, law, look, quality))
                names.append(method.name)
        _logarithmic(axes, y_too=quality == "loss")
        if quality == "loss":
            axes.set(ylabel="masked-token loss (nats)", title="Loss over training compute, with power laws")
            what = f"held out, all under one corruption: {COMMON}"
        else:
            axes.set(ylabel="minimal pairs told apart (%)", title="BLiMP over training compute")
            what = "pseudo-log-likelihood, one mask at a time"
        axes.set_xlabel(textwrap.fill(_compute(comparison), LONGEST_LINE))
        bars = "\nbars: lowest to highest seed; bands: 95% of drawn laws" if _has_draws(scaling, quality) else ""
        legend(figure, handles, names, what + bars)
        return picture(figure, f"law-{quality}", str(axes.get_title()))


def multiplier_plot(comparison: Comparison, quality: Quality) -> Picture:
    """Plot the FLOPs of each arm over the baseline's at equal quality, at every budget of the baseline."""
    scaling = comparison.scaling
    assert scaling is not None
    assert scaling.baseline is not None
    handles, names = [], []
    endless: list[tuple[float, float, str]] = []
    with style():
        figure = new_figure(WIDTH, 3.5)
        axes = figure.subplots()
        axes.axhline(1, color=INK, linewidth=1)
        arms = scaling.baseline.arms
        for number, (method, look) in enumerate(each for each in _looks(scaling) if each[0] is not scaling.baseline):
            found = [(arm.spent.flops, scaling.multiplier(quality, method, arm)) for arm in arms]
            known = [(flops * 1.03**number, cost) for flops, cost in found if cost is not None]  # bars side by side
            if known:
                x, y = [flops for flops, _ in known], [cost.value for _, cost in known]
                low = [
                    cost.value - (cost.value if cost.low is None else min(cost.low, cost.value)) for _, cost in known
                ]
                high = [
                    (cost.value if cost.high is None else max(cost.high, cost.value)) - cost.value for _, cost in known
                ]
                handles.append(axes.errorbar(x, y, yerr=[low, high], capsize=2, markersize=5, elinewidth=1.1, **look))
                endless += [(flops, cost.value, look["color"]) for flops, cost in known if cost.is_endless]
                names.append(method.name)
        _logarithmic(axes, y_too=True)
        _draw_endless(axes, endless)
        title = f"FLOPs at {AT_EQUAL[quality]}"
        name = scaling.baseline.name
        x_label = textwrap.fill(f"{_compute(comparison)} of {name}", LONGEST_LINE, break_on_hyphens=False)
        axes.set(xlabel=x_label, ylabel=textwrap.fill(f"x {name}'s FLOPs", HIGHEST_LINE))
        axes.set_title(title)
        bars = "bars: 95% of drawn laws; " if _has_draws(scaling, quality) else ""
        bars += "arrows: no upper end\n" if endless else ""
        legend(figure, handles, names, f"{bars}below 1: cheaper than {name}")
        return picture(figure, f"multiplier-{quality}", title)


def _draw_endless(axes: "Axes", bars: Sequence[tuple[float, float, str]]) -> None:
    """Draw an arrow from each point to the top, leaving room for one above the highest point."""
    if bars:
        axes.set_ylim(top=1.5 * axes.get_ylim()[1])
    for x, y, colour in bars:
        arrow = {"arrowstyle": "->", "color": colour, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", xy=(x, axes.get_ylim()[1]), xytext=(x, y), arrowprops=arrow)


def _draw_law(axes: "Axes", law: Law, look: dict[str, Any], quality: Quality) -> Any:
    size = math.exp if quality == "loss" else float
    spreads = [spread_of([size(y) for y in level.ys]) for level in law.levels]
    known = [(math.exp(level.x), spread) for level, spread in zip(law.levels, spreads, strict=True) if spread]
    handle = axes.errorbar(
        [x for x, _ in known],
        [spread.mean for _, spread in known],
        yerr=[[spread.mean - spread.low for _, spread in known], [spread.high - spread.mean for _, spread in known]],
        capsize=2,
        markersize=5,
        elinewidth=1.1,
        color=look["color"],
        marker=look["marker"],
        linestyle="none",
    )
    first, last = law.levels[0].x, law.levels[-1].x
    places = [first + (last - first) * number / (ACROSS - 1) for number in range(ACROSS)]
    heights = [height_at(law, place) for place in places]
    x = [math.exp(place) for place in places]
    axes.plot(x, [size(at.value) for at in heights], color=look["color"], linestyle=look["linestyle"], linewidth=1.4)
    band = [(at.low, at.high) for at in heights if at.low is not None and at.high is not None]
    if band:
        low, high = [size(low) for low, _ in band], [size(high) for _, high in band]
        axes.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)
    return handle


def _looks(scaling: Scaling) -> Iterator[tuple[Method, dict[str, Any]]]:
    return zip(scaling.methods, looks_of([method is scaling.baseline for method in scaling.methods]), strict=True)


def _has_draws(scaling: Scaling, quality: Quality) -> bool:
    return any(law.draws for law in scaling.laws[quality].values())


def _compute(comparison: Comparison) -> str:
    return f"training FLOPs ({counted_in(comparison.runs)})"


def _logarithmic(axes: "Axes", y_too: bool) -> None:
    """Label powers of ten on x, and plain numbers on a logarithmic y axis, which seldom spans more than a decade."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    logarithmic_x(axes, lambda value: power(value).replace(".00", "").removeprefix("1·"))
    if y_too:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        over_decades = high > WIDE * low
        axes.yaxis.set_major_locator(LogLocator() if over_decades else MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}" if over_decades else f"{value:.3g}")
        axes.yaxis.set_minor_formatter(lambda value, _: "")
        axes.tick_params(axis="y", which="minor", length=0)
