"""What the tests have counted, for the lines at the end of a run of them."""

from collections import Counter

COUNTED: Counter[str] = Counter()


def count(what: str, number: int = 1) -> None:
    """Count something that the summary shows, for example "inputs fuzzed: recipes"."""
    COUNTED[what] += number
