"""The faults that pydantic finds in a recipe, as sentences: where, the value found, the rule and the remedy."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import ErrorDetails

from masklater.errors import MISSING, Fault, did_you_mean
from masklater.recipe.duration import Duration
from masklater.recipe.recipe import Recipe
from masklater.recipe.section import Section, is_list

PLAIN_BRANCHES = ("literal['auto']", "bool", "int", "constrained-int")
"""Pydantic's names for the branches of a union of plain values (`micro_rows: auto | int`); the last is the clearest."""

RULES = {"tuple_type": "it must be a list, as [...]", "model_type": "it must be a section, as {...}"}
"""Rules in the terms of YAML where pydantic uses those of Python, by pydantic's names."""


def _branch(path: Sequence[int | str]) -> int | None:
    """Return the index in pydantic's path that names a branch of a union (`warmup: float | Duration`), or None."""
    if len(path) > 1 and path[-1] in PLAIN_BRANCHES:
        return len(path) - 1
    return 2 if tuple(path[:2]) == ("schedule", "warmup") and len(path) > 2 else None


def of_the_branch_meant(details: ErrorDetails, every: Sequence[ErrorDetails], tree: Mapping[str, Any]) -> bool:
    """Tell whether a union's error is about the branch the user wrote; of plain values, about the clearest one."""
    path = details["loc"]
    branch = _branch(path)
    if branch is None:
        return True
    if path[branch] in PLAIN_BRANCHES:
        of_union = [other["loc"][-1] for other in every if other["loc"][:-1] == path[:-1]]
        return path[branch] == max(of_union, key=lambda name: PLAIN_BRANCHES.index(str(name)))
    return isinstance(tree["schedule"]["warmup"], Mapping) == (path[branch] != "float")


def fault_of(details: ErrorDetails, tree: Mapping[str, Any]) -> Fault:
    """Return one of pydantic's errors as a fault."""
    branch = _branch(details["loc"])
    path = tuple(str(key) for number, key in enumerate(details["loc"]) if number != branch)
    kind, context = details["type"], details.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_key(path, tree)
    where = ".".join(path)
    if kind == "missing" and path[-1].isdecimal():
        return Fault(".".join(path[:-1]), details["input"], "it has too few values", f"It means: {_meaning(path)}.")
    if kind == "missing":
        example = "{steps: 2000}" if where == "duration" else "..."
        return Fault(where, MISSING, "it has no default", f"Add it, for example {where}: {example}.")
    meaning = _meaning(path)
    if kind == "value_error":
        remedy = f"It means: {meaning}." if meaning else "Change one of them, or leave it out."
        return Fault(where, details["input"], str(context["error"]), remedy)
    rule = RULES.get(kind, details["msg"][0].lower() + details["msg"][1:])
    return Fault(
        where, details["input"], rule, f"It means: {meaning}." if meaning else "See `masklater pretrain --settings`."
    )


def unknown_key(path: tuple[str, ...], tree: Mapping[str, Any]) -> Fault:
    """Return the fault of an unknown key, with the keys that exist."""
    section = _section(path[:-1])
    known = list(section.keys()) if section else []
    node: Any = tree
    for key in path:
        if isinstance(node, list):
            node = node[int(key)] if key.isdigit() and int(key) < len(node) else None
        else:
            node = node.get(key) if isinstance(node, Mapping) else None
    place = f"the section {'.'.join(path[:-1])} has" if len(path) > 1 else "a recipe has"
    remedy = f"Known here: {', '.join(known)}. {did_you_mean(path[-1], known)}".rstrip()
    return Fault(".".join(path) or "''", node, f"{place} no such key", remedy)


def _section(path: tuple[str, ...]) -> type[Section] | None:
    section: type[Section] = Recipe
    in_list = False
    for key in path:
        if (path[0], key) == ("schedule", "warmup"):
            return Duration
        if in_list:
            in_list = False
            continue
        field, inner = section.keys().get(key), section.section_at(key)
        if field is None or inner is None:
            return None
        section, in_list = inner, is_list(field)
    return section


def _meaning(path: tuple[str, ...]) -> str | None:
    """Return the meaning of a setting; for a value in a list, that of the list."""
    while path and path[-1].isdecimal():
        path = path[:-1]
    section = _section(path[:-1])
    field = section.keys().get(path[-1]) if section else None
    return field.description if field else None
