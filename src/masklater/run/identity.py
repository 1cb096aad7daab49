"""The identity of a RUN: recipe.yaml and run.json, which decide whether two runs are the same (no torch)."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from masklater.corpus.same_ids import have_same_ids
from masklater.errors import DamagedDataError, UserError
from masklater.hub import Source
from masklater.machine.versions import versions
from masklater.recipe.load import load_record, settings_of
from masklater.recipe.recipe import Recipe

if TYPE_CHECKING:
    from masklater.corpus.shards import Shards
    from masklater.corpus.target_table import TargetTable


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
    sources: dict | None = None  # SHA-256 by folder; None: --data is the only folder
    selected_from: dict | None = None  # of folders that are SELECTIONs, the SHA-256 of their SHARDS; None: none are
    targets_sha256: str | None = None  # of the table that masking.predict_by names; None: it names none
    source_sha256: str | None = None  # of the weights that model.from names; None: from scratch, or not known

    @property
    def shards_sha256(self) -> str:
        """The fingerprint of the SHARDS, whichever of their rows are trained on: held-out rows are the same for all."""
        if self.selected_from is None:
            return self.data_sha256
        return str(self.selected_from[""]) if self.sources is None else _of_several(self.sources | self.selected_from)

    def trained_on(self, fingerprint: str) -> bool:
        """Return whether SHARDS, or a SELECTION of them, are among its data."""
        return fingerprint in {self.data_sha256, *(self.sources or {}).values(), *(self.selected_from or {}).values()}


def identity_of(
    shards: Mapping[str, "Shards"],
    source: Source | None,
    targets: "TargetTable | None",
    source_sha256: str | None,
) -> Identity:
    """Return the identity of a run that begins now on this data, from a saved model or from scratch."""
    index, commit = longest_of(shards).index, source.commit if source else None
    data, sources = _fingerprints(shards)
    selected = {key: each.selected_from for key, each in shards.items() if each.selected_from is not None}
    return Identity(
        data, index.tokenizer_sha256, index.row_length, **versions(),
        source_commit=commit, sources=sources, selected_from=selected or None,
        targets_sha256=targets.fingerprint if targets else None, source_sha256=source_sha256,
    )  # fmt: skip


def longest_of(shards: Mapping[str, "Shards"]) -> "Shards":
    """Return the SHARDS with the longest rows, whose tokenizer a RUN keeps.

    The others' tokenizers give the same ids.
    """
    return max(shards.values(), key=lambda each: each.index.row_length)


def _fingerprints(shards: Mapping[str, "Shards"]) -> tuple[str, dict[str, str] | None]:
    """Return the fingerprint of all data, and the fingerprint of each folder where there are several."""
    each = {key: opened.fingerprint for key, opened in shards.items()}
    if [*each] == [""]:
        return each[""], None
    return _of_several(each), each


def _of_several(each: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(each.values())).encode()).hexdigest()


def is_run(path: Path) -> bool:
    """Return whether a folder is a RUN, judged by its run.json."""
    return (path / "run.json").is_file()


def _instead(path: Path) -> str:
    """Return what to do with a saved model, where the folder is one; else ""."""
    if not (path / "config.json").is_file():
        return ""
    return (
        f" What is here is a saved model, which transformers loads: AutoModel.from_pretrained('{path}'), or "
        f"pipeline('fill-mask', '{path}') where it has an LM head."
    )


def read_identity(path: Path) -> tuple[Identity, Recipe]:
    """Read the identity and the recipe of a RUN.

    Raises:
        UserError: There is no RUN under that name.
        DamagedDataError: Its run.json differs from what pre-training wrote.
    """
    if not path.is_dir():
        raise UserError(f"there is no run {path}", "Name a folder that `masklater pretrain ... --out` made.")
    for name in ("run.json", "recipe.yaml"):
        if not (path / name).is_file():
            raise UserError(
                f"{path} is no RUN folder: it has no {name}",
                f"Name a folder `masklater pretrain` made.{_instead(path)}",
            )
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


def check_same_run(
    run: Path,
    identity: Identity,
    before: Recipe,
    recipe: Recipe,
    shards: Mapping[str, "Shards"],
    targets: "TargetTable | None",
) -> None:
    """Check that a RUN stays the same run under a recipe and data.

    Args:
        run: Its folder.
        identity: Its identity so far.
        before: Its recipe so far.
        recipe: The recipe to continue with.
        shards: The data to continue with, by folder.
        targets: The table to continue with, by which predicted tokens are chosen.

    Raises:
        UserError: The tokenizer, the data, the table, or a setting that may not change, is another one.
    """
    longest = longest_of(shards)
    if longest.index.tokenizer_sha256 != identity.tokenizer_sha256 and not have_same_ids(
        longest.folder / "tokenizer", run / "tokenizer"
    ):
        raise UserError(
            f"{longest.name} was made with another tokenizer than the run {run}",
            "Resume on the data the run began with, or start a new run.",
        )
    began = {"": identity.data_sha256} if identity.sources is None else identity.sources
    for key, opened in shards.items():
        if began.get(key) != opened.fingerprint:
            what = "is other data than the run {} began with" if key in began else "is not among the data of the run {}"
            raise UserError(f"{opened.name} {what.format(run)}", "Resume on the same shards, or start a new run.")
    if missing := [key for key in began if key not in shards]:
        raise UserError(
            f"the run {run} began with {', '.join(missing)} too", "Resume on the same shards, or start a new run."
        )
    _check_same_targets(run, identity.targets_sha256, targets)
    changed = changes(before, recipe)
    if forbidden := [change for key, change in changed.items() if not Recipe.may_change(key)]:
        raise UserError(
            f"a resumed run cannot change {'; '.join(forbidden)}",
            f"Take the run's own recipe, {run / 'recipe.yaml'}, or start a new run.",
        )


def changes(before: Recipe, recipe: Recipe) -> dict[str, str]:
    """Return the settings in which two recipes differ, with a sentence each."""
    old, new = settings_of(before), settings_of(recipe)
    return {key: f"{key} was {old.get(key)}, is {new.get(key)}" for key in old | new if old.get(key) != new.get(key)}


def _check_same_targets(run: Path, began: str | None, targets: "TargetTable | None") -> None:
    if began == (targets.fingerprint if targets else None):
        return
    if targets is None:
        what = f"masking.predict_by names no table, and the run {run} began with one"
    elif began is None:
        what = f"masking.predict_by: the run {run} began without a table, and {targets.folder} is one"
    else:
        what = f"masking.predict_by: {targets.folder} is another table than the run {run} began with"
    raise UserError(what, "Resume with the same one, or start a new run.")
