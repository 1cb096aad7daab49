"""Programs that show a run in addition to metrics.jsonl, each behind the same two calls."""

import json
import math
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from masklater.console import say
from masklater.errors import first_line
from masklater.extras import import_extra
from masklater.folders import write_file
from masklater.recipe.load import plain
from masklater.recipe.recipe import Recipe

FILE = "tracking.json"
"""RUN/tracking.json: the id by which trackers know the run, so that a resumed run continues there."""

PROJECT = "masklater"
"""The project that runs are shown in; WANDB_PROJECT and TRACKIO_PROJECT override it."""


class Tracker(Protocol):
    """One program that shows numbers by step."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Show the numbers of a step; the numbers of one step may come in several calls."""

    def close(self) -> None:
        """Deliver everything that is still buffered."""


class TensorBoard:
    """Event files in RUN/tensorboard. Steps that a resumed run makes again replace the earlier ones."""

    def __init__(self, run: Path, after_step: int, recipe: Recipe) -> None:
        _find("tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self.writer: Any = SummaryWriter(str(run / "tensorboard"), purge_step=after_step + 1)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Add each number as a scalar."""
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is buffered."""
        self.writer.close()


class Trackio:
    """A trackio run, in trackio's own folder on this machine.

    Its output goes to stderr, because stdout is for results.
    """

    def __init__(self, run: Path, after_step: int, recipe: Recipe) -> None:
        self.trackio = _find("trackio")
        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        name = f"{run.resolve().name}-{_id_of(run)}"  # trackio tells runs apart only by name
        with redirect_stdout(sys.stderr):
            self.run: Any = self.trackio.init(project=project, name=name, config=plain(recipe), resume="allow")

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log the numbers under the step."""
        with redirect_stdout(sys.stderr):
            self.run.log(dict(numbers), step=step)

    def close(self) -> None:
        """End the trackio run.

        After the run's own `finish`, trackio would end the run again, with a message, at the end of the process.
        """
        with redirect_stdout(sys.stderr):
            self.trackio.finish()


class Wandb:
    """A run of Weights & Biases; WANDB_MODE=offline keeps it in RUN/wandb."""

    def __init__(self, run: Path, after_step: int, recipe: Recipe) -> None:
        wandb = _find("wandb")
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        self.run: Any = wandb.init(
            project=project, name=run.resolve().name, id=_id_of(run), resume="allow", dir=str(run), config=plain(recipe)
        )
        # wandb's own counter only rises: by it, the steps that a resumed run makes again would be dropped.
        self.run.define_metric("*", step_metric="step")

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Log the numbers together with the step."""
        self.run.log({"step": step, **numbers})

    def close(self) -> None:
        """End the wandb run."""
        self.run.finish()


TRACKERS: dict[str, Callable[[Path, int, Recipe], Tracker]] = {
    "tensorboard": TensorBoard,
    "trackio": Trackio,
    "wandb": Wandb,
}
"""The trackers by their names in a recipe (recipe/watching.py). Their extras and modules have the same names."""


def chosen(recipe: Recipe) -> list[str]:
    """Return the trackers of a recipe, `auto` resolved: TensorBoard where it is installed."""
    if recipe.tracking == ("auto",):
        return ["tensorboard"] if find_spec("tensorboard") is not None else []
    return [*recipe.tracking]


def refuse_missing(recipe: Recipe) -> None:
    """Raise UserError where a tracker that the recipe names is not installed."""
    for name in chosen(recipe):
        _find(name)


def _find(name: str) -> Any:
    return import_extra(name, name, f"tracking with {name}", ", or leave it out of `tracking`")


class Trackers:
    """All trackers of a run.

    metrics.jsonl is the record. A tracker that fails is left out from there on, with a message, and the run continues.
    """

    def __init__(self, recipe: Recipe, run: Path, after_step: int) -> None:
        self.open: dict[str, Tracker] = {}
        for name in chosen(recipe):
            try:
                self.open[name] = TRACKERS[name](run, after_step, recipe)
            except Exception as error:  # another project's program may need a network or a login
                say(f"{name} does not begin, and will show nothing of this run: {first_line(error)}")

    def write(self, record: Mapping[str, Any]) -> None:
        """Show the finite numbers of a record of metrics.jsonl."""
        numbers = {
            name: value
            for name, value in record.items()
            if isinstance(value, (int, float)) and name != "step" and math.isfinite(value)
        }
        for name in list(self.open):
            try:
                self.open[name].log(record["step"], numbers)
            except Exception as error:
                say(f"{name} fails, and shows nothing after step {record['step']:,}: {first_line(error)}")
                del self.open[name]

    def close(self) -> None:
        """Close each tracker."""
        for name, tracker in self.open.items():
            try:
                tracker.close()
            except Exception as error:
                say(f"{name} fails to end: {first_line(error)}")


def _id_of(run: Path) -> str:
    """Return the id of a run; draw one where it has none yet."""
    path = run / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["id"]
    except (OSError, ValueError, KeyError, TypeError):
        found = secrets.token_hex(4)
        write_file(path, json.dumps({"id": found}) + "\n", replace=True)
    return str(found)
