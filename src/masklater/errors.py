"""The few errors a user meets. Each message says what is wrong, where, and what to do about it."""

import difflib
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass


class UserError(Exception):
    """A mistake of the user, or an obstacle outside (a missing file, a full disk): one message, exit status 2.

    Args:
        problem: The place, the value found there, and the rule it breaks.
        remedy: What the user can do, as a sentence.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}\n  {remedy}" if remedy else problem)


class DamagedDataError(UserError):
    """Something on disk differs from what was written there: truncated, altered, or replaced by something else."""


@dataclass(frozen=True)
class Fault:
    """One mistake in a recipe, or in another file of settings."""

    where: str  # dotted path of the setting
    value: object  # the value found there; MISSING where there was none
    rule: str  # the rule it breaks
    remedy: str  # what to write instead

    def __str__(self) -> str:
        found = "is missing" if self.value is MISSING else f"is {_short(self.value)}"
        return f"{self.where} {found}: {self.rule}. {self.remedy}"


MISSING = object()


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Ask whether the nearest known word was meant; empty where none is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"Did you mean {close[0]}?" if close else ""


def _short(value: object) -> str:
    """Return a value for a message. Only part of it is read: YAML's aliases can expand to more than fits in memory."""
    shortener = reprlib.Repr()
    shortener.maxlevel, shortener.maxstring, shortener.maxother, shortener.maxlong = 2, 200, 200, 60
    return shortener.repr(value)


class FaultsError(UserError):
    """All faults of one file at once; `source` names it."""

    def __init__(self, source: str, faults: list[Fault]) -> None:
        self.faults = faults
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        super().__init__("\n  - ".join([f"{source} has {count}:", *map(str, faults)]))


class RecipeError(FaultsError):
    """All faults of one recipe at once."""

    def __init__(self, source: str, faults: list[Fault]) -> None:
        super().__init__(f"the recipe {source}", faults)


def first_line(error: BaseException) -> str:
    """Return the message of another library's error in one line; its class's name where it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is short, on this machine or on a GPU.

    torch has its own error for an allocation that a GPU refuses. It is recognised by its name, because torch is not
    imported here. Other cases are a RuntimeError with a text: "not enough memory" on a CPU, "CUDA error: out of memory"
    on a GPU that other processes have filled, "CUBLAS_STATUS_ALLOC_FAILED" on a GPU with nothing left for cuBLAS.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(
        said in str(error).lower() for said in ("not enough memory", "error: out of memory", "_alloc_failed")
    )


class Interrupted(Exception):  # noqa: N818 - not an error: the run was asked to stop, and did so in order
    """SIGINT or SIGTERM arrived and the work was saved. Exit status: 128 + the signal's number."""

    def __init__(self, signal_number: int, message: str, result: dict[str, object] | None = None) -> None:
        self.signal_number = signal_number
        self.result = result or {}
        super().__init__(message)


class SaidElsewhere(Exception):  # noqa: N818 - another of the processes that train together tells the user
    """This process exits because of an error that another process reports; it prints nothing itself."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"another process says why (exit status {status})")
