"""Progress and messages for a person: a progress bar on a terminal, else (in a log) a line every ten seconds."""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

LOG_INTERVAL_SECONDS = 10.0


class _Console(Console):
    """Standard error. Its reader may exit, as `| tee` does at Ctrl-C; this is no reason to end the work."""

    def on_broken_pipe(self) -> None:
        """Continue in silence, where rich would end the process."""
        _fall_silent()


console = _Console(stderr=True, highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """Print one line for a person, to stderr, so that stdout stays for results."""
    with _heard_or_not():
        console.print(message, markup=False, emoji=False)


@contextmanager
def _heard_or_not() -> Iterator[None]:
    try:
        yield
    except OSError:  # the terminal was closed, or the disk of a log is full
        _fall_silent()


def _fall_silent() -> None:
    """Discard everything written to stderr from here on, and what is still in its buffer."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stderr.fileno())
    os.close(nowhere)


def aligned(rows: Sequence[Sequence[str]], numbers_from: int | None = None, width: int | None = None) -> str:
    """Lay out rows of text in columns, without colours or rules.

    Args:
        rows: The cells; all rows have the same number.
        numbers_from: The first of the columns that are aligned right; None: no column is.
        width: The width to which the last column is wrapped; None: nothing is wrapped.
    """
    grid, last = Table.grid(padding=(0, 2, 0, 0)), len(rows[0]) - 1
    for column in range(last + 1):
        to_right = numbers_from is not None and column >= numbers_from
        grid.add_column(justify="right" if to_right else "left", no_wrap=width is None or column < last)
    for row in rows:
        grid.add_row(*map(Text, row))
    wide_enough = width or sum(2 * len(cell) + 2 for row in rows for cell in row)
    plain: Any = Console(width=wide_enough, color_system=None, force_terminal=False, legacy_windows=False)
    with plain.capture() as captured:
        plain.print(grid)
    return "\n".join(line.rstrip() for line in captured.get().removesuffix("\n").split("\n"))


class Meter:
    """Progress of one piece of work.

    Args:
        what: What is being done, as a participle: "Tokenising".
        total: The amount at which the work is complete, in any unit; None where it is not known.
        quiet_if_short: Whether a log gets no line where all was done before the first line was due.
        before: The amount that an earlier try has done, which took none of this one's time.
    """

    def __init__(self, what: str, total: float | None, quiet_if_short: bool = False, before: float = 0.0) -> None:
        self.what = what
        self.total = total
        self.quiet_if_short = quiet_if_short
        self.done = self.before = before
        self.note = ""
        self.started = self.last_line = time.monotonic()
        self.bar: Progress | None = None
        if console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TaskProgressColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=console,
            )
            # The signature asks for an int; the task that is made takes a float.
            self.task = self.bar.add_task(what, total=total, completed=before, note="")  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        if self.bar:
            with _heard_or_not():
                self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar:
            with _heard_or_not():
                self.bar.stop()
        elif kind is None and not (self.quiet_if_short and time.monotonic() - self.started < LOG_INTERVAL_SECONDS):
            say(self._line())

    def advance(self, amount: float, note: str | None = None) -> None:
        """Add to the progress; the note is shown next to the bar (a rate, a loss)."""
        self.set(self.done + amount, note)

    def set(self, done: float, note: str | None = None) -> None:
        """Set the progress to an amount."""
        self.done = done
        if note is not None:
            self.note = note
        if self.bar:
            self.bar.update(self.task, completed=done, note=self.note)
        elif time.monotonic() - self.last_line >= LOG_INTERVAL_SECONDS:
            self.last_line = time.monotonic()
            say(self._line())

    def _line(self) -> str:
        elapsed = time.monotonic() - self.started
        parts = [self.what]
        if self.total:
            share = min(1.0, self.done / self.total)
            parts.append(f"{share:4.0%}")
            if self.before < self.done < self.total:
                left = elapsed * (self.total - self.done) / (self.done - self.before)
                parts.append(f"{clock(elapsed)} gone, {clock(left)} left")
            else:
                parts.append(f"{clock(elapsed)}")
        if self.note:
            parts.append(self.note)
        return "  ".join(parts)


def clock(seconds: float) -> str:
    """Return seconds as m:ss or h:mm:ss."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
