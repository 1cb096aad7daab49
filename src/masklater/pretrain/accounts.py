"""Keeping a run's books: what steps spend, where the time goes, memory and energy. Written to RUN/ledger.json."""

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch

from masklater.budget.energy import EnergyMeter
from masklater.budget.ledger import Ledger
from masklater.budget.peak import this_hardware
from masklater.folders import disk_errors_for_people
from masklater.pretrain.precision import Precision


class Accounts:
    """Books what is spent from now on into a ledger."""

    def __init__(self, ledger: Ledger, folder: Path, precision: Precision) -> None:
        self.ledger = ledger
        self.path = folder / "ledger.json"
        self.device = precision.device
        self.hardware = this_hardware(precision.device, precision.name)
        ledger.peak_flops_per_second = self.hardware.peak_flops_per_second
        self.energy = EnergyMeter(_uuids(self.device))

    @contextmanager
    def time(self, what: Literal["evaluation", "checkpoint"]) -> Iterator[None]:
        """Book wall time that is spent beside training steps."""
        began = time.perf_counter()
        yield
        name = f"{what}_seconds"
        setattr(self.ledger, name, getattr(self.ledger, name) + time.perf_counter() - began)

    def update(self) -> None:
        """Book memory and energy; called before the ledger is saved."""
        ledger = self.ledger
        ledger.peak_memory_bytes = max(ledger.peak_memory_bytes, self._peak_memory())
        joules = self.energy.since_last()
        if joules is not None:
            ledger.energy_joules = (ledger.energy_joules or 0.0) + joules
            ledger.energy_source = self.energy.source

    def write(self) -> None:
        """Write ledger.json, whole or not at all."""
        partial = self.path.with_suffix(".partial")
        with disk_errors_for_people(self.path):
            partial.write_text(json.dumps(summary(self.ledger), indent=1) + "\n", encoding="utf-8")
            partial.replace(self.path)

    def _peak_memory(self) -> int:
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return resident if sys.platform == "darwin" else resident * 1024


def summary(ledger: Ledger) -> dict[str, Any]:
    """The ledger and what follows from it."""
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
