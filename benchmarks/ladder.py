"""How much compute masking later saves: loss, BLiMP and GLUE of every rung over two orders of magnitude of FLOPs.

    python benchmarks/ladder.py --data DATA --out LADDER             # begin, or go on
    python benchmarks/ladder.py --data DATA --out LADDER --status    # what is finished, and the hours that are left
    masklater compare LADDER/runs/*/*/seed-* --out REPORT            # curves, power laws, multipliers

ladder.yaml lists the work in order: rungs, each a shipped recipe with additions; budgets, each with one size of encoder
for all rungs; judges. Finished work is kept. The same command continues where it was, after SIGTERM and SIGKILL too,
and refuses changes to cells that have begun. With --processes, or started several times, processes on one LADDER share
the work: small models gain little from a second thread, and a GPU trains many at a time. LADDER/table.md has the
finished cells.
"""

import argparse
import fcntl
import hashlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from ladder_plan import Cell, Job, Plan
from ladder_table import hours_left, read_cell, table

from masklater.console import say
from masklater.corpus.prepare import prepare
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.shards import Shards
from masklater.errors import Interrupted, UserError
from masklater.folders import complete_folder
from masklater.judge.blimp import score_pairs
from masklater.judge.grid import SweepSettings, make_grid
from masklater.judge.sweep import sweep
from masklater.judge.tasks import choose_tasks
from masklater.model.export import export_encoder
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.loop import pretrain
from masklater.recipe.load import settings_of
from masklater.recipe.recipe import Recipe
from masklater.run.folder import RunFolder
from masklater.seeds import derive_seed

SUBSETS = ("MNLI", "QNLI", "QQP")
PATIENCE = 10.0
"""Seconds between two checks of another process's work."""


