"""Checkpoints: everything a run needs to continue. They are complete or absent, checked when read, and hold no code.

RUN/checkpoints/step-00000200/shard-*.safetensors  weights and optimizer states: each process's own part
RUN/checkpoints/step-00000200/progress.json        what the run has spent, and which phase and decay it is in
RUN/checkpoints/step-00000200/checkpoint.json      SHA-256 of each of these files
RUN/checkpoints/before-decay-00000200/             the same, once: the last step at the stable rate of schedule wsd

torch.distributed.checkpoint writes (saver.py) and reads them, and cuts tensors anew for another number of processes.
Its usual format holds pickles, which run any code that a stranger has put there; safetensors hold numbers only.
"""

import hashlib
import json
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, ReadItem
from torch.futures import Future

from masklater.console import say
from masklater.errors import DamagedDataError
from masklater.ledger import Ledger

MODEL, OPTIMIZER = "model.", "optimizer."
"""Prefixes of tensors' names."""
PROGRESS, PROGRESS_BEFORE = "progress.json", "ledger.json"
"""The name of the file now, and its name in version 0.1."""
WITH_WHOLE_DURATION = re.compile(r"(?<= of )(phase \d+, \S+) of \S+(?= )")
"""A phase in the name of a decay, as earlier checkpoints wrote it: with the duration of the run.

The duration does not say where the phase ends.
"""
BY_POSITION = "pread"
"""The way to read safetensors in which an unreadable part raises an exception."""


class HasStates(Protocol):
    """The part of optimizers that a checkpoint needs."""

    def states(self) -> dict[str, Tensor]:
        """Return all states by name, `parameter.what`."""

    def begin(self, names: set[str]) -> None:
        """Create the states of these parameters, for saved states to be read into."""

    def scaler_state(self) -> dict[str, float]:
        """Return the saved state of float16's loss scale; empty where there is none."""

    def load_scaler(self, state: dict[str, float]) -> None:
        """Continue from such a state."""


@dataclass(frozen=True)
class Progress:
    """Where a run is, apart from what it has spent."""

    decay: str | None = None  # the decay that its last step was part of; None: the rate was stable
    phase: int = 0  # the phase of its last step
    row_length: int | None = None  # longest row that the encoder is trained on so far; None: the run's rows
    scaler: dict[str, float] = field(default_factory=dict)  # float16's loss scale, as torch's GradScaler keeps it
    decoder_row_length: int | None = None  # the same of the decoder, which may be new to a published encoder
    begun: tuple[int, ...] = (0,)  # first steps of the phases that have begun, if phases begin by the clock


@dataclass(frozen=True)
class Checkpoint:
    """A sound checkpoint whose tensors have not been read yet."""

    path: Path
    ledger: Ledger
    progress: Progress = Progress()

    def load_into(self, model: nn.Module, optimizers: HasStates | None = None) -> None:
        """Read weights, and optimizer states if optimizers are given, into a model that may be spread over processes.

        Raises:
            DamagedDataError: The checkpoint is of another model, or has changed since it was opened.
        """
        reader = _Reader(str(self.path))
        try:
            saved = reader.read_metadata().state_dict_metadata
            if optimizers is not None:
                states = {
                    name.removeprefix(OPTIMIZER).rpartition(".")[0] for name in saved if name.startswith(OPTIMIZER)
                }
                optimizers.begin(states)
                optimizers.load_scaler(self.progress.scaler)
            with without_warnings():
                # Each process reads only what it needs.
                dcp.load(tensors_of(model, optimizers), storage_reader=reader, no_dist=True)
        except (CheckpointException, SafetensorError, KeyError, ValueError, RuntimeError, OSError) as error:
            causes = (
                [cause for cause, _ in error.failures.values()] if isinstance(error, CheckpointException) else [error]
            )
            unreadable = next((cause for cause in causes if isinstance(cause, (SafetensorError, OSError))), None)
            what = "does not fit the model of its run" if unreadable is None else f"cannot be read: {unreadable}"
            raise DamagedDataError(
                f"{self.path} {what} ({type(error).__name__})",
                "Restore the folder from a copy, or remove it to go on from the one before.",
            ) from error

    def not_finite(self) -> list[str]:
        """Return the names of weights with a value that is not finite.

        Raises:
            DamagedDataError: The weights cannot be read.
        """
        bad = set()
        for file in sorted(self.path.glob("*.safetensors")):
            try:
                with safe_open(file, "pt", backend=BY_POSITION) as tensors:
                    names = [name for name in tensors.keys() if name.startswith(MODEL)]  # noqa: SIM118 - no mapping
                    bad |= {name for name in names if not torch.isfinite(tensors.get_tensor(name)).all()}
            except (OSError, SafetensorError) as error:
                raise DamagedDataError(f"{file} cannot be read: {error}", "Restore it from a copy.") from None
        return sorted(name.removeprefix(MODEL) for name in bad)

    def misfits(self, model: nn.Module) -> list[str]:
        """Return the names of weights that only the model or only this checkpoint has, or whose shapes differ."""
        saved = _Reader(str(self.path)).read_metadata().state_dict_metadata
        found = {name: tuple(getattr(entry, "size", ())) for name, entry in saved.items() if name.startswith(MODEL)}
        expected = {name: tuple(tensor.shape) for name, tensor in tensors_of(model, None).items()}
        names = sorted(found.keys() | expected.keys())
        return [name.removeprefix(MODEL) for name in names if found.get(name) != expected.get(name)]


