"""The tables of what fine-tuned encoders scored."""

from masklater.report.arms import Arm
from masklater.report.comparison import Comparison
from masklater.report.quantities import signed
from masklater.report.scores import TaskScore, difference
from masklater.report.table import Table


def _task_names(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(task for scores in comparison.arm_scores.values() for task in scores.tasks))


def scores(comparison: Comparison) -> Table:
    """Return the table of each scored arm's score on each task."""
    scored = [arm for arm in comparison.arms if arm.name in comparison.arm_scores]
    rows = []
    for task in _task_names(comparison):
        each = [comparison.arm_scores[arm.name].tasks.get(task) for arm in scored]
        mains = "/".join(dict.fromkeys(score.main for score in each if score))
        rows.append([f"{task} ({mains})", *(_spread(score) for score in each)])
    averages = [comparison.arm_scores[arm.name].average for arm in scored]
    if any(averages):
        rows.append(["average", *(f"{each.value:.1f} of {each.tasks} tasks" if each else "–" for each in averages)])
    caption = "Median over seeds (lowest to highest; number of seeds), in percent."
    if len(comparison.scores) > len(comparison.arm_scores):
        caption += " Of several pre-training seeds: the mean of their medians, the lowest and highest of all."
    return Table(
        comparison.benchmark, ["task", *(arm.name for arm in scored)], rows, caption, _remarks(comparison, scored)
    )


def _remarks(comparison: Comparison, scored: list[Arm]) -> tuple[str, ...]:
    """Return the notes about tasks; a note that several arms share appears once."""
    arms: dict[tuple[str, str], list[str]] = {}
    for arm in scored:
        for task, score in comparison.arm_scores[arm.name].tasks.items():
            if score.note:
                arms.setdefault((task, score.note), []).append(arm.name)
    remarks = []
    for (task, note), names in arms.items():
        whose = "" if len(names) == len(scored) else f" ({', '.join(names)})"
        remarks.append(f"{task}{whose}: {note}")
    return tuple(remarks)


def _spread(score: TaskScore | None) -> str:
    if score is None:
        return "–"
    spread = score.spread
    return f"{spread.median:.1f} ({spread.min:.1f} to {spread.max:.1f}; {spread.count})"


def differences(comparison: Comparison) -> Table:
    """Return the table of each scored arm's distance from the baseline; the baseline must have been scored."""
    base = comparison.arm_scores[comparison.baseline_arm.name]
    others = [arm for arm in comparison.others if arm.name in comparison.arm_scores]
    rows = []
    for task in base.tasks:
        cells = []
        for arm in others:
            own = comparison.arm_scores[arm.name].tasks.get(task)
            gap = difference(own, base.tasks[task]) if own else None
            cells.append(
                f"{signed(gap.median, 1)} ({signed(gap.lowest, 1)} to {signed(gap.highest, 1)})" if gap else "–"
            )
        rows.append([f"{task} ({base.tasks[task].main})", *cells])
    if base.average:
        rows.append(["average", *(_average_difference(comparison, arm) for arm in others)])
    caption = (
        f"Points of percent above {comparison.baseline_arm.name}: the difference of the medians (from the smallest to "
        "the largest difference between any two seeds)."
    )
    title = f"{comparison.benchmark}, differences to the baseline"
    return Table(title, ["task", *(arm.name for arm in others)], rows, caption)


def _average_difference(comparison: Comparison, arm: Arm) -> str:
    base, own = comparison.arm_scores[comparison.baseline_arm.name], comparison.arm_scores[arm.name]
    if not (base.average and own.average):
        return "–"
    if base.averaged != own.averaged:
        return "other tasks"
    return signed(own.average.value - base.average.value, 1)
