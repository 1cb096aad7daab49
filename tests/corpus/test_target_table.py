"""TABLE: what its weights are, and what has become of it since it was written."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from masklater.corpus.shards import Shards
from masklater.corpus.target_table import FLOOR, PRIOR, TargetTable, weigh
from masklater.doctor.examine import examine
from masklater.errors import DamagedDataError, UserError
from tests.conftest import make_shards
from tests.select.tables import make_table


def test_a_weight_is_the_excess_and_a_tenth_of_the_mean() -> None:
    """Of the mean over targets: one token in ten of 2 nats is 0.2 nats a target, and of no token less than 0."""
    seen_V = np.array([10**8, 6 * 10**8, 2 * 10**8, 10**8])
    weights_V = weigh(np.array([2.0, 0.0, -3.0, -0.1]), seen_V)
    assert weights_V.tolist() == pytest.approx([2.02, 0.02, 0.02, 0.02], abs=1e-6)
    assert weigh(np.full(3, 0.4), np.array([1, 50, 0])).tolist() == pytest.approx([0.4 * (1 + FLOOR)] * 3)


def test_a_token_that_was_seldom_a_target_is_drawn_to_the_mean_of_what_is_above_0() -> None:
    weights_V = weigh(np.array([1.0, -8.0, 3.0, -3.0, 0.0]), np.array([500, 495, 5, 0, 0]))
    mean = (500 + 15) / 1000
    smoothed = [(500 + PRIOR * mean) / 510, PRIOR * mean / 505, (15 + PRIOR * mean) / 15, mean, mean]
    assert weights_V.tolist() == pytest.approx([each + FLOOR * mean for each in smoothed])


def test_what_is_written_is_read(shards: Shards, tmp_path: Path) -> None:
    table = make_table(tmp_path / "table", shards, {7: 2.0, 9: 0.5})
    assert table.excess_V.dtype == np.float32
    assert [table.excess_V[token] for token in (7, 8, 9)] == [2.0, 0.0, 0.5]
    assert table.record.targets == 100 * shards.vocabulary.size
    assert table.record.shards_sha256 == shards.fingerprint
    table.check_tokenizer(shards)
    same = make_table(tmp_path / "same", shards, {7: 2.0, 9: 0.5})
    other = make_table(tmp_path / "other", shards, {7: 2.0, 9: 0.6})
    assert table.fingerprint == same.fingerprint != other.fingerprint
    shutil.move(tmp_path / "same", tmp_path / "moved")
    assert TargetTable(tmp_path / "moved").fingerprint == table.fingerprint
    found = examine(table.folder)
    assert not found.problems
    assert "tokens at" in found.facts["TABLE"]
    assert found.facts["scored by, early"] == "run at step 1"


@pytest.mark.fault
def test_a_table_that_is_not_what_was_written_is_refused_by_name(shards: Shards, corpus: Path, tmp_path: Path) -> None:
    folder = make_table(tmp_path / "table", shards, {7: 2.0}).folder
    for name in ("excess.npy", "seen.npy"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(DamagedDataError, match=rf"{name} has changed since it was written"):
            TargetTable(folder)
        assert examine(folder).problems
        (folder / name).unlink()
        with pytest.raises(DamagedDataError, match=rf"{name} cannot be read"):
            TargetTable(folder)
        (folder / name).write_bytes(content)
    record = json.loads((folder / "targets.json").read_text())
    for change, message in (({"format": 2}, "has format 2"), ({"flops": "many"}, r"targets\.json is damaged at flops")):
        (folder / "targets.json").write_text(json.dumps(record | change))
        with pytest.raises(UserError, match=message):
            TargetTable(folder)
    (folder / "targets.json").write_text(json.dumps(record))

    other = Shards(make_shards(corpus, tmp_path / "larger", vocab_size=325))
    with pytest.raises(UserError, match=r"table is of the tokens of another tokenizer than .*larger has"):
        TargetTable(folder).check_tokenizer(other)
    shutil.copytree(other.folder / "tokenizer", folder / "tokenizer", dirs_exist_ok=True)
    with pytest.raises(DamagedDataError, match=r"table/tokenizer is not the tokenizer whose tokens were scored"):
        TargetTable(folder)
    with pytest.raises(UserError, match=r"larger is no TABLE folder: it has no targets\.json"):
        TargetTable(other.folder)
