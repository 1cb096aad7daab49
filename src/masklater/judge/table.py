"""From the records of runs to one table: per task the median over seeds of the best grid point.

Reads records only; knows nothing of models. No torch here.
"""

from statistics import median
from typing import Any

from masklater.console import aligned
from masklater.judge.tasks import TASKS, Task

Scores = dict[str, Any]
"""scores.json."""


def summarise(
    records: list[dict[str, Any]], faults: dict[str, str], encoder: dict[str, Any], settings: dict[str, Any]
) -> Scores:
    """scores.json: statistics of each task that has runs, and the average over those that count.

    Args:
        records: Lines of runs.jsonl.
        faults: What kept a task from being scored.
        encoder: Its path, hash and run.
        settings: Of the sweep.

    Returns:
        Scores in percent. The average is over the main metrics of the tasks of GLUE's average that were scored; `tasks`
        says how many, `missing` which were not.
    """
    tasks = {}
    for task in TASKS.values():
        runs = [record for record in records if record["task"] == task.key]
        if runs:
            tasks[task.key] = _summarise_task(task, runs, len(settings["lr"]) * len(settings["batch"]))
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
        "average": average,
        "faults": faults,
        "versions": _distinct([record["versions"] for record in records]),
        "hardware": _distinct([record["hardware"] for record in records]),
        "seconds": sum(record["seconds"] for record in records),
        "runs": len(records),
    }


def _summarise_task(task: Task, runs: list[dict[str, Any]], grid_points: int) -> dict[str, Any]:
    points: dict[tuple[float, int, int], list[dict[str, Any]]] = {}
    for run in sorted(runs, key=lambda run: run["seed"]):
        points.setdefault((run["lr"], run["batch"], run["epochs"]), []).append(run)
    most = max(map(len, points.values()))
    complete = [point for point, at in points.items() if len(at) == most]  # medians over unequal counts do not compare
    best = max(complete, key=lambda point: median(_value(run, task.main) for run in points[point]))
    chosen = points[best]
    note = _note(chosen, len(complete) < grid_points)
    names = [name for name in _metrics(chosen) if name != "loss"] or list(task.metrics)
    lr, batch, epochs = best
    return {
        "metric": {name: _statistics([_value(run, name) for run in chosen]) for name in names},
        "main": task.main,
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


def _metrics(runs: list[dict[str, Any]]) -> list[str]:
    return next((list(run["scores"][0]) for run in runs if run["scores"]), [])


def _value(run: dict[str, Any], metric: str) -> float:
    """The metric at the run's best epoch; 0 for a run that diverged before its first epoch was over."""
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


HEADER = ("task", "metric", "median", "min", "max", "seeds", "lr", "batch", "epochs", "train rows", "dev rows")


def table_rows(scores: Scores) -> list[tuple[str, ...]]:
    """The table as text, a row for each metric, and the average."""
    rows = []
    titles = {key: task.title for key, task in TASKS.items()}
    for key, entry in scores["tasks"].items():
        for name, numbers in entry["metric"].items():
            first = name == entry["main"]
            outside = "" if entry["in_average"] else " (not averaged)"
            dev = entry["rows"].get("dev_mismatched" if name.endswith("_mismatched") else "dev")
            statistics = (f"{numbers[part]:.2f}" for part in ("median", "min", "max"))
            setting = (f"{entry['setting']['lr']:g}", str(entry["setting"]["batch"]), str(entry["setting"]["epochs"]))
            title = titles[key] + outside + ("*" if entry["note"] else "") if first else ""
            rows.append(
                (title, name, *statistics, str(numbers["count"]), *setting, f"{entry['rows']['train']:,}", f"{dev:,}")
            )
    if scores["average"]:
        rows.append((average_label(scores), "", f"{scores['average']['value']:.2f}", *[""] * 8))
    return rows


def average_label(scores: Scores) -> str:
    """Return the label of the average, which names what it is over."""
    missing = scores["average"]["missing"]
    if missing:
        return f"average of {scores['average']['tasks']}, not GLUE's"
    return f"average of {scores['average']['tasks']}"


def remarks(scores: Scores) -> list[str]:
    """Return the remarks below the table: deviations from the official data, tasks that are missing."""
    titles = {key: task.title for key, task in TASKS.items()}
    lines = [f"* {titles[key]}: {entry['note']}" for key, entry in scores["tasks"].items() if entry["note"]]
    if scores["average"] and scores["average"]["missing"]:
        missing = ", ".join(titles[key] for key in scores["average"]["missing"])
        lines.append(f"The average leaves out {missing}, which GLUE's average counts: it compares with its like only.")
    lines += [f"Not scored: {problem}" for problem in scores["faults"].values()]
    return lines


def as_text(scores: Scores) -> str:
    """The table for a terminal."""
    return "\n".join([aligned([HEADER, *table_rows(scores)], numbers_from=2), *remarks(scores)])


def as_markdown(scores: Scores) -> str:
    """scores.md."""
    encoder, settings = scores["encoder"], scores["settings"]
    source = f"{encoder['path']}" + (
        f", exported from {encoder['run']} at step {encoder['step']:,}" if encoder["run"] else ""
    )
    rows = [HEADER, *table_rows(scores)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + "|".join(["---"] * 2 + ["---:"] * (len(HEADER) - 2)) + "|")
    epochs = settings["epochs"]
    versions = "; ".join(", ".join(f"{name} {number}" for name, number in each.items()) for each in scores["versions"])
    about = [
        f"Encoder: {source}; SHA-256 {encoder['sha256']}.",
        "Percent on the dev split, at the best epoch of each run by the first metric of the task; median, lowest and "
        "highest over seeds at the grid point whose median is best.",
        f"Grid: learning rate {_listed(settings['lr'])} x batch {_listed(settings['batch'])}, epochs: {epochs}; "
        f"{scores['runs']} runs, {scores['seconds'] / 60:,.1f} minutes of computing.",
        f"Hardware: {'; '.join(scores['hardware'])}. Versions: {versions}.",
    ]
    notes = [line.replace("* ", "\\* ", 1) if line.startswith("* ") else line for line in remarks(scores)]
    return "\n".join(["# GLUE", "", *lines, "", *[line for note in (*notes, *about) for line in (note, "")]])


def _listed(values: list[float]) -> str:
    return "{" + ", ".join(f"{value:g}" for value in values) + "}"
