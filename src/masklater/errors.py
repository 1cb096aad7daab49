"""The few errors a user meets. Each says what is wrong, where, and what to do about it."""

import difflib
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass


class UserError(Exception):
    """A mistake or a fact of the user's world (a missing file, a full disk): one message, exit status 2.

    Args:
        problem: Where, the value that was found, and the rule it breaks.
        remedy: What the user can do, as a sentence.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem}\n  {remedy}" if remedy else problem)


class DamagedDataError(UserError):
    """Something on disk is not what was once written there: truncated, altered, or another thing altogether."""


@dataclass(frozen=True)
class Fault:
    """One mistake in a recipe, or in another file of settings."""

    where: str  # dotted path of the setting
    value: object  # what was found there; MISSING where nothing was
    rule: str  # what holds for it
    remedy: str  # what to write instead

    def __str__(self) -> str:
        found = "is missing" if self.value is MISSING else f"is {_short(self.value)}"
        return f"{self.where} {found}: {self.rule}. {self.remedy}"


MISSING = object()


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Ask whether the nearest of the words that there are was meant; empty where none is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"Did you mean {close[0]}?" if close else ""


def _short(value: object) -> str:
    """A value for a message. YAML's aliases can stand for more than any memory holds, so that no more is looked at."""
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
    """Return what an error of another library says, in one line; its class's name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is short: this machine's, or a GPU's.

    torch has an error of its own for an allocation of its own that a GPU refuses, known here by its name as torch is
    not imported. It says the rest in a RuntimeError's text: "not enough memory" of a CPU, "CUDA error: out of memory"
    of a GPU that others have filled, "CUBLAS_STATUS_ALLOC_FAILED" of one that has nothing left for cuBLAS.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(
        said in str(error).lower() for said in ("not enough memory", "error: out of memory", "_alloc_failed")
    )


class Interrupted(Exception):  # noqa: N818 - not an error: the run was asked to stop, and did so in order
    """SIGINT or SIGTERM arrived and the work was saved. Exit status 128 + the signal's number."""

    def __init__(self, signal_number: int, message: str, result: dict[str, object] | None = None) -> None:
        self.signal_number = signal_number
        self.result = result or {}
        super().__init__(message)


class SaidElsewhere(Exception):  # noqa: N818 - another of the processes that train together tells the user
    """This process leaves because of what another one reports; it says nothing itself."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"another process says why (exit status {status})")
