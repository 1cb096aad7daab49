"""The sides of a ratio: a masklater training step, or one of transformers' Trainer, each in a separate process.

The process of a side makes one step when it is told to. So two sides take turns, and other work on the machine affects
both alike. Neither has the other's memory, threads or allocator settings: ours keeps its large buffers as `masklater
pretrain` does, and the stock sides get what a user's script would get.
"""

import multiprocessing
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch
from memory import resident
from wanted import STOCK, Wanted

from masklater.errors import UserError
from masklater.machine.allocator import keep_large_buffers


class Seconds(NamedTuple):
    """The seconds of one step; processor seconds stay comparable where other work shares the cores."""

    wall: float
    processor: float


class Side:
    """One side, seen from the process that controls it.

    Args:
        name: `3ml`, or one of PEERS.
        wanted: The settings of its step.

    Every method raises UserError where the side cannot be made, or its process has ended.
    """

    def __init__(self, name: str, wanted: Wanted) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, name, wanted), daemon=True)
        self.process.start()
        theirs.close()

    def wait(self) -> float:
        """Wait until the side is ready; return the FLOPs of its step."""
        flops: float = self._receive()
        return flops

    def step(self, number: int) -> Seconds:
        """Make the side do one step."""
        self._send(number)
        return Seconds(*self._receive())

    def end(self) -> int:
        """End its process; return its peak memory in bytes (`_serve`)."""
        self._send(None)
        peak: int = self._receive()
        self.process.join()
        return peak

    def _send(self, number: int | None) -> None:
        with suppress(BrokenPipeError):  # it has ended; waiting for its answer raises the error
            self.pipe.send(number)

    def _receive(self) -> Any:
        try:
            answer = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise UserError(
                f"the process of {self.name} has ended with status {self.process.exitcode}",
                "Where it says nothing above, memory ran out (status -9): ask for fewer rows or a smaller size.",
            ) from None
        if isinstance(answer, UserError):
            raise answer
        return answer


def _serve(pipe: Connection, name: str, wanted: Wanted) -> None:
    """Make the side and send its FLOPs; then the seconds of each step; at the end its peak memory.

    Peak memory is the accelerator's or, without one, the process's peak minus its memory before the model was built:
    weights, gradients, optimizer and activations, without the libraries.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the controlling process, which ends this one
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name in STOCK:
        from stock import stock_step as make  # loaded here, so that the controlling process stays small
    else:
        from ours import our_step as make

        keep_large_buffers()
    torch.ones(64, 64, device=device) @ torch.ones(64, 64, device=device)  # starts threads and loads kernels
    before = resident().now
    try:
        step, flops = make(name, wanted)
    except UserError as error:
        pipe.send(error)
        return
    pipe.send(flops)
    with suppress(EOFError, BrokenPipeError):  # the controlling process has left, and says why
        while (number := pipe.recv()) is not None:
            pipe.send(timed(lambda number=number: step(number), device))
        pipe.send(torch.cuda.max_memory_allocated() if device.type == "cuda" else resident().highest - before)


def timed(step: Callable[[], None], device: torch.device) -> Seconds:
    """Return the seconds of one call."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    began, began_cpu = time.perf_counter(), time.process_time()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return Seconds(time.perf_counter() - began, time.process_time() - began_cpu)
