"""A sweep: every task at every grid point with every seed, each run kept as soon as it is done."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from masklater.console import Meter, say
from masklater.errors import Interrupted, UserError
from masklater.folders import begun_folder, refuse_existing
from masklater.judge import table
from masklater.judge.data import TaskData, read_task
from masklater.judge.encoder import Encoder, open_encoder
from masklater.judge.finetune import Setting, StoppedEarly, protocol_record
from masklater.judge.grid import SweepSettings
from masklater.judge.hub import read_from_hub
from masklater.judge.own_data import read_own
from masklater.judge.own_task import OwnTask
from masklater.judge.records import (
    Record,
    RunLog,
    check_arithmetic,
    check_data,
    check_identity,
    key_of,
    write_identity,
    write_table,
)
from masklater.judge.scorer import Scorer
from masklater.judge.tasks import Task
from masklater.judge.workers import Job, Workers
from masklater.lock import only_process
from masklater.machine.device import all_devices
from masklater.machine.signals import StopOnSignal


@dataclass(frozen=True)
class Sweep:
    """The outcome of a sweep."""

    scores: table.Scores  # scores.json
    errors: dict[str, UserError]  # by task: why it was not scored
    rows: dict[str, TaskData]  # by task, for the tasks that were scored
    log: RunLog

    @property
    def faults(self) -> dict[str, str]:
        """Why tasks were not scored, without remedies."""
        return _problems(self.errors)


def sweep(
    encoder: str,
    data: str | None,
    out: Path,
    tasks: Sequence[Task | OwnTask],
    settings: SweepSettings,
    resume: bool = False,
    devices: Sequence[torch.device] | None = None,
) -> Sweep:
    """Fine-tune an encoder on tasks and write SCORES.

    Args:
        encoder: A folder of transformers', a RUN, or a name on the hub.
        data: GLUE's folder of the classic layout, or `hub`; None where no task is one of GLUE's.
        out: The SCORES folder to make or to continue.
        tasks: The tasks, in the order in which they are run.
        settings: Grid, seeds, rows.
        resume: Continue at the first run that is not in SCORES.
        devices: One process works on each; None: all GPUs, or the CPU.

    Returns:
        The table. A task whose files are missing or damaged is among the faults; the others are scored.

    Raises:
        UserError: Nothing can be scored, or SCORES holds another sweep.
        Interrupted: SIGINT or SIGTERM; finished runs are kept.
    """
    identity = out / "sweep.json"
    if resume and not identity.is_file():
        raise UserError(f"there is no sweep in {out} to go on with", "Leave --resume out to begin one.")
    if not resume:
        _refuse_begun(identity)
        refuse_existing(out)
    rows, errors = _read(data, tasks, settings)
    faults = _problems(errors)
    devices = devices or all_devices()
    with ExitStack() as held:

        def hold() -> None:
            held.enter_context(only_process(out, "the sweep in {} is being worked on by"))
            if not resume:
                _refuse_begun(identity)  # another process may have begun since the first check

        if resume:
            hold()
        with nullcontext() if resume else begun_folder(out, hold):
            found = open_encoder(encoder, out)
            scorer = Scorer(found, devices[0], settings.tune)
            if resume:
                found = check_identity(identity, found, settings)
            else:
                write_identity(identity, found, settings)
        log = RunLog(out / "runs.jsonl")
        check_data(log, rows)
        done = {key_of(record) for record in log.records}
        jobs = [job for key in rows for job in _jobs(key, settings) if job.key not in done]
        if jobs:
            check_arithmetic(log, protocol_record(), scorer.precision.name)
        _introduce(found, rows, faults, len(jobs), len(done))
        if jobs:
            _run(scorer, rows, jobs, log, devices)
        scores = table.summarise(log.records, faults, found.record(), _settings_record(settings, tasks, data))
        write_table(out, scores)
    return Sweep(scores, errors, rows, log)


def _problems(errors: Mapping[str, UserError]) -> dict[str, str]:
    return {key: error.problem for key, error in errors.items()}


def _refuse_begun(identity: Path) -> None:
    if identity.exists():
        raise UserError(
            f"{identity.parent} holds a sweep already", "Go on with --resume, or name another folder with --out."
        )


def _read(
    data: str | None, tasks: Sequence[Task | OwnTask], settings: SweepSettings
) -> tuple[dict[str, TaskData], dict[str, UserError]]:
    """Return the rows by task, and the errors of the tasks that have none."""
    rows: dict[str, TaskData] = {}
    errors: dict[str, UserError] = {}
    for task in tasks:
        try:
            rows[task.key] = _read_one(data, task).limited(settings.max_train_rows)
        except UserError as error:
            errors[task.key] = error
    if not rows:
        raise next(iter(errors.values()))
    return rows, errors


def _read_one(data: str | None, task: Task | OwnTask) -> TaskData:
    if isinstance(task, OwnTask):
        return read_own(task)
    if data is None:
        raise UserError(f"{task.title} is read from GLUE's folder, and --data names none", "Give --data GLUE_DIR.")
    return read_from_hub(task) if data == "hub" else read_task(Path(data), task)


def _jobs(key: str, settings: SweepSettings) -> list[Job]:
    """Return the runs to make, with seeds in the outer loop, so that an early look shows every grid point."""
    grid = settings.grid
    return [
        Job(key, Setting(lr, batch, grid.epochs, seed, settings.tune))
        for seed in range(settings.seeds)
        for lr in grid.lr
        for batch in grid.batch
    ]


def _run(
    scorer: Scorer, rows: dict[str, TaskData], jobs: list[Job], log: RunLog, devices: Sequence[torch.device]
) -> None:
    total = sum(_cost(job, rows) for job in jobs)
    with StopOnSignal() as stop, Meter("Fine-tuning", total) as meter:
        progress = _Progress(meter, len(jobs))
        try:
            if len(devices) == 1:
                for job in jobs:
                    progress.begin(job)
                    task_rows = rows[job.task]
                    record = scorer.score(task_rows, job.setting, lambda: stop.received is not None, progress.rows)
                    log.append(record)
                    progress.end(record)
            else:
                for record in Workers(scorer.encoder, rows, jobs, devices, scorer.precision.name).run(
                    lambda: stop.received is not None
                ):
                    log.append(record)
                    progress.rows(record["rows"]["train"] * record["epochs"])
                    progress.end(record)
        except StoppedEarly:
            pass
    if stop.received is not None:
        kept = len(log.records)
        message = f"stopped; {kept} of {kept + len(jobs) - progress.ended} runs are kept, go on with --resume"
        raise Interrupted(stop.received, message, {"scores": str(log.path.parent), "finished": False, "runs": kept})


class _Progress:
    """The progress of a sweep as the meter shows it: rows trained on, the current run, the last score."""

    def __init__(self, meter: Meter, jobs: int) -> None:
        self.meter = meter
        self.jobs = jobs
        self.ended = 0
        self.current = ""
        self.last = ""
        self.began = time.monotonic()

    def begin(self, job: Job) -> None:
        setting = job.setting
        self.current = f"{job.task} {setting.lr:g}/{setting.batch} seed {setting.seed}"

    def rows(self, count: int) -> None:
        rate = (self.meter.done + count) / max(time.monotonic() - self.began, 1e-9)
        parts = (f"run {min(self.ended + 1, self.jobs)}/{self.jobs}", self.current, f"{rate:,.0f} rows/s", self.last)
        self.meter.advance(count, "  ".join(part for part in parts if part))

    def end(self, record: Record) -> None:
        self.ended += 1
        best = record["best_epoch"]
        if best is None:
            self.last = "last diverged"
        else:
            main = next(iter(record["scores"][best - 1].values()))
            self.last = f"last {main:.1f}"
        if record["diverged"]:
            say(f"{record['task']} diverged: lr {record['lr']:g}, batch {record['batch']}, seed {record['seed']}")


def _cost(job: Job, rows: dict[str, TaskData]) -> int:
    return len(rows[job.task].splits["train"]) * job.setting.epochs


def _introduce(encoder: Encoder, rows: dict[str, TaskData], faults: dict[str, str], todo: int, done: int) -> None:
    say(f"encoder {encoder.path}, SHA-256 {encoder.sha256[:12]}...")
    for task_rows in rows.values():
        sizes = ", ".join(f"{len(split):,} {name}" for name, split in task_rows.splits.items())
        notes = f" ({'; '.join(task_rows.notes)})" if task_rows.notes else ""
        say(f"{task_rows.task.title}: {sizes}{notes}")
    for problem in faults.values():
        say(f"not scored: {problem}")
    say(f"{todo:,} runs to do" + (f", {done:,} done already" if done else ""))


def _settings_record(settings: SweepSettings, tasks: Sequence[Task | OwnTask], data: str | None) -> dict[str, Any]:
    grid = settings.grid
    return {
        "tasks": [task.key for task in tasks],
        "data": data,
        "seeds": settings.seeds,
        "lr": list(grid.lr),
        "batch": list(grid.batch),
        "epochs": grid.epochs,
        "max_train_rows": settings.max_train_rows,
        "tune": str(settings.tune),
    }
