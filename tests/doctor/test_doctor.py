"""The doctor: sound things pass, every fault is found, all of them at once, and nothing is changed by looking."""

import json
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

import masklater
from masklater.cli import main
from masklater.doctor import machine
from masklater.doctor.examination import Examination, as_text
from masklater.doctor.examine import examine
from masklater.errors import UserError
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.loop import pretrain
from masklater.pretrain.optim import Optimizers
from masklater.run import checkpoint
from masklater.run.checkpoint import list_checkpoints, load_checkpoint
from masklater.run.folder import RunFolder
from masklater.run.saver import Saver
from tests.conftest import tiny


@pytest.fixture(scope="module")
def sound_run(shards_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("doctor") / "run"
    pretrain(tiny(), shards_folder, run)
    return run


@pytest.fixture
def run(sound_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound_run, tmp_path / "run"))


@pytest.fixture
def data(shards_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards_folder, tmp_path / "data"))


def edit(path: Path, at: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[at if at >= 0 else len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_machine_alone() -> None:
    found = examine(None)
    assert found.problems == []
    assert found.facts["masklater"] and f"torch {metadata.version('torch')}" in found.facts["packages"]
    assert any(name.startswith("device") for name in found.facts)
    assert "nothing is wrong" in as_text(found)


def test_sound_folders_pass_and_are_not_touched(data: Path, run: Path) -> None:
    for folder in (data, run):
        before = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")}
        assert examine(folder).problems == []
        assert before == {
            path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in folder.rglob("*")
        }
    assert examine(run).facts["sound checkpoints"] == "step-00000004, step-00000006"
    assert examine(run).facts["steps logged"] == "6"


@pytest.mark.fault
def test_all_faults_of_shards_at_once(data: Path) -> None:
    edit(data / "train-00000.rows")
    (data / "train-00000.starts").write_bytes(b"")
    (data / "valid-00000.rows").unlink()
    edit(data / "tokenizer" / "tokenizer.json", at=0)
    (data / "train-00007.rows").write_bytes(b"")
    found = examine(data)
    for name in (r"train-00000.rows: the content has changed", "train-00000.starts has 0 bytes",
                 "valid-00000.rows is missing", "tokenizer"):  # fmt: skip
        assert any(name in problem for problem in found.problems), name
    assert not any("valid-00000.starts" in problem for problem in found.problems)
    assert found.notes[-1].endswith("train-00007.rows")


@pytest.mark.fault
@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_damaged_index(damage: bytes, data: Path) -> None:
    (data / "index.json").write_bytes(damage)
    assert any("index.json" in problem for problem in examine(data).problems)
    (data / "index.json").unlink()
    assert any("no index.json" in problem for problem in examine(data).problems)


@pytest.mark.fault
def test_all_faults_of_a_run_at_once(run: Path) -> None:
    older, newer = list_checkpoints(run / "checkpoints")
    edit(next(newer.glob("*.safetensors")))
    edit(run / "tokenizer" / "tokenizer.json", at=0)
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\nrubbish\n{"step": 3, "loss": 2.0}\n')
    (run / "ledger.json").write_text("{")
    (run / "config.json").write_text("{")
    (run / "checkpoints" / "step-00000008.partial-1").mkdir()
    (run / "diverged.json").write_text("{}")
    found = examine(run)
    for name in ("step-00000006 is damaged", "tokenizer", "metrics.jsonl, line 2", "config.json"):
        assert any(name in problem for problem in found.problems), name
    assert found.facts["sound checkpoints"] == older.name
    assert any("step-00000008.partial-1" in note for note in found.notes)
    assert f"{len(found.problems)} problems:" in as_text(found)


def test_steps_that_a_log_lacks_are_noted(run: Path) -> None:
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    assert not any("lacks" in note for note in examine(run).notes)
    (run / "metrics.jsonl").write_text("".join(line for line in lines if '"step": 3,' not in line))
    assert any("metrics.jsonl lacks 1 of the 6 steps made" in note for note in examine(run).notes)


@pytest.mark.fault
@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("run.json", "{", "run.json is damaged"),
        ("run.json", "[" * 100_000, "run.json is damaged"),
        ("recipe.yaml", "batch: {rows: -3}", "batch.rows is -3"),
        ("ledger.json", "", "ledger.json is missing or damaged"),
        ("metrics.jsonl", '{"step": 1, "loss": 1.0}\n', "ends before the checkpoint of step 6"),
    ],
)
def test_each_file_of_a_run(file: str, content: str, expected: str, run: Path) -> None:
    (run / file).write_text(content)
    assert any(expected in problem for problem in examine(run).problems)
    (run / file).unlink()
    assert any(file in problem for problem in examine(run).problems)


@pytest.mark.fault
def test_a_damaged_record_of_the_data(run: Path) -> None:
    (run / "data.json").write_text('{"shards": [{}]}')
    assert any("data.json is damaged at shards.0.key" in problem for problem in examine(run).problems)
    (run / "data.json").unlink()  # as of a run that began before there was one
    assert examine(run).problems == []


