"""RUN/data.json: what a run trains on, source by source, for later, when SHARDS may have moved."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from masklater.recipe.section import Section
from masklater.record import read_record

if TYPE_CHECKING:
    from masklater.corpus.shards import Shards

FILE = "data.json"


class TrainedSource(Section):
    """One input of `prepare` as it was given, and the number of documents, characters and tokens read from it."""

    name: str
    revision: str | None = None  # the commit of a data set of the hub
    documents: int
    characters: int
    tokens: int  # as read, before packing


class TrainedShards(Section):
    """One SHARDS folder that a run trains on."""

    key: str  # its name in the recipe's shares; "": the only folder
    sha256: str
    row_length: int
    train_rows: int
    train_tokens: int
    held_out_rows: int
    sources: tuple[TrainedSource, ...]  # empty for SHARDS of version 0.1, which may not name them


class _File(Section):
    shards: tuple[TrainedShards, ...]


def write_data(run: Path, shards: Mapping[str, "Shards"]) -> None:
    """Write RUN/data.json for the data that a run begins with, by folder."""
    file = _File(shards=tuple(_describe(key, opened) for key, opened in shards.items()))
    (run / FILE).write_text(json.dumps(file.model_dump(), indent=1) + "\n", encoding="utf-8")


def _describe(key: str, opened: "Shards") -> TrainedShards:
    index, sources = opened.index, opened.index.source.get("sources", [])
    return TrainedShards(
        key=key,
        sha256=opened.fingerprint,
        row_length=index.row_length,
        train_rows=index.train.rows,
        train_tokens=index.train.tokens,
        held_out_rows=index.valid.rows,
        sources=tuple(
            TrainedSource(**source.model_dump(include=set(TrainedSource.model_fields)))
            for source in (sources if isinstance(sources, list) else [])
        ),
    )


def read_data(run: Path) -> tuple[TrainedShards, ...] | None:
    """Read RUN/data.json; None where the run began before this file existed.

    Raises:
        UserError: The file cannot be read.
        DamagedDataError: The file differs from what pre-training wrote.
    """
    path = run / FILE
    if not path.exists():
        return None
    return read_record(path, _File, "Restore it from a copy, or remove it.").shards
