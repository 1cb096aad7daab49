"""One table from the records of runs: for each task the median over seeds at the best grid point.

Reads records only and knows nothing of models. No torch here.
"""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from masklater.console import aligned
from masklater.judge.tasks import TASKS, Task, score_name

Scores = dict[str, Any]
"""The content of scores.json."""


def summarise(
    records: list[dict[str, Any]], faults: dict[str, str], encoder: dict[str, Any], settings: dict[str, Any]
) -> Scores:
    """Return scores.json: statistics of each task that has runs, and the average over the tasks that count.

    Args:
        records: Lines of runs.jsonl.
        faults: Why tasks were not scored.
        encoder: Its path, hash and run.
        settings: The settings of the sweep.

    Returns:
        Scores in percent. The average is over the main metrics of the scored tasks in GLUE's average; `tasks` is their
        number, `missing` lists the others.
    """
    tasks, cost = {}, {}
    for task in [*TASKS.values(), *_own_tasks(records)]:
        runs = [record for record in records if record["task"] == task.key]
        if runs:
            tasks[task.key] = _summarise_task(task, runs, len(settings["lr"]) * len(settings["batch"]))
            cost[task.key] = _cost(best_runs(runs, task.main))
    counted = [task for task in TASKS.values() if task.in_average and task.key in tasks]
    average = None
    if counted:
        medians = [tasks[task.key]["metric"][task.main]["median"] for task in counted]
        missing = [task.key for task in TASKS.values() if task.in_average and task.key not in tasks]
        average = {"value": sum(medians) / len(medians), "tasks": len(medians), "missing": missing}
    return {
        "encoder": encoder,
        "settings": settings,
        "tasks": tasks,
        "cost": cost,
        "average": average,
        "faults": faults,
        "versions": _distinct([record["versions"] for record in records]),
        "hardware": _distinct([record["hardware"] for record in records]),
        "seconds": sum(record["seconds"] for record in records),
        "runs": len(records),
    }


