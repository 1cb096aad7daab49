"""The tables of what fine-tuned encoders scored."""

from masklater.report.comparison import Comparison
from masklater.report.quantities import signed
from masklater.report.runs import Run
from masklater.report.scores import TaskScore, difference
from masklater.report.table import Table


def _task_names(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(task for scores in comparison.scores.values() for task in scores.tasks))


def scores(comparison: Comparison) -> Table:
    """What each scored run came to on each task."""
    scored = [run for run in comparison.runs if run.name in comparison.scores]
    rows = []
    for task in _task_names(comparison):
        each = [comparison.scores[run.name].tasks.get(task) for run in scored]
        mains = "/".join(dict.fromkeys(score.main for score in each if score))
        rows.append([f"{task} ({mains})", *(_spread(score) for score in each)])
    averages = [comparison.scores[run.name].average for run in scored]
    if any(averages):
        rows.append(["average", *(f"{each.value:.1f} of {each.tasks} tasks" if each else "–" for each in averages)])
    caption = "Median over seeds (lowest to highest; number of seeds), in percent."
    return Table("GLUE", ["task", *(run.name for run in scored)], rows, caption, _remarks(comparison, scored))


def _remarks(comparison: Comparison, scored: list[Run]) -> tuple[str, ...]:
    """What was noted about tasks; once, where it is the same for several runs."""
    runs: dict[tuple[str, str], list[str]] = {}
    for run in scored:
        for task, score in comparison.scores[run.name].tasks.items():
            if score.note:
                runs.setdefault((task, score.note), []).append(run.name)
    remarks = []
    for (task, note), names in runs.items():
        whose = "" if len(names) == len(scored) else f" ({', '.join(names)})"
        remarks.append(f"{task}{whose}: {note}")
    return tuple(remarks)


def _spread(score: TaskScore | None) -> str:
    if score is None:
        return "–"
    spread = score.spread
    return f"{spread.median:.1f} ({spread.min:.1f} to {spread.max:.1f}; {spread.count})"


def differences(comparison: Comparison) -> Table:
    """What each scored run is above or below the baseline; for a baseline that was scored."""
    base = comparison.scores[comparison.baseline.name]
    others = [run for run in comparison.others if run.name in comparison.scores]
    rows = []
    for task in base.tasks:
        cells = []
        for run in others:
            own = comparison.scores[run.name].tasks.get(task)
            gap = difference(own, base.tasks[task]) if own else None
            cells.append(
                f"{signed(gap.median, 1)} ({signed(gap.lowest, 1)} to {signed(gap.highest, 1)})" if gap else "–"
            )
        rows.append([f"{task} ({base.tasks[task].main})", *cells])
    if base.average:
        rows.append(["average", *(_average_difference(comparison, run) for run in others)])
    caption = (
        f"Points of percent above {comparison.baseline.name}: the difference of the medians (from the smallest to the "
        "largest difference between any two seeds)."
    )
    return Table("GLUE, differences to the baseline", ["task", *(run.name for run in others)], rows, caption)


def _average_difference(comparison: Comparison, run: Run) -> str:
    base, own = comparison.scores[comparison.baseline.name], comparison.scores[run.name]
    if not (base.average and own.average):
        return "–"
    if base.tasks.keys() != own.tasks.keys():
        return "other tasks"
    return signed(own.average.value - base.average.value, 1)
