"""The devices of this machine, by their common names, and reading numbers off a device."""

import os
import platform
from pathlib import Path

import torch
from torch import Tensor


def all_devices() -> list[torch.device]:
    """Return all GPUs, or the CPU where there is none."""
    if torch.cuda.is_available():
        return [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    return [torch.device("cpu")]


def device_name(device: torch.device) -> str:
    """Return a device's name for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {os.cpu_count()} cores, {processor_name()}"


def processor_name() -> str:
    """Return the processor's own name where the system gives one, else its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


class HostCopy:
    """Numbers being copied from a device to the host, after the work that the device was given before.

    `float(tensor)` waits for everything queued on its stream by then, including a step launched meanwhile. HostCopy
    waits for the copy alone.

    Args:
        scalars: Scalars of one device and dtype.
    """

    def __init__(self, *scalars: Tensor) -> None:
        together = torch.stack(scalars)
        self.copied = together.to("cpu", non_blocking=True)  # from a GPU to page-locked memory
        self.done = torch.cuda.Event() if together.is_cuda else None
        if self.done is not None:
            self.done.record(torch.cuda.current_stream(together.device))

    def values(self) -> list[float]:
        """Return the numbers, once they have arrived."""
        if self.done is not None:
            self.done.synchronize()
        return self.copied.tolist()