def _cost(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many weights each run trained, including the head, None if not recorded; and the median seconds."""
    counts = runs[0].get("parameters")
    trained = counts["trained"] + counts["head"] if counts else None
    return {"trained": trained, "seconds": median(run["seconds"] for run in runs)}


def _own_tasks(records: list[dict[str, Any]]) -> list[Task]:
    """Return the tasks that are not GLUE's, as their records define them, in the order in which they were run."""
    tasks: dict[str, Task] = {}
    for record in records:
        key, definition = record["task"], record.get("definition")
        if definition and key not in tasks:
            dev = tuple(name for name in record["rows"] if name != "train")
            tasks[key] = Task(
                key,
                key,
                (),
                (),
                tuple(definition["labels"]),
                tuple(definition["metrics"]),
                {},
                in_average=None,
                dev=dev,
            )
    return list(tasks.values())


def _summarise_task(task: Task, runs: list[dict[str, Any]], grid_points: int) -> dict[str, Any]:
    points = _by_point(runs)
    complete = _complete(points)
    best = _best(points, task.main)
    chosen = points[best]
    note = _note(chosen, len(complete) < grid_points)
    splits = [split for split in chosen[0]["rows"] if split != "train"]
    of_splits = [score_name(metric, split) for split in splits for metric in task.metrics]
    names = [name for name in _metrics(chosen) if name != "loss"] or of_splits
    lr, batch, epochs = best
    return {
        "title": task.title,
        "metric": {name: _statistics([_value(run, name) for run in chosen]) for name in names},
        "main": task.main,
        "metrics": list(task.metrics),
        "note": note,
        "setting": {"lr": lr, "batch": batch, "epochs": epochs},
        "best_epochs": [run["best_epoch"] for run in chosen],
        "grid": [
            {
                "lr": point[0],
                "batch": point[1],
                "epochs": point[2],
                **_statistics([_value(run, task.main) for run in at]),
            }
            for point, at in points.items()
        ],
        "rows": chosen[0]["rows"],
        "max_length": chosen[0]["max_length"],
        "data_sha256": chosen[0]["data_sha256"],
        "in_average": task.in_average,
    }


def best_runs(runs: list[dict[str, Any]], metric: str) -> list[dict[str, Any]]:
    """Return the runs of a task, by seed, at the grid point whose median is best: the runs that the table shows."""
    points = _by_point(runs)
    return points[_best(points, metric)]


_Point = tuple[float, int, int]


def _by_point(runs: list[dict[str, Any]]) -> dict[_Point, list[dict[str, Any]]]:
    points: dict[_Point, list[dict[str, Any]]] = {}

    def place(run: dict[str, Any]) -> tuple[int, float, int, int]:  # not the order in which GPUs finished
        return run["seed"], run["lr"], run["batch"], run["epochs"]

    for run in sorted(runs, key=place):
        points.setdefault((run["lr"], run["batch"], run["epochs"]), []).append(run)
    return points


def _complete(points: dict[_Point, list[dict[str, Any]]]) -> list[_Point]:
    """Return the grid points with the most runs: medians over unequal counts cannot be compared."""
    most = max(map(len, points.values()))
    return [point for point, at in points.items() if len(at) == most]


def _best(points: dict[_Point, list[dict[str, Any]]], metric: str) -> _Point:
    def value(run: dict[str, Any]) -> float:  # a diverged run is shown as 0, and a correlation may be lower
        return _value(run, metric) if run["best_epoch"] else -math.inf

    return max(_complete(points), key=lambda point: median(map(value, points[point])))


def _metrics(runs: list[dict[str, Any]]) -> list[str]:
    return next((list(run["scores"][0]) for run in runs if run["scores"]), [])


def _value(run: dict[str, Any], metric: str) -> float:
    """Return the metric at the run's best epoch; 0 for a run that diverged before its first epoch was over."""
    return float(run["scores"][run["best_epoch"] - 1][metric]) if run["best_epoch"] else 0.0


def _statistics(values: list[float]) -> dict[str, Any]:
    return {
        "median": median(values),
        "min": min(values),
        "max": max(values),
        "count": len(values),
        "values": values,
    }


def _note(runs: list[dict[str, Any]], unfinished: bool) -> str | None:
    notes = list(runs[0]["notes"])
    if unfinished:
        notes.append("some grid points lack runs and were passed over: go on with --resume")
    truncated = sum(runs[0]["truncated_rows"].values())
    if truncated:
        notes.append(f"{truncated:,} rows cut to {runs[0]['max_length']} tokens")
    diverged = [str(run["seed"]) for run in runs if run["diverged"]]
    if diverged:
        notes.append(f"seed {', '.join(diverged)} diverged; a run without any whole epoch counts as 0")
    return "; ".join(notes) or None


def _distinct(values: list[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found


HEADER = (
    *("task", "metric", "median", "min", "max", "seeds", "lr", "batch", "epochs", "train rows", "dev rows"),
    *("trained", "seconds"),
)


def table_rows(scores: Scores) -> list[tuple[str, ...]]:
    """Return the table as text, a row for each metric, and the average."""
    rows = []
    for key, entry in scores["tasks"].items():
        cost = scores["cost"][key]
        spent = ("-" if cost["trained"] is None else f"{cost['trained']:,}", f"{cost['seconds']:,.1f}")
        for name, numbers in entry["metric"].items():
            first = name == entry["main"]
            outside = " (not averaged)" if entry["in_average"] is False else ""
            dev = next(rows for split, rows in entry["rows"].items() if split != "train" and _is_of(name, split, entry))
            statistics = [f"{numbers[part]:.2f}" for part in ("median", "min", "max")]
            if not any(entry["best_epochs"]):
                statistics = ["diverged", "-", "-"]
            setting = (f"{entry['setting']['lr']:g}", str(entry["setting"]["batch"]), str(entry["setting"]["epochs"]))
            title = entry["title"] + outside + ("*" if entry["note"] else "") if first else ""
            counts = (f"{entry['rows']['train']:,}", f"{dev:,}")
            rows.append((title, name, *statistics, str(numbers["count"]), *setting, *counts, *spent))
    if scores["average"]:
        rows.append((average_label(scores), "", f"{scores['average']['value']:.2f}", *[""] * 10))
    return rows


def _is_of(name: str, split: str, entry: dict[str, Any]) -> bool:
    """Return whether a score is of a metric on this dev split."""
    return name in {score_name(metric, split) for metric in entry["metrics"]}


def average_label(scores: Scores) -> str:
    """Return the label of the average, which names the tasks it is over."""
    missing = scores["average"]["missing"]
    if missing:
        return f"average of {scores['average']['tasks']}, not GLUE's"
    return f"average of {scores['average']['tasks']}"


def remarks(scores: Scores) -> list[str]:
    """Return the remarks below the table: deviations from the official data, missing tasks."""
    lines = [f"* {entry['title']}: {entry['note']}" for entry in scores["tasks"].values() if entry["note"]]
    if scores["average"] and scores["average"]["missing"]:
        missing = ", ".join(TASKS[key].title for key in scores["average"]["missing"])
        lines.append(f"The average leaves out {missing}, which GLUE's average counts: it compares with its like only.")
    lines += [f"Not scored: {problem}" for problem in scores["faults"].values()]
    return lines


def as_text(scores: Scores) -> str:
    """Return the table for a terminal."""
    return "\n".join([aligned([HEADER, *table_rows(scores)], numbers_from=2), *remarks(scores)])


def markdown_lines(rows: Sequence[Sequence[str]], texts: int) -> list[str]:
    """Return a table, its header first; the first `texts` columns are aligned left, the others right."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    rule = "|" + "|".join(["---"] * texts + ["---:"] * (len(rows[0]) - texts)) + "|"
    return [lines[0], rule, *lines[1:]]


def as_markdown(scores: Scores) -> str:
    """Return the content of scores.md."""
    encoder, settings = scores["encoder"], scores["settings"]
    source = f"{encoder['path']}" + (
        f", exported from {encoder['run']} at step {encoder['step']:,}" if encoder["run"] else ""
    )
    lines = markdown_lines([HEADER, *table_rows(scores)], texts=2)
    epochs = settings["epochs"]
    versions = "; ".join(", ".join(f"{name} {number}" for name, number in each.items()) for each in scores["versions"])
    about = [
        f"Encoder: {source}; SHA-256 {encoder['sha256']}.",
        "Percent on the dev split, at the best epoch of each run by the first metric of the task; median, lowest and "
        "highest over seeds at the grid point whose median is best.",
        f"Grid: learning rate {_listed(settings['lr'])} x batch {_listed(settings['batch'])}, epochs: {epochs}; "
        f"trained: {settings.get('tune', 'full')}, so many weights, the head's among them, in so many seconds a run; "
        f"{scores['runs']} runs, {scores['seconds'] / 60:,.1f} minutes of computing.",
        f"Hardware: {'; '.join(scores['hardware'])}. Versions: {versions}.",
    ]
    notes = [line.replace("* ", "\\* ", 1) if line.startswith("* ") else line for line in remarks(scores)]
    title = "# GLUE" if scores["tasks"].keys() <= TASKS.keys() else "# Scores"
    return "\n".join([title, "", *lines, "", *[line for note in (*notes, *about) for line in (note, "")]])


def _listed(values: list[float]) -> str:
    return "{" + ", ".join(f"{value:g}" for value in values) + "}"
