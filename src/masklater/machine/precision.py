"""The arithmetic a run computes in, and the reason for it."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch.amp import GradScaler

PRECISIONS = ("bfloat16", "float16", "float32")
"""A device that computes in one of them also computes in the later ones."""


@dataclass(frozen=True)
class Precision:
    """The precision of a run, with the reason for the log."""

    name: str  # of PRECISIONS
    reason: str
    device: torch.device

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context of a forward pass. Weights, gradients and optimizer states stay float32."""
        if self.name == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of products."""
        return {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[self.name]

    def scaler(self) -> GradScaler:
        """Return torch's scaler of the loss: without it, small gradients vanish in float16.

        In other precisions it is idle.
        """
        return GradScaler(self.device.type, enabled=self.name == "float16")


def choose_precision(wanted: str, device: torch.device) -> Precision:
    """Resolve the recipe's `precision` on this machine."""
    if wanted != "auto":
        return Precision(wanted, "the recipe says so", device)
    if device.type == "cuda":
        # torch asks about the current device, which -1 leaves as it is.
        with torch.cuda.device(-1 if device.index is None else device.index):
            has_bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
        if has_bfloat16:
            return Precision("bfloat16", "the GPU computes in it", device)
        return Precision("float16", "the GPU has no bfloat16 arithmetic", device)
    # torch has no public name for this yet; where even the private one is gone, float32 is the safe answer.
    for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        has: Callable[[], bool] | None = getattr(torch.cpu, probe, None)
        if has is not None and has():
            return Precision("bfloat16", "the CPU computes in it", device)
    return Precision("float32", "the CPU has no bfloat16 arithmetic", device)
