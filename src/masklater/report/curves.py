"""The plots of a comparison: held-out loss and accuracy over spending, and the scores at the end."""

import math
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import TYPE_CHECKING, Any, Literal

from masklater.report.arms import Arm, Spread
from masklater.report.comparison import COMMON, Comparison
from masklater.report.plots import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    SKY,
    logarithmic_x,
    new_figure,
    style,
    with_thousands,
)
from masklater.report.quantities import WHAT, Scale, scale_for
from masklater.report.runs import Unit, counted_in

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 5.2  # inches; text in so narrow a figure stays readable on a phone
LINE = 0.21  # inches, of a legend
COLOURS = (BLUE, ORANGE, GREEN, PURPLE, SKY, AMBER)
MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">", "*", "p")
DASHES = ((0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)), "-")
SIDE_BY_SIDE = "equals in x stand side by side"
MISSING_GLYPH = r"Glyph (\d+) .*missing from"
"""Matplotlib's warning, at each drawing, of a character that its font lacks."""
CORRUPTION = f"held out, all under one corruption: {COMMON}"


@dataclass(frozen=True)
class Picture:
    """One plot, drawn."""

    name: str  # of its files, without suffix
    title: str
    svg: str
    png: bytes
    without_glyph: frozenset[str] = frozenset()  # characters that matplotlib's font lacks: boxes in the PNG


def curve(comparison: Comparison, unit: Unit, quality: Literal["loss", "accuracy"]) -> Picture:
    """Plot held-out loss or masked accuracy under the common corruption over spending; of several seeds the mean."""
    handles: dict[str, Any] = {}
    methods = comparison.scaling.methods if comparison.scaling else ()
    method_of = {arm.name: f"{method.name} ({len(method.arms)} budgets)" for method in methods for arm in method.arms}
    with style():
        figure = new_figure(WIDTH, 3.5)
        axes = figure.subplots()
        scale = _x_axis(axes, comparison, unit)
        for arm, look in _looks(comparison):
            line, seeds = _draw_arm(axes, arm, look, unit, quality, scale)
            name = arm.name + (f" ({seeds} seeds)" if seeds > 1 else "")
            handles.setdefault(method_of.get(arm.name, name), line)
        if methods:
            axes.autoscale(axis="x")
            logarithmic_x(axes, lambda value: f"{value:,.3g}" if value < 1e3 else f"{value:,.0f}")
        if quality == "loss":
            axes.set(ylabel="masked-token loss (nats)", title="Validation loss")
            if comparison.target is not None and not comparison.over_budgets:
                line = axes.axhline(comparison.target, color=GREY, linewidth=1, linestyle=":")
                handles[f"final loss of {comparison.baseline_arm.name}"] = line
        else:
            axes.set(ylabel="masked tokens predicted (%)", title="Masked accuracy")
        several = any(len(arm.runs) > 1 for arm in comparison.arms)
        legend(
            figure,
            list(handles.values()),
            list(handles),
            CORRUPTION + ("\nbands: lowest to highest seed" if several else ""),
        )
        return picture(figure, f"{quality}-{unit}", f"{axes.get_title()} over {WHAT[unit]}")


