"""benchmarks/equal_compute.py at a size that says nothing: interrupted, it goes on and ends with every arm in the table."""

import importlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, make_text
from tests.glue.folders import make_glue

SIZES = """
cpu:
  vocab_size: 400
  row_length: 32
  baseline_rows: 256
  shapes:
    deep: {hidden_size: 32, num_hidden_layers: 3, num_attention_heads: 2, intermediate_size: 48}
  overrides:
    - model.family=modernbert
    - model.dropout=0
    - batch.rows=8
    - batch.micro_rows=8
    - "evaluation={every_steps: 8, rows: 8}"
    - "checkpoint={every_steps: 4, keep: 1}"
    - precision=float32
  glue: {tasks: "mrpc,rte", lr: "2e-3", batch: "8", epochs: 1, seeds: 2, max_train_rows: null}
"""
ARMS = ["vanilla-15", "vanilla-40", "3ml-self-50", "3ml-cross-50", "late-50", "3ml-self-50-at-78%", "random"]


@pytest.mark.slow
def test_an_interrupted_comparison_goes_on(tmp_path: Path) -> None:
    (tmp_path / "sizes.yaml").write_text(SIZES)
    lines = [json.dumps({"text": make_text(number, 200)}) for number in range(200)]
    (tmp_path / "text.jsonl").write_text("\n".join(lines))
    make_glue(tmp_path / "glue")
    pair = {"sentence_good": make_text(0, 8), "sentence_bad": make_text(1, 8)}
    (tmp_path / "made_up.jsonl").write_text(json.dumps(pair))
    command = [
        sys.executable, str(REPOSITORY / "benchmarks" / "equal_compute.py"), "--size", "cpu", "--sizes", "sizes.yaml",
        "--text", "text.jsonl", "--glue", "glue", "--pairs", "made_up.jsonl", "--out", "out", "--at-once", "2",
    ]  # fmt: skip
    out = tmp_path / "out" / "deep"
    first = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 240
    while not list(out.glob("vanilla-*/checkpoints/*")) and time.monotonic() < deadline and first.poll() is None:
        time.sleep(0.1)
    first.send_signal(signal.SIGTERM)
    said, _ = first.communicate(timeout=120)
    assert first.returncode == 128 + signal.SIGTERM, said
    assert "give the same command again" in said
    assert not (out / "results.md").exists() and not (out / "late-50").exists()
    before = json.loads((out / "vanilla-15" / "ledger.json").read_text())["steps"]

    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    table = [line.split("|")[1:-1] for line in (out / "results.md").read_text().splitlines()]
    assert [row[0].strip() for row in table[2:]] == ARMS
    assert [cell.strip() for cell in table[0][-2:]] == ["made_up", "all pairs"]
    assert {row[-1].strip() for row in table[2:-1]} <= {"0.0", "100.0"} and not table[-1][-1].strip()
    assert (out / "report" / "index.html").stat().st_size > 10_000
    spent = {arm: json.loads((out / arm / "ledger.json").read_text()) for arm in ARMS[:-1]}
    assert spent["vanilla-15"]["steps"] == 256 // 8 > before
    for arm, ledger in spent.items():
        share = ledger["flops"] / spent["vanilla-15"]["flops"]
        wanted = 0.78 if arm.endswith("78%") else 1.0
        assert wanted <= share < wanted + 1.1 * ledger["flops"] / ledger["steps"] / spent["vanilla-15"]["flops"], arm
    steps = [json.loads(line) for line in (out / "vanilla-15" / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in steps if "loss" in record] == list(range(1, 33))  # none twice, none missing

    last = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert last.returncode == 0
    assert (out / "results.md").read_text() in last.stdout


def test_without_glue_there_is_a_table_of_losses_and_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    for arm in ARMS[:2]:
        (tmp_path / arm).mkdir()
        (tmp_path / arm / "ledger.json").write_text('{"steps": 1000, "rows": 8000, "flops": 1.5e12, "seconds": 90}')
        records = [{"step": 500, "valid_loss_15": 5.0, "valid_accuracy_15": 0.1}, {"step": 1000, "loss": 4.0},
                   {"step": 1000, "valid_loss_15": 4.25, "valid_accuracy_15": 0.2}]  # fmt: skip
        (tmp_path / arm / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)))
        pairs = {"accuracy": 70.0, "files": {"order.jsonl": {"accuracy": 75.0}, "agreement.jsonl": {"accuracy": 65.0}}}
        (tmp_path / arm / "pairs.json").write_text(json.dumps(pairs))
    (tmp_path / ARMS[0] / "scores").mkdir()
    (tmp_path / ARMS[0] / "scores" / "scores.json").write_text("{}")  # of one arm only: left out
    head, _, *rows = importlib.import_module("equal_compute").table(tmp_path, ARMS[:2]).splitlines()
    assert head == "| arm | steps | rows | FLOPs | minutes | loss at 15% | accuracy | order | agreement | all pairs |"
    assert rows == [
        f"| {arm} | 1,000 | 8,000 | 1.5e+12 | 1.5 | 4.250 | 20.0% | 75.0 | 65.0 | 70.0 |" for arm in ARMS[:2]
    ]
