"""The examination of a RUN: is it as pre-training wrote it, and can it continue?"""

import json
import os
import shutil
from pathlib import Path

import torch

from masklater.corpus.tokenizer import fingerprint, load
from masklater.doctor.examination import Examination
from masklater.errors import DamagedDataError, first_line
from masklater.lock import last_holder
from masklater.machine.versions import versions
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.recipe.load import load as load_recipe
from masklater.run.checkpoint import Checkpoint, list_checkpoints, load_checkpoint
from masklater.run.data import read_data
from masklater.run.folder import RunFolder
from masklater.run.metrics import gap_in, read_metrics, steps_logged

BYTES_PER_PARAMETER = 12
"""A weight and AdamW's two moments in float32."""


def look_at_run(path: Path, found: Examination) -> None:
    """Read every file of a RUN; nothing is written and no lock is taken."""
    found.facts["RUN"] = str(path)
    run = found.attempt(lambda: RunFolder(path))
    if run is None:  # the recipe may be damaged too
        found.attempt(lambda: load_recipe(path / "recipe.yaml"))
    found.attempt(lambda: load(path / "tokenizer"))
    if run is not None:
        _compare_identity(run, found)
    newest = _look_at_checkpoints(path / "checkpoints", found)
    model = None if run is None else found.attempt(lambda: _empty_model(run))
    if model is not None and newest is not None:
        _compare_shapes(path, model, newest, found)
    found.attempt(lambda: read_data(path))
    _look_at_log(path, newest.ledger.steps if newest else 0, found)
    _look_at_space(path, model, found)
    holder = last_holder(path)
    if holder is not None:
        found.facts["last trained by"] = str(holder)
    if not os.access(path, os.W_OK):
        found.problem(f"{path} cannot be written to", "A run that goes on writes there.")


def _compare_identity(run: RunFolder, found: Examination) -> None:
    identity = run.identity
    digest = found.attempt(lambda: fingerprint(run.tokenizer))
    if digest is not None and digest != identity.tokenizer_sha256:
        found.problem(f"{run.tokenizer} is not the tokenizer the run began with", "Put the original tokenizer back.")
    found.facts["data"] = f"index.json has SHA-256 {identity.data_sha256[:12]}..., rows of {identity.row_length}"
    if identity.source_commit is not None:
        found.facts["from"] = f"{run.recipe.model.from_}, commit {identity.source_commit} on the hub"
    now = versions()
    changed = [
        f"{name} was {getattr(identity, name)}, is {now[name]}" for name in now if getattr(identity, name) != now[name]
    ]
    if changed:
        found.notes.append(f"since the run began: {'; '.join(changed)}. Its losses may differ in their last digits")


def _empty_model(run: RunFolder) -> MaskLaterForMaskedLM:
    """Return the model that config.json describes, without weights.

    Raises:
        DamagedDataError: config.json does not describe a model.
    """
    config = run.load_config()
    try:
        with torch.device("meta"):
            return MaskLaterForMaskedLM(config)
    except Exception as error:  # a wrong value may make transformers or torch raise anything
        raise DamagedDataError(
            f"no model can be made of {run.path / 'config.json'}: {first_line(error)}", "Restore it from a copy."
        ) from None


def _compare_shapes(path: Path, model: MaskLaterForMaskedLM, newest: Checkpoint, found: Examination) -> None:
    if misfits := newest.misfits(model):
        found.problem(
            f"{path / 'config.json'} does not describe the weights of {newest.path.name}: {', '.join(misfits[:3])}"
            f"{' ...' if len(misfits) > 3 else ''}",
            "Restore it from a copy.",
        )


def _look_at_checkpoints(folder: Path, found: Examination) -> Checkpoint | None:
    """Read all checkpoints; return the newest sound one."""
    if not folder.is_dir():
        found.problem(f"there is no folder {folder}", "Restore it from a copy.")
        return None
    names: list[str] = []
    newest: Checkpoint | None = None
    for path in list_checkpoints(folder):
        of_this = Examination()
        checkpoint = _look_at_checkpoint(path, of_this)
        if not path.exists():  # a run in training has just removed it
            continue
        found.problems += of_this.problems
        if checkpoint is None:
            continue
        names.append(path.name)
        newest = checkpoint if newest is None or checkpoint.ledger.steps > newest.ledger.steps else newest
    found.facts["sound checkpoints"] = ", ".join(names) or "none yet"
    left = sorted(path.name for pattern in ("*.partial-*", "damaged-*", "abandoned-*") for path in folder.glob(pattern))
    if left:
        found.notes.append(f"left over in {folder}, never read, may be removed: {', '.join(left)}")
    return newest


def _look_at_checkpoint(path: Path, found: Examination) -> Checkpoint | None:
    """Read one checkpoint; return it if it is sound."""
    checkpoint = found.attempt(lambda: load_checkpoint(path))
    if checkpoint is None:
        return None
    if path.name != f"step-{checkpoint.ledger.steps:08d}":
        found.problem(f"{path} holds step {checkpoint.ledger.steps:,}", "Was it renamed? Give it its own name back.")
    if bad := found.attempt(checkpoint.not_finite):
        found.problem(
            f"{path}: weights are not finite: {', '.join(bad[:3])}{' ...' if len(bad) > 3 else ''}",
            "Remove this checkpoint, so that --resume takes the one before it.",
        )
    return checkpoint


def _look_at_log(path: Path, newest: int, found: Examination) -> None:
    log = path / "metrics.jsonl"
    if not log.exists() and not newest:
        return
    records = found.attempt(lambda: read_metrics(log))
    if records is None:
        return
    steps = steps_logged(records)
    found.facts["steps logged"] = f"{steps[-1]:,}" if steps else "none"
    if (steps[-1] if steps else 0) < newest:
        found.problem(f"{log} ends before the checkpoint of step {newest:,}", "Restore it from a copy.")
    elif gap := gap_in(log, steps, max(steps, default=0)):
        found.notes.append(gap)
    skipped = sum(bool(record.get("skipped") and not record.get("overflowed")) for record in records)
    spikes = [record["step"] for record in records if "spike" in record]
    if skipped:
        found.notes.append(f"{skipped:,} of {len(steps):,} steps were skipped: loss or gradient was not finite")
    if spikes:
        found.notes.append(f"the loss spiked at {len(spikes):,} steps, last at step {spikes[-1]:,}")
    if (path / "diverged.json").exists():
        found.notes.append(f"the run stopped by itself once; the rows it stopped at are in {path / 'diverged.json'}")
    ledger = path / "ledger.json"
    try:
        json.loads(ledger.read_bytes())
    except (OSError, ValueError, RecursionError):
        if newest:
            found.problem(f"{ledger} is missing or damaged", "The next checkpoint writes it anew.")


def _look_at_space(path: Path, model: MaskLaterForMaskedLM | None, found: Examination) -> None:
    """Record a problem where the next checkpoint has no room on disk."""
    needed = max((_size(each) for each in list_checkpoints(path / "checkpoints")), default=0)
    if model is not None and not needed:
        needed = sum(parameter.numel() for parameter in model.parameters()) * BYTES_PER_PARAMETER
    free = shutil.disk_usage(path).free
    found.facts["next checkpoint"] = f"{needed / 2**20:,.1f} MiB; {free / 2**20:,.1f} MiB free"
    if free < needed:
        found.problem(
            f"the next checkpoint takes {needed / 2**20:,.1f} MiB, and {path} has {free / 2**20:,.1f} MiB free",
            "Free some space; old checkpoints go only when the new one is complete.",
        )


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
