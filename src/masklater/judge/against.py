"""An encoder against another, and against its random twin: the same tasks, grid and seeds, and reliable differences.

SCORES/against/         SCORES of the other encoder
SCORES/twin-encoder/    the untrained encoder, and SCORES/twin/ its scores
SCORES/comparison.json  the differences for programs, SCORES/comparison.md for people
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from masklater.console import aligned, say
from masklater.folders import write_file
from masklater.judge.bootstrap import LEVEL, RESAMPLES, compare_answers
from masklater.judge.encoder import open_encoder
from masklater.judge.grid import SweepSettings
from masklater.judge.own_task import OwnTask
from masklater.judge.sweep import Sweep, sweep
from masklater.judge.table import best_runs, markdown_lines
from masklater.judge.tasks import Task, score_name
from masklater.judge.twin import write_twin
from masklater.run.identity import is_run

Comparison = dict[str, Any]
"""The content of comparison.json."""


def judge(
    encoder: str,
    data: str | None,
    out: Path,
    tasks: Sequence[Task | OwnTask],
    settings: SweepSettings,
    resume: bool,
    against: str | None,
    random_twin: bool,
) -> tuple[Sweep, Comparison]:
    """Score an encoder as `sweep` does, then the encoders it is compared with, and write the differences.

    Args:
        encoder: As for `sweep`, like the next five arguments.
        data: See `sweep`.
        out: SCORES of the encoder.
        tasks: See `sweep`.
        settings: See `sweep`.
        resume: Continue, also with the encoders it is compared with.
        against: Another encoder; None: none.
        random_twin: Compare with untrained weights of the same config.

    Raises:
        UserError: Nothing can be scored, or SCORES holds another sweep.
        Interrupted: SIGINT or SIGTERM; finished runs are kept.
    """
    if against is not None and not is_run(Path(against)):
        open_encoder(against, out)  # before hours are spent on the first one
    first = sweep(encoder, data, out, tasks, settings, resume)
    folder = open_encoder(first.scores["encoder"]["path"], out).folder
    rivals = {"against": against} if against is not None else {}
    if random_twin:
        twin = out / "twin-encoder"
        if not twin.exists():
            write_twin(folder, twin)
        rivals["twin"] = str(twin)
    comparison: Comparison = {"encoder": first.scores["encoder"], "resamples": RESAMPLES, "level": LEVEL}
    for name, rival in rivals.items():
        say(f"{'the random twin' if name == 'twin' else rival}, for comparison:")
        begun = resume and (out / name / "sweep.json").is_file()
        second = sweep(rival, data, out / name, tasks, settings, begun)
        comparison[name] = {"encoder": second.scores["encoder"], **_compare(first, second)}
    write_file(out / "comparison.json", json.dumps(comparison, indent=1, allow_nan=False), replace=True)
    write_file(out / "comparison.md", as_markdown(comparison), replace=True)
    return first, comparison


def _compare(first: Sweep, second: Sweep) -> dict[str, Any]:
    """Return the differences in the first metric of each task on each dev split, and remarks on them."""
    tasks: dict[str, Any] = {}
    notes: list[str] = []
    for key, rows in first.rows.items():
        if key not in second.rows:
            continue
        task = rows.task
        answers: list[dict[int, dict[str, Any]]] = []
        ran: list[set[int]] = []
        for scored in (first, second):
            runs = best_runs([record for record in scored.log.records if record["task"] == key], task.main)
            ran.append({run["seed"] for run in runs})
            answers.append({run["seed"]: scored.log.answers(run) for run in runs if run["best_epoch"]})
        seeds = sorted(answers[0].keys() & answers[1].keys())
        diverged = (ran[0] & ran[1]) - {*seeds}
        for missing, what in ((ran[0] ^ ran[1], "was run with one of the two alone"), (diverged, "diverged")):
            if missing:
                notes.append(f"{task.title}: seed {', '.join(map(str, sorted(missing)))} {what}: left out")
        if not seeds:
            notes.append(f"{task.title}: no seed has scores of both")
            continue
        if len(seeds) == 1:
            notes.append(f"{task.title}: one seed says nothing of the spread of seeds; the interval is that of rows")
        tasks[key] = {}
        for split in (name for name in rows.splits if name != "train"):
            sides = [[by_seed[seed][split] for seed in seeds] for by_seed in answers]
            found = compare_answers(task.metrics[0], task.classes, rows.splits[split], *sides)
            tasks[key][score_name(task.metrics[0], split)] = found.record()
    return {"tasks": tasks, "notes": notes}


HEADER = ("task", "metric", "encoder", "other", "difference", f"{LEVEL}% interval", "verdict", "seeds")


def _table(compared: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [HEADER]
    for key, metrics in compared["tasks"].items():
        for metric, found in metrics.items():
            rows.append((key, metric, *cells(found), str(found["seeds"])))
    return rows


def cells(found: dict[str, Any]) -> tuple[str, ...]:
    """Return the cells of a difference in a table: both scores, the difference, its interval, the verdict."""
    interval = f"{found['low']:+.2f} to {found['high']:+.2f}"
    return f"{found['one']:.2f}", f"{found['other']:.2f}", f"{found['difference']:+.2f}", interval, found["verdict"]


def blocks(comparison: Comparison) -> list[tuple[str, dict[str, Any]]]:
    """Return a title and the result for each encoder that was compared with."""
    titles = {"against": "Against {}", "twin": "Against its random twin, {}"}
    return [
        (title.format(comparison[name]["encoder"]["path"]), comparison[name])
        for name, title in titles.items()
        if name in comparison
    ]


ABOUT = (
    f"Means over seeds, each encoder at its own best grid point and its runs' best epochs. Interval: paired bootstrap, "
    f"{RESAMPLES:,} resamples of dev rows and seeds, the same for both. Higher, lower: 0 is outside of it."
)


def as_text(comparison: Comparison) -> str:
    """Return the differences for a terminal."""
    lines = []
    for title, compared in blocks(comparison):
        lines += ["", title, aligned(_table(compared), numbers_from=2), *compared["notes"]]
    return "\n".join([*lines, ABOUT])


def as_markdown(comparison: Comparison) -> str:
    """Return the content of comparison.md."""
    lines = [f"# {comparison['encoder']['path']}, compared", ""]
    for title, compared in blocks(comparison):
        notes = [part for note in compared["notes"] for part in (note, "")]
        lines += [f"## {title}", "", *markdown_lines(_table(compared), texts=2), "", *notes]
    return "\n".join([*lines, ABOUT, ""])
