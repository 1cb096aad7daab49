"""The paper's two findings, as a table and a plot: how late [MASK]s may enter, and what gathers context into them.

    python benchmarks/ladder.py --data DATA --out LADDER     # its rungs enter-*, *-of-*, without-*
    python benchmarks/findings.py LADDER --out findings.png

Every finished cell of one budget is drawn: a pale mark for each seed, a full one for their mean. All runs spent the
same FLOPs, including LM head and optimizer, so a cheaper run has read more rows.
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from arguments import exit_status
from ladder_table import CellRecord, read_all

from masklater.errors import UserError
from masklater.report.curves import legend, looks_of, picture
from masklater.report.plots import new_figure, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Panel = tuple[str, str, dict[str, dict[str, str]]]
PANELS: tuple[Panel, ...] = (
    (
        "How late [MASK]s may come",
        "layer of 8 at which they enter",
        {"[MASK]s enter the encoder's own layers": {str(k): f"enter-{k}" for k in (0, 2, 4, 6, 7)}},
    ),
    (
        "How many layers gather",
        "layers of the decoder",
        {
            "3ML_self": {"1": "self-of-1", "2": "muon-self-50", "4": "self-of-4"},
            "3ML_cross": {"1": "cross-of-1", "2": "muon-cross-50", "4": "cross-of-4"},
        },
    ),
    (
        "Which flows do the work",
        "flow that the decoder lacks\n(u: unmasked, m: [MASK])",
        {
            "3ML_self without a flow": {
                "none": "muon-self-50",
                "u→u": "without-unmasked-to-unmasked",
                "u→m": "without-unmasked-to-masked",
                "m→u": "without-masked-to-unmasked",
                "m→m": "without-masked-to-masked",
            }
        },
    ),
)
"""Title, horizontal axis, and for each line the rung at each place."""
SHOWN = tuple(dict.fromkeys(rung for *_, lines in PANELS for line in lines.values() for rung in line.values()))
"""All rungs of the panels, in their order."""


def finished(ladder: Path, budget: str) -> dict[str, list[CellRecord]]:
    """Return the finished cells of a budget, by rung.

    Raises:
        UserError: There is none that the panels show.
    """
    found: dict[str, list[CellRecord]] = defaultdict(list)
    for cell in read_all(ladder):
        if cell.budget == budget and cell.finished and cell.loss is not None:
            found[cell.rung].append(cell)
    if found.keys().isdisjoint(SHOWN):
        raise UserError(f"{ladder} has no finished cell at {budget} that is shown here", "Run the ladder, or --budget.")
    return found


def table(cells: dict[str, list[CellRecord]]) -> str:
    """Return Markdown rows in the order of the panels; where seeds differ in a figure, all of their values."""
    rows = ["| rung | steps | loss at 15% | accuracy | BLiMP |", "|---|---:|---:|---:|---:|"]
    for rung in SHOWN:
        if rung in cells:
            steps = dict.fromkeys(f"{cell.ledger['steps']:,}" for cell in cells[rung])
            losses = [f"{cell.loss:.3f}" for cell in cells[rung]]
            accuracy = [f"{cell.accuracy:.1%}" for cell in cells[rung] if cell.accuracy is not None]
            blimp = [f"{cell.blimp['accuracy']:.1f}" for cell in cells[rung] if cell.blimp]
            rows.append(f"| `{rung}` | " + " | ".join(map(", ".join, (steps, losses, accuracy, blimp))) + " |")
    return "\n".join(rows)


def draw(cells: dict[str, list[CellRecord]], budget: str) -> bytes:
    """Draw the three panels, as a PNG."""
    with style():
        figure = new_figure(9.6, 3.4)
        panels = figure.subplots(1, len(PANELS))
        looks, handles = looks_of([False] * sum(len(lines) for *_, lines in PANELS)), {}
        for panel, (title, x_label, lines) in zip(panels, PANELS, strict=True):
            panel.set(title=title, xlabel=x_label)
            names = list(dict.fromkeys(place for line in lines.values() for place in line))
            # Numbers are drawn at their values; kinds have no values between them.
            places = {name: int(name) if name.isdecimal() else number for number, name in enumerate(names)}
            panel.set_xticks([*places.values()], names)
            panel.margins(x=0.1)
            for name, line in lines.items():
                handles[name] = _draw_line(panel, places, line, cells, next(looks))
        panels[1].sharey(panels[0])  # not the third: where a flow is needed, the loss is of another size
        panels[0].set_ylabel("masked-token loss (nats)")
        note = f"at {budget} FLOPs each, held out, all under 15% [MASK]; pale marks: seeds, full ones: their means"
        legend(figure, list(handles.values()), list(handles), note)
        return picture(figure, "findings", "The paper's two findings").png


def _draw_line(
    panel: "Axes",
    places: dict[str, int],
    line: dict[str, str],
    cells: dict[str, list[CellRecord]],
    look: dict[str, Any],
) -> object:
    seeds = [(places[place], cell.loss) for place, rung in line.items() for cell in cells.get(rung, ())]
    pale = {**look, "linestyle": "none", "alpha": 0.5, "markersize": 4}
    panel.plot([x for x, _ in seeds], [loss for _, loss in seeds], **pale)
    if not all(map(str.isdecimal, places)):
        look = {**look, "linestyle": "none"}
    at = sorted({x for x, _ in seeds})
    means = [fmean(loss for x, loss in seeds if x == each and loss is not None) for each in at]
    (drawn,) = panel.plot(at, means, linewidth=1.6, markersize=5, **look)
    return drawn


def main() -> int:
    """Print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ladder", type=Path, help="the work folder of benchmarks/ladder.py")
    parser.add_argument("--budget", default="3e13", help="FLOPs, as the ladder writes them [default: 3e13]")
    parser.add_argument("--out", type=Path, required=True, help="the PNG to write")
    arguments = parser.parse_args()

    def work() -> None:
        cells = finished(arguments.ladder, arguments.budget)
        print(table(cells))
        arguments.out.write_bytes(draw(cells, arguments.budget))

    return exit_status(work)


if __name__ == "__main__":
    sys.exit(main())
