"""Whether a model's layers are compiled, and why; compiling them in place.

Only layers are compiled. For embeddings, a compiler writes a backward pass that adds in the order in which threads
arrive. A compiled layer keeps its class, parameters and names, so that checkpoints do not depend on compilation.
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
"""Most graphs for one piece of code.

All layers share a few; torch's limit of 8 may be too low where rows come in several shapes.
"""

BACKEND = "inductor"
"""The compiler backend of torch."""

REMEDY = "Set compile=false, or install what is missing: a C++ compiler (g++), and on a GPU Triton."


@dataclass(frozen=True)
class Compilation:
    """Whether layers are compiled, with the reason for the log."""

    on: bool
    reason: str

    def apply(self, layers: Iterable[nn.Module]) -> None:
        """Mark layers for compilation, if that is the choice. Call it before they are spread over processes."""
        if self.on:
            compile_layers(layers)

    @contextmanager
    def errors_for_people(self) -> Iterator[None]:
        """Report errors of the compiler as UserError in a block where layers are called for the first time.

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
    """Resolve the recipe's `compile` for the machines of all processes, by a small trial compilation where needed.

    Raises:
        UserError: The recipe asks for compilation, and a machine cannot compile.
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
    """Return whether attention may be FlexAttention.

    It is a compiled kernel for GPUs and is not among those with a fixed order of sums.
    """
    return compilation.on and device.type == "cuda" and not deterministic


def find_failure(device: torch.device) -> str | None:
    """Compile a small function, forward and backward; return why that fails, None where it works."""
    new = secrets.randbelow(2**30)  # an earlier result would be found in the cache, even without a compiler

    def small(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.gelu(x + new).sum()

    try:
        torch.compile(small, fullgraph=True, backend=BACKEND)(
            torch.ones(8, device=device, requires_grad=True)
        ).backward()
    except Exception as error:  # compilers, linkers and drivers each raise their own
        return first_line(error)[:300]
    return None


def compile_layers(layers: Iterable[nn.Module]) -> None:
    """Mark layers for compilation at their first call, in place.

    One more graph for all layers serves changing shapes.
    """
    torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
    # Under DDP, dynamo would cut each graph at DDP's buckets, the first of 1 MiB, to add up gradients meanwhile. Layers
    # do that one by one already, and cut graphs draw other dropout than in one process.
    torch._dynamo.config.optimize_ddp = False
    for layer in layers:
        layer.compile(fullgraph=True, backend=BACKEND)
