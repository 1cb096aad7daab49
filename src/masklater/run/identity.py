"""The identity of a RUN: recipe.yaml and run.json, which decide whether two runs are the same (no torch)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from masklater.errors import DamagedDataError, UserError
from masklater.hub import Source
from masklater.machine.versions import versions
from masklater.recipe.load import Recipe, load_record, settings_of

if TYPE_CHECKING:
    from masklater.corpus.shards import Shards


@dataclass(frozen=True)
class Identity:
    """The content of run.json: the data and tokenizer a run may not change, and the versions it began with."""

    data_sha256: str
    tokenizer_sha256: str
    row_length: int
    masklater: str
    torch: str
    transformers: str
    python: str
    source_commit: str | None = None  # of the hub's repository that model.from names; None: a folder, or from scratch


def identity_of(shards: "Shards", source: Source | None) -> Identity:
    """Return the identity of a run that begins now on this data, from a saved model or from scratch."""
    index, commit = shards.index, source.commit if source else None
    return Identity(shards.fingerprint, index.tokenizer_sha256, index.row_length, **versions(), source_commit=commit)


def is_run(path: Path) -> bool:
    """Return whether a folder is a RUN, to judge by its run.json."""
    return (path / "run.json").is_file()


def read_identity(path: Path) -> tuple[Identity, Recipe]:
    """Read the identity and the recipe of a RUN.

    Raises:
        UserError: There is no RUN under that name.
        DamagedDataError: Its run.json is not what pre-training wrote.
    """
    if not path.is_dir():
        raise UserError(f"there is no run {path}", "Name a folder that `masklater pretrain ... --out` made.")
    for name in ("run.json", "recipe.yaml"):
        if not (path / name).is_file():
            raise UserError(f"{path} is no RUN folder: it has no {name}", "Name a folder `masklater pretrain` made.")
    file = path / "run.json"
    try:
        identity = Identity(**json.loads(file.read_text(encoding="utf-8")))
        if not all(isinstance(value, Identity.__annotations__[name]) for name, value in vars(identity).items()):
            raise TypeError
    except (ValueError, TypeError, RecursionError):
        raise DamagedDataError(f"{file} is damaged", "Restore it from a copy.") from None
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}", "Check its permissions.") from None
    return identity, load_record(path / "recipe.yaml")


def check_same_run(run: Path, identity: Identity, before: Recipe, recipe: Recipe, shards: "Shards") -> list[str]:
    """Check that a RUN stays the same run under a recipe and data.

    Args:
        run: Its folder.
        identity: The identity it has.
        before: The recipe it has.
        recipe: The recipe it is to go on with.
        shards: The data it is to go on with.

    Returns:
        the settings that differ and may, a sentence each.

    Raises:
        UserError: The tokenizer, the data or a setting that may not change is another one.
    """
    if shards.index.tokenizer_sha256 != identity.tokenizer_sha256:
        raise UserError(
            f"{shards.folder} was made with another tokenizer than the run {run}",
            "Resume on the data the run began with, or start a new run.",
        )
    if shards.fingerprint != identity.data_sha256:
        raise UserError(
            f"{shards.folder} is other data than the run {run} began with",
            "Resume on the same shards, or start a new run.",
        )
    old, new = settings_of(before), settings_of(recipe)
    changed = {key: f"{key} was {old.get(key)}, is {new.get(key)}" for key in old | new if old.get(key) != new.get(key)}
    if forbidden := [change for key, change in changed.items() if not Recipe.may_change(key)]:
        raise UserError(
            f"a resumed run cannot change {'; '.join(forbidden)}",
            f"Take the run's own recipe, {run / 'recipe.yaml'}, or start a new run.",
        )
    return list(changed.values())