def _draw_arm(
    axes: "Axes", arm: Arm, look: dict[str, Any], unit: Unit, quality: Literal["loss", "accuracy"], scale: Scale
) -> tuple[Any, int]:
    """Draw an arm's line and its band from the lowest to the highest seed; return the line and the number of seeds."""
    unknown = Spread(math.nan, math.nan, math.nan, 0)
    size = 1 if quality == "loss" else 100
    x = [(point.spent.of(unit) or 0.0) / scale.size for point in arm.points]
    y = [(point.loss if quality == "loss" else point.accuracy) or unknown for point in arm.points]
    every = max(1, len(x) // 12)
    (line,) = axes.plot(x, [size * at.mean for at in y], linewidth=1.6, markersize=4.5, markevery=every, **look)
    seeds = max((at.count for at in y), default=0)
    if seeds > 1:
        low, high = [size * at.low for at in y], [size * at.high for at in y]
        axes.fill_between(x, low, high, color=look["color"], alpha=0.2, linewidth=0)
    return line, seeds


def glue_average(comparison: Comparison, unit: Unit) -> Picture:
    """Plot the average over tasks of each arm that has one, over all that a run of the arm has spent."""
    arms = {arm.name: comparison.arm_scores.get(arm.name) for arm in comparison.arms}
    averages = {name: scores.average for name, scores in arms.items() if scores and scores.average}
    with style():
        figure = new_figure(WIDTH, 3.0)
        axes = figure.subplots()
        heights = {name: (average.value, average.value, average.value) for name, average in averages.items()}
        handles = _points(axes, comparison, unit, heights)
        axes.set(ylabel="average score (%)", title="GLUE, average over tasks")
        counted = [f"{name}: {average.tasks} tasks" for name, average in averages.items()]
        legend(figure, handles, counted, f"at the end of pre-training; {SIDE_BY_SIDE}")
        return picture(figure, f"glue-average-{unit}", f"GLUE average over {WHAT[unit]}")


def glue_tasks(comparison: Comparison, unit: Unit) -> Picture:
    """Plot each task in a separate panel: medians and, as bars, the lowest and highest seed."""
    scores = comparison.arm_scores
    tasks = list(dict.fromkeys(task for each in scores.values() for task in each.tasks))
    with style():
        height = math.ceil(len(tasks) / 2)
        figure = new_figure(WIDTH, 1.9 * height)
        panels = figure.subplots(height, 2, squeeze=False).flat
        for panel in panels[len(tasks) :]:
            panel.remove()
        handles: list[Any] = []
        for task, panel in zip(tasks, panels, strict=False):
            found = {name: each.tasks[task] for name, each in scores.items() if task in each.tasks}
            spreads = {name: score.spread for name, score in found.items()}
            drawn = _points(panel, comparison, unit, {n: (s.median, s.min, s.max) for n, s in spreads.items()})
            handles = drawn if len(drawn) > len(handles) else handles
            panel.set_title(f"{task} ({'/'.join(dict.fromkeys(score.main for score in found.values()))})", fontsize=10)
            panel.set(xlabel=_scale(comparison, unit).unit, ylabel="score (%)")
        names = [arm.name for arm in comparison.arms if arm.name in scores]
        legend(figure, handles, names, f"bars: lowest to highest seed; {SIDE_BY_SIDE}")
        tasks_of = "GLUE tasks" if comparison.benchmark == "GLUE" else "Tasks"
        return picture(figure, f"glue-tasks-{unit}", f"{tasks_of} over {WHAT[unit]}")


def _points(
    axes: "Axes", comparison: Comparison, unit: Unit, heights: dict[str, tuple[float, float, float]]
) -> list[Any]:
    """Draw a point for each arm at its runs' total spending.

    Points of (nearly) equal compute are drawn side by side.
    """
    from matplotlib.transforms import ScaledTranslation

    scale = _x_axis(axes, comparison, unit)
    drawn = [(arm, look) for arm, look in _looks(comparison) if arm.name in heights]
    at = {arm.name: (arm.spent.of(unit) or 0.0) / scale.size for arm, _ in drawn}
    right = max(at.values(), default=1.0)
    axes.set_xlim(0, 1.2 * right)
    handles = []
    for arm, look in drawn:
        beside = [name for name, x in at.items() if abs(x - at[arm.name]) < 0.04 * right]
        points = min(6, 40 / len(beside)) * (beside.index(arm.name) - (len(beside) - 1) / 2)
        middle, low, high = heights[arm.name]
        handles.append(
            axes.errorbar(
                [at[arm.name]],
                [middle],
                yerr=[[middle - low], [high - middle]],
                transform=axes.transData + ScaledTranslation(points / 72, 0, axes.figure.dpi_scale_trans),
                capsize=2,
                markersize=6,
                elinewidth=1.2,
                color=look["color"],
                marker=look["marker"],
                linestyle="none",
            )
        )
    lows, highs = [low for _, low, _ in heights.values()], [high for _, _, high in heights.values()]
    room = 0.15 * (max(highs) - min(lows)) or 1.0
    axes.set_ylim(min(lows) - room, max(highs) + room)  # points moved aside do not enter the limits by themselves
    return handles


def _looks(comparison: Comparison) -> Iterator[tuple[Arm, dict[str, Any]]]:
    """Yield each arm with its colour, marker and line; arms of one method over several budgets look alike."""
    methods = comparison.scaling.methods if comparison.scaling else ()
    of_arm = {arm.name: method.name for method in methods for arm in method.arms}
    kinds = list(dict.fromkeys(of_arm.get(arm.name, arm.name) for arm in comparison.arms))
    own = of_arm.get(comparison.baseline_arm.name, comparison.baseline_arm.name)
    looks = dict(zip(kinds, looks_of([kind == own for kind in kinds]), strict=True))
    for arm in comparison.arms:
        yield arm, looks[of_arm.get(arm.name, arm.name)]


def looks_of(baselines: Sequence[bool]) -> Iterator[dict[str, Any]]:
    """Yield colours, markers and lines: the baseline in ink, the others different in all three."""
    number = 0
    for is_baseline in baselines:
        if is_baseline:
            yield {"color": INK, "marker": "o", "linestyle": "-"}
        else:
            yield {
                "color": COLOURS[number % len(COLOURS)],
                "marker": MARKERS[number % len(MARKERS)],
                "linestyle": DASHES[number % len(DASHES)],
            }
            number += 1


def _scale(comparison: Comparison, unit: Unit) -> Scale:
    return scale_for(unit, max(run.spent.of(unit) or 0.0 for run in comparison.runs))


LONGEST_LINE = 60
"""Most characters in a line below the axes that fit the width of a plot."""


def x_label(comparison: Comparison, unit: Unit) -> str:
    """Return the label of the horizontal axis, in lines that fit."""
    scale = _scale(comparison, unit)
    if scale.unit == unit and unit != "hours":
        return WHAT[unit]
    label = f"{WHAT[unit]} ({scale.unit}{f', {counted_in(comparison.runs)}' if unit == 'flops' else ''})"
    return textwrap.fill(label, LONGEST_LINE)


def _x_axis(axes: "Axes", comparison: Comparison, unit: Unit) -> Scale:
    axes.set_xlabel(x_label(comparison, unit))
    with_thousands(axes)
    scale = _scale(comparison, unit)
    axes.set_xlim(0, 1.03 * max(run.spent.of(unit) or 0.0 for run in comparison.runs) / scale.size)
    return scale


def legend(figure: "Figure", handles: Sequence[Any], names: Sequence[str], title: str) -> None:
    """Add a legend below the axes, and make the figure higher for it."""
    labels = [textwrap.fill(name, 56) for name in names]
    title = "\n".join(textwrap.fill(line, LONGEST_LINE + 10) for line in title.split("\n"))  # in smaller letters
    columns = 2 if max(map(len, names), default=0) <= 24 and len(names) > 1 else 1
    lines = sum(1 + label.count("\n") for label in labels)
    lines = math.ceil(lines / columns)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + LINE * (lines + 1 + title.count("\n")) + 0.15)
    legend = figure.legend(
        handles,
        [str(number) for number in range(len(labels))],
        loc="outside lower center",
        ncols=columns,
        title=title,
        title_fontsize=9,
        handlelength=3.2,
    )
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(label)  # given to legend() itself, a name that begins with _ would be left out


def picture(figure: "Figure", name: str, title: str) -> Picture:
    """Draw a figure as both kinds of file."""
    import matplotlib as mpl

    png, svg = BytesIO(), StringIO()
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", MISSING_GLYPH, UserWarning)
        figure.savefig(png, format="png")
        figure.set_layout_engine("none")  # laid out once, for both
        with mpl.rc_context({"svg.hashsalt": name}):  # the same runs draw the same file
            figure.savefig(svg, format="svg", metadata={"Date": None, "Title": title})
    missing: set[str] = set()
    for one in caught:
        if found := re.match(MISSING_GLYPH, str(one.message)):
            missing.add(chr(int(found[1])))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return Picture(name, title, svg.getvalue(), png.getvalue(), frozenset(missing))
