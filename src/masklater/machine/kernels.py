"""The kernels that a GPU may run: for attention, and for sums in the same order every time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from masklater.machine.allocator import keep_large_buffers


def set_up_process() -> None:
    """Set up this process for models of any kind: memory allocation, and the kernels that a GPU may run."""
    keep_large_buffers()
    refuse_cudnn_attention()
    fix_workspace()


def refuse_cudnn_attention() -> None:
    """Stop `scaled_dot_product_attention` from using cuDNN's kernel, in this process from now on.

    With a mask, cuDNN's backward pass returns NaN for queries on H100 and H200 where rows have 64 positions more than a
    multiple of 128 (pytorch issue 196678, torch 2.11 and later), and a float32 mask was misread (pytorch pull request
    191612). Flash attention takes no mask, so with a mask the memory-efficient kernel runs. Without CUDA nothing
    changes.
    """
    torch.backends.cuda.enable_cudnn_sdp(False)


def fix_workspace() -> None:
    """Give cuBLAS a workspace of fixed size, without which its sums have no fixed order.

    torch reads the setting once, when cuBLAS is first called. Without it, a process that first trains in any order and
    then in a fixed order would be refused.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def attention_kernels(device: torch.device) -> str | None:
    """Return the names of the kernels that `scaled_dot_product_attention` may choose from on a GPU; None elsewhere."""
    if device.type != "cuda":
        return None
    cuda = torch.backends.cuda
    may_run = {
        "flash": cuda.flash_sdp_enabled(),
        "memory-efficient": cuda.mem_efficient_sdp_enabled(),
        "math": cuda.math_sdp_enabled(),
        "cuDNN": cuda.cudnn_sdp_enabled(),
    }
    return ", ".join(name for name, enabled in may_run.items() if enabled)


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Restrict a GPU to algorithms that add up in the same order every time. A CPU does so anyway: nothing changes.

    Attention uses the memory-efficient backward pass, which has a fixed order.
    """
    if device.type != "cuda":
        yield
        return
    fix_workspace()
    memory: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill, flash = memory.fill_uninitialized_memory, torch.backends.cuda.flash_sdp_enabled()
    torch.use_deterministic_algorithms(True)
    memory.fill_uninitialized_memory = False  # nothing here reads memory it has not written
    torch.backends.cuda.enable_flash_sdp(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)
        memory.fill_uninitialized_memory = fill
        torch.backends.cuda.enable_flash_sdp(flash)
