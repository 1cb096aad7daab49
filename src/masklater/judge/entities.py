"""Entities in labels such as B-PER, I-PER and O, as found by conlleval, the CoNLL shared tasks' program of 2004.

A label is a prefix and, after the first hyphen, a type. IOB1, IOB2 and IOE are read alike, including sequences that
break a scheme's rules: an entity begins where the type changes, whatever the prefix.
"""

import re
from collections.abc import Sequence

LABEL = re.compile(r"O|[BIE](-.+)?")
"""A label of a word inside an entity (prefix and type, or a prefix alone) or outside of all entities (O)."""


def entities(labels: Sequence[str]) -> set[tuple[int, int, str]]:
    """Return a sentence's entities as (first word, word after the last, type)."""
    found: set[tuple[int, int, str]] = set()
    begun: int | None = None
    before, type_before = "O", ""
    for place, label in enumerate([*labels, "O"]):
        prefix, _, kind = label.partition("-")
        changed = kind != type_before
        follows = (before in "BI" and prefix == "B") or (before == "E" and prefix in "EI")
        if begun is not None and (prefix == "O" or changed or follows):
            found.add((begun, place, type_before))
            begun = None
        if begun is None and prefix != "O":
            begun = place
        before, type_before = prefix, kind
    return found
