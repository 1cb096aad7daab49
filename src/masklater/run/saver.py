"""Writing checkpoints: while training waits, or in the background.

In the background, the state is first copied to the host's memory, and training waits only for this copy. A thread then
writes the copy. There is one such copy at a time. checkpoint.py says what a checkpoint holds.
"""

import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

from masklater.console import say
from masklater.errors import UserError
from masklater.folders import complete_folder
from masklater.ledger import Ledger
from masklater.machine.distributed import ALONE, World
from masklater.run.checkpoint import HasStates, Progress, is_sound, seal, set_aside, tensors_of, without_warnings

PATIENCE = 30.0
"""Seconds that a run which ends by an error waits for the checkpoint being written."""


@dataclass(frozen=True)
class _Draft:
    """A checkpoint whose tensors are being written, as seen by the first process."""

    folder: ExitStack  # closing it gives the folder its name; leaving it with an error removes the folder
    partial: Path
    ledger: Ledger
    progress: Progress
    then: Callable[[Ledger], None] | None

    def complete(self) -> None:
        """Make the checkpoint complete, once all its tensors are written."""
        seal(self.partial, self.ledger, self.progress)
        self.folder.close()
        if self.then is not None:
            self.then(self.ledger)


class Saver:
    """Writes the checkpoints of a run, one at a time: each process writes its part, and the first completes it."""

    def __init__(self, world: World = ALONE, in_background: bool = False) -> None:
        self.world = world
        self.thread = ThreadPoolExecutor(1, "checkpoint") if in_background else None
        if in_background:  # the warning comes in another thread, about an intended choice
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
        # Messages between processes about a checkpoint must not mix with those about a step at the same time.
        self.group = dist.new_group(backend="gloo") if in_background and world.size > 1 else None
        self.pending: Future[None] | None = None

    def save(
        self,
        path: Path,
        model: nn.Module,
        optimizers: HasStates,
        ledger: Ledger,
        progress: Progress = Progress(),  # noqa: B008 - frozen
        then: Callable[[Ledger], None] | None = None,
    ) -> None:
        """Write a checkpoint, or begin to. A sound one at `path` is kept instead; a damaged one is renamed.

        Args:
            path: Its folder.
            model: Its present weights are written, even if training changes them meanwhile.
            optimizers: Their present states, likewise.
            ledger: The present ledger, likewise.
            progress: Where the run is.
            then: What the first process calls once the checkpoint is complete, in the thread that has written it.

        Raises:
            UserError: The disk is full, or the path cannot be written to; in the background, the checkpoint before
                failed.
        """
        self.finish()
        if self._is_there(path):
            if self.world.is_main and then is not None:
                then(ledger)
            return
        with ExitStack() as folder:
            partial = ""
            with self.world.all_or_none():
                if self.world.is_main:
                    if not path.parent.is_dir():  # else the folder would be made again with half of the run
                        raise UserError(
                            f"{path.parent} is no longer there: was the run moved or removed while it trained?",
                            "Go on from its newest checkpoint with --resume and --out, which names where it is now.",
                        )
                    partial = str(folder.enter_context(complete_folder(path)))
            partial = self.world.broadcast(partial)
            tensors = tensors_of(model, optimizers)
            writer = HuggingFaceStorageWriter(partial, save_distributed=True)
            alone = self.world.size == 1
            draft = _Draft(
                folder, Path(partial), replace(ledger), replace(progress, scaler=optimizers.scaler_state()), then
            )
            if self.thread is None:
                failure: Exception | None = None
                try:
                    with without_warnings():
                        dcp.save(tensors, storage_writer=writer, no_dist=alone)
                except CheckpointException as error:  # raised in all processes, whichever it happened in
                    failure = _cause(error)
                with self.world.all_or_none():
                    if failure is not None:
                        raise failure
                    if self.world.is_main:
                        draft.complete()
            else:
                with self.world.all_or_none():
                    writing = dcp.async_save(tensors, storage_writer=writer, process_group=self.group, no_dist=alone)
                assert isinstance(writing, Future)  # as from a writer that copies at once
                later = replace(draft, folder=folder.pop_all())
                self.pending = self.thread.submit(self._complete_later, later, writing)

    def has_failed(self) -> bool:
        """Return whether the checkpoint being written is known to have failed; `finish` raises the reason."""
        return self.pending is not None and self.pending.done() and self.pending.exception() is not None

    def finish(self) -> None:
        """Wait until the checkpoint being written is complete in all processes.

        Raises:
            UserError: The disk is full, or the path cannot be written to.
        """
        if self.pending is not None:
            pending, self.pending = self.pending, None
            with self.world.all_or_none():
                pending.result()

    def close(self) -> None:
        """Wait at most PATIENCE seconds for the checkpoint being written, without other processes.

        Call it after an error.
        """
        if self.pending is not None:
            try:
                self.pending.result(PATIENCE)
            except Exception as error:
                say(f"the checkpoint that was being written is lost: {error or type(error).__name__}")
        if self.thread is not None:
            self.thread.shutdown(wait=False)

    def _is_there(self, path: Path) -> bool:
        there = False
        with self.world.all_or_none():
            if self.world.is_main and path.exists():
                there = is_sound(path)
                if not there:
                    set_aside(path, "damaged")  # it was skipped when the run was resumed
        return bool(self.world.all_max(there)[0])

    def _complete_later(self, draft: _Draft, writing: Future[object]) -> None:
        with draft.folder:
            try:
                writing.result()
            except CheckpointException as error:
                raise _cause(error) from None
            if self.world.is_main:
                draft.complete()


def _cause(error: CheckpointException) -> Exception:
    """Return the error of the process in which a save failed."""
    failures = [failure for failure, _ in error.failures.values()]
    found = next((failure for failure in failures if isinstance(failure, Exception)), None)
    return found or RuntimeError(str(error))
