"""Prove the whole on one GPU: one command for a bare machine without network, which continues where it was stopped.

    python benchmarks/gpu.py --out gpu                       # 25 minutes, the most telling first
    python benchmarks/gpu.py --out gpu --minutes 9           # and again, until nothing is left
    python benchmarks/gpu.py --out gpu --device cpu --size tiny

Each part is a process with its own time limit. The parts are: training steps of base and large, 3ML at 50% and vanilla
MLM at 15%, eager and compiled, at several rows and lengths, with their kernels, next to the forecasts of `masklater
budget`; transformers' Trainer in bfloat16, compiled; `tests/gpu`; the LM head alone; growth with the length of rows;
the quickstart; and one pre-training of minutes. A finished part leaves OUT/NAME.json and is not run again; its output
is in OUT/NAME.log. OUT/table.md holds the tables for docs/performance.md.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from arguments import at_least_one, exit_status
from gpu_cells import SIZES, Part
from gpu_files import ROOT
from gpu_table import table

from masklater.console import say
from masklater.errors import UserError

SHORTEST = 20.0
"""No part is begun with fewer seconds left."""


def environment(device: str) -> dict[str, str]:
    """Return the environment of all parts' processes: this source, no network, and the device."""
    paths = [str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}
    quiet = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONUNBUFFERED": "1"}
    return os.environ | quiet | hidden | {"PYTHONPATH": os.pathsep.join(paths)}


def do(part: Part, out: Path, size: str, device: str, seconds: float) -> str:
    """Run a part in a separate process, and end it and its children when its time is up; return how it went."""
    command = [sys.executable, str(Path(__file__).with_name("gpu_parts.py")), part.name, "--out", str(out)]
    with (out / f"{part.name}.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--size", size],
            cwd=ROOT,
            env=environment(device),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return f"ended after {seconds:,.0f} s, unfinished"
        finally:  # after Ctrl-C too
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return "done" if status == 0 else f"failed with status {status}"


def work(out: Path, size: str, device: str, minutes: float) -> None:
    """Run all parts that are left, as far as time allows.

    Raises:
        UserError: OUT was begun with other settings, or there is no GPU.
    """
    if device == "cuda":
        check_gpu()
    out.mkdir(parents=True, exist_ok=True)
    begun, asked = out / "asked.json", {"size": size, "device": device}
    if not begun.exists():
        begun.write_text(json.dumps(asked) + "\n")
    elif (before := json.loads(begun.read_text())) != asked:
        raise UserError(f"{out} was begun with {before}, and is asked for {asked}", "Name another folder with --out.")
    end = time.monotonic() + 60 * minutes
    for part in SIZES[size].parts:
        if (out / f"{part.name}.json").exists():
            continue
        left = end - time.monotonic()
        if left < SHORTEST:
            say(f"{part.name}: no time left; give the same command again")
            continue
        began = time.monotonic()
        how = do(part, out, size, device, min(left, 60 * part.minutes))
        say(f"{part.name}: {how} ({time.monotonic() - began:,.0f} s)")
        (out / "table.md").write_text(table(out, SIZES[size]))


def check_gpu() -> None:
    """Raise UserError unless torch sees a GPU."""
    code = "import sys, torch; sys.exit(0 if torch.cuda.is_available() else 3)"
    if subprocess.run([sys.executable, "-c", code], check=False).returncode:
        raise UserError("torch sees no GPU here", "Give --device cpu --size tiny to try the command itself.")


def main() -> int:
    """Run the parts that are left; print the tables. Return 0 where every part is done, 3 where some are left."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder to make, or to go on with")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=at_least_one, default=25, help="after which this call ends")
    given = parser.parse_args()
    out = given.out.resolve()
    if status := exit_status(lambda: work(out, given.size, given.device, given.minutes)):
        return status
    text = table(out, SIZES[given.size])
    (out / "table.md").write_text(text)
    print(text)
    return 0 if all((out / f"{part.name}.json").exists() for part in SIZES[given.size].parts) else 3


if __name__ == "__main__":
    sys.exit(main())
