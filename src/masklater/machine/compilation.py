"""Whether a model's layers are compiled, and why; compiling them in place.

Layers only: the embeddings stay as they are, as the backward pass that a compiler writes for them adds in the order in
which threads arrive. What is compiled keeps its class, parameters and names, so that checkpoints know nothing of it.
"""

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch._dynamo.exc import BackendCompilerFailed, FailOnRecompileLimitHit, TorchDynamoException

from masklater.errors import UserError, first_line
from masklater.machine.distributed import World

RECOMPILE_LIMIT = 64
"""Graphs of one piece of code. All layers share a few; torch's 8 may be too few where rows come in several shapes."""

BACKEND = "inductor"
"""What torch compiles with."""

REMEDY = "Set compile=false, or install what is missing: a C++ compiler (g++), and on a GPU Triton."


@dataclass(frozen=True)
class Compilation:
    """The choice, with its reason for the log."""

    on: bool
    reason: str

    def apply(self, layers: Iterable[nn.Module]) -> None:
        """Have layers compiled, if that is the choice, before they are spread over processes."""
        if self.on:
            compile_layers(layers)

    @contextmanager
    def errors_for_people(self) -> Iterator[None]:
        """A block in which layers are called for the first time.

        Raises:
            UserError: The compiler has failed.
        """
        try:
            yield
        except (BackendCompilerFailed, FailOnRecompileLimitHit, TorchDynamoException) as error:
            raise UserError(
                f"the model's layers could not be compiled: {first_line(error)[:300]}",
                "Go on with --resume and compile=false; what has been trained is in the checkpoints.",
            ) from error


def choose_compilation(wanted: Literal["auto"] | bool, world: World) -> Compilation:
    """Resolve the recipe's `compile` on the machines of all processes, by compiling something small where it matters.

    Raises:
        UserError: The recipe asks for it, and a machine cannot.
    """
    if wanted is False:
        return Compilation(False, "the recipe says so")
    if wanted == "auto" and world.device.type == "cpu":
        return Compilation(False, "on a CPU it saves no time")
    failure = find_failure(world.device)
    if wanted is True:
        with world.all_or_none():
            if failure is not None:
                raise UserError(f"compile is true, and this machine cannot compile: {failure}", REMEDY)
        return Compilation(True, "the recipe says so")
    (failed,) = world.all_max(failure is not None)
    if failed:
        return Compilation(False, f"a machine cannot compile: {failure or 'that of another process'}. {REMEDY}")
    return Compilation(True, "it saves time on a GPU")


def has_flex(compilation: Compilation, device: torch.device, deterministic: bool) -> bool:
    """Return whether attention may be FlexAttention, a compiled kernel of GPUs that is not among the ordered ones."""
    return compilation.on and device.type == "cuda" and not deterministic


def find_failure(device: torch.device) -> str | None:
    """Compile something small, forward and backward; return why that fails, None where it works."""
    new = secrets.randbelow(2**30)  # what was compiled before would be found again, with a compiler or without

    def small(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.gelu(x + new).sum()

    try:
        torch.compile(small, fullgraph=True, backend=BACKEND)(
            torch.ones(8, device=device, requires_grad=True)
        ).backward()
    except Exception as error:  # of compilers, linkers and drivers, each with its own
        return first_line(error)[:300]
    return None


def compile_layers(layers: Iterable[nn.Module]) -> None:
    """Change layers in place, so that they are compiled when called first; shapes that change, once more for all."""
    torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
    # Under DDP dynamo would cut each graph at DDP's buckets, the first of 1 MiB, to add up gradients meanwhile. Layers
    # do that one by one, and cut ones draw other dropout than in one process.
    torch._dynamo.config.optimize_ddp = False
    for layer in layers:
        layer.compile(fullgraph=True, backend=BACKEND)
