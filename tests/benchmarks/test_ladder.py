"""benchmarks/ladder.py at a size that says nothing: stopped and killed, it goes on and ends with every cell in the table."""

import importlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from masklater.budget.forecast import Rows, forecast, rows_of
from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.recipe.load import load
from tests.conftest import REPOSITORY, make_text
from tests.judge.folders import make_glue

LADDER = REPOSITORY / "benchmarks" / "ladder.py"
TINY: dict[str, Any] = {
    "text": ["text.jsonl"],
    "prepare": {"vocab_size": 400, "row_length": 32, "valid_fraction": 0.05},
    "blimp": "blimp",
    "glue": {
        "official": "glue",
        "subsets": None,
        "sweep": {"tasks": "mrpc,rte", "lr": "2e-3", "batch": "8", "epochs": 1, "seeds": 1, "max_train_rows": None},
        "twins": ["stock"],
    },
    "sizes": {
        "cpu": {
            "overrides": ["precision=float32", "evaluation.rows=8"],
            "budgets": {
                "3e9": {"width": 32, "layers": 2, "heads": 2, "rows": 8, "blimp": 2},
                "5e9": {"width": 48, "layers": 2, "heads": 2, "rows": 8},
            },
            "order": [
                {"budget": "3e9", "seeds": [0], "rungs": ["stock", "best-cross"]},
                {"budget": "5e9", "seeds": [0], "rungs": ["stock", "best-cross"], "glue": True},
            ],
        }
    },
}


