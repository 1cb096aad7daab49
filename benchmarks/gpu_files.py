"""Files of benchmarks/gpu.py's OUT folder."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from gpu_cells import Done

ROOT = Path(__file__).resolve().parents[1]


@contextlib.contextmanager
def scratch(out: Path) -> Iterator[Path]:
    """Yield the name of a folder that is removed afterwards."""
    path = out / f"scratch-{os.getpid()}"
    shutil.rmtree(path, ignore_errors=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def write(path: Path, done: Done) -> None:
    """Write a file, completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(done, indent=1) + "\n")
    partial.replace(path)
