"""RUN and SCORES folders made up for tests, whose figures can be worked out by hand."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from masklater.recipe.load import dump, load
from masklater.run.identity import Identity


def make_run(
    path: Path,
    losses: Sequence[tuple[int, float]],
    *,
    steps: int = 10,
    duration: str | None = None,
    flops: float = 1e12,
    head: float | None = None,
    seconds: float = 36.0,
    recipe: str = "3ml-small",
    overrides: Sequence[str] = (),
    data: str = "d" * 64,
    row_length: int = 128,
    targets: int = 1000,
    optimizer: float | None = None,
    selection: float | None = None,
    by_source: dict[str, float] | None = None,
) -> Path:
    """A RUN whose every step costs 10 rows and the same FLOPs and seconds, with (step, loss) evaluations.

    `selection` is what choosing rows has cost, half of it scoring; `by_source` what each source's loss has on top.
    """
    path.mkdir(parents=True)
    versions = {"masklater": "0.1", "torch": "2", "transformers": "5", "python": "3"}
    identity = Identity(data_sha256=data, tokenizer_sha256="t" * 64, row_length=row_length, **versions)
    (path / "run.json").write_text(json.dumps(asdict(identity)))
    (path / "recipe.yaml").write_text(dump(load(recipe, [f"duration.{duration or f'steps={steps}'}", *overrides])))
    records: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        spent = {"rows": 10 * step, "tokens": 10 * row_length * step, "flops": flops * step}
        if head is not None:
            spent["flops_head"] = head * step
        if optimizer is not None:
            spent["flops_optimizer"] = optimizer * step
        if selection is not None:
            spent |= {"flops_selection": selection / 2, "flops_selection_runs": selection / 2}
        records.append({"step": step, "loss": 9.0, "lr": 1e-3, "grad_norm": 1.0, **spent, "step_seconds": seconds})
        for loss in (loss for at, loss in losses if at == step):
            of_sources = {
                f"valid_{what}_15/{source}": value
                for source, more in (by_source or {}).items()
                for what, value in (("loss", loss + more), ("accuracy", 0.1), ("targets", targets))
            }
            records.append({**evaluation(step, loss, targets), **of_sources})
    write_metrics(path, records)
    return path


def evaluation(step: int, loss: float, targets: int = 1000) -> dict[str, Any]:
    return {
        "step": step,
        "valid_loss": loss + 0.5,
        "valid_accuracy": 0.2,
        "valid_targets": 3 * targets,
        "valid_loss_15": loss,
        "valid_accuracy_15": 1 / (1 + loss),
        "valid_targets_15": targets,
    }


def write_metrics(run: Path, records: Sequence[dict[str, Any]]) -> None:
    (run / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def read_lines(run: Path) -> list[str]:
    return (run / "metrics.jsonl").read_text().splitlines()


def make_scores(
    path: Path,
    tasks: dict[str, Sequence[float]],
    *,
    run: Path | None = None,
    encoder: str = "",
    step: int = 10,
    seeds: int = 3,
    note: str | None = None,
    data: str | None = None,
    not_averaged: Sequence[str] = (),
    training: str | None = None,
) -> Path:
    """SCORES with one value a seed and task."""
    path.mkdir(parents=True)
    table: dict[str, dict[str, Any]] = {}
    for task, values in tasks.items():
        main = {"cola": "matthews", "stsb": "spearman"}.get(task, "accuracy")
        middle = sorted(values)[len(values) // 2]
        spread = {"median": middle, "min": min(values), "max": max(values), "count": len(values), "values": values}
        table[task] = {"metric": {main: spread}, "main": main, "note": note, "data_sha256": data}
        table[task]["in_average"] = task not in not_averaged
    averaged = [entry for entry in table.values() if entry["in_average"]]
    medians = [entry["metric"][entry["main"]]["median"] for entry in averaged]
    tree = {
        "encoder": {
            "path": encoder or str(path / "encoder"),
            "sha256": "e" * 64,
            "run": str(run) if run else None,
            "step": step,
            "training_sha256": training,
        },
        "settings": {"grid": "quick", "seeds": seeds},
        "tasks": table,
        "average": {"value": sum(medians) / len(medians), "tasks": len(medians)},
    }
    (path / "scores.json").write_text(json.dumps(tree))
    return path
