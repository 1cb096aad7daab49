"""A recipe before validation: the tree of a YAML file, and the overrides of the command line."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from masklater.console import say
from masklater.errors import UserError
from masklater.recipe.duration import UNITS

MAX_RECIPE_BYTES = 2**20
NOT_YAML = (yaml.YAMLError, ValueError, RecursionError)
"""The errors that PyYAML raises: its own, and Python's for invalid dates, numbers too long and nesting too deep."""


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice; plain YAML would silently take the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} is not text", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _construct_number(loader: _StrictLoader, node: yaml.ScalarNode) -> float | str:
    """Leave as text what YAML 1.1 reads as another number than it looks: 1:30 would be 90, and 010 would be 8."""
    text = node.value
    if ":" in text or (text.isdecimal() and text[0] == "0" and len(text) > 1):
        return str(text)
    is_int = node.tag.endswith(":int")
    number: float = loader.construct_yaml_int(node) if is_int else loader.construct_yaml_float(node)
    return number


for _tag in ("int", "float"):
    _StrictLoader.add_constructor(f"tag:yaml.org,2002:{_tag}", _construct_number)


def read_yaml(
    path: Path, what: str = "a recipe", parts: str = "sections", example: str = "the shipped recipes"
) -> dict[str, Any]:
    """Read a file that holds one mapping, with no key given twice.

    Args:
        path: The file.
        what: What it should be, for messages.
        parts: What its keys name, for messages.
        example: What the message refers to where the file is not readable.

    Raises:
        UserError: The file cannot be read, or is something else.
    """
    try:
        if (size := path.stat().st_size) > MAX_RECIPE_BYTES:
            raise UserError(
                f"{path} has {size:,} bytes, and {what} at most {MAX_RECIPE_BYTES:,}", "Is it the right file?"
            )
        tree = yaml.load(path.read_text(encoding="utf-8-sig"), _StrictLoader)
    except NOT_YAML as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        what = getattr(error, "problem", None) or str(error) or type(error).__name__
        raise UserError(f"{where}: not readable as YAML: {what}", f"Mend the file; see {example}.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}", "Check the path and its permissions.") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path}: {what} is a mapping of {parts}; this is {type(tree).__name__}", f"See {example}.")
    return tree


def apply_overrides(tree: dict[str, Any], overrides: Sequence[str]) -> None:
    """Set `dotted.key=value`s in a tree, the values read as YAML; report settings that this discards.

    Raises:
        UserError: An override is not of that form, or its value is not YAML.
    """
    replaced: set[tuple[str, ...]] = set()
    given: dict[tuple[str, ...], str] = {}
    if any(override.startswith("model.from=") for override in overrides) and isinstance(tree.get("model"), dict):
        tree["model"] = {}  # the family and sizes are then the saved model's, not the recipe's
    for override in overrides:
        dotted, equals, text = override.partition("=")
        keys = tuple(dotted.strip().split("."))
        _say_what_is_lost(keys, text, given)
        if not equals or not all(keys):
            raise UserError(
                f"the override {override!r} is not of the form dotted.key=value", "For example batch.rows=128."
            )
        try:
            value = yaml.load(text, _StrictLoader) if text.strip() else None
        except NOT_YAML:
            raise UserError(f"the override {override!r} has a value that is not YAML", "Quote it.") from None
        parent = _parent_of(keys, tree, override)
        if isinstance(parent, list):
            parent[int(keys[-1])] = value
            continue
        # A unit given here replaces the recipe's unit; two units on the command line stay two, which is a fault.
        if keys[-1] in UNITS and keys[:-1] in {("duration",), ("schedule", "warmup")} and keys[:-1] not in replaced:
            replaced.add(keys[:-1])
            for unit in UNITS:
                parent.pop(unit, None)
        parent[keys[-1]] = value


def _parent_of(keys: Sequence[str], tree: dict[str, Any], override: str) -> Any:
    """Return the mapping, or list, in which the last key is to be set; missing mappings are created.

    Raises:
        UserError: A key names a place that a list does not have.
    """
    parent: Any = tree
    for key, following in pairwise(keys):
        if isinstance(parent, list):
            parent = parent[int(key)]
        else:
            is_list = isinstance(parent.get(key), list) and following.isdigit()
            if not isinstance(parent.get(key), dict) and not is_list:
                parent[key] = {}
            parent = parent[key]
        if isinstance(parent, list) and not (following.isdigit() and int(following) < len(parent)):
            raise UserError(
                f"the override {override!r} names the place {following} in {key}, which has {len(parent)}, counted "
                "from 0",
                "Name one of them, or give the whole list.",
            )
        if not isinstance(parent, dict | list):
            raise UserError(f"the override {override!r} goes into {key}, which holds no settings", "Give it whole.")
    return parent


def _say_what_is_lost(keys: tuple[str, ...], text: str, given: dict[tuple[str, ...], str]) -> None:
    """Report values replaced by later ones for the same setting, which lets a script's settings be overridden."""
    for earlier, value in given.items():
        if earlier[: len(keys)] == keys and (earlier != keys or value != text):
            say(f"{'.'.join(earlier)}={value} is given too, and replaced by {'.'.join(keys)}={text}")
    given[keys] = text