@pytest.mark.fault
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("vocab_size", 99, "does not describe the weights of step-00000006: .*word_embeddings"),
        ("num_hidden_layers", 1, r"does not describe the weights of step-00000006: encoder\..*layer"),
        ("num_attention_heads", 7, "no model can be made of .*config.json: "),
    ],
)
def test_a_config_that_is_not_that_of_the_weights(name: str, value: int, expected: str, run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    config["encoder"][name] = value
    (run / "config.json").write_text(json.dumps(config))
    assert any(re.search(expected, problem) for problem in examine(run).problems), examine(run).problems


@pytest.mark.fault
def test_weights_that_are_not_finite_and_a_checkpoint_under_another_name(run: Path, tmp_path: Path) -> None:
    newest = list_checkpoints(run / "checkpoints")[-1]
    saved = load_checkpoint(newest)
    model = MaskLaterForMaskedLM(RunFolder(run).load_config())
    saved.load_into(model)
    name, parameter = next(iter(model.named_parameters()))
    with torch.no_grad():
        parameter.view(-1)[0] = float("nan")
    shutil.rmtree(newest)
    Saver().save(newest, model, Optimizers(model, RunFolder(run).recipe.optimizer), saved.ledger)
    newest.rename(newest.with_name("step-00000099"))
    problems = examine(run).problems
    assert any(f"weights are not finite: {name}" in problem for problem in problems)
    assert any("step-00000099 holds step 6" in problem for problem in problems)


@pytest.mark.fault
def test_a_checkpoint_that_goes_while_it_is_read_is_no_fault(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one does that training has no more use for, once there is a newer one."""
    newest = list_checkpoints(run / "checkpoints")[-1]
    old = shutil.copytree(newest, newest.with_name("step-00000001"))
    hashes = checkpoint._hashes

    def remove_then_hash(path: Path) -> dict[str, str]:
        if path == old:
            path.rename(path.with_name(f"removed-{path.name}"))
        return hashes(path)

    monkeypatch.setattr(checkpoint, "_hashes", remove_then_hash)
    assert examine(run).problems == []


def test_the_newest_checkpoint_goes_while_it_is_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newest = list_checkpoints(run / "checkpoints")[-1]
    newer = newest.with_name("step-00000099")
    hashes = checkpoint._hashes

    def replace_then_hash(path: Path) -> dict[str, str]:
        if path == newest:
            newest.rename(newer)
        return hashes(path)

    monkeypatch.setattr(checkpoint, "_hashes", replace_then_hash)
    assert RunFolder(run).open_newest().path == newer


@pytest.mark.fault
def test_no_space_for_the_next_checkpoint(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        total: int
        used: int
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9 - 1000, 1000))
    assert any("the next checkpoint takes" in problem for problem in examine(run).problems)
    for each in list_checkpoints(run / "checkpoints"):
        shutil.rmtree(each)  # then its size is counted from the model
    assert any("the next checkpoint takes" in problem for problem in examine(run).problems)


def test_the_size_of_the_first_checkpoint_is_foreseen(run: Path) -> None:
    real = float(examine(run).facts["next checkpoint"].split(" MiB")[0])
    for each in list_checkpoints(run / "checkpoints"):
        shutil.rmtree(each)
    assert float(examine(run).facts["next checkpoint"].split(" MiB")[0]) == pytest.approx(real, rel=0.25, abs=0.1)


@pytest.mark.fault
def test_versions(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identity = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**identity, "torch": "2.11.0"}))
    found = examine(run)
    assert found.problems == [] and any("torch was 2.11.0, is" in note for note in found.notes)
    real = machine.metadata.version

    def version(name: str) -> str:
        if name == "scipy":
            raise machine.metadata.PackageNotFoundError
        return "1.9" if name == "torch" else real(name)

    monkeypatch.setattr(machine.metadata, "version", version)
    problems = examine(None).problems
    assert any("torch is 1.9; masklater needs torch>=" in problem for problem in problems)
    assert any("scipy is not installed" in problem for problem in problems)


def test_source_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without network is given the source, and PYTHONPATH."""

    def requires(name: str) -> list[str]:
        raise machine.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(machine.metadata, "requires", requires)
    found = examine(None)
    assert found.problems == [] and any("is not installed" in note for note in found.notes)
    assert found.facts["masklater"] == masklater.__version__


@pytest.mark.fault
def test_a_device_that_miscalculates(monkeypatch: pytest.MonkeyPatch) -> None:
    product = torch.Tensor.__matmul__
    monkeypatch.setattr(
        torch.Tensor, "__matmul__", lambda a, b: product(a, b) + 1 if a.is_floating_point() else product(a, b)
    )
    assert any("does not multiply matrices" in problem for problem in examine(None).problems)


def test_neither(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        examine(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is neither SHARDS nor a RUN"):
        examine(tmp_path)


def test_shards_of_several_row_lengths_are_named(tmp_path: Path) -> None:
    for name in ("rows-64", "rows-128"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.json").write_text("{}")
    with pytest.raises(UserError, match="holds SHARDS, each in a folder of its own: rows-128, rows-64"):
        examine(tmp_path)


def test_a_problem_is_listed_once() -> None:
    found = Examination()
    found.problem("one")
    found.problem("one")
    assert found.problems == ["one"]


def test_exit_status_and_json(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def status(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["masklater", "doctor", *map(str, arguments)])
        with pytest.raises(SystemExit) as leave:
            main()
        return int(leave.value.code or 0)

    assert status(data) == 0
    edit(data / "train-00000.rows")
    capsys.readouterr()
    assert status(data, "--json") == 2
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(found["problems"]) == 1 and "train-00000.rows" in found["problems"][0]
    assert status(data) == 2
    assert "1 problem:\n  - " in capsys.readouterr().out
