"""The peak rate of this machine's device: from its data sheet, or measured where there is none."""

import time
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from masklater.machine.hardware import Hardware, find_gpu

if TYPE_CHECKING:
    import torch

SIZE = {"cpu": 1024, "cuda": 4096}
"""Sizes of square matrices: on a GPU large enough to fill all its parts and to make the launch time negligible."""
SECONDS = 0.2


def this_hardware(device: "torch.device", precision: str) -> Hardware:
    """Find the peak rate of a device, in 16 bits where it has a data sheet.

    Args:
        device: Where a model would run.
        precision: `bfloat16`, `float16` or `float32`, in which a rate is measured.
    """
    import torch

    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        memory = float(torch.cuda.get_device_properties(device).total_memory)
        if (sheet := find_gpu(name)) is not None:
            return replace(sheet, memory_bytes=memory)  # one name covers several memory sizes
        return Hardware(name, _measure(device.type, precision), memory, None, f"{precision} matmul measured here")
    cores = torch.get_num_threads()
    rate = _measure(device.type, precision)
    return Hardware(f"{cores} CPU threads", rate, None, None, f"{precision} matmul measured here")


def measure_this() -> Hardware:
    """Return this machine in its best precision. On a GPU it is the precision of a run: a GPU may emulate bfloat16."""
    import torch

    from masklater.machine.precision import choose_precision

    if torch.cuda.is_available():
        device = torch.device("cuda")
        return this_hardware(device, choose_precision("auto", device).name)
    device = torch.device("cpu")
    return max((this_hardware(device, name) for name in ("bfloat16", "float32")), key=lambda h: h.peak_flops_per_second)


@cache
def _measure(device: str, precision: str) -> float:
    """Return the FLOPs a second of the best of several products of square matrices."""
    import torch

    size, products = SIZE[device], 20 if device == "cuda" else 1
    a, b = (torch.randn(size, size, device=device, dtype=getattr(torch, precision)) for _ in range(2))

    def seconds() -> float:
        start = time.perf_counter()
        for _ in range(products):
            a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / products

    seconds()  # the first product loads the library, which may take longer than all the others
    best, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        best = min(best, seconds())
    return 2 * size**3 / best
