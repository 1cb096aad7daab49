"""Several processes: which one this is, and what they decide together.

torchrun starts them and tells each its place in RANK, WORLD_SIZE and LOCAL_RANK. Without torchrun there is one process,
and nothing here communicates.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from masklater.console import console
from masklater.errors import Interrupted, SaidElsewhere, UserError, first_line
from masklater.machine.precision import PRECISIONS, Precision

TIMEOUT = timedelta(minutes=30)
"""The time a process waits for the others. If one dies the wait is shorter: torchrun ends the rest."""

_joined: list[dist.ProcessGroup | None] = []
"""Every group of processes that this process has joined.

A group must outlive the model that exchanges gradients through it. Otherwise the group ends with its DDP model and
waits for gloo's thread while it holds Python's lock. That thread may need the lock to free the last tensor that was
exchanged, and both wait for ever (pytorch issue 56297).
"""


@dataclass(frozen=True)
class World:
    """The processes of a run, seen from one of them."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    restarts: int = 0  # by torchrun, after a process had died

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files and prints."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """The device this process computes on."""
        return torch.device("cuda", self.local_rank) if torch.cuda.is_available() else torch.device("cpu")

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """Return the sum over all processes."""
        if self.size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all processes, [W, ...]. All have the same shape."""
        if self.size == 1:
            return tensor[None]
        gathered = torch.empty((self.size, *tensor.shape), dtype=tensor.dtype, device=tensor.device)
        gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its name before torch 2.13
        gather(gathered.flatten(0, 1), tensor.contiguous())
        return gathered

    def all_max(self, *values: float) -> list[float]:
        """Return the largest of each value over all processes, the same in all of them."""
        return self._settle(values, dist.ReduceOp.MAX)

    def all_sum(self, *values: float) -> list[float]:
        """Return the sum of each value over all processes."""
        return self._settle(values, dist.ReduceOp.SUM)

    def _settle(self, values: tuple[float, ...], how: dist.ReduceOp.RedOpType) -> list[float]:
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)  # on the CPU: over gloo, without waiting for a GPU
        dist.all_reduce(tensor, how)
        return tensor.tolist()

    def common_precision(self, own: Precision) -> Precision:
        """Return the precision that all processes compute in: one that every device supports.

        `own` is what this process would choose. All must agree, because gradients are scaled under float16, and fsdp
        sends weights in 16 bits.
        """
        common = PRECISIONS[int(self.all_max(PRECISIONS.index(own.name))[0])]
        if common == own.name:
            return own
        return Precision(common, f"the device of another process does not compute in {own.name}", own.device)

    def broadcast(self, text: str) -> str:
        """Return the first process's text in all processes."""
        box = [text]
        if self.size > 1:
            dist.broadcast_object_list(box, src=0)
        return box[0]

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """Make a block fail everywhere if it fails anywhere, and report the failure once.

        Processes must not exchange anything inside the block.

        Raises:
            SaidElsewhere: Another process has failed and reports it.
        """
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            failure = error
        speaker = self.size - int(
            self.all_max(self.size - self.rank if failure else 0)[0]
        )  # the lowest rank that failed
        if failure is not None and speaker == self.rank:
            raise failure
        if speaker < self.size:
            raise SaidElsewhere(2)


ALONE = World()


@contextmanager
def join() -> Iterator[World]:
    """Join the processes that torchrun has started; without torchrun, there is only this process.

    Raises:
        SaidElsewhere: In all processes but the first, in place of the Interrupted that the first one raises.
    """
    world = _from_environment()
    if world.size == 1:
        yield world
        return
    console.quiet = not world.is_main
    if world.device.type == "cuda":
        torch.cuda.set_device(world.device)
    # gloo in addition to NCCL: exchanging numbers on the CPU must not wait for the GPU.
    backend = "cpu:gloo,cuda:nccl" if world.device.type == "cuda" else "gloo"
    dist.init_process_group(
        backend, store=_meeting_place(world), rank=world.rank, world_size=world.size, timeout=TIMEOUT
    )
    _joined.append(dist.group.WORLD)
    try:
        yield world
    except Interrupted as stop:
        dist.destroy_process_group()
        if world.is_main:
            raise
        raise SaidElsewhere(128 + stop.signal_number) from None
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error):  # gloo's are plain RuntimeErrors
            raise UserError(
                f"process {world.rank} has lost another process, which has died or hangs",
                "What that process said tells why. The run goes on from its newest checkpoint with --resume.\n  "
                f"({first_line(error)[:300]})",
            ) from error
        raise
    finally:
        console.quiet = False
    # After any other error the other processes may be waiting, and a clean exit would wait for them: the process exits
    # at once.
    dist.destroy_process_group()


def _meeting_place(world: World) -> dist.Store:
    """Return the store through which processes find each other.

    torchrun keeps one store for all its restarts, with the addresses of dead processes (pytorch issue 135712). So each
    restart needs its own names there.
    """
    store, _, _ = next(rendezvous("env://", timeout=TIMEOUT))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return store
    if world.restarts and os.environ.get("GROUP_WORLD_SIZE", "1") != "1":  # each machine counts its own restarts
        raise UserError(
            "torchrun has started again on several machines, where processes would look for dead ones",
            "Set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for torchrun on all of them, and start with --resume.",
        )
    return dist.PrefixStore(f"start-{world.restarts}", store)


def is_main_process() -> bool:
    """Return whether this process is the one that reports the result."""
    return _from_environment().is_main


def _from_environment() -> World:
    """Read the World from the variables that torchrun sets."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_RESTART_COUNT")
    texts = [os.environ.get(name, default) for name, default in zip(names, ("0", "1", "0", "0"), strict=True)]
    try:
        rank, size, local_rank, restarts = map(int, texts)
        if not 0 <= rank < size or local_rank < 0:
            raise ValueError(rank)
    except ValueError:
        raise UserError(
            f"RANK, WORLD_SIZE and LOCAL_RANK are {', '.join(texts[:3])}: not a place among processes",
            "Start with torchrun, which sets them, or unset them to train in one process.",
        ) from None
    devices = torch.cuda.device_count() if torch.cuda.is_available() else local_rank + 1
    if local_rank >= devices:
        raise UserError(
            f"process {local_rank + 1} of this machine finds {devices} GPU{'s' if devices > 1 else ''}, and each needs "
            "one of its own",
            f"Start torchrun with --nproc-per-node {devices}.",
        )
    return World(rank, size, local_rank, restarts)
