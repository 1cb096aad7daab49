"""The parts of benchmarks/gpu.py that are whole commands or runs: tests, growth, quickstart, a run of minutes.

Nothing heavy is imported before it is needed: processes that gather text load the module they were started from again.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from gpu_cells import Done, Size
from gpu_files import ROOT, scratch


def tests(size: Size, out: Path) -> Done:
    """Run tests/gpu, on the device that the other parts use."""
    device = "cpu" if os.environ.get("CUDA_VISIBLE_DEVICES") == "" else "cuda"
    environment = os.environ | {"MASKLATER_TEST_DEVICE": device}
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", *size.tests]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr, flush=True)
    lines = done.stdout.strip().splitlines()
    failed = [line.removeprefix("FAILED ") for line in lines if line.startswith("FAILED")]
    return {"status": done.returncode, "summary": lines[-1] if lines else "", "failed": failed}


def growth(size: Size, out: Path) -> Done:
    """Run benchmarks/growth.py, and keep its table and plot."""
    shutil.rmtree(out / "growth", ignore_errors=True)
    command = [sys.executable, str(ROOT / "benchmarks" / "growth.py"), "--out", str(out / "growth"), *size.growth]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stderr, flush=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return {"text": done.stdout}


def quickstart(size: Size, out: Path) -> Done:
    """Run the main job from text to encoder, in a shorter form."""
    from masklater.quickstart.main_job import quickstart as run

    with scratch(out) as folder:
        quick = asdict(run(folder, sources(size), size.quickstart))
    return {key: value for key, value in quick.items() if key != "out"}


def pretrain(size: Size, out: Path) -> Done:
    """Train a model of a medium size for minutes, on the documentation of the installed packages."""
    from masklater.corpus.prepare import prepare
    from masklater.corpus.settings import PrepareSettings
    from masklater.pretrain.loop import pretrain as run
    from masklater.quickstart.docstrings import find_sources, gather
    from masklater.recipe.load import load

    with scratch(out) as folder:
        folder.mkdir()
        gather(folder / "text.jsonl", sources(size) or find_sources(), os.cpu_count() or 1)
        settings = PrepareSettings(vocab_size=8192 if size.words > 10_000 else 400, pack="continuous")
        prepare([folder / "text.jsonl"], folder / "shards", settings)
        result = asdict(run(load("3ml-small", size.medium), folder / "shards", folder / "run"))
        ledger = json.loads((folder / "run" / "ledger.json").read_text())
    return {key: value for key, value in result.items() if key != "run"} | {"bytes": ledger["peak_memory_bytes"]}


def sources(size: Size) -> list[Path] | None:
    """Return Python files to take text from; None: all installed ones."""
    return None if size.words > 10_000 else sorted((ROOT / "src").rglob("*.py"))
