"""Settings that keep glibc from returning large buffers to the kernel at every step, only to fault them in again.

A training step allocates the same large buffers each time. By default glibc maps and unmaps each of them, and the
kernel zeroes every page again. With higher thresholds the memory stays with the process: a step of the small recipe
took 0.67-0.90 s instead of 0.98-1.31 s on 2 cores (docs/log.md, 2026-11-21).
"""

import ctypes
import platform

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # malloc.h
ONE_GIB = 2**30


def keep_large_buffers() -> bool:
    """Raise glibc's thresholds for this process; return whether glibc took them (False where there is no glibc)."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((M_MMAP_THRESHOLD, ONE_GIB), (M_TRIM_THRESHOLD, 2 * ONE_GIB - 1), (M_TOP_PAD, 64 * 2**20))
    return min(mallopt(parameter, value) for parameter, value in settings) == 1
