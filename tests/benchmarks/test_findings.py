"""benchmarks/findings.py: the table and the plot hold each finished cell of the budget, and no other."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from masklater.errors import UserError
from tests.conftest import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("findings")


def cell(rung: str, loss: float, seed: int = 0, budget: str = "3e13", finished: bool = True) -> Any:
    return importlib.import_module("ladder_table").CellRecord(
        budget, rung, f"seed-{seed}", finished, False, {"steps": 1800}, loss, 0.25, {"accuracy": 51.27}, {}
    )


def test_every_rung_that_is_shown_is_one_of_the_ladder(findings: Any) -> None:
    plan = importlib.import_module("ladder_plan").Plan(BENCHMARKS / "ladder.yaml", "cpu")
    shown = {rung for *_, lines in findings.PANELS for line in lines.values() for rung in line.values()}
    assert shown <= plan.rungs.keys()
    by_name = {name for name in plan.rungs if name.startswith(("enter-", "self-of", "cross-of", "without-"))}
    assert by_name < shown


def test_the_table_and_the_plot(findings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cells = [
        cell("enter-0", 4.6),
        cell("enter-0", 4.64, seed=1),
        cell("enter-4", 4.5),
        cell("enter-6", 9.0, finished=False),
        cell("enter-7", 9.0, budget="1e14"),
        cell("cross-of-1", 4.4),
        cell("stock", 7.1),
    ]
    monkeypatch.setattr(findings, "read_all", lambda ladder: cells)
    monkeypatch.setattr("sys.argv", ["findings.py", "LADDER", "--out", str(tmp_path / "findings.png")])
    found = findings.finished(tmp_path, "3e13")
    assert findings.table(found).splitlines()[2:] == [
        "| `enter-0` | 1,800 | 4.600, 4.640 | 25.0%, 25.0% | 51.3, 51.3 |",
        "| `enter-4` | 1,800 | 4.500 | 25.0% | 51.3 |",
        "| `cross-of-1` | 1,800 | 4.400 | 25.0% | 51.3 |",
    ]
    assert findings.main() == 0
    assert (tmp_path / "findings.png").read_bytes().startswith(b"\x89PNG")


def test_a_budget_without_a_finished_cell_is_told(
    findings: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(findings, "read_all", lambda ladder: [cell("stock", 7.1), cell("enter-0", 5.0, finished=False)])
    monkeypatch.setattr("sys.argv", ["findings.py", "LADDER", "--out", "x.png"])
    assert findings.main() == 2
    assert "LADDER has no finished cell at 3e13 that is shown here" in capsys.readouterr().err
    with pytest.raises(UserError):
        findings.finished(Path("LADDER"), "3e13")
