"""TASKS.yaml: own tasks as data. One message lists every mistake in it (docs/how-to/judge.md).

Ready tables, in the folder `ready` next to this file, are such files too; their data are in a folder of the user's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from masklater.errors import Fault, FaultsError, UserError
from masklater.judge.own_task import KINDS, OwnTask, TaskFile
from masklater.judge.task_entry import NAME, Entry, listed, read_no_label, read_rename, read_sources
from masklater.judge.tasks import TASKS, Task, choose_tasks
from masklater.recipe.tree import read_yaml

READY = Path(__file__).parent / "ready"


def read_task_file(path: Path, data: Path | None = None) -> tuple[OwnTask, ...]:
    """Read TASKS.yaml.

    Args:
        path: The file.
        data: For a ready table, the folder that file names are relative to; whether the files exist is checked when
            they are read. None: the folder of TASKS.yaml.

    Raises:
        UserError: The file cannot be read.
        FaultsError: The file has mistakes; all of them are listed.
    """
    tree = read_yaml(path, "a file of tasks", "names to tasks", "docs/how-to/judge.md")
    if not tree:
        raise UserError(f"{path} holds no task", "See docs/how-to/judge.md.")
    faults: list[Fault] = []
    tasks = [_read(name, entry, data or path.parent, data is not None, faults) for name, entry in tree.items()]
    if faults:
        raise FaultsError(str(path), faults)
    return tuple(task for task in tasks if task is not None)


def find_tasks(text: str, data: str | None = None) -> tuple[Task | OwnTask, ...]:
    """Find the tasks that `judge --tasks` names: those of files, `glue`, ready tables, and tasks of these by name.

    Args:
        text: Names, separated by commas.
        data: The folder of the ready tables' files.

    Raises:
        UserError: There is no such file or name, a task is named twice, or a file cannot be read.
        FaultsError: A file has mistakes.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    files = [part for part in parts if Path(part).suffix.lower() in {".yaml", ".yml"}]
    names = [part for part in parts if part not in files]
    of_glue = [name for name in names if name.lower().replace("-", "") in TASKS]
    found: list[Task | OwnTask] = []
    if "glue" in names:
        found += TASKS.values()
    if of_glue or not parts:
        found += choose_tasks(",".join(of_glue))
    if rest := [name for name in names if name != "glue" and name not in of_glue]:
        found += _find_ready(text, rest, data)
    for file in files:
        found += read_task_file(Path(file))
    keys = [task.key for task in found]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise UserError(f"--tasks {text} names {', '.join(twice)} more than once", "Name each task once.")
    return tuple(found)


def _find_ready(text: str, names: list[str], data: str | None) -> list[OwnTask]:
    """Return the tasks of ready tables that are named, or whose table is named."""
    tables = {path.stem: read_task_file(path, Path(data or "")) for path in sorted(READY.glob("*.yaml"))}
    by_key = {task.key: task for tasks in tables.values() for task in tasks}
    found: list[OwnTask] = []
    for name in names:
        if name not in tables and name not in by_key:
            where = "is no task that comes with masklater"
            if Path(name).is_file():
                where = "is a file, and own tasks stand in a file that ends in .yaml"
            known = f"{', '.join(TASKS)}; {', '.join(tables)}, or some of {', '.join(by_key)}"
            raise UserError(
                f"--tasks {text}: {name} {where}",
                f"Give a file such as tasks.yaml, glue for all nine, or names with commas: {known}.",
            )
        found += tables.get(name) or [by_key[name]]
    if data is None or data == "hub":
        told = "names none" if data is None else "is hub, where GLUE alone is read from"
        raise UserError(
            f"--tasks {text}: the files of {', '.join(names)} are read from a folder, and --data {told}",
            "Give --data FOLDER, with the files in it as they were published (docs/how-to/judge.md).",
        )
    return found


