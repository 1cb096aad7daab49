"""`--out .` in an empty folder, and `--out ..`: as with any other name."""

import json
from pathlib import Path

import pytest

from masklater.pretrain.loop import pretrain
from masklater.run.checkpoint import list_checkpoints
from tests.conftest import TINY, tiny
from tests.end_to_end.test_command_line import inside
from tests.judge.folders import make_glue


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_prepare_and_pretrain_here(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(tmp_path / "shards", monkeypatch)
    options = ("--vocab-size", 320, "--row-length", 32, "--valid-fraction", 0.1)
    assert inside(monkeypatch, "prepare", corpus, "--out", ".", *options) == 0
    assert Path("index.json").exists()
    stand_in(tmp_path / "run", monkeypatch)
    train = ("pretrain", "3ml-small", *TINY, "--data", "../shards", "--out", ".")
    assert inside(monkeypatch, *train, "duration.steps=2") == 0
    assert inside(monkeypatch, *train, "duration.steps=4", "--resume") == 0
    assert list_checkpoints(Path("checkpoints"))[-1].name == "step-00000004"
    assert inside(monkeypatch, "doctor", ".") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "shards"]


def test_what_comes_out_of_a_run_here(shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrain(tiny("3ml-small", "duration.steps=3"), shards_folder, tmp_path / "run")
    (tmp_path / "pairs.jsonl").write_text('{"sentence_good": "kan lot", "sentence_bad": "kan net"}\n')
    make_glue(tmp_path / "glue", train=8, dev=4)
    stand_in(tmp_path / "encoder", monkeypatch)
    assert inside(monkeypatch, "export", "../run", "--out", ".") == 0
    assert Path("config.json").exists() and Path("model.safetensors").exists()
    stand_in(tmp_path / "report", monkeypatch)
    assert inside(monkeypatch, "compare", "../run", "--out", ".") == 0
    assert Path("index.html").exists() and Path("plots").is_dir()
    stand_in(tmp_path / "scores", monkeypatch)
    glue = ("glue", "../encoder", "--data", "../glue", "--out", ".", "--tasks", "rte", "--epochs", 1)
    assert inside(monkeypatch, *glue, "--lr", "1e-4", "--batch", 4, "--seeds", 1) == 0
    assert json.loads(Path("scores.json").read_text())["tasks"].keys() == {"rte"}


COMMANDS = {
    "prepare": ("prepare", "{corpus}", "--vocab-size", 300),
    "pretrain": ("pretrain", "3ml-small", "--data", "{shards}"),
    "export": ("export", "{shards}"),
    "compare": ("compare", "{shards}"),
    "glue": ("glue", "{shards}", "--data", "{shards}"),
    "blimp": ("blimp", "{shards}", "--data", "{corpus}"),
    "quickstart": ("quickstart",),
}


@pytest.mark.parametrize("out", [".", ".."])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_holds_something_is_refused(
    command: str,
    out: str,
    corpus: Path,
    shards_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (stand_in(tmp_path / "here", monkeypatch) / "mine").write_text("mine")
    arguments = [str(part).format(corpus=corpus, shards=shards_folder) for part in COMMANDS[command]]
    assert inside(monkeypatch, *arguments, "--out", out) == 2
    err = capsys.readouterr().err
    assert f"{out} {'is a folder; the result is one file' if command == 'blimp' else 'exists already'}" in err
    assert [path.name for path in tmp_path.rglob("*")] == ["here", "mine"]
