"""Several SHARDS as one. Rows are copied only where their files cannot get a second name (a hard link)."""

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masklater.console import say
from masklater.corpus.index import SPLITS, Index, Split, SplitEntry, joined, make_index
from masklater.corpus.same_ids import have_same_ids
from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.folders import complete_folder, refuse_existing


@dataclass(frozen=True)
class JoinResult:
    """What was joined."""

    out: str
    joined: int  # number of SHARDS
    train_rows: int
    valid_rows: int
    tokens: int
    copied_files: int  # files that could not get a second name where `out` is


def join(folders: Sequence[Path], out: Path) -> JoinResult:
    """Make one SHARDS folder of several, which stay as they are and may be removed afterwards.

    Raises:
        UserError: A folder is named twice, or was made with another tokenizer, row length or packing than the first.
        DamagedDataError: A part of a folder is missing, truncated, or belongs to another tokenizer.
    """
    refuse_existing(out)
    indexes = [Shards(folder).index for folder in folders]
    _check(folders, indexes)
    first, copied = indexes[0], 0

    def copy(old: Path, new: Path) -> None:
        nonlocal copied
        shutil.copyfile(old, new)
        copied += 1

    train, valid = (joined([getattr(index, split) for index in indexes], split) for split in SPLITS)
    with complete_folder(out) as folder:
        for split in SPLITS:
            shards = [(place, getattr(index, split)) for place, index in zip(folders, indexes, strict=True)]
            link_shards(shards, folder, split, copy)
        shutil.copytree(folders[0] / "tokenizer", folder / "tokenizer")
        index = make_index(
            first.vocabulary, first.row_length, first.tokenizer_sha256, first.pack, train, valid, _record(indexes),
            first.marked,
        )  # fmt: skip
        (folder / "index.json").write_text(index.model_dump_json(indent=1), encoding="utf-8")
    if copied:
        say(f"{copied:,} files were copied, as they cannot have a second name where {out} is")
    return JoinResult(str(out), len(folders), train.rows, valid.rows, train.tokens + valid.tokens, copied)


def link_shards(
    shards: Iterable[tuple[Path, SplitEntry]], folder: Path, split: Split, otherwise: Callable[[Path, Path], object]
) -> None:
    """Give the files of several splits, in order, the names that they have as one split.

    Args:
        shards: Folders, each with the split whose files are meant.
        folder: The folder that gets the new names.
        split: The split in the new names.
        otherwise: Called with the old and the new path of a file that cannot have a second name there.
    """
    number = 0
    for place, entry in shards:
        for shard in entry.shards:
            for kind in ("rows", "starts"):
                old, new = place / f"{shard.name}.{kind}", folder / f"{split}-{number:05d}.{kind}"
                try:
                    os.link(old, new)
                except OSError:  # another disk, or a file system without links
                    otherwise(old, new)
            number += 1


def _check(folders: Sequence[Path], indexes: Sequence[Index]) -> None:
    """Raise UserError where SHARDS cannot be joined."""
    first, index = folders[0], indexes[0]
    seen: set[Path] = set()
    for folder, other in zip(folders, indexes, strict=True):
        if (real := folder.resolve()) in seen:
            raise UserError(f"{folder} is named twice", "Each is joined once.")
        seen.add(real)
        if not have_same_ids(first / "tokenizer", folder / "tokenizer") or index.special != other.special:
            raise UserError(
                f"{folder} was made with another tokenizer than {first}",
                f"Prepare it again with --tokenizer {first / 'tokenizer'}.",
            )
        if other.marked != index.marked:
            marked, not_marked = (folder, first) if other.marked else (first, folder)
            raise UserError(
                f"{marked} was made with --marked-words, and {not_marked} without",
                f"Prepare one of them again: {not_marked} with --marked-words, where spaces alone tell words too.",
            )
        for name, option in (("row_length", "--row-length"), ("pack", "--pack")):
            here, there = getattr(other, name), getattr(index, name)
            if here != there:
                raise UserError(
                    f"{folder} was made with {option} {here}, and {first} with {option} {there}",
                    f"Prepare it again with {option} {there}.",
                )


def _record(indexes: Sequence[Index]) -> dict[str, Any]:
    """Return what index.json says of the inputs: counts added up, sources in order, and the settings that all share."""
    names = list(dict.fromkeys(name for index in indexes for name in index.source))
    record: dict[str, Any] = {"joined": len(indexes)}
    for name in names:
        values = [index.source[name] for index in indexes if name in index.source]
        if all(isinstance(value, int) for value in values):
            record[name] = sum(value for value in values if isinstance(value, int))
        elif name == "sources":
            record[name] = [one for value in values if isinstance(value, list) for one in value]
        elif len(values) == len(indexes) and all(value == values[0] for value in values):
            record[name] = values[0]
    return record
