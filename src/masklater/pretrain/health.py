"""A run's health: skipped steps, loss spikes, and the stop when a run does not get better."""

import json
import math
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from masklater.console import say
from masklater.errors import UserError
from masklater.folders import write_file
from masklater.ledger import Ledger
from masklater.recipe.recipe import Recipe
from masklater.run.metrics import recent_losses

WINDOW = 100
"""Number of losses that a spike is measured against. A resumed run reads them from metrics.jsonl: nothing changes."""
FEWEST = 20
"""With fewer losses than this, nothing is called a spike."""
LEAST_RISE = 0.05
"""A spike is at least this share above the median, however little losses vary."""
DEVIATION = 1.4826
"""Factor from the median absolute deviation to the standard deviation of a normal distribution."""
SHOWN_ROWS = 8
"""Number of rows named in a message; all of them are in diverged.json."""


class Health:
    """The health of a run, judged by its losses.

    Args:
        recipe: The recipe; its health section is used.
        rows_of: Finds the numbers of the training rows of a step (counted from 0), by source.
        run: The RUN folder, with metrics.jsonl up to the step from which the run continues.
        since: Number of steps before the current phase; their losses say nothing about this phase.
    """

    def __init__(
        self, recipe: Recipe, rows_of: Callable[[int], dict[str, list[int]]], run: Path, since: int = 0
    ) -> None:
        self.recipe = recipe
        self.rows_of = rows_of
        self.run = run
        self.recent = deque(recent_losses(run / "metrics.jsonl", WINDOW, since), maxlen=WINDOW)

    def spike(self, ledger: Ledger, loss: float) -> dict[str, Any] | None:
        """Add the loss of the step just booked; return a record for metrics.jsonl where it is a spike, else None."""
        recent, wanted = list(self.recent), self.recipe.health.spike
        if not math.isfinite(loss):
            return None
        self.recent.append(loss)
        if wanted is None or len(recent) < FEWEST:
            return None
        middle = median(recent)
        deviation = DEVIATION * median(abs(each - middle) for each in recent)
        limit = middle + max(wanted * deviation, LEAST_RISE * abs(middle))
        if loss <= limit:
            return None
        say(f"step {ledger.steps:,}: loss {loss:.3f} is a spike; the median of the last {len(recent)} is {middle:.3f}")
        return {
            "step": ledger.steps,
            "spike": loss,
            "median": middle,
            "limit": limit,
            "row_numbers": self._row_numbers(ledger.steps - 1),
        }

    def check(self, ledger: Ledger, loss: float, norm: float) -> None:
        """Report the step just booked where it was skipped.

        Raises:
            UserError: Too many steps in a row were skipped, so the run is not getting better; RUN/diverged.json names
                their rows.
        """
        if not ledger.skipped_in_a_row:
            return
        most = self.recipe.health.max_skipped
        say(
            f"step {ledger.steps:,} was skipped: loss {loss}, gradient norm {norm} "
            f"({ledger.skipped_in_a_row} in a row, the run stops at {most})"
        )
        if ledger.skipped_in_a_row < most:
            return
        path = self._write_rows(ledger, loss, norm)
        source, numbers = next(iter(self.rows_of(ledger.steps - 1).items()))
        shown = " ".join(map(str, numbers[:SHOWN_ROWS]))
        raise UserError(
            f"step {ledger.steps:,}: training has diverged: {ledger.skipped_in_a_row} steps in a row had no finite "
            f"loss and gradient (loss {loss}, gradient norm {norm}); their rows are in {path}",
            f"Look at them with masklater rows {source or 'SHARDS'} {shown} ..., and start again from the newest "
            "checkpoint with a lower optimizer.lr or more warm-up: masklater pretrain ... --resume optimizer.lr=...",
        )

    def note_empty(self, ledger: Ledger) -> None:
        """Explain the first step with nothing to predict; such a step says nothing about the run's health."""
        if ledger.skipped_steps == 1:
            say(
                f"step {ledger.steps:,} was skipped: at this masking rate its rows are too short to have anything to "
                "predict. Further ones are in metrics.jsonl"
            )

    def note_overflow(self, ledger: Ledger, loss_scale: float) -> None:
        """Explain the first step whose gradient was too large for float16, and say where further ones are recorded."""
        if ledger.overflowed_steps == 1:
            say(
                f"step {ledger.steps:,} was skipped: its gradient times the loss scale of {loss_scale:,.0f} is too "
                "large for float16. The scale is halved, which is how it is found; further ones are in metrics.jsonl"
            )

    def _row_numbers(self, step: int) -> list[int] | dict[str, list[int]]:
        """Return the row numbers of a step for a record: by source where there are several."""
        found = self.rows_of(step)
        return next(iter(found.values())) if len(found) == 1 else found

    def _write_rows(self, ledger: Ledger, loss: float, norm: float) -> Path:
        path = self.run / "diverged.json"
        steps = range(ledger.steps - ledger.skipped_in_a_row, ledger.steps)
        tree = {
            "loss": str(loss),  # JSON has no nan
            "grad_norm": str(norm),
            "split": "train",
            "steps": [{"step": step + 1, "row_numbers": self._row_numbers(step)} for step in steps],
        }
        write_file(path, json.dumps(tree) + "\n", replace=True)
        return path
