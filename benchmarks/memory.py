"""Resident memory of this process, now and at its highest.

On Linux from /proc/self/status: `ru_maxrss` outlives exec there, so that a process started by a large one begins with
that one's high water. Elsewhere `ru_maxrss` stands for both.
"""

import resource
import sys
from pathlib import Path
from typing import NamedTuple


class Resident(NamedTuple):
    """Bytes."""

    now: int
    highest: int


def resident() -> Resident:
    """What this process has in memory, and the most it ever had."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Vm")}
        return Resident(found["VmRSS"], found["VmHWM"])
    except (OSError, KeyError):
        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return Resident(highest, highest)
