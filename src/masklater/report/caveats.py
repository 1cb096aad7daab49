"""The differences between compared runs, and what their figures therefore do not say."""

import math
from collections.abc import Sequence

from masklater.report.arms import find_arms
from masklater.report.runs import Run
from masklater.report.scores import Pairs, Scores


def _of_phases(runs: Sequence[Run]) -> list[str]:
    phased = [run.name for run in runs if any(phase.data or phase.row_length for phase in run.recipe.phases)]
    if not phased:
        return []
    return [
        f"Trained in phases, with each evaluation on the held-out rows of its phase: {', '.join(phased)}. Losses of "
        "different phases compare only where data and row length are the same."
    ]


def caveats(runs: Sequence[Run], baseline: Run, scores: dict[str, Scores]) -> list[str]:
    """List what differs between the runs, or is missing, and limits how far their figures can be compared."""
    notes = _of_phases(runs)
    ended = {run.name for arm in find_arms(runs) for run in arm.ended}
    for run in runs:
        if not run.finished:
            spent = f"{run.spent_of_duration:,.6g}"
            beside = "" if run.name in ended else ", and counts in no mean beside seeds that are"
            notes.append(f"{run.name} is not finished: it stands at {spent} of {run.recipe.duration}{beside}.")
        if (start := run.recipe.model.from_) is not None:
            notes.append(f"{run.name} began from {start}: what that had cost is not counted.")
        if not run.evaluations:
            notes.append(f"{run.name} has no evaluation: no rows are held out, or the first is still to come.")
        elif run.final and not run.final.targets:
            notes.append(f"{run.name} had nothing to predict in its held-out rows: it has no loss to be ranked by.")
        elif run.final and not math.isfinite(run.final.loss):
            notes.append(f"{run.name} diverged: its last loss is not finite, and counts in no mean.")
    targets = {run.name: run.final.targets for run in runs if run.final}
    if len(set(targets.values())) > 1:
        counts = ", ".join(f"{name} {count:,}" for name, count in targets.items())
        notes.append(f"The runs were not evaluated on equally many held-out rows (targets: {counts}).")
    notes += _of_scores(runs, baseline, scores)
    for run in runs:
        step = scores[run.name].encoder.step if run.name in scores else None
        if step is not None and step != run.spent.steps:
            notes.append(
                f"{run.name} was scored as it was at step {step:,}, and has gone on to step {run.spent.steps:,.0f}."
            )
    return notes


def _of_scores(runs: Sequence[Run], baseline: Run, scores: dict[str, Scores]) -> list[str]:
    """List what differs between the scores of runs, or is missing."""
    notes: list[str] = []
    if not scores or len(runs) == 1:
        return notes
    if not any(run.name in scores for run in next(arm for arm in find_arms(runs) if baseline in arm.runs).runs):
        notes.append(f"The baseline {baseline.name} has no SCORES: there are no differences to it.")
    trees = [{"tune": "full", **scored.settings} for scored in scores.values()]  # earlier ones had no other way
    unequal = [key for key in trees[0] if any(other.get(key) != trees[0][key] for other in trees[1:])]
    if unequal:
        notes.append(
            f"The encoders were not fine-tuned alike; settings of their scores.json differ in {', '.join(unequal)}."
        )
    if unlike := _of_unlike_data(list(scores.values())):
        notes.append(f"Scores are not of the same rows everywhere, and do not compare, in {', '.join(unlike)}.")
    return notes


def _of_unlike_data(scores: Sequence[Scores]) -> list[str]:
    """Name the tasks whose texts or labels were not the same wherever they were scored."""
    hashes: dict[str, set[str]] = {}
    for scored in scores:
        for key, task in scored.tasks.items():
            if task.data_sha256 is not None:
                hashes.setdefault(key, set()).add(task.data_sha256)
    return [key for key, different in hashes.items() if len(different) > 1]


def of_pairs(runs: Sequence[Run], pairs: dict[str, Pairs]) -> list[str]:
    """List what differs between the minimal pairs that runs were scored on."""
    notes = [
        f"{run.name} was scored on minimal pairs as it was at step {pairs[run.name].step:,}, and has gone on to step "
        f"{run.spent.steps:,.0f}."
        for run in runs
        if run.name in pairs and pairs[run.name].step != run.spent.steps
    ]
    counts = {run.name: pairs[run.name].pairs for run in runs if run.name in pairs}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        notes.append(f"The runs were not scored on equally many minimal pairs ({listed}).")
    elif len({each.pairs_sha256 for each in pairs.values()} - {None}) > 1:
        notes.append("The runs were not scored on the same minimal pairs, and those scores do not compare.")
    return notes
