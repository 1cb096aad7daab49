"""The parts of benchmarks/gpu.py, each run in a separate process: `python gpu_parts.py NAME --out OUT`.

A part writes OUT/NAME.json when it is done. A part that measures many training steps also writes one file for each in
OUT/points, so that none is measured again.
"""

import argparse
import sys
import time
from pathlib import Path

from gpu_cells import SIZES, Done, Part, Size
from gpu_files import write


def do(part: Part, size: Size, out: Path) -> Done:
    """Do a part."""
    kind = part.name.partition("-")[0]
    if kind in {"tests", "growth", "quickstart", "pretrain"}:
        import gpu_runs as runs

        work = {"tests": runs.tests, "growth": runs.growth, "quickstart": runs.quickstart, "pretrain": runs.pretrain}
        return work[kind](size, out)
    import gpu_steps as steps

    if kind == "step":
        return steps.steps(part, size, out)
    work = {"machine": steps.machine, "stock": steps.stock, "head": steps.head}
    return work[kind](size, out)


def main() -> int:
    """Do one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="full")
    given = parser.parse_args()
    size = SIZES[given.size]
    part = next(part for part in size.parts if part.name == given.name)
    began = time.perf_counter()
    done = do(part, size, given.out)
    write(given.out / f"{part.name}.json", {**done, "seconds": time.perf_counter() - began})
    return 0


if __name__ == "__main__":
    sys.exit(main())
