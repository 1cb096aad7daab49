"""The figures of a comparison, unrounded: report.json."""

import math
from dataclasses import asdict
from typing import Any

import masklater
from masklater.report.arms import Arm
from masklater.report.comparison import COMMON, Comparison, describe
from masklater.report.laws import Law, slope_of
from masklater.report.runs import UNITS, Evaluation, Run
from masklater.report.scaling import Scaling
from masklater.report.scores import difference


def figures(comparison: Comparison) -> dict[str, Any]:
    """Return all figures of a comparison, unrounded, for report.json. Missing and not finite figures are null."""
    baseline = comparison.baseline
    return {
        "masklater": masklater.__version__,
        "baseline": baseline.name,
        "x": comparison.unit,
        "common_corruption": COMMON,
        "notes": list(comparison.notes),
        "arms": [_arm_tree(comparison, arm) for arm in comparison.arms],
        "scaling": _scaling_tree(comparison.scaling) if comparison.scaling else None,
        "runs": [_run_tree(comparison, run) for run in comparison.runs],
    }


def _arm_tree(comparison: Comparison, arm: Arm) -> dict[str, Any]:
    verdict, loss = comparison.verdict(arm), arm.loss
    shares = {measure: comparison.arm_share(arm, measure) for measure in ("flops_without_head", *UNITS)}
    return {
        "name": arm.name,
        "runs": [run.name for run in arm.runs],
        "seeds": [run.recipe.seed for run in arm.runs],
        "loss": asdict(loss) if loss else None,
        "spent": asdict(arm.spent),
        "beside_baseline": asdict(verdict) | {"beyond_spread": verdict.beyond} if verdict else None,
        "share": {measure: asdict(found) if found else None for measure, found in shares.items()},
    }


def _scaling_tree(scaling: Scaling) -> dict[str, Any]:
    arms = scaling.baseline.arms if scaling.baseline else ()
    return {
        "baseline": scaling.baseline.name if scaling.baseline else None,
        "arms": [
            {
                "name": method.name,
                "budgets": [arm.name for arm in method.arms],
                "laws": {
                    quality: _law_tree(laws[method.name])
                    for quality, laws in scaling.laws.items()
                    if method.name in laws
                },
                "multipliers": {
                    quality: [
                        {"flops": arm.spent.flops, **asdict(cost)}
                        for arm in arms
                        if (cost := scaling.multiplier(quality, method, arm))
                    ]
                    for quality in scaling.laws
                },
            }
            for method in scaling.methods
        ],
    }


def _law_tree(law: Law) -> dict[str, Any]:
    """Return a law for report.json.

    A loss law is a power law: intercept, levels and the levels' places are logarithms.
    """
    return {
        **asdict(law.line),
        "slope_interval": asdict(slope_of(law)),
        "levels": [asdict(level) for level in law.levels],
    }


def _run_tree(comparison: Comparison, run: Run) -> dict[str, Any]:
    reached = comparison.reached(run)
    scores, base = comparison.scores.get(run.name), comparison.arm_scores.get(comparison.baseline_arm.name)
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
        "pairs": pairs.model_dump(mode="json") if (pairs := comparison.pairs.get(run.name)) else None,
        "scores": scores.model_dump(mode="json") if scores else None,
        "score_differences": gaps or None,
    }


def _evaluation_tree(evaluation: Evaluation) -> dict[str, Any]:
    figures = asdict(evaluation)
    sources = {name: None if not math.isfinite(loss) else loss for name, loss in evaluation.by_source.items()}
    return {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in figures.items()
    } | {"by_source": sources}
