"""Rows by their number, out of shards that may change under their reader."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from masklater.corpus import shards as shards_module
from masklater.corpus.shards import Shards
from masklater.errors import DamagedDataError, UserError
from tests.conftest import make_shards


@pytest.fixture
def many(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shards:
    """Shards of seven rows each."""
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 32 * 2 * 7)
    return Shards(make_shards(corpus, tmp_path / "many"))


def test_neighbouring_rows_are_one_read(many: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    preadv = os.preadv

    def counted(descriptor: int, *arguments: Any) -> int:
        reads.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        return preadv(descriptor, *arguments)

    monkeypatch.setattr(os, "preadv", counted)
    many.train.read(
        np.array([12, 3, 5, 4, 13, 20])
    )  # 3 to 5 in the first shard, 12 and 13 in the second, 20 in the third
    assert [name for name in reads if name.endswith(".rows")] == [f"train-0000{shard}.rows" for shard in (0, 1, 2)]
    reads.clear()
    many.train.read(np.array([6, 7, 9]))  # neighbours by number alone, and a gap
    assert [name for name in reads if name.endswith(".rows")] == [f"train-0000{shard}.rows" for shard in (0, 1, 1)]


def test_rows_come_in_the_order_asked_for_and_as_often(many: Shards, shards: Shards) -> None:
    numbers = np.array([20, 3, 3, 14, 0, 6, 7, 20])
    for expected, got in zip(shards.train.read(numbers)[:2], many.train.read(numbers)[:2], strict=True):
        assert (expected == got).all()
    assert many.train.read(numbers[:0]).ids_NL.shape == (0, 32)


@pytest.mark.fault
@pytest.mark.parametrize("ending", ["rows", "starts"])
def test_a_shard_that_is_cut_after_the_look_is_named(
    ending: str, many: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = many.folder / f"train-00002.{ending}"
    check, split = type(many.train.shards[0].rows).check, many.train

    def look_then_cut(file: Any) -> None:
        check(file)
        if file.path == path:
            os.truncate(path, path.stat().st_size - 1)

    monkeypatch.setattr(type(split.shards[0].rows), "check", look_then_cut)
    split.read(np.arange(14))
    with pytest.raises(
        DamagedDataError, match=rf"train-00002\.{ending} has \d+ bytes where the index says .* truncated"
    ):
        split.read(np.arange(21))


@pytest.mark.fault
def test_what_is_read_of_an_index_is_what_is_hashed(shards_folder: Path, tmp_path: Path) -> None:
    """An index that changes after it was read changes nothing of what was opened, and the next one to open it is told."""
    folder = Path(shutil.copytree(shards_folder, tmp_path / "data"))
    opened, before = Shards(folder), Shards(shards_folder).fingerprint
    (folder / "index.json").write_text("{")
    assert opened.fingerprint == before
    (folder / "index.json").unlink()
    assert opened.fingerprint == before
    with pytest.raises(UserError, match="has no index"):
        Shards(folder)