def _read(name: str, tree: Any, folder: Path, is_ready: bool, faults: list[Fault]) -> OwnTask | None:
    """Build one task, or add to the faults."""
    if not NAME.fullmatch(name):
        rule = "a task's name is letters, digits, '.', '_' and '-', beginning with a letter or digit"
        faults.append(Fault(name, name, rule, "Rename it."))
    if name.lower() in {*TASKS, "all", "glue", "hub"}:
        faults.append(Fault(name, name, "the name means something else to --tasks", "Rename it."))
    if not isinstance(tree, Mapping):
        faults.append(
            Fault(name, tree, "a task is a mapping of kind, files, columns and so on", "See docs/how-to/judge.md.")
        )
        return None
    kind_name = str(tree.get("kind"))
    given = Entry(name, tree, KINDS.get(kind_name, KINDS["pair"]), folder, is_ready, faults)
    if kind_name not in KINDS:
        given.fault("kind", "a task's kind is one of these", f"Write {listed(KINDS)}.")
        return None
    given.refuse_unknown(("kind", "files", "columns", "metrics", "rows", *given.kind.own_keys), "", tree)
    train, dev, columns = read_sources(given)
    labels = _labels(given)
    return OwnTask(
        key=name,
        kind=kind_name,
        train=train,
        dev=dev,
        columns=columns,
        labels=labels,
        metrics=_metrics(given, labels),
        rows=_rows(given, dev),
        range=_range(given),
        rename=read_rename(given),
        no_label=read_no_label(given),
    )


def _labels(given: Entry) -> tuple[str, ...]:
    labels = given.tree.get("labels")
    if labels is None:
        return ()
    rule = (
        "labels lists every label once, as text or whole numbers, in the order of their numbers; there are at least 2"
    )
    whole = isinstance(labels, list) and all(
        isinstance(label, str | int) and not isinstance(label, bool) and str(label).strip() for label in labels
    )
    texts = tuple(str(label).strip() for label in labels) if whole else ()
    if len(texts) < 2 or len(set(texts)) < len(texts):
        given.fault("labels", rule, "Quote yes, no, on, off, true and false, which YAML takes for something else.")
        return ()
    return texts


def _metrics(given: Entry, labels: tuple[str, ...]) -> tuple[str, ...]:
    metrics = given.tree.get("metrics", list(given.kind.default_metrics) or None)
    if not isinstance(metrics, list) or not metrics or any(metric not in given.kind.metrics for metric in metrics):
        rule = "metrics is a list, the first of which chooses epochs"
        given.fault("metrics", rule, f"Choose from {listed(given.kind.metrics)}.")
        return ()
    if len(set(metrics)) < len(metrics):
        given.fault("metrics", "each metric is named once", "Remove one of them.")
    if "f1" in metrics and len(labels) != 2:
        rule = "f1 is that of the second of two labels, which have to be listed"
        given.fault("metrics", rule, "Write labels: [OTHER, POSITIVE], or metrics: [macro_f1].")
    return tuple(metrics)


def _rows(given: Entry, dev: dict[str, TaskFile]) -> dict[str, int]:
    rows = given.tree.get("rows", {})
    splits = {split.removeprefix("dev_"): split for split in ("train", *dev)}
    if not isinstance(rows, Mapping):
        given.fault(
            "rows",
            "rows is a mapping of official counts",
            f"Write rows: {{{', '.join(f'{name}: N' for name in splits)}}}.",
        )
        return {}
    given.refuse_unknown(tuple(splits), "rows", rows)
    for name, value in rows.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            given.fault(f"rows.{name}", "a count is a positive whole number", "Write the official one, or none.", value)
    return {splits[name]: value for name, value in rows.items() if name in splits}


def _range(given: Entry) -> tuple[float, float] | None:
    ends = given.tree.get("range")
    if ends is None or given.tree["kind"] != "regression":
        return None
    if (
        not isinstance(ends, list)
        or len(ends) != 2
        or any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends)
        or not -1e30 < ends[0] < ends[1] < 1e30
    ):
        given.fault("range", "range is the lowest and the highest label there can be", "Write range: [0, 5].")
        return None
    return float(ends[0]), float(ends[1])
