"""metrics.jsonl: one object for each step, one for each evaluation, losses in full precision."""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from masklater.console import say
from masklater.errors import DamagedDataError, UserError
from masklater.folders import disk_errors_for_people, write_file
from masklater.ledger import Ledger
from masklater.recipe.recipe import Recipe
from masklater.run.trackers import Trackers

EVALUATED = {"valid_loss", "causal_loss"}
"""Names of losses on held-out rows; every evaluation has one of them."""


class MetricsLog:
    """The log of one run, open for appending.

    `evaluated` says whether the log already has the evaluation of the step that it was opened after.
    """

    def __init__(self, folder: Path, after_step: int, recipe: Recipe | None = None) -> None:
        """Open the log and drop the records after `after_step`, because those steps are about to be made again.

        With a recipe, the trackers that it names also show each record.
        """
        self.path = folder / "metrics.jsonl"
        self.after_step, self.evaluated = after_step, False
        logged: list[int] = []
        with disk_errors_for_people(self.path):
            if self.path.exists():
                kept = [record for record in read_metrics(self.path) if record["step"] <= after_step]
                write_file(self.path, "".join(json.dumps(record) + "\n" for record in kept), replace=True)
                scores = [record.keys() & EVALUATED for record in kept if record["step"] == after_step]
                self.evaluated = any(scores)
                logged = steps_logged(kept)
            if gap := gap_in(self.path, logged, after_step):
                say(gap)
            self.file = self.path.open("a", encoding="utf-8")
        self.trackers = None if recipe is None else Trackers(recipe, folder, after_step)

    def has_evaluation_of(self, step: int) -> bool:
        """Return whether an earlier process has logged this step's evaluation, as of a finished run started again."""
        return self.evaluated and step == self.after_step

    def write(self, record: dict[str, Any]) -> None:
        """Append one record, which must have a `step`."""
        with disk_errors_for_people(self.path):
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()
        if self.trackers is not None:
            self.trackers.write(record)

    def sync(self) -> None:
        """Flush the log to disk, so that a power cut leaves no checkpoint of a step that the log lacks."""
        if self.file.closed:  # __exit__ has synced it
            return
        with disk_errors_for_people(self.path):
            os.fsync(self.file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # a line could not be written; the error was reported then
            os.fsync(self.file.fileno())
        with suppress(OSError):  # for the same reason
            self.file.close()
        if self.trackers is not None:
            self.trackers.close()


def step_record(
    ledger: Ledger, lr: float, masking_rate: float, step_seconds: float, data_seconds: float
) -> dict[str, Any]:
    """Return the record of the step just booked, without the values that only the device will know."""
    return {
        "step": ledger.steps,
        "loss": None,
        **({} if masking_rate else {"objective": "causal"}),
        "lr": lr,
        "masking_rate": masking_rate,
        "grad_norm": None,
        "skipped": None,
        "rows": ledger.rows,
        "tokens": ledger.tokens,
        "tokens_seen": ledger.tokens_seen,
        "tokens_predicted": ledger.tokens_predicted,
        "flops": ledger.flops,
        "flops_head": ledger.flops_head,
        "flops_optimizer": ledger.flops_optimizer,
        **_selection(ledger),
        "step_seconds": step_seconds,
        "data_seconds": data_seconds,
    }


def _selection(ledger: Ledger) -> dict[str, float]:
    """Return the cost of choosing the rows, where they were chosen."""
    if not ledger.flops_selection:
        return {}
    return {"flops_selection": ledger.flops_selection, "flops_selection_runs": ledger.flops_selection_runs}


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Read all records of a metrics.jsonl. Raises the same errors as `numbered_records`."""
    return [record for _, record in numbered_records(path)]


def numbered_records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield line number and record of each line of a metrics.jsonl.

    A last line without an end that is no record, as a crash leaves it, is skipped.

    Raises:
        UserError: The file cannot be read.
        DamagedDataError: Any other line is not a record.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read: {error.strerror}", "Name a run that has begun to train, and that you may read."
        ) from None
    return _records(path, content)


def steps_logged(records: Sequence[dict[str, Any]]) -> list[int]:
    """Return the numbers of the steps among the records."""
    return [record["step"] for record in records if "loss" in record]


def gap_in(path: Path, logged: Sequence[int], made: int) -> str | None:
    """Return a sentence on how many of the steps made are missing in a log; None where none is missing."""
    lost = made - len({*logged})
    return f"{path} lacks {lost:,} of the {made:,} steps made: curves and tables do too" if lost else None


def recent_losses(path: Path, number: int, since: int = 0) -> list[float]:
    """Return the last finite losses of training steps, oldest first. Only the end of the file is read.

    Args:
        path: metrics.jsonl.
        number: The most losses to return.
        since: Losses of the steps up to this number are left out.

    Raises:
        DamagedDataError: A line that was read is not a record, as in `numbered_records`.
    """
    if not path.is_file():
        return []
    size, read = path.stat().st_size, 2**16
    while True:
        with path.open("rb") as file:
            file.seek(max(0, size - read))
            content = file.read()
        if read < size:
            content = content.partition(b"\n")[2]  # it begins inside a line
        steps = [record for _, record in _records(path, content) if isinstance(record.get("loss"), float)]
        finite = [step["loss"] for step in steps if step["step"] > since and math.isfinite(step["loss"])]
        if len(finite) >= number or read >= size or (steps and steps[0]["step"] <= since):
            return finite[-number:]
        read *= 2


def training_sha256(run: Path, step: int) -> str | None:
    """Return the SHA-256 of a run's log of its steps up to `step`, which identifies the weights at that step.

    Loss and gradient norm follow from the weights before a step, and the learning rate says how the step changed them.
    Seconds and other values that may differ between two runs with the same weights are left out. None: there is no
    sound log, or it does not reach that step.
    """
    digest, reached = hashlib.sha256(), 0
    try:
        for _, record in numbered_records(run / "metrics.jsonl"):
            if "loss" in record and record["step"] <= step:
                of_step = [record["step"], record["loss"], record.get("lr"), record.get("grad_norm")]
                digest.update(f"{json.dumps(of_step)}\n".encode())
                reached = record["step"]
    except UserError:
        return None
    return digest.hexdigest() if reached == step > 0 else None


def _records(path: Path, content: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield number and record of each line in the last part of a file."""
    *lines, last = content.split(b"\n")
    for number, line in enumerate([*lines, last], start=1):
        record = _parse(line)
        if record is not None:
            yield number, record
        elif number <= len(lines):
            before = path.read_bytes().removesuffix(content).count(b"\n")
            raise DamagedDataError(
                f"{path}, line {before + number}: not a record of a run",
                "Remove the line, or restore the file from a copy.",
            )


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
        return record if isinstance(record["step"], int) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
