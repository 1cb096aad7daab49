"""An examination: facts for a bug report, notes worth knowing, and all problems, at once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from masklater.console import aligned
from masklater.errors import UserError

Result = TypeVar("Result")


@dataclass
class Examination:
    """The findings of an examination so far."""

    facts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def problem(self, what: str, remedy: str = "") -> None:
        """Record a problem, once."""
        text = f"{what}\n  {remedy}" if remedy else what
        if text not in self.problems:
            self.problems.append(text)

    def attempt(self, look: Callable[[], Result]) -> Result | None:
        """Return the result of a check; record a problem and return None where the check raises UserError."""
        try:
            return look()
        except UserError as error:
            self.problem(error.problem, error.remedy)
        except OSError as error:
            self.problem(f"{error.filename} cannot be read: {error.strerror}", "Check its permissions.")
        return None


def as_text(found: Examination) -> str:
    """Return the examination as text, for a terminal and for a bug report."""
    blocks = [aligned([*found.facts.items()])]
    if found.notes:
        blocks.append("worth knowing:\n" + "\n".join(f"  - {note}" for note in found.notes))
    if found.problems:
        count = "1 problem" if len(found.problems) == 1 else f"{len(found.problems)} problems"
        listed = "\n".join("  - " + problem.replace("\n", "\n  ") for problem in found.problems)
        blocks.append(f"{count}:\n{listed}")
    else:
        blocks.append("nothing is wrong")
    return "\n\n".join(blocks)
