"""A run's health: steps that are skipped, losses that spike, and the stop when it does not get better."""

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
"""Losses that a spike is measured against; after a resume they are read from metrics.jsonl, so that nothing changes."""
FEWEST = 20
"""Losses without which nothing is called a spike."""
LEAST_RISE = 0.05
"""A spike lies at least this share above the median, however little losses vary."""
DEVIATION = 1.4826
"""Times the median absolute deviation is the standard deviation of a normal distribution."""
SHOWN_ROWS = 8
"""Row numbers in a message; all of them are in diverged.json."""


class Health:
    """The health of a run, judged by its losses.

    Args:
        recipe: Its health section.
        rows_of: Finds the numbers of the training rows that a step (from 0) was made of, by source.
        run: The RUN folder, with metrics.jsonl up to the step the run goes on from.
        since: Steps before the phase that the run is in, whose losses say nothing of this one's.
    """

    def __init__(
        self, recipe: Recipe, rows_of: Callable[[int], dict[str, list[int]]], run: Path, since: int = 0
    ) -> None:
        self.recipe = recipe
        self.rows_of = rows_of
        self.run = run
        self.recent = deque(recent_losses(run / "metrics.jsonl", WINDOW, since), maxlen=WINDOW)

    def spike(self, ledger: Ledger, loss: float) -> dict[str, Any] | None:
        """Take the loss of the step just booked; a record for metrics.jsonl where it is a spike."""
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
            UserError: So many in a row were that the run is not getting better; RUN/diverged.json names their rows.
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
        """Say of the first step with nothing to predict what it is; it says nothing about the run's health."""
        if ledger.skipped_steps == 1:
            say(
                f"step {ledger.steps:,} was skipped: at this masking rate its rows are too short to have anything to "
                "predict. Further ones are in metrics.jsonl"
            )

    def note_overflow(self, ledger: Ledger, loss_scale: float) -> None:
        """Say once in a run what a step is whose gradient was too large for float16, and where further ones stand."""
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
