"""The results of a ladder so far: its cells as a table, and how long the rest will take."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ladder_plan import Job

from masklater.recipe.load import load
from masklater.run.metrics import read_metrics


@dataclass(frozen=True)
class CellRecord:
    """The content of a cell's RUN folder."""

    budget: str
    rung: str
    name: str  # seed-0, or the rate that was tried
    finished: bool
    diverged: bool  # it stopped because it diverged
    ledger: dict[str, Any]
    loss: float | None  # the last at 15%; for a finished cell the final one
    accuracy: float | None
    blimp: dict[str, Any]
    glue: dict[str, Any]

    @property
    def flops(self) -> float:
        """FLOPs spent so far, including the LM head and the optimizer."""
        return float(self.ledger["flops"] + self.ledger["flops_optimizer"])

    @property
    def seconds(self) -> float:
        """Seconds of pre-training, including evaluation and checkpoints."""
        return float(sum(self.ledger[part] for part in ("seconds", "evaluation_seconds", "checkpoint_seconds")))


def read_cell(run: Path) -> CellRecord | None:
    """Read a RUN's record of its cell; None before its first checkpoint."""
    if not (run / "ledger.json").exists():
        return None
    ledger = json.loads((run / "ledger.json").read_text())
    scores = [record for record in read_metrics(run / "metrics.jsonl") if "valid_loss_15" in record]
    last = scores[-1] if scores else {"step": -1, "valid_loss_15": None, "valid_accuracy_15": None}
    steps = load(run / "recipe.yaml").duration.steps
    return CellRecord(
        budget=run.parts[-3],
        rung=run.parts[-2],
        name=run.parts[-1],
        finished=ledger["steps"] == steps == last["step"],
        diverged=(run / "diverged.json").exists(),
        ledger=ledger,
        loss=last["valid_loss_15"],
        accuracy=last["valid_accuracy_15"],
        blimp=_read(run / "blimp.json"),
        glue=_read(run / "scores" / "scores.json"),
    )


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def read_all(out: Path) -> list[CellRecord]:
    """Return every cell that has begun, by budget and rung."""
    found = [record for run in (out / "runs").glob("*/*/*") if (record := read_cell(run))]
    return sorted(found, key=lambda record: (float(record.budget), record.rung, record.name))


def table(out: Path) -> str:
    """Return finished cells as rows, with unfinished ones below."""
    heads = ["budget", "rung", "run", "steps", "rows", "FLOPs", "minutes", "loss at 15%", "accuracy", "BLiMP", "GLUE"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    working = []
    for record in read_all(out):
        ledger, minutes = record.ledger, f"{record.seconds / 60:.1f}"
        if not record.finished or record.loss is None or record.accuracy is None:
            share = record.flops / float(record.budget)
            state = "diverged at" if record.diverged else "has spent"
            working.append(f"{record.budget}/{record.rung}/{record.name} {state} {share:.0%} in {minutes} minutes.")
            continue
        cells = [record.budget, record.rung, record.name, f"{ledger['steps']:,}", f"{ledger['rows']:,}"]
        cells += [f"{record.flops:.4g}", minutes, f"{record.loss:.4f}", f"{record.accuracy:.2%}"]
        cells.append(f"{record.blimp['accuracy']:.2f}" if record.blimp else "")
        cells.append(f"{record.glue['average']['value']:.2f}" if record.glue else "")
        lines.append("| " + " | ".join(cells) + " |")
    for scores in sorted((out / "twins").glob("*/*/*/scores/scores.json")):
        budget, rung, name = scores.parts[-5:-2]
        average = json.loads(scores.read_text())["average"]["value"]
        lines.append(f"| {budget} | {rung}, random weights | {name} |{'  |' * 7} {average:.2f} |")
    return "\n".join(["\n".join(lines), *working])


def hours_left(out: Path, left: list[Job]) -> str:
    """Return a sentence on the hours left: by FLOP/s of the same rung or the nearest measured, and judges' seconds."""
    records = {f"{record.budget}/{record.rung}/{record.name}": record for record in read_all(out)}
    rates = {name: record.flops / record.seconds for name, record in records.items() if record.seconds}
    if not rates:
        return f"{len(left)} are left; how long they take is not known before the first has begun."
    pairs: dict[str, list[float]] = defaultdict(list)
    sweeps: dict[str, list[float]] = defaultdict(list)
    for record in records.values():
        if record.blimp:
            pairs[record.budget].append(record.blimp["seconds"])
        if record.glue:
            sweeps[record.budget].append(record.glue["seconds"])
    seconds, unknown = 0.0, 0
    for job in left:
        budget, name = job.cell.budget, str(job.cell)
        if job.kind == "train":
            spent = records[name].flops if name in records else 0.0
            seconds += max(0.0, float(budget) - spent) / _rate(rates, budget, job.cell.rung)
            seconds += fmean(pairs[budget]) if pairs[budget] else 0.0
        elif sweeps[budget]:
            seconds += fmean(sweeps[budget])
        else:
            unknown += 1
    text = f"{seconds / 3600:.1f} hours are left for the other {len(left)}"
    return text + (f", not counting {unknown} of GLUE at budgets where none was timed." if unknown else ".")


def _rate(rates: dict[str, float], budget: str, rung: str) -> float:
    """Return the FLOP/s of a rung at a budget, else of the rung, else at the budget, else of all."""
    for start, middle in ((f"{budget}/", f"/{rung}/"), ("", f"/{rung}/"), (f"{budget}/", "")):
        found = [rate for name, rate in rates.items() if name.startswith(start) and middle in name]
        if found:
            return fmean(found)
    return fmean(rates.values())
