"""How the time of a step grows with row length and masking rate, compared with the FLOPs that it executes.

    python benchmarks/growth.py --out growth
    python benchmarks/growth.py --out growth-without --dropout 0
    python benchmarks/growth.py --out growth --size base      # on a GPU

3ML on random rows at 50% for each row length, and at other rates for the two shortest lengths. A step has the same
number of positions at every length: many short rows, or few long ones. All points take turns, round by round. Masking
is not part of the time, because it runs in a thread next to training. A jump of time per FLOP from one point to the
next is a cliff; the largest jump is named.

Letters: L row length.
"""

import argparse
import statistics
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from arguments import at_least_one, exit_status
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator
from ours import Ours
from sides import timed
from wanted import RECIPES

from masklater.budget.cost import row_flops
from masklater.budget.sizes import encoder_sizes
from masklater.console import Meter
from masklater.folders import complete_folder, refuse_existing
from masklater.machine.allocator import keep_large_buffers
from masklater.machine.precision import choose_precision
from masklater.masking.counts import count
from masklater.recipe.load import load
from masklater.recipe.recipe import Recipe
from masklater.report.plots import BLUE, ORANGE, PAPER, new_figure, style

RATE, RATES = 0.5, (0.15, 0.3, 0.5, 0.7, 0.9)
LENGTHS = (128, 512, 2048)
SWEPT = 2  # this many of the shortest lengths are measured at all rates
POSITIONS = {"cpu": 4096, "cuda": 32_768}
VOCABULARIES = {"small": 16_000, "base": 50_265, "large": 50_265}


@dataclass(frozen=True)
class Point:
    """One row length at one rate."""

    length: int
    rate: float
    rows: int  # of a step
    milliseconds: float  # of a row: median step divided by its rows
    flops: float  # of a row

    @property
    def per_flop(self) -> float:
        """Milliseconds for each FLOP."""
        return self.milliseconds / self.flops

    def __str__(self) -> str:
        return f"L = {self.length:,} at {self.rate:.0%}"


