"""Library calls that block signals, run so that signals get through."""

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")


def interruptible(work: Callable[[], Result]) -> Result:
    """Do work in a thread and wait for it.

    Python handles signals in the main thread, between two of its own instructions: a library's minutes of work there
    would keep Ctrl-C and SIGTERM waiting. When a signal ends the wait, the thread goes on until the process ends.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future.result()
