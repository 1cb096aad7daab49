"""All figures of a comparison, unrounded: report.json."""

import math
from dataclasses import asdict
from typing import Any

import masklater
from masklater.report.comparison import COMMON, Comparison, describe
from masklater.report.runs import UNITS, Evaluation, Run
from masklater.report.scores import difference


def figures(comparison: Comparison) -> dict[str, Any]:
    """All figures of a comparison, unrounded, for report.json. What is not finite or not there is null."""
    baseline = comparison.baseline
    return {
        "masklater": masklater.__version__,
        "baseline": baseline.name,
        "x": comparison.unit,
        "common_corruption": COMMON,
        "notes": list(comparison.notes),
        "runs": [_run_tree(comparison, run) for run in comparison.runs],
    }


def _run_tree(comparison: Comparison, run: Run) -> dict[str, Any]:
    reached = comparison.reached(run)
    scores, base = comparison.scores.get(run.name), comparison.scores.get(comparison.baseline.name)
    gaps = {}
    if scores and base:
        found = {task: difference(own, base.tasks[task]) for task, own in scores.tasks.items() if task in base.tasks}
        gaps = {task: asdict(gap) for task, gap in found.items() if gap}
    return {
        "name": run.name,
        "path": str(run.path),
        "description": describe(run),
        "finished": run.finished,
        "recipe": run.recipe.model_dump(mode="json"),
        "spent": asdict(run.spent),
        "evaluations": [_evaluation_tree(evaluation) for evaluation in run.evaluations],
        "reaches_baseline": None
        if reached is None
        else {
            "at_most": reached.at_most,
            "spent": asdict(reached.spent),
            "share": {measure: comparison.share(run, measure) for measure in ("flops_without_head", *UNITS)},
        },
        "scores": scores.model_dump(mode="json") if scores else None,
        "score_differences": gaps or None,
    }


def _evaluation_tree(evaluation: Evaluation) -> dict[str, Any]:
    figures = asdict(evaluation)
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in figures.items()
    }
