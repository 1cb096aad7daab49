"""The benchmarks run, at sizes that measure nothing."""

import subprocess
import sys

from tests.conftest import REPOSITORY


def test_a_step_beside_its_peers() -> None:
    arguments = ["--size", "small", "--rows", "2", "--row-length", "32", "--vocabulary", "400", "--steps", "1"]
    done = subprocess.run(
        [sys.executable, REPOSITORY / "benchmarks" / "step.py", *arguments],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()[2:]
    assert [line.split()[0] for line in lines] == ["vanilla", "stock", "stock-bf16", "modernbert"]
    assert all(float(line.split()[3]) > 0 for line in lines)