class Model:
    """A model for rows of one length, measured at several rates."""

    def __init__(self, recipe: Recipe, length: int, positions: int, vocabulary: int) -> None:
        self.length, self.rows = length, max(1, positions // length)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        precision = choose_precision(recipe.precision, self.device)
        self.ours = Ours(recipe, self.rows, length, vocabulary, precision)

    def seconds(self, rate: float, number: int) -> float:
        """Make one step; return its wall seconds."""
        share = self.ours.share(number, self.ours.corruption.at_rate(rate))
        return timed(lambda: self.ours.train(share, number), self.device).wall

    def row_flops(self, length: int, rate: float) -> float:
        """Return a row's FLOPs, forward and backward. Any length will do: a layer does not know the longest row."""
        ours = self.ours
        counts = count(ours.corruption.settings, rate, ours.decoder.drops, length, length - 2)
        return row_flops(encoder_sizes(ours.encoder), ours.decoder, counts).training


def measure(models: dict[int, Model], steps: int) -> list[Point]:
    """Measure every point, in the order of length and rate."""
    places = [
        (length, rate)
        for place, length in enumerate(sorted(models))
        for rate in (RATES if place < SWEPT else (RATE,))
    ]  # fmt: skip
    seconds: dict[tuple[int, float], list[float]] = {place: [] for place in places}
    with Meter("Measuring", len(places) * (steps + 1)) as meter:
        for number in range(steps + 1):
            for length, rate in places:
                seconds[length, rate].append(models[length].seconds(rate, number))
                meter.advance(1, f"L = {length:,} at {rate:.0%}")
    points = []
    for (length, rate), of_place in seconds.items():
        model = models[length]
        row_ms = statistics.median(of_place[1:]) / model.rows * 1e3  # the first warms up
        points.append(Point(length, rate, model.rows, row_ms, model.row_flops(length, rate)))
    return points


def curves(points: list[Point]) -> list[list[Point]]:
    """Return points that differ in one of the two: lengths at one rate; then, for each length that has them, rates."""
    lengths = sorted({point.length for point in points})
    by_rate = [[point for point in points if point.length == length] for length in lengths]
    return [[point for point in points if point.rate == RATE], *(curve for curve in by_rate if len(curve) > 1)]


def largest_jump(points: list[Point]) -> str:
    """Name the largest jump between neighbours, up or down."""
    pairs = [pair for curve in curves(points) for pair in pairwise(curve)]
    before, after = max(pairs, key=lambda pair: max(jump := pair[1].per_flop / pair[0].per_flop, 1 / jump))
    return (
        f"Largest jump of time per FLOP between neighbours: x {after.per_flop / before.per_flop:.3f}, "
        f"from {before} to {after}"
    )


def table(points: list[Point], reference: Point) -> str:
    """Return one line for each point."""
    lines = [
        f"{'L':>6}{'rate':>7}{'rows':>7}{'row ms':>11}{'GFLOP a row':>13}{'GFLOP/s':>11}{'time':>9}{'FLOPs':>9}"
        f"{'time by FLOPs':>15}"
    ]
    for point in points:
        time, flops = point.milliseconds / reference.milliseconds, point.flops / reference.flops
        lines.append(
            f"{point.length:>6}{point.rate:>7.0%}{point.rows:>7}{point.milliseconds:>11.3f}{point.flops / 1e9:>13.3f}"
            f"{point.flops / point.milliseconds / 1e6:>11.1f}{time:>9.3f}{flops:>9.3f}{time / flops:>15.3f}"
        )
    return "\n".join([*lines, f"time, FLOPs: over those of {reference}"])


def plot(points: list[Point], models: dict[int, Model], reference: Point, title: str, out: Path) -> None:
    """Draw the measured points and the FLOPs curve through the reference, as out/growth.png and .svg."""
    model = models[reference.length]
    by_length, *by_rate = curves(points)
    with style():
        figure = new_figure(10, 4.6)
        left, right = figure.subplots(1, 2)
        lengths = [point.length for point in by_length]
        finer = [lengths[0] * (lengths[-1] / lengths[0]) ** (place / 50) for place in range(51)]
        expected = [model.row_flops(round(length), RATE) * reference.per_flop for length in finer]
        left.plot(finer, expected, color=BLUE, linewidth=1, label="as FLOPs grow")
        left.plot(lengths, [p.milliseconds for p in by_length], "o", color=BLUE, label=f"measured, {RATE:.0%} masked")
        left.set(xscale="log", yscale="log", xlabel="row length (tokens)", ylabel="time of a training step (ms a row)")
        left.minorticks_off()
        left.set_xticks(lengths, [f"{length:,}" for length in lengths])
        left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        left.set_title("By row length")
        left.legend(loc="upper left", frameon=True, facecolor=PAPER, edgecolor="none")  # no grid line through it
        for curve, color, marker in zip(by_rate, (BLUE, ORANGE), "os", strict=False):
            plot_rates(right, curve, model, reference, color, marker)
        right.set(xlabel="masked (% of the tokens)", ylabel="time of a training step (µs a position)", xlim=(0, 100))
        right.set_ylim(0, 1.05 * right.get_ylim()[1])
        right.set_title("By masking rate")
        right.legend(loc="lower left", frameon=True, facecolor=PAPER, edgecolor="none")
        figure.suptitle(title, fontsize=11)
        for ending in ("png", "svg"):
            figure.savefig(out / f"growth.{ending}")


def plot_rates(axes: Axes, curve: list[Point], model: Model, reference: Point, color: str, marker: str) -> None:
    """Draw one length: the time of a position at each rate."""
    length = curve[0].length
    finer = [percent / 100 for percent in range(round(100 * RATES[0]), round(100 * RATES[-1]) + 1, 5)]
    expected = [model.row_flops(length, rate) * reference.per_flop / length * 1e3 for rate in finer]
    axes.plot(
        [100 * rate for rate in finer], expected, color=color, linewidth=1, label=f"L = {length:,}, as FLOPs grow"
    )
    measured = [point.milliseconds / length * 1e3 for point in curve]
    axes.plot([100 * p.rate for p in curve], measured, marker, color=color, label=f"L = {length:,}, measured")


def this_machine() -> str:
    """Return the name of the hardware that steps run on."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    threads = torch.get_num_threads()
    return "1 CPU thread" if threads == 1 else f"{threads} CPU threads"


def run(given: argparse.Namespace) -> None:
    """Measure, print, draw."""
    refuse_existing(given.out)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    positions = given.positions or POSITIONS[device]
    vocabulary = given.vocabulary or VOCABULARIES[given.size]
    name, overrides = RECIPES[given.size][0], [f"masking.rate={RATE}"]
    if given.dropout is not None:
        overrides.append(f"model.dropout={given.dropout}")
    recipe = load(name, overrides)
    models = {length: Model(recipe, length, positions, vocabulary) for length in sorted(set(given.lengths))}
    points = measure(models, given.steps)
    reference = next(point for point in points if point.rate == RATE)
    what = (
        f"{name}, dropout {recipe.model.dropout:g}, {positions:,} positions a step, vocabulary {vocabulary:,}; "
        f"{this_machine()}"
    )
    print(f"{what}\n\n{table(points, reference)}\n\n{largest_jump(points)}")
    with complete_folder(given.out) as folder:
        plot(points, models, reference, what, folder)


def main() -> int:
    """Measure; print a table and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder to make, for growth.png and growth.svg")
    parser.add_argument("--size", choices=RECIPES, default="small")
    parser.add_argument("--lengths", type=at_least_one, nargs="+", default=LENGTHS, help="of rows")
    parser.add_argument("--positions", type=at_least_one, help="a step [default: 4096, on a GPU 32768]")
    parser.add_argument("--vocabulary", type=at_least_one, help="[default: 16000 for small, else 50265]")
    parser.add_argument("--dropout", type=float, help="[default: the recipe's]")
    parser.add_argument("--steps", type=at_least_one, default=5, help="a point, after one to warm up")
    given = parser.parse_args()
    keep_large_buffers()
    return exit_status(lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
