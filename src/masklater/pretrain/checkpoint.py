"""Checkpoints: everything a run needs to go on, complete or not there, checked when read.

RUN/checkpoints/step-00000200/state.pt         model, optimizer and ledger
RUN/checkpoints/step-00000200/checkpoint.json  step and SHA-256 of state.pt
"""

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from masklater.budget.ledger import Ledger
from masklater.console import say
from masklater.errors import DamagedDataError
from masklater.folders import complete_folder
from masklater.pretrain.optim import Optimizers


def save_checkpoint(folder: Path, model: nn.Module, optimizers: Optimizers, ledger: Ledger, keep: int) -> Path:
    """Write a checkpoint; only when it is complete are older ones beyond `keep` removed."""
    path = folder / f"step-{ledger.steps:08d}"
    if path.exists() and not _is_sound(path):
        path.rename(path.with_name(f"damaged-{path.name}"))  # passed over when the run was resumed
    if not path.exists():
        with complete_folder(path) as partial:
            state = {"model": model.state_dict(), "optimizers": optimizers.state_dict(), "ledger": asdict(ledger)}
            # Given a path and not a file, torch would hide a full disk in an error of its own.
            with (partial / "state.pt").open("wb") as file:
                torch.save(state, file)
            entry = {"step": ledger.steps, "sha256": _sha256(partial / "state.pt")}
            (partial / "checkpoint.json").write_text(json.dumps(entry), encoding="utf-8")
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return path


def list_checkpoints(folder: Path) -> list[Path]:
    """All complete checkpoints, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdigit())


def load_newest(folder: Path) -> dict[str, Any] | None:
    """The state of the newest sound checkpoint; None where there is none at all.

    A damaged one is passed over, aloud, for the one before it.

    Raises:
        DamagedDataError: There are checkpoints, and none is sound.
    """
    paths = list_checkpoints(folder)
    for path in reversed(paths):
        try:
            return load_checkpoint(path)
        except DamagedDataError as error:
            say(f"passing over a checkpoint: {error.problem}")
    if paths:
        raise DamagedDataError(f"no checkpoint in {folder} is sound", "Restore one from a copy, or start a new run.")
    return None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state of one checkpoint, on the CPU.

    Raises:
        DamagedDataError: It is not what was written.
    """
    if not _is_sound(path):
        raise DamagedDataError(f"{path} is damaged (a file is missing or its checksum does not match)")
    return torch.load(path / "state.pt", map_location="cpu", weights_only=True)


def ledger_of(state: dict[str, Any]) -> Ledger:
    """The ledger in a checkpoint's state."""
    return Ledger(**state["ledger"])


def _is_sound(path: Path) -> bool:
    try:
        entry = json.loads((path / "checkpoint.json").read_text(encoding="utf-8"))
        return bool(_sha256(path / "state.pt") == entry["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
