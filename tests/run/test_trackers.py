"""Programs that show a run: what they are told, that a resumed run goes on there, and that none of them ends a run.

trackio and wandb are made-up modules of the calls used; both themselves, offline, and TensorBoard where they are installed.
"""

import json
import math
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from masklater.errors import RecipeError, UserError
from masklater.recipe import watching
from masklater.recipe.load import load
from masklater.recipe.recipe import Recipe
from masklater.run.metrics import MetricsLog, read_metrics
from masklater.run.trackers import TRACKERS, chosen, refuse_missing

RECORD = {"step": 3, "loss": 2.5, "skipped": False, "grad_norm": math.inf, "lr": 1e-3, "note": "x"}
NUMBERS = {"loss": 2.5, "skipped": False, "lr": 1e-3}
Calls = list[tuple[str, dict[str, Any]]]


def recipe(*names: str) -> Recipe:
    return load("3ml-small", [f"tracking=[{', '.join(names)}]"])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What made-up trackio and wandb are told."""
    told: Calls = []

    def note(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            told.append((name, {**settings, **({"": arguments} if arguments else {})}))
            return SimpleNamespace(log=note("log"), finish=note("finish"), define_metric=note("define_metric"))

        return call

    for name in ("trackio", "wandb"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(init=note("init"), finish=note("finish")))
        monkeypatch.delenv(f"{name.upper()}_PROJECT", raising=False)
    return told


def test_wandb_is_told_each_step_and_goes_on_as_the_same_run(calls: Calls, tmp_path: Path) -> None:
    run = tmp_path / "my-run"
    run.mkdir()
    for after, wanted in ((0, recipe("wandb")), (3, recipe("wandb"))):
        with MetricsLog(run, after, wanted) as log:
            log.write({**RECORD, "step": after + 1})
    first, second = (settings for name, settings in calls if name == "init")
    assert first == second
    assert (first["project"], first["name"], first["resume"]) == ("masklater", "my-run", "allow")
    assert first["id"] == json.loads((run / "tracking.json").read_text())["id"]
    assert first["dir"] == str(run)
    assert first["config"]["masking"]["rate"] == 0.5
    assert [name for name, _ in calls] == ["init", "define_metric", "log", "finish"] * 2
    assert calls[1][1] == {"": ("*",), "step_metric": "step"}
    assert [settings[""] for name, settings in calls if name == "log"] == [
        ({"step": 1, **NUMBERS},), ({"step": 4, **NUMBERS},),
    ]  # fmt: skip


def test_trackio_is_told_each_step_and_goes_on_as_the_same_run(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKIO_PROJECT", "hindi")
    for name in ("a", "b", "a"):
        (tmp_path / name).mkdir(exist_ok=True)
        with MetricsLog(tmp_path / name, 0, recipe("trackio")) as log:
            log.write(RECORD)
    began = [settings for name, settings in calls if name == "init"]
    assert {settings["project"] for settings in began} == {"hindi"}
    assert began[0]["name"].startswith("a-")
    assert began[0]["name"] == began[2]["name"] != began[1]["name"]
    assert calls[1] == ("log", {"": (NUMBERS,), "step": 3})


def test_what_trackio_prints_is_no_result(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """stdout is for what a command answers, as JSON where it is asked to; trackio prints there."""

    def aloud(*_: Any, **__: Any) -> Any:
        print("* Trackio")
        return SimpleNamespace(log=aloud)

    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(init=aloud, finish=aloud))
    with MetricsLog(tmp_path, 0, recipe("trackio")) as log:
        log.write(RECORD)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("* Trackio\n") == 3


def test_what_fails_is_left_out_and_the_record_goes_on(
    calls: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ConnectionError("no network\nat all")

    begun = SimpleNamespace(log=fail, finish=fail, define_metric=lambda *_, **__: None)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=lambda **_: begun))
    monkeypatch.setitem(sys.modules, "trackio", SimpleNamespace(init=fail))
    with MetricsLog(tmp_path, 0, recipe("wandb", "trackio")) as log:
        log.write({"step": 1, "loss": 1.0})
        log.write({"step": 2, "loss": 1.0})
    said = capsys.readouterr().err
    assert said.count("wandb fails, and shows nothing after step 1: no network\n") == 1
    assert "trackio does not begin, and will show nothing of this run: no network" in said
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]


def test_what_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trackio", None)
    with pytest.raises(UserError, match=r"tracking with trackio needs trackio.*\n.*masklater\[trackio\].*leave it out"):
        refuse_missing(recipe("trackio"))
    refuse_missing(recipe())


@pytest.mark.parametrize("value", ["[tensorbord]", "wandb", "[wandb, wandb]", "[1]", "[auto, wandb]"])
def test_names_that_are_none(value: str) -> None:
    with pytest.raises(RecipeError, match="tracking"):
        load("3ml-small", [f"tracking={value}"])


def test_auto_is_tensorboard_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, expected in ((object(), ["tensorboard"]), (None, [])):
        monkeypatch.setattr("masklater.run.trackers.find_spec", lambda _, there=there: there)
        assert chosen(load("3ml-small")) == expected
    assert Recipe.may_change("tracking")
    assert set(TRACKERS) == set(watching.TRACKERS)
    assert load("3ml-small", ["tracking=auto"]) == load("3ml-small", ["tracking=[auto]"]) == load("3ml-small")


@pytest.mark.slow
def test_tensorboard_shows_what_a_resumed_run_made_last(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard` is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for after, loss in ((0, 4.0), (1, 3.0)):
        with MetricsLog(tmp_path, after, recipe("tensorboard")) as log:
            for step in range(after + 1, 4):
                log.write({"step": step, "loss": loss})
    shown = EventAccumulator(str(tmp_path / "tensorboard"))
    shown.Reload()
    assert [(event.step, event.value) for event in shown.Scalars("loss")] == [(1, 4.0), (2, 3.0), (3, 3.0)]


@pytest.mark.slow
def test_wandb_itself_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="the extra `wandb` is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for after in (0, 1):
        with MetricsLog(tmp_path, after, recipe("wandb")) as log:
            assert log.trackers is not None
            assert list(log.trackers.open) == ["wandb"]
            log.write({"step": after + 1, "loss": 1.0})
            assert list(log.trackers.open) == ["wandb"]
    identity = json.loads((tmp_path / "tracking.json").read_text())["id"]
    kept = list((tmp_path / "wandb").glob(f"offline-run-*-{identity}/run-{identity}.wandb"))
    assert kept
    assert all(file.stat().st_size for file in kept)


@pytest.mark.slow
def test_trackio_itself_offline(tmp_path: Path) -> None:
    """In a process of its own: what it would say at the end of one comes last."""
    pytest.importorskip("trackio", reason="the extra `trackio` is not installed")
    code = (
        "from pathlib import Path\n"
        "from masklater.recipe.load import load\n"
        "from masklater.run.metrics import MetricsLog\n"
        "for after in (0, 1):\n"
        "    with MetricsLog(Path('my-run'), after, load('3ml-small', ['tracking=[trackio]'])) as log:\n"
        "        for step in range(after + 1, 4):\n"
        "            log.write({'step': step, 'loss': float(step + after)})\n"
        "print('the result')\n"
    )
    (tmp_path / "my-run").mkdir()
    environment = {**os.environ, "TRACKIO_DIR": str(tmp_path / "shown"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    assert done.stdout == "the result\n"
    assert done.stderr.count("Run finished") == 2
    identity = json.loads((tmp_path / "my-run/tracking.json").read_text())["id"]
    with sqlite3.connect(tmp_path / "shown" / "masklater.db") as shown:
        rows = shown.execute("select run_name, run_id, step from metrics order by id").fetchall()
    assert {name for name, _, _ in rows} == {f"my-run-{identity}"}
    assert len({run for _, run, _ in rows}) == 1
    assert [step for _, _, step in rows] == [1, 2, 3, 2, 3]  # steps that are made again stand there twice
