"""A run's books: what steps spend, where the time goes, memory and energy. Written to RUN/ledger.json."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch

from masklater.folders import write_file
from masklater.ledger import Ledger
from masklater.machine.distributed import World
from masklater.machine.energy import EnergyMeter
from masklater.machine.kernels import attention_kernels
from masklater.machine.memory import peak_memory
from masklater.machine.peak import this_hardware
from masklater.machine.precision import Precision


class Accounts:
    """Books what is spent from now on into a ledger."""

    def __init__(self, ledger: Ledger, folder: Path, precision: Precision, world: World) -> None:
        self.ledger = ledger
        self.path = folder / "ledger.json"
        self.device = precision.device
        self.hardware = this_hardware(precision.device, precision.name)
        self.world = world
        peak = torch.tensor(self.hardware.peak_flops_per_second, dtype=torch.float64)
        ledger.peak_flops_per_second = float(world.all_reduce(peak))
        ledger.attention_kernels = attention_kernels(self.device)
        self.energy = EnergyMeter(_uuids(self.device))
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)  # another run of this process may have taken more

    @contextmanager
    def time(self, what: Literal["evaluation", "checkpoint"]) -> Iterator[None]:
        """Book wall time that is spent outside training steps."""
        began = time.perf_counter()
        yield
        name = f"{what}_seconds"
        setattr(self.ledger, name, getattr(self.ledger, name) + time.perf_counter() - began)

    def update(self) -> None:
        """Book the peak memory of the process that uses most, and the energy of all.

        Call this before the ledger is saved.
        """
        ledger, world = self.ledger, self.world
        (peak_memory,) = world.all_max(self._peak_memory())
        ledger.peak_memory_bytes = max(ledger.peak_memory_bytes, int(peak_memory))
        joules = self.energy.since_last()
        if self.device.type == "cpu" and world.local_rank > 0:
            joules = 0.0  # the first process on a machine reads the meter for all
        read = world.all_reduce(torch.tensor([math.nan if joules is None else joules], dtype=torch.float64))
        if not read.isnan():
            ledger.energy_joules = (ledger.energy_joules or 0.0) + float(read)
            ledger.energy_source = self.energy.source

    def write(self, ledger: Ledger) -> None:
        """Write ledger.json as of a step, completely or not at all."""
        write_file(self.path, json.dumps(summary(ledger), indent=1) + "\n", replace=True)

    def _peak_memory(self) -> int:
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        return peak_memory()


def summary(ledger: Ledger) -> dict[str, Any]:
    """Return the ledger and the quantities derived from it."""
    return {
        **asdict(ledger),
        "hours": ledger.hours,
        "compute_seconds": ledger.compute_seconds,
        "flops_without_head": ledger.flops - ledger.flops_head,
        "utilisation": ledger.utilisation(ledger.flops),
        "utilisation_vanilla_equivalent": ledger.utilisation(ledger.flops_vanilla),
    }


def _uuids(device: torch.device) -> list[str]:
    if device.type != "cuda":
        return []
    return [f"GPU-{torch.cuda.get_device_properties(device).uuid}"]
