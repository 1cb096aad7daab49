"""Scores find the weights that were scored, whatever stands under their names today."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from masklater.cli import main
from masklater.cli.compare import _hash_of
from masklater.errors import UserError
from masklater.judge.blimp import score_pairs
from masklater.judge.grid import Grid, SweepSettings
from masklater.judge.sweep import sweep
from masklater.judge.tasks import TASKS
from masklater.model.export import export_encoder
from masklater.pretrain.loop import pretrain
from masklater.report.runs import Run, read_run
from masklater.report.whose import find_pairs, find_scores
from masklater.run.folder import RunFolder
from tests.conftest import tiny

ONE = SweepSettings(Grid((1e-3,), (8,), 1), seeds=1)


@pytest.fixture(scope="module")
def other_run(shards_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RUN of as many steps as `run_folder`, of another seed."""
    out = tmp_path_factory.mktemp("other") / "run"
    pretrain(tiny("3ml-small", "duration.steps=4", "seed=1"), shards_folder, out)
    return out


@pytest.fixture(scope="module")
def project(run_folder: Path, glue_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, and its scores, as `judge run --out scores` makes them there."""
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(run_folder, folder / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        sweep("run", str(glue_folder), Path("scores"), [TASKS["rte"]], ONE)
    return folder


@pytest.fixture(params=["now", "earlier"])
def scored(request: pytest.FixtureRequest, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, in which the test stands; once as earlier versions wrote scores.json."""
    copy = tmp_path / "project"
    shutil.copytree(project, copy)
    if request.param == "earlier":
        file = copy / "scores" / "scores.json"
        tree = json.loads(file.read_text())
        assert len(tree["encoder"].pop("training_sha256")) == 64
        file.write_text(json.dumps(tree))
    monkeypatch.chdir(copy)
    return copy


def export(monkeypatch: pytest.MonkeyPatch, *more: str) -> int:
    monkeypatch.setattr(sys, "argv", ["masklater", "export", "run", "--out", "out", *more])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


def card() -> str:
    return Path("out/README.md").read_text()


def here() -> list[Run]:
    return [read_run(Path("run"), "run")]


def test_scores_of_the_run_are_its(scored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert export(monkeypatch, "--scores", "scores") == 0
    assert "| rte " in card()
    assert find_scores(here(), [Path("scores")])[0].keys() == {"run"}


def test_another_seeds_run_under_the_same_name_has_no_such_scores(
    scored: Path, other_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree("run")
    shutil.copytree(other_run, "run")
    assert export(monkeypatch, "--scores", "scores") == 2
    said, sha256 = capsys.readouterr().err, json.loads(Path("scores/scores.json").read_text())["encoder"]["sha256"]
    assert "--scores scores scored run at step 4, which is not what is exported here, run at step 4: its " in said
    assert re.search(rf"its encoder has SHA-256 {sha256[:12]}\.\.\., and \w{{12}}\.\.\. was expected\n", said)
    assert not Path("out").exists()
    shutil.move("scores", "run/scores")  # its place makes them no truer
    assert export(monkeypatch) == 0
    assert "## Scores" not in card()
    assert f"and was left out: its encoder has SHA-256 {sha256[:12]}..." in capsys.readouterr().err


def test_a_run_of_that_name_in_another_project_has_no_such_scores(
    scored: Path, other_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "B").mkdir()
    monkeypatch.chdir(tmp_path / "B")
    shutil.copytree(other_run, "run")
    with pytest.raises(UserError, match=r"--scores \S+ scored the run run, which is none of the runs compared"):
        find_scores(here(), [scored / "scores"])
    assert export(monkeypatch, "--scores", str(scored / "scores")) == 2
    named_here = [read_run(scored / "run", "there"), *here()]
    assert find_scores(named_here, [scored / "scores"])[0].keys() == {"there"}


def test_what_was_logged_is_said_where_it_tells_runs_apart(
    project: Path, other_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(other_run, "run")
    with pytest.raises(UserError, match=r"; run: training up to step 4 has SHA-256 \w{12}\.\.\., and \w{12}\.\.\. was"):
        find_scores(here(), [project / "scores"])
    shutil.copytree(project / "scores", "run/scores")
    found, notes = find_scores(here(), [])
    assert not found
    assert notes[0].startswith("run: its scores are of other weights (training up to step 4 has SHA-256 ")


def test_run_and_scores_that_have_moved_belong_together(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(project / "run", tmp_path / "elsewhere" / "run-a")
    shutil.copytree(project / "scores", tmp_path / "scores-a")
    runs = [read_run(tmp_path / "elsewhere" / "run-a", "run-a")]
    assert find_scores(runs, [tmp_path / "scores-a"])[0].keys() == {"run-a"}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere" / "run-a").rename("run")
    shutil.rmtree(tmp_path / "scores-a" / "encoder")
    assert export(monkeypatch, "--scores", "scores-a") == 0


def test_scores_of_a_run_are_those_of_its_masked_lm(
    shards_folder: Path, glue_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where only a hash tells: the masked LM of vanilla MLM has no folder with the plain encoder in it."""
    monkeypatch.chdir(tmp_path)
    pretrain(tiny("vanilla-small", "duration.steps=2"), shards_folder, Path("run"))
    export_encoder(RunFolder(Path("run")).load_model()[0], Path("run/tokenizer"), Path("encoder"))
    assert sweep("encoder", str(glue_folder), Path("scores"), [TASKS["rte"]], ONE).scores["encoder"]["run"] is None
    assert export(monkeypatch, "--with-head", "--scores", "scores") == 0
    assert "| rte " in card()
    assert not Path("out/encoder").exists()
    assert not [path for path in Path("out").iterdir() if path.is_dir()]


def test_an_encoder_inside_the_run_is_known_by_its_hash(
    project: Path, other_run: Path, glue_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(project / "run", "run")
    shutil.copytree(project / "scores" / "encoder", "run/encoder")
    sweep("run/encoder", str(glue_folder), Path("scores"), [TASKS["rte"]], ONE)
    assert find_scores(here(), [Path("scores")], _hash_of)[0].keys() == {"run"}
    elsewhere = tmp_path / "B"
    shutil.copytree(other_run, elsewhere / "run")
    export_encoder(RunFolder(other_run).load_model()[0], other_run / "tokenizer", elsewhere / "run" / "encoder")
    monkeypatch.chdir(elsewhere)
    for _ in range(2):
        with pytest.raises(UserError, match="scored the encoder run/encoder, which is none of the runs"):
            find_scores(here(), [tmp_path / "scores"], _hash_of)
        shutil.rmtree("run/encoder", ignore_errors=True)  # a name that leads nowhere here says nothing either


def test_minimal_pairs_are_of_the_weights_they_were_scored_with(
    project: Path, other_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(project / "run", "run")
    pairs = [{"sentence_good": "kan lot", "sentence_bad": "lot kan"}]
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    text = json.dumps(vars(score_pairs("run", Path("pairs.jsonl"))))
    Path("run/blimp.json").write_text(text)
    assert find_pairs(here())[0].keys() == {"run"}
    shutil.rmtree("run")
    shutil.copytree(other_run, "run")
    Path("run/blimp.json").write_text(text)
    found, notes = find_pairs(here())
    assert not found
    assert notes[0].startswith("run: its minimal pairs are of other weights (training up to step 4 has SHA-256 ")
    assert export(monkeypatch) == 0
    assert "Minimal pairs" not in card()
    assert "the minimal pairs of run were scored with other weights (training up to" in capsys.readouterr().err


def test_a_sweep_that_an_earlier_version_began_goes_on(project: Path, glue_folder: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores"
    shutil.copytree(project / "scores", scores)
    identity = json.loads((scores / "sweep.json").read_text())
    expected = identity.pop("training_sha256")
    (scores / "sweep.json").write_text(json.dumps(identity))
    more = SweepSettings(ONE.grid, seeds=2)
    rte = [TASKS["rte"]]
    by_encoder = sweep(str(scores / "encoder"), str(glue_folder), scores, rte, more, resume=True).scores["encoder"]
    assert (by_encoder["run"], by_encoder["step"], by_encoder["training_sha256"]) == ("run", 4, None)
    by_run = sweep(str(project / "run"), str(glue_folder), scores, rte, more, resume=True).scores["encoder"]
    assert by_run["training_sha256"] == expected
