"""The memory that a process has held."""

import resource
import sys


def peak_memory() -> int:
    """Return the most memory that this process has held, in bytes."""
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return resident if sys.platform == "darwin" else resident * 1024
