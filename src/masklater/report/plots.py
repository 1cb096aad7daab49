"""Plots of a run's metrics."""

from pathlib import Path
from typing import Any

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#666666"  # Okabe and Ito's palette: told apart by every reader


def plot_losses(records: list[dict[str, Any]], baselines: dict[str, float], out: Path, title: str) -> None:
    """Training and held-out loss over rows, with horizontal lines for baselines, as a PNG.

    Args:
        records: Of a metrics.jsonl.
        baselines: Name and loss in nats of what the run is compared with.
        out: The PNG to write.
        title: Above the plot.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    steps = [record for record in records if "loss" in record]
    rows_at = {record["step"]: record["rows"] for record in steps}
    held_out = [record for record in records if "valid_loss" in record]

    figure, axes = plt.subplots(figsize=(7.5, 4.5), dpi=150, layout="constrained")
    axes.plot(
        [record["rows"] for record in steps],
        _smoothed([record["loss"] for record in steps]),
        color=GREY,
        linewidth=0.8,
        label="training, own masking (smoothed)",
    )
    at = [rows_at[record["step"]] for record in held_out]
    axes.plot(at, [r["valid_loss"] for r in held_out], "o-", color=BLUE, markersize=3, label="held out, own masking")
    axes.plot(
        at, [r["valid_loss_15"] for r in held_out], "s-", color=ORANGE, markersize=3, label="held out, 15% [MASK]"
    )
    for name, loss in baselines.items():
        axes.axhline(loss, color="black", linestyle="--", linewidth=0.8)
        axes.annotate(
            name, (1, loss), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8, xytext=(-4, 2),
            textcoords="offset points",
        )  # fmt: skip
    axes.set(xlabel="rows trained on", ylabel="masked-token loss (nats)", title=title)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(out)
    plt.close(figure)


def _smoothed(values: list[float], window: int = 20) -> list[float]:
    """Trailing means."""
    return [sum(part) / len(part) for end in range(1, len(values) + 1) if (part := values[max(0, end - window) : end])]
