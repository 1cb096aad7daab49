"""The command that proves the whole on a GPU: it goes on where it was stopped, and says what is missing."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from masklater.errors import UserError
from masklater.recipe.load import load
from masklater.recipe.recipe import Recipe
from tests.conftest import REPOSITORY


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    return importlib.import_module("gpu")


@pytest.fixture
def cells(gpu: Any) -> Any:
    return importlib.import_module("gpu_cells")


def pretend(gpu: Any, monkeypatch: pytest.MonkeyPatch, fails: str = "") -> list[str]:
    """Parts that are done at once; returns the names of those that are asked for, as they come."""
    asked: list[str] = []

    def do(part: Any, out: Path, size: str, device: str, seconds: float) -> str:
        asked.append(part.name)
        if part.name == fails:
            return "failed with status 1"
        (out / f"{part.name}.json").write_text(json.dumps(RESULTS.get(part.name, {})))
        return "done"

    monkeypatch.setattr(gpu, "do", do)
    return asked


RESULTS: dict[str, dict[str, Any]] = {
    "machine": {
        "device": "a test", "peak_flops_per_second": 2e12, "peak_source": "made up", "precision": "bfloat16",
        "attention_kernels": None, "cuda": "13.0", "torch": "2.11.0", "transformers": "5.17.0",
    },
    "tests": {"summary": "30 passed in 1.00s", "failed": ["tests/gpu/test_x.py::test_y"]},
    "stock": {"points": [{"size": "small", "rows": 4, "row_length": 32, "compiled": True, "rows_per_second": 50.0,
                          "bytes": 2e9}]},
    "head": {"points": [{"vocabulary": 50_265, "compiled": False, "targets": 64, "seconds": 0.002}]},
    "growth": {"text": "L 16\n"},
    "quickstart": {"steps": 3, "rows_per_second": 9.0, "valid_loss": 4.5, "unigram_loss": 6.5},
    "pretrain": {"seconds": 480.0, "steps": 4000, "tokens": 5e8, "rows_per_second": 8000.0, "utilisation": 0.25,
                 "valid_loss": 3.25, "valid_loss_15": 3.0, "valid_accuracy_15": 0.5},
}  # fmt: skip


def test_what_is_done_is_not_done_again(gpu: Any, cells: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [part.name for part in cells.TINY_SIZE.parts]
    asked = pretend(gpu, monkeypatch, fails="head")
    gpu.work(tmp_path, "tiny", "cpu", 25)
    assert asked == names
    assert "Not finished: head." in (tmp_path / "table.md").read_text()
    again = pretend(gpu, monkeypatch)
    gpu.work(tmp_path, "tiny", "cpu", 25)
    assert again == ["head"]
    assert "Not finished" not in (tmp_path / "table.md").read_text()
    with pytest.raises(UserError, match="was begun with"):
        gpu.work(tmp_path, "full", "cpu", 25)


def test_nothing_is_begun_that_time_does_not_reach(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = pretend(gpu, monkeypatch)
    gpu.work(tmp_path, "tiny", "cpu", 0.1)
    assert asked == []
    assert "machine: no time left; give the same command again" in capsys.readouterr().err


def test_a_part_that_takes_too_long_or_fails_is_told(gpu: Any, cells: Any, tmp_path: Path) -> None:
    assert gpu.do(cells.Part("machine", 1), tmp_path, "tiny", "cpu", 0.05) == "ended after 0 s, unfinished"
    assert gpu.do(cells.Part("no-such-part", 1), tmp_path, "tiny", "cpu", 60) == "failed with status 1"
    assert "StopIteration" in (tmp_path / "no-such-part.log").read_text()


def test_the_tables(gpu: Any, cells: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(gpu, monkeypatch)
    point = {"utilisation": 0.4, "step_seconds": 0.04, "forecast_step_seconds": 0.05, "bytes": 3e9,
             "forecast_bytes": 4e9, "first_step_seconds": 9.0, "device_seconds": 0.035,
             "launches": 800, "longest_kernels": [["gemm", 0.00875, 7]]}  # fmt: skip
    (tmp_path / "points").mkdir()
    first, second, third = cells.TINY
    for cell, found in ((first, {"rows_per_second": 100.0, **point}),
                        (second, {"rows_per_second": 80.0, **point, "step_seconds": 0.05})):  # fmt: skip
        (tmp_path / "points" / f"{cell}.json").write_text(json.dumps({"cell": str(cell), **found}))
    (tmp_path / "points" / f"{third}.json").write_text(json.dumps({"failed": "out of memory"}))
    gpu.work(tmp_path, "tiny", "cpu", 25)
    text = (tmp_path / "table.md").read_text()
    for expected in (
        "a test, at best 2 TFLOP/s", "30 passed in 1.00s\n- tests/gpu/test_x.py::test_y",
        "| 3ml-small | 4 x 32 | eager | 100.0 | 0.003 | 40.0% | 40.0 | 35.0 | 50.0 | 3.00 | 4.00 | 9.0 |",
        "| 3ml-small | 4 x 32 | eager, no mask | out of memory |",
        "3ml-small over vanilla-small, 4 x 32, eager: 0.800 of the time", "| small | 4 x 32 | compiled | 50.0 | 2.00 | 2.00 |",
        "| 50,265 | eager | 64 | 2.00 |", "| `gemm` | 25.0% | 7 |", "held out 3.250 nats",
    ):  # fmt: skip
        assert expected in text, text
    assert cells.FULL_SIZE and "not measured" in importlib.import_module("gpu_table").table(tmp_path, cells.FULL_SIZE)


def test_the_plan_is_one_that_can_be_carried_out(cells: Any) -> None:
    for size in cells.SIZES.values():
        assert max(part.minutes for part in size.parts) <= 9
        for part in size.parts:
            for cell in part.cells:
                load(cell.recipe, [*cell.overrides(dict(Recipe.model_fields)), "duration.steps=3", *size.shrink])
        load("quickstart", size.quickstart)
        load("3ml-small", size.medium)
    compiled = cells.Cell("3ml-small", 4, 32, True)
    assert "compile=true" in compiled.overrides({"compile": None})
    assert not any("compile" in setting for setting in compiled.overrides({}))


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    command = [sys.executable, REPOSITORY / "benchmarks" / "gpu.py", "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 2
    assert "torch sees no GPU here" in done.stderr and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_whole_on_a_cpu(tmp_path: Path) -> None:
    command = [sys.executable, REPOSITORY / "benchmarks" / "gpu.py", "--out", tmp_path / "out"]
    done = subprocess.run(
        [*command, "--device", "cpu", "--size", "tiny"], capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "not measured" not in done.stdout and "Not finished" not in done.stdout and "failed" not in done.stdout
