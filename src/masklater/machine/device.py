"""The devices of this machine, by what people call them."""

import os
import platform
from pathlib import Path

import torch


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
