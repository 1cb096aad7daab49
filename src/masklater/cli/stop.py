"""Ctrl-C, SIGTERM and SIGHUP where nothing is to be saved: one line, no half-written files, 128 + the signal's number.

Commands that save before they exit (`pretrain`, `judge`) handle the signals themselves while they work.
"""

import atexit
import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing import active_children
from types import FrameType, TracebackType
from typing import Never, Self

from masklater.console import say
from masklater.folders import remove_unfinished
from masklater.machine.signals import STOPS

AGAIN_SECONDS = 2.0
"""Seconds until the exception is raised again.

It may have been lost on its way, in a destructor for example, or held up by code that waits for threads."""


class Stopped(BaseException):
    """A signal arrived. This is no Exception, so that no handler takes it for a failure that it can recover from."""


class StopAtOnce:
    """Raises Stopped in the main thread when one of STOPS arrives; signals that were ignored before stay ignored."""

    def __init__(self) -> None:
        self.received: int | None = None
        self.before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (*STOPS, signal.SIGALRM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self.before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.received is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self.before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received = number
            threading.excepthook = lambda _: None  # threads whose resources are taken away would print tracebacks
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        raise Stopped

    def leave(self) -> Never:
        """End this process and its children at once; threads may still be at work on something no longer wanted."""
        number = self.received or signal.SIGINT
        for other in self.before:
            signal.signal(other, signal.SIG_IGN)
        remove_unfinished()
        say(f"masklater: stopped by {'Ctrl-C' if number == signal.SIGINT else signal.Signals(number).name}")
        signal.signal(signal.SIGALRM, lambda *_: os._exit(128 + number))
        signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
        for child in active_children():
            child.terminate()
        atexit._run_exitfuncs()  # removes temporary folders and semaphores, which os._exit would leave
        with suppress(OSError):
            if sys.stdout is not None:
                sys.stdout.flush()
        os._exit(128 + number)
