"""Recipes: random trees, random bytes, random overrides. Each is a Recipe, or one RecipeError that lists its faults."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from masklater.errors import RecipeError, UserError
from masklater.recipe.load import describe, dump, load, plain, validate
from masklater.recipe.recipe import Recipe
from tests.fuzz.fuzz import EXAMPLES, fuzz

KEYS = sorted(
    {part for setting, _, _ in describe() for part in setting.split(".")} | {"steps", "rows", "hours", "from"}
)
ODD_KEYS = ["float", "Duration", "", "0", "__class__", "from_", "model_config", "ключ", "a.b"]
ODD_VALUES: list[Any] = [
    None, True, -1, 0, 1, 0.5, 1e308, float("inf"), float("nan"), 10**30, "steps", "12", "1e3", [], {}, [[]], "x" * 1000,
    {"steps": 3}, {"hours": 1, "steps": 2}, "roberta", "self", "late", "none", "linear", "stepwise", [[0.5, 0.2]],
]  # fmt: skip
values = st.recursive(
    st.sampled_from(ODD_VALUES) | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS + ODD_KEYS), inner, max_size=4),
    max_leaves=8,
)
sections = st.dictionaries(st.sampled_from(KEYS + ODD_KEYS), values, max_size=5)
trees = st.dictionaries(st.sampled_from([*Recipe.model_fields, *ODD_KEYS]), sections | values, max_size=5)
near = st.tuples(st.sampled_from(sorted(setting for setting, _, _ in describe())), values)
"""One setting of a sound recipe replaced."""


def sound_or_refused(tree: dict[str, Any]) -> None:
    try:
        recipe = validate(tree)
    except RecipeError as error:
        assert error.faults and all(fault.where and fault.rule for fault in error.faults)
        assert len(str(error)) < 100_000
        return
    assert set(tree) <= set(Recipe.model_fields)
    assert validate(yaml.safe_load(dump(recipe))) == recipe  # what is accepted survives being written and read
    for name, section in tree.items():  # and nothing that was given has been left aside
        if isinstance(section, dict) and section and name not in {"duration"}:
            given = {key for key, value in section.items() if value is not None}
            assert given <= set(plain(recipe)[name])


@EXAMPLES
def test_random_trees(examples: int) -> None:
    fuzz("recipes", examples, sound_or_refused, trees)


@EXAMPLES
def test_sound_recipes_with_one_setting_replaced(examples: int) -> None:
    def check(edit: tuple[str, Any]) -> None:
        dotted, value = edit
        tree: dict[str, Any] = {"duration": {"steps": 10}}
        place = tree
        *path, last = dotted.split(".")
        for key in path:
            place = place.setdefault(key, {})
        place[last] = value
        sound_or_refused(tree)

    fuzz("recipes", examples, check, near)


@EXAMPLES
def test_random_files_and_overrides(examples: int, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    scraps = ["model:", "  rows: 3", "duration: {steps: 5}", "&a [*a]", "*a", "<<: *a", "? [a]", "!!python/object:os.system", "!!binary x",
              "2001-99-99", "9" * 5000, "[" * 300, "{a: b, a: c}", "\t", "- -", "seed: 1", "%YAML 9", "---", "...", "\ufeff", "batch: !!set {a}",
              "seed: 0o9", "seed: 1:99", "&a {b: *a}"]  # fmt: skip
    files = st.lists(st.sampled_from(scraps) | st.text(max_size=10), max_size=6).map("\n".join)
    overrides = st.lists(
        st.tuples(st.sampled_from([*KEYS, "batch.rows", "duration.steps", "a..b", "seed"]), st.sampled_from(["=", ""]),
                  st.sampled_from(scraps) | st.text(max_size=8)).map("".join),
        max_size=3,
    )  # fmt: skip

    def check(given: tuple[str | bytes, list[str]]) -> None:
        content, changed = given
        path.write_bytes(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content)
        try:
            assert isinstance(load(path, changed), Recipe)
        except UserError as error:
            assert error.problem

    fuzz("recipes", examples, check, st.tuples(files | st.binary(max_size=40), overrides))


def test_a_section_with_a_key_named_like_a_type_is_not_passed_over() -> None:
    with pytest.raises(RecipeError, match=r"model\.float is 3: the section model has no such key"):
        validate({"model": {"float": 3, "hidden_size": 64}, "duration": {"steps": 1}})


def test_aliases_that_stand_for_more_than_memory_holds(tmp_path: Path) -> None:
    """Ten to the thirtieth strings, in thirty lines."""
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 31))]
    (tmp_path / "bomb.yaml").write_text("\n".join([*lines, "batch: *a30", "duration: {steps: *a30}"]))
    with pytest.raises(RecipeError) as raised:
        load(tmp_path / "bomb.yaml")
    assert len(str(raised.value)) < 50_000


def test_a_recipe_that_is_no_recipe_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "big.yaml").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(UserError, match=r"big\.yaml has 1,099,511,627,776 bytes"):
        load(tmp_path / "big.yaml")
