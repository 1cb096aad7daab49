"""SCORES: the folder of one sweep.

SCORES/sweep.json   what may not change: the encoder and the settings it began with
SCORES/encoder/     the exported encoder, where a RUN was given
SCORES/runs.jsonl   one object for each finished run, with everything needed to run it again
SCORES/predictions/ what each run predicted for the dev splits after its best epoch
SCORES/lock         held by the process that works on it
SCORES/scores.json  the table for programs, SCORES/scores.md for people; both are rewritten at the end of a sweep
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from masklater.console import say
from masklater.errors import DamagedDataError, UserError, first_line
from masklater.folders import disk_errors_for_people, write_file
from masklater.judge.data import TaskData
from masklater.judge.encoder import OF_RUN, Encoder
from masklater.judge.grid import SweepSettings
from masklater.judge.table import as_markdown

Record = dict[str, Any]
"""One run, as in runs.jsonl."""

SETTING = ("task", "lr", "batch", "epochs", "seed")
"""The settings by which the runs of one sweep differ."""


class RunLog:
    """runs.jsonl: read once, then appended to."""

    def __init__(self, path: Path) -> None:
        """Open the file, if it exists; a last line that was cut off is dropped from it.

        Raises:
            DamagedDataError: Another line is not a record.
        """
        self.path = path
        self.records: list[Record] = []
        if not path.exists():
            return
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            say(f"{path}: the last line was cut off when the sweep was killed; that run is done again")
            with disk_errors_for_people(path), path.open("r+b") as file:
                file.truncate(len(whole))
        known: set[tuple[Any, ...]] = set()
        again = dead = 0
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                record = json.loads(line)
                key = key_of(record)
                finite = all(isfinite(value) for scores in record["scores"] for value in scores.values())
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                raise DamagedDataError(
                    f"{path}, line {number} is no record of a run", "Remove the line; the run is then done again."
                ) from None
            if key in known:
                again += 1
                continue
            known.add(key)
            if not finite:  # as versions before 0.2 left it, and a number that is none wins the grid
                dead += 1
                record |= {"scores": [], "best_epoch": None, "diverged": True}
            self.records.append(record)
        if dead:
            say(f"{path}: {dead:,} runs stand there with scores that are not finite, and count as diverged")
        if again:
            say(f"{path}: {again:,} runs stand there a second time, which two processes did; the first one counts")

    def append(self, record: Record) -> None:
        """Add a run, on disk when this returns; its `answers` go into a separate file, before the line."""
        answers = record.pop("answers", None)
        if answers:
            record["predictions"] = self._write(record, answers)
        with disk_errors_for_people(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.records.append(record)

    def _write(self, record: Record, answers: Mapping[str, NDArray[np.float64]]) -> str:
        """Write a file of predictions, completely or not at all; a file that a killed sweep left is replaced."""
        path = self.path.parent / "predictions" / f"{'-'.join(map(str, key_of(record)))}.npz"
        with disk_errors_for_people(path):
            path.parent.mkdir(exist_ok=True)
            partial = path.with_name(f"{path.name}.partial")
            with partial.open("wb") as file:
                np.savez_compressed(file, **cast(dict[str, Any], answers))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        return f"predictions/{path.name}"

    def answers(self, record: Record) -> dict[str, NDArray[np.float64]]:
        """Read the predictions of a run, by dev split.

        Raises:
            DamagedDataError: Their file is missing or damaged.
        """
        path = self.path.parent / str(record.get("predictions"))
        try:
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
        except Exception as error:  # numpy also raises errors of zip and of its own format
            reason = "a run that was recorded without them" if "predictions" not in record else first_line(error)
            raise DamagedDataError(
                f"{path} cannot be read as predictions: {reason}", "Score anew into another folder with --out."
            ) from None


def key_of(record: Record) -> tuple[Any, ...]:
    """Return the run's task and setting."""
    return tuple(record[name] for name in SETTING)


def write_identity(path: Path, encoder: Encoder, settings: SweepSettings) -> None:
    """Write sweep.json."""
    with disk_errors_for_people(path):
        path.write_text(json.dumps(_identity(encoder, settings), indent=1), encoding="utf-8")


