"""The devices of this machine, by what people call them, and reading numbers off one."""

import os
import platform
from pathlib import Path

import torch
from torch import Tensor


def all_devices() -> list[torch.device]:
    """Return all GPUs; the CPU where there is none."""
    if torch.cuda.is_available():
        return [torch.device("cuda", number) for number in range(torch.cuda.device_count())]
    return [torch.device("cpu")]


def device_name(device: torch.device) -> str:
    """Return what a device is, for people."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {os.cpu_count()} cores, {processor_name()}"


def processor_name() -> str:
    """Return the processor's own name where the system tells it, else its architecture."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


class HostCopy:
    """Numbers of a device on their way to the host, behind what the device was given before.

    `float(tensor)` waits for all that its stream holds by then, a step that was launched meanwhile included. This waits
    for the copy alone.

    Args:
        scalars: Of one device and dtype.
    """

    def __init__(self, *scalars: Tensor) -> None:
        together = torch.stack(scalars)
        self.copied = together.to("cpu", non_blocking=True)  # from a GPU to page-locked memory
        self.done = torch.cuda.Event() if together.is_cuda else None
        if self.done is not None:
            self.done.record(torch.cuda.current_stream(together.device))

    def values(self) -> list[float]:
        """Return the numbers, once they are there."""
        if self.done is not None:
            self.done.synchronize()
        return self.copied.tolist()