class Ladder:
    """The work folder of a plan."""

    def __init__(self, plan: Plan, data: Path, out: Path) -> None:
        self.plan, self.data, self.out = plan, data, out
        self.shards: Shards | None = None

    def run_of(self, cell: Cell) -> Path:
        """The RUN folder of a cell."""
        return self.out / "runs" / str(cell)

    def loss(self, cell: Cell) -> float | None:
        """Return the final loss of a cell at 15%, infinite where it diverged; None: it is not finished."""
        found = read_cell(self.run_of(cell))
        if found is None or not (found.finished or found.diverged):
            return None
        return found.loss if found.finished and found.loss is not None and math.isfinite(found.loss) else math.inf

    def prepare(self) -> None:
        """Make SHARDS and pairs, once; refuse data that has changed since.

        A machine with a LADDER whose SHARDS are finished does not need the text.

        Raises:
            UserError: The data differs from what the present cells were trained and judged on.
        """
        tree = self.plan.tree
        text = [self.data / name for name in tree["text"]]
        with only_one(self.out / "locks" / "data", wait=True):
            record = self.out / "data.json"
            before = json.loads(record.read_text()) if record.exists() else None
            goes_without = before is not None and not any(path.exists() for path in text)
            now = {
                "prepare": tree["prepare"],
                "text": before["text"] if goes_without else hash_of(text),
                "blimp": hash_of([self.data / tree["blimp"]]),
            }
            if before not in (None, now):
                changed = ", ".join(key for key in now if before.get(key) != now[key])
                raise UserError(
                    f"{changed} of the ladder in {self.out} was other than what {self.data} and the YAML hold now",
                    "Give back what it was begun with, or begin another with --out.",
                )
            if not (self.out / "shards").exists():
                prepare(text, self.out / "shards", PrepareSettings(**tree["prepare"], pack="continuous"))
            record.write_text(json.dumps(now, indent=1) + "\n")
        self.shards = Shards(self.out / "shards")

    def recipe(self, cell: Cell) -> Recipe:
        """Return the recipe of a cell. A cell that has begun keeps its steps, however FLOPs are counted now.

        Raises:
            UserError: It was begun with another recipe.
        """
        assert self.shards is not None
        recipe, run = self.plan.recipe(cell, self.shards, self.plan.tuned_lr(self.loss)), self.run_of(cell)
        if not (run / "run.json").exists():
            return recipe
        folder = RunFolder(run)
        before, now = settings_of(folder.recipe), settings_of(recipe)
        follow = ("duration.steps", "evaluation.every_steps", "checkpoint.every_steps")  # they follow a step's FLOPs
        changed = [key for key in {**before, **now} if before.get(key) != now.get(key) and key not in follow]
        if changed or folder.identity.data_sha256 != self.shards.fingerprint:
            listed = "; ".join(f"{key} was {before.get(key)}, is {now.get(key)}" for key in changed)
            raise UserError(
                f"the cell {cell} was begun with other {'settings: ' + listed if changed else 'data'}",
                f"Give back what it was begun with, or move {run} away to have it run anew.",
            )
        return folder.recipe

    def train(self, cell: Cell) -> None:
        """Pre-train a cell and score it on minimal pairs, as far as that is not done."""
        recipe, run = self.recipe(cell), self.run_of(cell)
        if self.loss(cell) is None:
            say(f"{cell}: pre-training, {recipe.duration}")
            try:
                pretrain(recipe, self.out / "shards", run, resume=(run / "run.json").exists())
            except UserError as error:
                if not (run / "diverged.json").exists():
                    raise
                say(f"{cell}: {error}")
        if self.loss(cell) == math.inf:
            return  # diverging is a result too: the table says so, and nothing is judged
        number = self.plan.budgets[cell.budget].get("blimp")
        result = run / "blimp.json"
        if not result.exists():
            say(f"{cell}: minimal pairs")
            with only_one(self.out / "locks" / "pairs", wait=True):
                pairs = take_pairs(self.data / self.plan.tree["blimp"], number, self.out / f"blimp-{number or 'all'}")
            found = {"pairs_a_file": number, **asdict(score_pairs(run, pairs))}
            partial = result.with_suffix(".partial")
            partial.write_text(json.dumps(found, indent=1) + "\n")
            partial.replace(result)
        elif (before := json.loads(result.read_text())["pairs_a_file"]) != number:
            raise UserError(
                f"the cell {cell} was judged by {before or 'all'} pairs a file; the YAML now says {number or 'all'}",
                f"Give that back, or remove {result} to have it judged anew.",
            )

    def fine_tune(self, job: Job) -> None:
        """Fine-tune a cell, or its encoder before the first step, on GLUE."""
        run = self.run_of(job.cell)
        encoder, out = run, run / "scores"
        if job.kind == "twin":
            twin = self.out / "twins" / str(job.cell)
            encoder, out = random_twin(run, twin / "encoder"), twin / "scores"
        glue, settings = self.plan.tree["glue"], self.plan.tree["glue"]["sweep"]
        subsets = self.data / glue["subsets"] if glue["subsets"] else None
        with only_one(self.out / "locks" / "tasks", wait=True):
            data = gather_glue(self.data / glue["official"], subsets, self.out / "glue")
        grid = make_grid("quick", settings["lr"], settings["batch"], settings["epochs"])
        wanted = SweepSettings(grid, settings["seeds"], settings["max_train_rows"])
        say(f"{job.cell}: GLUE{' from random weights' if job.kind == 'twin' else ''}")
        sweep(str(encoder), str(data), out, choose_tasks(settings["tasks"]), wanted, (out / "sweep.json").exists())

    def is_done(self, job: Job) -> bool:
        """Return whether a piece of work is finished."""
        run = self.run_of(job.cell)
        if job.kind == "train":
            loss = self.loss(job.cell)
            return loss == math.inf or (loss is not None and (run / "blimp.json").exists())
        if self.loss(job.cell) == math.inf:
            return True
        folder = run if job.kind == "glue" else self.out / "twins" / str(job.cell)
        return (folder / "scores" / "scores.json").exists()

    def status(self) -> str:
        """Return what is finished, and how long the rest will take."""
        jobs = self.plan.jobs(self.loss)
        left = [job for job in jobs if not self.is_done(job)]
        text = f"{table(self.out)}\n\n{len(jobs) - len(left)} of {len(jobs)} pieces of work are done. "
        return text + hours_left(self.out, left)

    def work(self) -> None:
        """Do one piece after another until none is left."""
        self.prepare()
        for job in self.plan.jobs(self.loss):
            if job.kind == "train" and self.is_done(job):
                self.train(job.cell)  # refuses changes, else does nothing
        while left := [job for job in self.plan.jobs(self.loss) if not self.is_done(job)]:
            if not any(self._try(job) for job in self._ready(left)):
                time.sleep(PATIENCE)  # other processes do all that is left, or what decides the rest

    def _ready(self, left: list[Job]) -> list[Job]:
        """Return the work that can be done now: first the learning rate's cells, then the cells that decide choices.

        Meanwhile, cells with their own rate need not wait, up to the budget that decides.
        """
        undecided, tuning = self.plan.undecided(self.loss), self.plan.candidates()
        if undecided.intersection(tuning):
            left = [job for job in left if job.cell in tuning or not self.plan.takes_tuned_lr(job.cell.rung)]
        if undecided:
            left = [job for job in left if float(job.cell.budget) <= float(self.plan.decides)]
        return [job for job in left if job.kind == "train" or self.loss(job.cell) is not None]

    def _try(self, job: Job) -> bool:
        """Do a piece of work, unless another process is doing it."""
        with only_one(self.out / "locks" / f"{job.kind}-{str(job.cell).replace('/', '-')}") as mine:
            if not mine:
                return False
            if not self.is_done(job):
                self.train(job.cell) if job.kind == "train" else self.fine_tune(job)
                text = self.status()
                (self.out / "table.md").write_text(text + "\n")
                say(text.rpartition("\n")[2])
        return True


