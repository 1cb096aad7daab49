"""Energy as counted by the hardware: by a GPU's own counter (NVML) or the CPU package's (RAPL). Never an estimate."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

RAPL = Path("/sys/class/powercap")


class Reading(NamedTuple):
    """A counter's state."""

    joules: float
    wraps_at: float | None  # the value after which the counter restarts at 0; None: it never does


class EnergyMeter:
    """Adds up the energy that this machine's counters report between readings.

    Args:
        gpu_uuids: The GPUs in use; empty: none, and the CPU's counter is read.
        rapl: Where Linux shows RAPL.
    """

    def __init__(self, gpu_uuids: Sequence[str] = (), rapl: Path = RAPL) -> None:
        self.gpu_uuids = list(gpu_uuids)
        self.rapl = sorted(path for path in rapl.glob("intel-rapl:*") if path.name.count(":") == 1)
        self.last = self._read()
        self.source = None if self.last is None else ("NVML, GPU" if self.gpu_uuids else "RAPL, CPU package")

    def since_last(self) -> float | None:
        """Return the joules since the last call, or since the meter was made; None where nothing can be read."""
        if self.last is None:
            return None
        now = self._read()
        if now is None:
            return None
        joules = 0.0
        for before, after in zip(self.last, now, strict=True):
            difference = after.joules - before.joules
            joules += difference + after.wraps_at if difference < 0 and after.wraps_at else max(difference, 0.0)
        self.last = now
        return joules

    def _read(self) -> list[Reading] | None:
        return self._read_gpus() if self.gpu_uuids else self._read_rapl()

    def _read_rapl(self) -> list[Reading] | None:
        try:
            readings = [
                Reading(_number(path / "energy_uj") * 1e-6, _number(path / "max_energy_range_uj") * 1e-6)
                for path in self.rapl
            ]
        except (OSError, ValueError):  # readable by root only on many machines
            return None
        return readings or None

    def _read_gpus(self) -> list[Reading] | None:
        if find_spec("pynvml") is None:
            return None
        import pynvml

        try:
            pynvml.nvmlInit()
            handles = [pynvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in self.gpu_uuids]
            return [Reading(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) * 1e-3, None) for handle in handles]
        except pynvml.NVMLError:  # no driver, or a GPU that does not count
            return None


def _number(path: Path) -> float:
    return float(path.read_text())