def check_identity(path: Path, encoder: Encoder, settings: SweepSettings) -> Encoder:
    """Refuse to continue with an encoder or settings that would mix two sweeps.

    Tasks and seeds may be added: sweep.json does not hold them.

    Returns:
        The encoder, with the run it came from if only sweep.json names it.

    Raises:
        UserError: Something else has changed.
    """
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise DamagedDataError(f"{path} cannot be read", "Name another folder with --out.") from None
    before = {"tune": "full", **before}  # its value before there was a choice
    now = json.loads(json.dumps(_identity(encoder, settings)))
    changed = [name for name in now if before.get(name) != now[name]]
    if "encoder_sha256" in changed:
        raise UserError(
            f"{path.parent} holds scores of another encoder: it began with {before.get('encoder_path')}, SHA-256 "
            f"{str(before.get('encoder_sha256'))[:12]}...; {encoder.path} has {encoder.sha256[:12]}...",
            "Give the encoder it began with, or name another folder with --out.",
        )
    changed = [name for name in changed if name not in {"encoder_path", *OF_RUN}]  # the same encoder may have moved
    if changed:
        listed = "; ".join(f"{name} was {before.get(name)}, is {now[name]}" for name in changed)
        raise UserError(
            f"a resumed sweep cannot change {listed}", "Give what it began with, or name another folder with --out."
        )
    if encoder.run:
        return encoder
    return replace(
        encoder, run=before.get("run"), step=before.get("step"), training_sha256=before.get("training_sha256")
    )


def check_data(log: RunLog, rows: Mapping[str, TaskData]) -> None:
    """Raise UserError where a task's rows, or its definition, differ from those its finished runs were scored on."""
    here = [record for record in log.records if record["task"] in rows]  # tasks not asked for now are left alone
    changed = {record["task"] for record in here if record["data_sha256"] != rows[record["task"]].sha256}
    if changed:
        raise UserError(
            f"the data of {', '.join(sorted(changed))} is not what {log.path} was scored on",
            "Give the data the sweep began with, or name another folder with --out.",
        )
    for record in here:
        before, now = record.get("definition", {}), json.loads(json.dumps(rows[record["task"]].task.definition))
        for name in {**before, **now}:
            if name != "files" and before.get(name) != now.get(name):  # files may have moved: their rows are the same
                raise UserError(
                    f"{record['task']} was scored with {name} {before.get(name)}, and has {now.get(name)} now",
                    "Give what the sweep began with, or name another folder with --out.",
                )


def check_arithmetic(log: RunLog, protocol: Mapping[str, Any], precision: str) -> None:
    """Refuse to continue where runs would be computed differently from finished ones, with which they share medians.

    Args:
        log: The sweep's records; a setting that a record does not name is taken to be the same.
        protocol: The present settings that all runs share.
        precision: The present precision.

    Raises:
        UserError: Something differs.
    """
    now = json.loads(json.dumps({**protocol, "precision": precision}))
    for record in log.records:
        before = {**record.get("protocol", {}), "precision": record.get("precision", precision)}
        if changed := [name for name in now if before.get(name, now[name]) != now[name]]:
            listed = "; ".join(f"{name} {before[name]}, which here is {now[name]}" for name in changed)
            raise UserError(
                f"the runs in {log.path} were computed with {listed}",
                "Go on where it was begun, with the same version, or name another folder with --out.",
            )


def _identity(encoder: Encoder, settings: SweepSettings) -> dict[str, Any]:
    return {
        **{name if name in OF_RUN else f"encoder_{name}": value for name, value in encoder.record().items()},
        **asdict(settings.grid),
        "max_train_rows": settings.max_train_rows,
        "tune": str(settings.tune),
    }


def write_table(out: Path, scores: dict[str, Any]) -> None:
    """Write scores.json and scores.md, each completely or not at all; earlier files are replaced."""
    in_json = json.dumps(scores, indent=1, allow_nan=False)
    for name, text in (("scores.json", in_json), ("scores.md", as_markdown(scores))):
        write_file(out / name, text, replace=True)
