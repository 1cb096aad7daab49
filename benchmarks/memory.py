"""Resident memory of this process, now and at its peak.

On Linux the numbers are from /proc/self/status: there `ru_maxrss` outlives exec, so that a process started by a large
one begins with the large one's peak. Elsewhere both numbers are `ru_maxrss`.
"""

import resource
import sys
from pathlib import Path
from typing import NamedTuple


class Resident(NamedTuple):
    """Resident memory, in bytes."""

    now: int
    highest: int


def resident() -> Resident:
    """Return this process's present memory, and its peak."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        found = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Vm")}
        return Resident(found["VmRSS"], found["VmHWM"])
    except (OSError, KeyError):
        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return Resident(highest, highest)
