"""A RUN's identity is read by all in one way, and without torch."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from masklater.errors import DamagedDataError, Interrupted
from masklater.pretrain import loop
from masklater.pretrain.loop import pretrain
from masklater.run.identity import Identity, is_run, read_identity
from tests.conftest import tiny
from tests.report.made_up import make_run
from tests.runs import losses, stop_at


def test_a_run_is_read_without_torch(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [(4, 6.0)])
    code = (
        "import sys\nfrom pathlib import Path\nfrom masklater.report.runs import read_run\n"
        f"read_run(Path({str(run)!r}), 'run')\nassert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    identity, recipe = read_identity(run)
    assert is_run(run) and identity.row_length == 128 and recipe.duration.steps == 10


@pytest.mark.parametrize("change", [{"row_length": "128"}, {"data_sha256": 5}, {"unknown": "x"}])
def test_an_identity_of_another_shape_is_damaged(change: dict[str, object], tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", []) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DamagedDataError, match=r"run\.json is damaged"):
        read_identity(path.parent)


def test_a_linear_rate_goes_on_as_it_began(
    continuous_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A RUN as it was recorded before there were levels changes its rate with every step; a new one keeps its eight."""
    few = ("duration.steps=4", "evaluation.every_steps=4")
    before, now = (tiny("vanilla-dynamic-small", *few, *more) for more in (("masking.schedule.levels=null",), ()))
    pretrain(before, continuous_folder, tmp_path / "straight")
    with monkeypatch.context() as stopped, pytest.raises(Interrupted):
        stopped.setattr(loop, "train_step", stop_at(2))
        pretrain(before, continuous_folder, tmp_path / "run")
    record = tmp_path / "run" / "recipe.yaml"
    tree = yaml.safe_load(record.read_text())
    del tree["masking"]["schedule"]["levels"]
    record.write_text(yaml.safe_dump(tree))
    assert read_identity(tmp_path / "run")[1].masking.schedule.levels is None
    capsys.readouterr()
    pretrain(now, continuous_folder, tmp_path / "run", resume=True)
    assert "the masking rate changes with every step, as when this run began" in capsys.readouterr().err
    assert losses(tmp_path / "run") == losses(tmp_path / "straight")

    with monkeypatch.context() as stopped, pytest.raises(Interrupted):
        stopped.setattr(loop, "train_step", stop_at(1))
        pretrain(now, continuous_folder, tmp_path / "new")
    assert yaml.safe_load((tmp_path / "new" / "recipe.yaml").read_text())["masking"]["schedule"]["levels"] == 8


def test_what_is_held_out_is_that_of_the_shards_whichever_rows_are_trained_on() -> None:
    versions = {
        "tokenizer_sha256": "t",
        "row_length": 32,
        "masklater": "",
        "torch": "",
        "transformers": "",
        "python": "",
    }
    plain, chosen = Identity("shards", **versions), Identity("chosen", **versions, selected_from={"": "shards"})
    assert plain.shards_sha256 == chosen.shards_sha256 == "shards"
    assert chosen.trained_on("shards") and chosen.trained_on("chosen") and not plain.trained_on("chosen")
    both = hashlib.sha256(json.dumps(["one", "two"]).encode()).hexdigest()
    mixed = Identity(both, **versions, sources={"a": "one", "b": "two"})
    of_chosen = Identity("else", **versions, sources={"a": "rows", "b": "two"}, selected_from={"a": "one"})
    assert of_chosen.shards_sha256 == mixed.shards_sha256
    assert of_chosen.trained_on("one") and of_chosen.trained_on("two") and not mixed.trained_on("rows")