class _Reader(HuggingFaceStorageReader):
    """Torch's reader without memory maps: a mapped file that is cut while being read ends the process (SIGBUS)."""

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Read the tensors of a plan into their places."""
        items: dict[str, list[ReadItem]] = {}
        for item in plan.items:
            items.setdefault(self.storage_data[item.storage_index].relative_path, []).append(item)
        for file, items_of_file in items.items():
            with safe_open(file, "pt", backend=BY_POSITION) as tensors:
                for item in items_of_file:
                    self._process_read_request(tensors, item, planner)
        done: Future[None] = Future()
        done.set_result(None)
        return done


def keep_newest(folder: Path, keep: int) -> None:
    """Remove all but the newest checkpoints, and the leftovers of interrupted writes."""
    for old in list_checkpoints(folder)[:-keep]:
        old.rename(old.with_name(f"removed-{old.name}"))  # from here on it is no checkpoint, even if removal is cut off
    for pattern in ("removed-step-*", "step-*.partial-*"):
        for rest in folder.glob(pattern):
            shutil.rmtree(rest, ignore_errors=True)


def list_checkpoints(folder: Path, kind: Literal["step", "before-decay"] = "step") -> list[Path]:
    """List all complete checkpoints of a kind, oldest first."""
    return sorted((path for path in folder.glob(f"{kind}-*") if path.name[len(kind) + 1 :].isdigit()), key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the step that a checkpoint's name ends with."""
    return int(checkpoint.name.rpartition("-")[2])


def load_newest(folder: Path) -> Checkpoint | None:
    """Return the newest sound checkpoint; None where there is no checkpoint at all.

    A damaged one is skipped for the one before it, and a message says so.

    Raises:
        DamagedDataError: There are checkpoints, and none is sound.
    """
    paths = list_checkpoints(folder)
    for path in reversed(paths):
        try:
            return load_checkpoint(path)
        except DamagedDataError as error:
            if not path.exists():  # a run in training has just removed it, and has newer ones
                return load_newest(folder)
            say(f"passing over a checkpoint: {error.problem}")
    if not paths:
        return None
    stable = [path for path in list_checkpoints(folder, "before-decay") if is_sound(path)]
    instead = f", give {stable[-1].name} the name step-{step_of(stable[-1]):08d} to go on from there" if stable else ""
    raise DamagedDataError(
        f"no checkpoint in {folder} is sound", f"Restore one from a copy{instead}, or start a new run."
    )


def load_checkpoint(path: Path) -> Checkpoint:
    """Open one checkpoint.

    Raises:
        DamagedDataError: The checkpoint differs from what was written.
    """
    try:
        written = json.loads((path / "checkpoint.json").read_text(encoding="utf-8"))["sha256"]
        name = PROGRESS if PROGRESS in written else PROGRESS_BEFORE
        if _hashes(path) == written and name in written:
            tree = json.loads((path / name).read_text(encoding="utf-8"))
            decay = tree["decay"] and WITH_WHOLE_DURATION.sub(r"\1", tree["decay"])
            row_length = tree.get("row_length")
            # Version 0.1 had neither phases nor float16; later ones had one number for encoder and decoder.
            progress = Progress(
                decay, tree.get("phase", 0), row_length, tree.get("scaler", {}),
                tree.get("decoder_row_length", row_length), tuple(tree.get("begun", (0,))),
            )  # fmt: skip
            return Checkpoint(path, Ledger(**tree["ledger"]), progress)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise DamagedDataError(f"{path} is damaged (a file is missing or its checksum does not match)")


def is_sound(path: Path) -> bool:
    """Return whether a checkpoint is as it was written."""
    try:
        load_checkpoint(path)
    except DamagedDataError:
        return False
    return True


def set_aside(path: Path, why: str) -> None:
    """Rename a checkpoint so that nothing reads it and nothing is lost."""
    name, number = f"{why}-{path.name}", 1
    while path.with_name(name).exists():
        number += 1
        name = f"{why}-{number}-{path.name}"
    path.rename(path.with_name(name))


def tensors_of(model: nn.Module, optimizers: HasStates | None) -> dict[str, Any]:
    """Return all tensors to be saved, by name. The names do not depend on how a model is spread over processes."""
    tensors: dict[str, Tensor] = {f"{MODEL}{name}": tensor for name, tensor in model.state_dict().items()}
    states = {} if optimizers is None else optimizers.states()
    return tensors | {f"{OPTIMIZER}{name}": tensor for name, tensor in states.items()}


def seal(partial: Path, ledger: Ledger, progress: Progress) -> None:
    """Write the files that turn a folder of tensors into a checkpoint."""
    tree = {"ledger": asdict(ledger), **asdict(progress)}
    (partial / PROGRESS).write_text(json.dumps(tree), encoding="utf-8")
    entry = {"step": ledger.steps, "sha256": _hashes(partial)}
    (partial / "checkpoint.json").write_text(json.dumps(entry, indent=1), encoding="utf-8")


def _hashes(path: Path) -> dict[str, str]:
    """Return the SHA-256 of every file except the one that records them."""
    files = sorted(file for file in path.iterdir() if file.name != "checkpoint.json")
    found = {}
    for file in files:
        with file.open("rb") as opened:
            found[file.name] = hashlib.file_digest(opened, "sha256").hexdigest()
    return found


@contextmanager
def without_warnings() -> Iterator[None]:
    """Hide torch's warnings about its own internal calls and about working in one process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.filterwarnings("ignore", "torch.distributed is disabled")
        yield
