"""SIGTERM, Ctrl-C and a closed terminal (SIGHUP) during training: finish the step, save, exit."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

from masklater.console import say

STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask a process to end.

A signal that the process was started to ignore, as by nohup, stays ignored. Windows lacks the last one, SIGHUP.
"""


class StopOnSignal:
    """Remembers that a stop was asked for. A second Ctrl-C interrupts at once, as usual."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in STOPS:
            if signal.getsignal(number) is signal.SIG_IGN:
                continue
            try:
                self.before[number] = signal.signal(number, self._receive)
            except ValueError:  # not the main thread, which must not handle signals
                return self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            before = self.before[signal.SIGINT]
            if callable(before):
                before(number, frame)
            raise KeyboardInterrupt
        self.received = number
        say(f"{signal.Signals(number).name}: finishing the step, then saving")


@contextmanager
def children_deaf_to_the_terminal() -> Iterator[None]:
    """Keep processes started inside from receiving a terminal's signals, Ctrl-C or its end: only their parent does.

    The signals are blocked, and children inherit the block from their first instruction on. A signal that arrives here
    meanwhile is received at the end.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
