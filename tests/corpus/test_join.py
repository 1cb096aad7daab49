"""join: several SHARDS under one index, their rows where they were."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from masklater.corpus.join import join
from masklater.corpus.shards import Shards
from masklater.doctor.examine import examine
from masklater.errors import DamagedDataError, UserError
from tests.conftest import make_shards
from tests.corpus.parts.whole_folders import bytes_of


@pytest.fixture(scope="module")
def other(corpus: Path, shards_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SHARDS of half the corpus, with the same tokenizer."""
    folder = tmp_path_factory.mktemp("other")
    (folder / "half.jsonl").write_text("".join(corpus.read_text().splitlines(keepends=True)[::2]))
    return make_shards(folder / "half.jsonl", folder / "out", tokenizer=shards_folder / "tokenizer")


def test_rows_stand_one_after_the_other(shards_folder: Path, other: Path, tmp_path: Path) -> None:
    before = bytes_of(shards_folder) | {f"other/{name}": content for name, content in bytes_of(other).items()}
    result = join([shards_folder, other], tmp_path / "out")
    one, two, out = Shards(shards_folder), Shards(other), Shards(tmp_path / "out")
    out.verify()
    assert not examine(tmp_path / "out").problems
    for split in ("train", "valid"):
        rows = [getattr(opened, split) for opened in (one, two, out)]
        numbers = np.random.default_rng(0).permutation(rows[2].num_rows)
        apart = [each.read(np.arange(each.num_rows)) for each in rows[:2]]
        for field, got in enumerate(rows[2].read(numbers)[:2]):
            assert (np.concatenate([each[field] for each in apart])[numbers] == got).all()
        entries = [getattr(opened.index, split) for opened in (one, two, out)]
        assert entries[0].mixed_rows + entries[1].mixed_rows == entries[2].mixed_rows
        assert entries[2].shards[-1].first_document == sum(shard.documents for shard in entries[0].shards)
    assert (tmp_path / "out" / "train-00001.rows").samefile(other / "train-00000.rows")
    assert (result.joined, result.copied_files) == (2, 0)
    assert result.tokens == sum(i.train.tokens + i.valid.tokens for i in (one.index, two.index))
    source = out.index.source
    assert source["documents"] == 180 and source["unit"] == "file" and source["valid_fraction"] == 0.1
    assert [entry.documents for entry in source["sources"]] == [120, 60]  # type: ignore[union-attr]
    again = bytes_of(shards_folder) | {f"other/{name}": content for name, content in bytes_of(other).items()}
    assert before == again


def test_on_another_disk_files_are_copied_and_it_is_said(
    shards_folder: Path,
    other: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    assert join([shards_folder, other], tmp_path / "out").copied_files == 8
    assert "8 files were copied" in capsys.readouterr().err
    Shards(tmp_path / "out").verify()
    Shards(shards_folder).verify()


def test_what_does_not_go_together_is_named(
    corpus: Path, shards_folder: Path, continuous_folder: Path, other: Path, tmp_path: Path
) -> None:
    tokenizer = shards_folder / "tokenizer"
    longer = make_shards(corpus, tmp_path / "longer", tokenizer=tokenizer, row_length=64)
    smaller = make_shards(corpus, tmp_path / "smaller", vocab_size=310)
    (chosen := tmp_path / "chosen").mkdir()
    (chosen / "selection.json").touch()
    packed = make_shards(corpus, tmp_path / "packed", tokenizer=tokenizer, pack="continuous")
    for folder, message in (
        (longer, r"longer was made with --row-length 64, and .*documents with --row-length 32"),
        (smaller, r"smaller was made with another tokenizer than .*documents\n.*--tokenizer .*documents/tokenizer"),
        (packed, r"packed was made with --pack continuous, and .* with --pack documents"),
        (shards_folder, r"documents is named twice"),
        (chosen, r"chosen is a SELECTION, and what is named here is SHARDS"),
        (tmp_path, r"is no SHARDS folder: it has no index.json\n.*Name one that is inside: "),
    ):
        with pytest.raises(UserError, match=message):
            join([shards_folder, other, folder], tmp_path / "out")
    with pytest.raises(UserError, match="exists already"):
        join([shards_folder, other], longer)
    damaged = Path(shutil.copytree(other, tmp_path / "damaged"))
    (damaged / "valid-00000.starts").unlink()
    with pytest.raises(DamagedDataError, match=r"damaged/valid-00000\.starts is missing"):
        join([shards_folder, damaged], tmp_path / "out")
    assert not list(tmp_path.glob("out*"))
