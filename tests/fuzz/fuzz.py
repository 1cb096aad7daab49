"""Fuzzing with hypothesis: a property, many inputs, each of them counted for the summary.

The property of every reader: it works, or it raises UserError. Any other exception fails the test, and so does
damage that passes unseen.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

from tests.counts import count

EXAMPLES = pytest.mark.parametrize("examples", [25, pytest.param(400, marks=pytest.mark.slow)])
"""Few inputs in the fast suite, many in the slow one. Both repeat themselves from run to run."""


def fuzz(what: str, examples: int, check: Callable[[Any], None], inputs: SearchStrategy[Any]) -> None:
    """Check that many inputs have a property."""

    def counted(value: Any) -> None:
        count(f"inputs fuzzed: {what}")
        check(value)

    quiet = settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    quiet(given(inputs)(counted))()
