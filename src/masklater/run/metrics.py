"""metrics.jsonl: one object a step, one an evaluation, losses in full precision; TensorBoard where installed."""

import json
import math
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from masklater.errors import DamagedDataError
from masklater.folders import disk_errors_for_people, write_file


class MetricsLog:
    """The log of one run, open for appending.

    `evaluated` says whether the step it was opened after has its evaluation.
    """

    def __init__(self, folder: Path, after_step: int) -> None:
        """Open the log and forget what was logged after `after_step`, which is about to be done again."""
        self.path = folder / "metrics.jsonl"
        self.evaluated = False
        with disk_errors_for_people(self.path):
            if self.path.exists():
                kept = [record for record in read_metrics(self.path) if record["step"] <= after_step]
                write_file(self.path, "".join(json.dumps(record) + "\n" for record in kept), replace=True)
                self.evaluated = any("valid_loss" in record for record in kept if record["step"] == after_step)
            self.file = self.path.open("a", encoding="utf-8")
        self.board: Any = None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=after_step + 1)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; it has a `step`."""
        with disk_errors_for_people(self.path):
            self.file.write(json.dumps(record) + "\n")
            self.file.flush()
        if self.board is not None:
            for name, value in record.items():
                if isinstance(value, (int, float)) and name != "step" and math.isfinite(value):
                    self.board.add_scalar(name, value, record["step"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()
        if self.board is not None:
            self.board.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All records of a metrics.jsonl. A last line cut short by a crash is left out.

    Raises:
        DamagedDataError: Any other line is not a record.
    """
    lines = path.read_bytes().removesuffix(b"\n").split(b"\n")
    records: list[dict[str, Any]] = []
    if lines == [b""]:
        return records
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            record["step"] + 0  # a record without a numeric step is none of ours
        except (ValueError, TypeError, KeyError, RecursionError):
            if number == len(lines):
                break
            raise DamagedDataError(f"{path}, line {number}: not a record of a run", "Remove the line.") from None
        records.append(record)
    return records


def recent_losses(path: Path, number: int) -> list[float]:
    """Return the last finite losses of training steps, oldest first; only the end of the file is read."""
    if not path.is_file():
        return []
    size = path.stat().st_size
    read = min(size, 2**16)
    while True:
        with path.open("rb") as file:
            file.seek(size - read)
            lines = file.read(read).split(b"\n")
        losses = _finite_losses(lines if read == size else lines[1:])
        if len(losses) >= number or read == size:
            return losses[-number:]
        read = min(size, 2 * read)


def _finite_losses(lines: list[bytes]) -> list[float]:
    losses = []
    for line in lines:
        if b'"loss"' not in line:
            continue
        try:
            loss = json.loads(line)["loss"]
        except ValueError:
            continue  # cut short by a crash
        if isinstance(loss, float) and math.isfinite(loss):
            losses.append(loss)
    return losses
