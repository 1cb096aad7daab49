"""SHARDS under random edits: every edit is found, by its file's name, before anything trains on it."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from masklater.corpus import index as index_module
from masklater.corpus.shards import Shards
from masklater.errors import DamagedDataError, UserError
from masklater.run.folder import RunFolder
from masklater.run.identity import Identity
from tests.fuzz.fuzz import EXAMPLES, fuzz

ODD: list[Any] = [
    None,
    -1,
    0,
    1,
    2**63,
    10**40,
    0.5,
    "",
    "x",
    "../../etc/passwd",
    [],
    {},
    True,
    "uint32",
    "train-00001",
]


@pytest.fixture
def data(shards_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards_folder, tmp_path / "data"))


def paths_of(tree: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Places of all values in a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    found = [prefix] if prefix else []
    for key, value in items:
        found += paths_of(value, (*prefix, key))
    return found


def edited(tree: Any, path: tuple[Any, ...], value: Any, remove: bool) -> Any:
    tree = copy.deepcopy(tree)
    place = tree
    for key in path[:-1]:
        place = place[key]
    if remove:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return tree


def opens(folder: Path) -> bool:
    """Whether SHARDS are taken for sound; anything but UserError fails the test."""
    try:
        Shards(folder).verify()
    except UserError as error:
        assert str(folder) in error.problem
        return False
    return True


def without_nulls(value: Any) -> Any:
    """The same where what is not there is null, as in the index of an earlier version."""
    if isinstance(value, dict):
        return {key: without_nulls(inside) for key, inside in value.items() if inside is not None}
    return [without_nulls(inside) for inside in value] if isinstance(value, list) else value


@EXAMPLES
def test_every_edit_of_the_index_is_found(examples: int, data: Path) -> None:
    index = json.loads((data / "index.json").read_text())
    edits = st.tuples(
        st.sampled_from(paths_of(index)), st.sampled_from(ODD) | st.integers() | st.text(max_size=3), st.booleans()
    )

    def check(edit: tuple[tuple[Any, ...], Any, bool]) -> None:
        now = edited(index, *edit)
        (data / "index.json").write_text(json.dumps(now))
        # JSON does not tell 1 from 1.0 and true from 1 apart as Python does; what equals the original is the original.
        assert opens(data) == (json.dumps(without_nulls(now)) == json.dumps(without_nulls(index)))

    fuzz("index.json and shards", examples, check, edits)


@EXAMPLES
@pytest.mark.parametrize("name", ["index.json", "train-00000.rows", "valid-00000.starts", "tokenizer/tokenizer.json"])
def test_every_byte_counts(examples: int, name: str, data: Path) -> None:
    whole = (data / name).read_bytes()
    at = st.integers(0, len(whole) - 1)
    damage = st.one_of(
        at.map(lambda n: whole[:n]),
        st.tuples(at, st.integers(1, 255)).map(
            lambda e: whole[: e[0]] + bytes([whole[e[0]] ^ e[1]]) + whole[e[0] + 1 :]
        ),
        st.binary(min_size=1, max_size=9).map(lambda more: whole + more),
        st.binary(max_size=50),
    )
    meaning = json.loads(whole) if name == "index.json" else None

    def check(content: bytes) -> None:
        (data / name).write_bytes(content)
        accepted = opens(data)
        if accepted and meaning is not None:  # white space may change
            assert json.loads(content) == meaning
        else:
            assert accepted == (content == whole)

    fuzz("index.json and shards", examples, check, damage)


def test_an_index_that_is_no_index_is_not_read_whole(data: Path) -> None:
    with (data / "index.json").open("wb") as file:
        file.truncate(index_module.MAX_INDEX_BYTES + 1)
    with pytest.raises(DamagedDataError, match=r"index\.json has 268,435,457 bytes"):
        Shards(data)


@EXAMPLES
def test_any_run_json(examples: int, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("duration: {steps: 1}")
    names = sorted(Identity.__dataclass_fields__)
    trees = st.dictionaries(st.sampled_from([*names, "other"]), st.sampled_from(ODD)).map(json.dumps)
    odd = st.sampled_from(["[" * 100_000, "null", "[]", "", "\0", "{" * 50_000])

    def check(content: str | bytes) -> None:
        (tmp_path / "run.json").write_bytes(content.encode() if isinstance(content, str) else content)
        try:
            RunFolder(tmp_path)
        except UserError as error:
            assert "run.json" in error.problem

    fuzz("run.json", examples, check, trees | odd | st.binary(max_size=40))