def make_work(folder: Path, **changes: object) -> list[str]:
    """Data and a tiny ladder of the shipped rungs; returns the command."""
    shipped = yaml.safe_load(LADDER.with_suffix(".yaml").read_text())
    tuned = {**shipped["tuned"], "lr": [1e-3, 2e-3]}
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**shipped, **TINY, "tuned": tuned, **changes}))
    lines = [json.dumps({"text": make_text(number, 200)}) for number in range(200)]
    (folder / "text.jsonl").write_text("\n".join(lines))
    (folder / "blimp").mkdir(exist_ok=True)
    pairs = [{"sentence_good": make_text(n, 8), "sentence_bad": make_text(n + 50, 8)} for n in range(3)]
    (folder / "blimp" / "made_up.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    if not (folder / "glue").exists():
        make_glue(folder / "glue")
    return [sys.executable, str(LADDER), "--plan", "tiny.yaml", "--data", ".", "--out", "out"]


def ends(command: list[str], folder: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def stopped_by(number: signal.Signals, command: list[str], folder: Path, steps: int) -> str:
    """Start it, and send a signal once a cell has logged so many steps that were not there before."""
    before = {path: path.read_text() for path in (folder / "out" / "runs").glob("*/*/*/metrics.jsonl")}
    work = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 600

    def has_gone_on() -> bool:
        logs = (folder / "out" / "runs").glob("*/*/*/metrics.jsonl")
        return any(len(path.read_text()[len(before.get(path, "")) :].splitlines()) > steps for path in logs)

    while not has_gone_on() and time.monotonic() < deadline and work.poll() is None:
        time.sleep(0.02)
    work.send_signal(number)
    said, _ = work.communicate(timeout=300)
    assert work.returncode in {-number, 128 + number}, said
    return said


def table_rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


@pytest.mark.slow
def test_a_ladder_that_is_stopped_and_killed_goes_on(tmp_path: Path) -> None:
    command, runs = make_work(tmp_path), tmp_path / "out" / "runs"
    said = stopped_by(signal.SIGTERM, command, tmp_path, steps=5)
    assert "give the same command again" in said
    stopped_by(signal.SIGKILL, command, tmp_path, steps=10)
    stopped_by(signal.SIGKILL, command, tmp_path, steps=20)
    assert "hours are left" in ends([*command, "--status"], tmp_path).stdout

    text = ends(command, tmp_path).stdout
    rows = table_rows(text)
    first = ["3e9/muon-cross-50", "3e9/muon-cross-50-all", "3e9/stock", "3e9/stock", "3e9/stock"]
    assert [f"{row[0]}/{row[1]}" for row in rows][:5] == first
    assert [row[2] for row in rows if row[1] == "stock" and row[0] == "3e9"] == ["lr-0.001", "lr-0.002", "seed-0"]
    assert {row[1] for row in rows if row[0] == "5e9"} >= {"stock", "stock, random weights"}
    assert len(rows) == 8, text
    assert all(row[-2] in {"0.00", "50.00", "100.00"} for row in rows if row[0] == "3e9")  # 2 pairs of 3
    assert all(float(row[-1]) > 0 for row in rows if row[0] == "5e9")
    for run in runs.glob("*/*/*"):
        ledger, steps = json.loads((run / "ledger.json").read_text()), load(run / "recipe.yaml").duration.steps
        logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert [record["step"] for record in logged if "loss" in record] == list(range(1, (steps or 0) + 1)), run
        assert ledger["flops"] + ledger["flops_optimizer"] == pytest.approx(
            float(run.parts[-3]), rel=0.5 / (steps or 1)
        )
    losses = {name: final_loss(runs / "3e9" / "stock" / name) for name in ("lr-0.001", "lr-0.002")}
    assert load(runs / "5e9" / "stock" / "seed-0" / "recipe.yaml").optimizer.lr == (
        0.001 if losses["lr-0.001"] < losses["lr-0.002"] else 0.002
    )
    rungs = ("muon-cross-50", "muon-cross-50-all")
    better = min(rungs, key=lambda rung: final_loss(runs / "3e9" / rung / "seed-0"))
    assert [run.parent.name for run in (runs / "5e9").glob("muon-*/*")] == [better]

    written = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.name != "lock"}
    again = ends(command, tmp_path)
    assert again.stdout == text and "0.0 hours are left" in text
    assert written == {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.name != "lock"}  # not repeated

    make_work(tmp_path, common=["model.dropout=0.1"])
    assert "model.dropout was 0.0, is 0.1" in ends(command, tmp_path, status=2).stderr
    make_work(tmp_path)
    with (tmp_path / "text.jsonl").open("a") as file:
        file.write('\n{"text": "one more"}')
    assert "text of the ladder in out was other" in ends(command, tmp_path, status=2).stderr


@pytest.mark.slow
def test_processes_share_the_work(tmp_path: Path) -> None:
    command, runs = make_work(tmp_path), tmp_path / "out" / "runs"
    stopped = ends([*command, "--processes", "2", "--minutes", "0.3"], tmp_path).stdout
    assert "hours are left for the other 0" not in stopped
    text = ends([*command, "--processes", "3"], tmp_path).stdout
    assert len(table_rows(text)) == 8 and "hours are left for the other 0" in text
    for run in runs.glob("*/*/*"):
        steps = [record["step"] for record in map(json.loads, (run / "metrics.jsonl").open()) if "loss" in record]
        assert steps == [*range(1, (load(run / "recipe.yaml").duration.steps or 0) + 1)], run
    logs = [path.read_text() for path in sorted((tmp_path / "out").glob("process-*.log"))]
    assert len(logs) == 3 and sum("pre-training" in log for log in logs) >= 2


@pytest.mark.parametrize(
    ("code", "minutes", "status"),
    [("import time; time.sleep(60)", 0.01, 0), ("raise SystemExit(3)", None, 3), ("pass", 1, 0)],
)
def test_processes_are_waited_for_or_stopped(
    code: str, minutes: float | None, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(LADDER.parent)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    work_together = importlib.import_module("ladder").work_together
    begun = time.monotonic()
    assert work_together(2, minutes, [sys.executable, "-c", code], tmp_path / "out") == status
    assert time.monotonic() - begun < 30
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["process-1.log", "process-2.log"]


def test_the_text_is_wanted_until_its_rows_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_work(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(LADDER.parent)
    plan = importlib.import_module("ladder_plan").Plan(Path("tiny.yaml"), "cpu")
    ladder = importlib.import_module("ladder").Ladder(plan, Path(), Path("out"))
    text = Path("text.jsonl").rename("away")
    with pytest.raises(UserError, match=r"there is no text\.jsonl"):
        ladder.prepare()
    text.rename("text.jsonl")
    ladder.prepare()
    made = Path("out/data.json").read_text()
    Path("text.jsonl").unlink()
    ladder.prepare()
    assert Path("out/data.json").read_text() == made
    Path("text.jsonl").write_text('{"text": "another"}')
    with pytest.raises(UserError, match="text of the ladder in out was other"):
        ladder.prepare()


def final_loss(run: Path) -> float:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return float([record for record in records if "valid_loss_15" in record][-1]["valid_loss_15"])


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(LADDER.parent)
    return importlib.import_module("ladder_plan").Plan(LADDER.with_suffix(".yaml"), "cpu")


def test_the_main_four_come_first_and_choices_follow_what_ended_lower(plan: Any) -> None:
    jobs = [str(job.cell) for job in plan.jobs(lambda cell: None)]
    assert jobs[:5] == [f"3e13/stock/lr-{lr}" for lr in ("0.0005", "0.001", "0.002", "0.004", "0.008")]
    assert len(jobs) > len(set(jobs)), "the cells that are fine-tuned have been trained before"
    mains = [name for name in jobs if name.startswith("3e14/") and name.endswith("seed-0")][:4]
    assert mains == [f"3e14/{rung}/seed-0" for rung in ("stock", "muon-vanilla-40", "muon-self-50", "muon-cross-50")]

    def losses(cell: Any) -> float:
        return 4.0 - 0.1 * cell.rung.endswith("-all") - 0.1 * (cell.lr == 0.004)

    assert plan.tuned_lr(losses) == 0.004
    assert not plan.undecided(losses)
    after = [str(job.cell) for job in plan.jobs(losses)]
    assert {"3e13/muon-self-50/seed-0", "3e13/muon-self-50-all/seed-1"} < {*after}
    assert "1e15/muon-self-50-all/seed-0" in after and "1e15/muon-self-50/seed-0" not in after


def test_cells_with_a_rate_of_their_own_do_not_wait_for_one_to_be_found(
    plan: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ladder = importlib.import_module("ladder").Ladder(plan, Path(), Path())
    monkeypatch.setattr(ladder, "loss", lambda cell: None)
    ready = [str(job.cell) for job in ladder._ready(plan.jobs(ladder.loss))]
    assert ready[:6] == [f"3e13/stock/lr-{lr:g}" for lr in plan.tuned["lr"]] + ["3e13/muon-vanilla-40/seed-0"]
    assert not any(name.startswith(("1e14", "3e14", "1e15")) for name in ready), "choices are decided first"
    assert not any("/stock/seed" in name or "/self-50/" in name for name in ready)


def test_a_rate_that_is_known_is_not_looked_for(plan: Any) -> None:
    plan.tuned["lr"] = [2e-3]
    assert not plan.candidates()
    assert plan.tuned_lr(lambda cell: None) == 2e-3
    assert str(plan.jobs(lambda cell: None)[0].cell) == "3e13/stock/seed-0"


def test_a_rate_that_no_rung_of_the_order_asks_for_is_not_looked_for(plan: Any) -> None:
    plan.size["order"] = [{"budget": "3e13", "seeds": [0], "rungs": ["enter-0", "best-self"]}]
    assert not plan.candidates()
    assert str(plan.jobs(lambda cell: None)[0].cell) == "3e13/enter-0/seed-0"
    plan.size["order"][0]["glue"] = True  # `stock` is one of the random twins
    assert len(plan.candidates()) == 5


def test_one_rule_gives_the_size_of_every_rung(plan: Any) -> None:
    for budget, sizes in plan.budgets.items():
        weights = 12 * sizes["layers"] * sizes["width"] ** 2
        assert sizes["layers"] >= 8
        for rung in ("stock", "muon-vanilla-40", "muon-self-50", "muon-cross-50", "muon-cross-50-all"):
            name, *changes = plan.rungs[rung]
            settings = [text for part in changes for text in plan.tree["parts"][part] if "optimizer" not in text]
            settings += [f"model.{key}={value}" for key, value in model_of(sizes, rung).items()]
            row = forecast(load(name, settings), Rows(128, 8192, 125.5)).row
            assert 13 < float(budget) / row.training * 128 / weights < 23, (budget, rung)


def test_a_causal_phase_has_its_share_of_the_flops(plan: Any, continuous: Shards) -> None:
    cell = importlib.import_module("ladder_plan").Cell
    for rung, share in (("causal-first-25", 0.25), ("causal-first-50", 0.5)):
        cost = forecast(plan.recipe(cell("1e14", rung, 0), continuous, 0.001), rows_of(continuous.folder))
        assert cost.phases[0].recipe.masking.causal
        assert (cost.phases[0].total_flops or 0) / (cost.total_flops or 1) == pytest.approx(share, rel=0.01)


def model_of(sizes: dict[str, int], rung: str) -> dict[str, int]:
    width = sizes["width"]
    feed_forward = 4 * width if rung == "stock" else 8 * width // 3
    return {"hidden_size": width, "num_hidden_layers": sizes["layers"], "num_attention_heads": sizes["heads"],
            "intermediate_size": feed_forward}  # fmt: skip


def test_a_plan_that_names_what_is_not_there_is_refused(tmp_path: Path) -> None:
    command = make_work(tmp_path, choices={"best-cross": ["muon-cross-50", "muon-cros-50-all"]})
    assert "names muon-cros-50-all, which it does not hold" in ends(command, tmp_path, status=2).stderr