@contextmanager
def only_one(path: Path, wait: bool = False) -> Iterator[bool]:
    """Hold a lock that ends with the process; yield whether it was free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def hash_of(paths: list[Path]) -> str:
    """Return one hash of files and of all files in folders, by content.

    Raises:
        UserError: One of them does not exist.
    """
    whole = hashlib.sha256()
    for path in paths:
        if not path.exists():
            raise UserError(f"there is no {path}", "--data names the folder that the paths in the YAML are inside of.")
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                with file.open("rb") as opened:
                    whole.update(f"{file.name} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def take_pairs(source: Path, number: int | None, out: Path) -> Path:
    """Return a folder with the first pairs of each file, or the source itself where all are wanted."""
    if number is None:
        return source
    if not out.exists():
        with complete_folder(out) as partial:
            for file in sorted(source.glob("*.jsonl")):
                lines = file.read_text(encoding="utf-8").splitlines()[:number]
                (partial / file.name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return out


def gather_glue(official: Path, subsets: Path | None, out: Path) -> Path:
    """Make a folder of links: the official tasks, with subsets for those whose training data is missing."""
    if not out.exists():
        with complete_folder(out) as partial:
            for folder in sorted(official.iterdir()):
                if subsets is None or folder.name not in SUBSETS:
                    (partial / folder.name).symlink_to(folder.resolve())
            for name in SUBSETS if subsets is not None else ():
                (partial / name).symlink_to((subsets / name).resolve())
    return out


def random_twin(run: Path, out: Path) -> Path:
    """Export the encoder of a run as it was before the first step."""
    if not out.exists():
        folder = RunFolder(run)
        torch.manual_seed(derive_seed(folder.recipe.seed, "weights"))
        export_encoder(MaskLaterForMaskedLM(folder.load_config()), folder.tokenizer, out)
    return out


def work_together(number: int, minutes: float | None, command: list[str], out: Path) -> int:
    """Start processes of one thread each that share the work, and wait for them; return the worst exit status.

    Processes that are stopped because of the time count like those that have finished.

    Args:
        number: Number of processes; their output is in LADDER/process-K.log.
        minutes: Until they are stopped as by SIGTERM, so that each saves its present work; None: they are not stopped.
        command: The command of each.
        out: LADDER.
    """
    out.mkdir(parents=True, exist_ok=True)
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    logs = [out / f"process-{place + 1}.log" for place in range(number)]
    say(f"{number} processes; what they say is in {logs[0]} and so on")
    works = []
    for log in logs:
        with log.open("a") as file:
            works.append(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment))
    deadline = math.inf if minutes is None else time.monotonic() + 60 * minutes
    terminated = {-signal.SIGTERM, 128 + signal.SIGTERM}
    overtime = False

    def stop(*_: object) -> None:
        for work in works:
            work.send_signal(signal.SIGTERM)  # without effect on a process that has ended

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    while any(work.poll() is None for work in works):
        time.sleep(0.2)
        if time.monotonic() > deadline and not overtime:
            overtime = True
            stop()
    return max(0 if overtime and work.returncode in terminated else abs(work.returncode) for work in works)


def main() -> int:
    """Run the pieces that are left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that paths in the YAML are inside of")
    parser.add_argument("--out", type=Path, required=True, help="the work folder to make, or to go on with")
    parser.add_argument("--plan", type=Path, default=Path(__file__).with_suffix(".yaml"), help="the YAML")
    parser.add_argument("--size", default="cpu", help="one of the YAML's sizes [default: cpu]")
    parser.add_argument("--status", action="store_true", help="print what is finished and the hours left, run nothing")
    parser.add_argument("--processes", type=int, default=1, help="so many at a time, each of one thread [default: 1]")
    parser.add_argument("--minutes", type=float, help="with --processes: stop and save what is not finished by then")
    arguments = parser.parse_args()
    if arguments.minutes is not None and arguments.processes == 1:
        parser.error("--minutes stops what --processes has started, and needs it")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers' own bars for saving and loading
    try:
        ladder = Ladder(Plan(arguments.plan, arguments.size), arguments.data, arguments.out)
        if arguments.processes > 1 and not arguments.status:
            ladder.prepare()
            given = {"data": arguments.data, "out": arguments.out, "plan": arguments.plan, "size": arguments.size}
            command = [sys.executable, __file__, *(f"--{name}={value}" for name, value in given.items())]
            worst = work_together(arguments.processes, arguments.minutes, command, arguments.out)
            print(ladder.status())
            return worst
        if not arguments.status:
            ladder.work()
        print(ladder.status())
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"{stop}; give the same command again", file=sys.stderr)
        return 128 + stop.signal_number
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
