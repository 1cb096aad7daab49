"""From YAML to a Recipe, and back: read, overridden, validated whole, written resolved.

`load` reads a file (or a shipped recipe by its name), applies dotted overrides and validates, reporting every fault
at once with its path, the value found, the rule and the remedy. A loaded Recipe is frozen; `dump` writes it resolved.
"""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from masklater.errors import Fault, RecipeError, UserError, did_you_mean
from masklater.recipe.contradictions import find_contradictions
from masklater.recipe.duration import Duration
from masklater.recipe.effect import without_effect
from masklater.recipe.faults import fault_of, of_the_branch_meant, unknown_key
from masklater.recipe.recipe import Recipe
from masklater.recipe.section import Section, is_list
from masklater.recipe.sections import DecoderSettings
from masklater.recipe.tree import apply_overrides, read_yaml


def load(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read, override and validate a recipe.

    Args:
        source: A YAML file, or the name of a shipped recipe such as `3ml-base-50`.
        overrides: `dotted.key=value`, the value read as YAML.

    Raises:
        UserError: The file is missing or not YAML, or an override is malformed.
        RecipeError: The recipe has faults; all of them are listed.
    """
    tree = read_yaml(_locate(source))
    apply_overrides(tree, overrides)
    return validate(tree, str(source))


def load_record(path: Path) -> Recipe:
    """Read the recipe that a RUN has recorded; a setting that it lacks acts as it did in the version that wrote it.

    Raises:
        UserError: The file is missing or not YAML.
        RecipeError: The file is not what pre-training wrote.
    """
    tree = read_yaml(path)
    masking = tree.get("masking")
    schedule = masking.get("schedule") if isinstance(masking, dict) else None
    if isinstance(schedule, dict) and schedule.get("name") == "linear":
        schedule.setdefault("levels", None)  # the rate changed with every step then
    return validate(tree, str(path))


def validate(tree: Mapping[str, Any], source: str = "given") -> Recipe:
    """Build a Recipe from a plain tree, or raise RecipeError with every fault it has."""
    faults: list[Fault] = []
    sections: dict[str, Any] = {}
    # Each section by itself, so that a fault in one does not hide contradictions between the others.
    for name in Recipe.model_fields:
        section, found = _validate_section(name, tree)
        if found:
            faults += found
        else:
            sections[name] = section
    faults += [unknown_key((name,), tree) for name in tree if name not in Recipe.model_fields]
    faults += find_contradictions(sections)
    if faults:
        raise RecipeError(source, faults)
    return Recipe(**sections)


def validate_decoder(tree: Mapping[str, Any]) -> DecoderSettings:
    """Build the decoder section from a plain tree outside a recipe.

    Raises:
        UserError: The section has faults; all of them are listed.
    """
    section, faults = _validate_section("decoder", {"decoder": tree})
    if faults:
        raise UserError("\n  ".join(map(str, faults)))
    return section


def _validate_section(name: str, tree: Mapping[str, Any]) -> tuple[Any, list[Fault]]:
    """Build one section of a recipe, with defaults for the others, or return every fault it has."""
    partial = {name: tree[name]} if name in tree else {}
    if name != "duration":
        partial["duration"] = {"steps": 1}
    try:
        return getattr(Recipe.model_validate(partial), name), []
    except ValidationError as error:
        every = error.errors()
        meant = [details for details in every if of_the_branch_meant(details, every, tree)]
        return None, [fault_of(details, tree) for details in meant or every]


def dump(recipe: Recipe) -> str:
    """Return the resolved recipe as YAML: every setting that has an effect, durations with their unit."""
    return yaml.safe_dump(plain(recipe), sort_keys=False, default_flow_style=None)


def plain(recipe: Recipe) -> dict[str, Any]:
    """Return the resolved recipe as a tree of plain values, by a recipe file's names, without settings of no effect."""
    tree = recipe.model_dump(mode="json", by_alias=True)
    for key in without_effect(recipe):
        *sections, name = key.split(".")
        section = tree
        for part in sections:
            section = section[part]
        del section[name]
    return tree


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """Return every setting of the resolved recipe that has an effect, by its dotted key."""
    return _leaves(plain(recipe))


def _leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found |= _leaves(value, f"{prefix}{key}.")
        elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
            found |= _leaves({str(place): each for place, each in enumerate(value)}, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def shipped() -> dict[str, Path]:
    """Return the recipes that come with the package, by name."""
    folder = Path(str(resources.files("masklater") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def describe() -> list[tuple[str, str, str]]:
    """Return every setting as (dotted key, default, meaning), for `--settings` and the docs."""
    rows: list[tuple[str, str, str]] = []

    def walk(prefix: str, section: type[Section], defaults: Mapping[str, Any]) -> None:
        for name, field in section.keys().items():
            inner = section.section_at(name)
            if inner is None or (inner is not field.annotation and not is_list(field)):
                default = yaml.safe_dump(defaults.get(name), default_flow_style=True).split("\n")[0]
                rows.append((f"{prefix}{name}", default, field.description or ""))
            elif is_list(field):
                rows.append((f"{prefix}{name}", "[]", field.description or ""))
                walk(f"{prefix}{name}.0.", inner, {})
            else:
                walk(f"{prefix}{name}.", inner, defaults.get(name) or {})

    defaults = Recipe(duration=Duration(steps=1)).model_dump(mode="json", by_alias=True)
    walk("", Recipe, defaults | {"duration": None})
    return rows


def _locate(source: str | Path) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    known = shipped()
    if str(source) in known:
        return known[str(source)]
    if path.is_dir():
        raise UserError(f"the recipe {source} is a folder, not a YAML file", "Give the file itself.")
    raise UserError(
        f"there is no recipe {source}: neither a file nor a shipped recipe",
        f"{did_you_mean(str(source), known)} Shipped recipes: {', '.join(known)}.".strip(),
    )
