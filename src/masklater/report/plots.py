"""Plots: their common style, and the plot of a single run's metrics."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"  # Okabe and Ito's palette: every reader can tell them apart
GREEN, PURPLE, SKY, AMBER = "#009e73", "#cc79a7", "#56b4e9", "#e69f00"
INK, PAPER = "#1f2328", "#ffffff"


@contextmanager
def style() -> Iterator[None]:
    """Apply the common style to figures made and saved inside; text in an SVG stays text."""
    import matplotlib as mpl

    settings: dict[Any, Any] = {
        "font.size": 10, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK,
        "ytick.color": INK, "axes.titlesize": 11, "svg.fonttype": "none", "text.parse_math": False,
        "figure.facecolor": PAPER, "axes.facecolor": "none", "figure.dpi": 150, "legend.frameon": False,
        "legend.fontsize": 9, "grid.alpha": 0.25, "grid.color": GREY, "axes.grid": True, "axes.axisbelow": True,
        "axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.w_pad": 0.08,
    }  # fmt: skip
    with mpl.rc_context(settings):
        yield


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches, drawn without a window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def plot_losses(records: list[dict[str, Any]], baselines: dict[str, float], out: Path, title: str) -> None:
    """Plot training and held-out loss over rows, with horizontal lines for baselines, as a PNG.

    Args:
        records: Records of a metrics.jsonl.
        baselines: Name and loss in nats of the baselines.
        out: The PNG to write.
        title: The title above the plot.
    """
    steps = [record for record in records if "loss" in record]
    rows_at = {record["step"]: record["rows"] for record in steps}

    with style():
        figure = new_figure(7.5, 4.5)
        axes = figure.subplots()
        axes.plot(
            [record["rows"] for record in steps],
            _smoothed([record["loss"] for record in steps]),
            color=GREY,
            linewidth=0.8,
            label="training, own masking (smoothed)",
        )
        for key, marker, color, label in (
            ("valid_loss", "o", BLUE, "held out, own masking"),
            ("valid_loss_15", "s", ORANGE, "held out, 15% [MASK]"),
        ):
            held_out = [record for record in records if key in record]
            at = [rows_at[record["step"]] for record in held_out]
            losses = [record[key] for record in held_out]
            axes.plot(at, losses, marker=marker, color=color, markersize=3, label=label)
        for name, loss in baselines.items():
            axes.axhline(loss, color=INK, linestyle="--", linewidth=0.8)
            axes.annotate(
                name, (1, loss), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8,
                xytext=(-4, 2), textcoords="offset points",
            )  # fmt: skip
        axes.set(xlabel="rows trained on", ylabel="masked-token loss (nats)", title=title)
        with_thousands(axes)
        axes.legend()
        figure.savefig(out)


def with_thousands(axes: "Axes") -> None:
    """Write the numbers of the x axis in full: 12,000 and not 1.2e4."""
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}" if abs(value) < 1e5 else f"{value:,.0f}")


def logarithmic_x(axes: "Axes", write: Callable[[float], str]) -> None:
    """Make the x axis logarithmic, with a number at each power of ten, and at three times it where there is room."""
    from matplotlib.ticker import LogLocator

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if high / low > 1e3 else (1.0, 3.0)))
    axes.xaxis.set_major_formatter(lambda value, _: write(value))
    axes.xaxis.set_minor_formatter(lambda value, _: "")


def _smoothed(values: list[float], window: int = 20) -> list[float]:
    """Return trailing means."""
    return [sum(part) / len(part) for end in range(1, len(values) + 1) if (part := values[max(0, end - window) : end])]
