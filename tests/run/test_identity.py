"""A RUN's identity is read by all in one way, and without torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from masklater.errors import DamagedDataError
from masklater.run.identity import is_run, read_identity
from tests.report.made_up import make_run


def test_a_run_is_read_without_torch(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [(4, 6.0)])
    code = (
        "import sys\nfrom pathlib import Path\nfrom masklater.report.runs import read_run\n"
        f"read_run(Path({str(run)!r}), 'run')\nassert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
    identity, recipe = read_identity(run)
    assert is_run(run) and identity.row_length == 128 and recipe.duration.steps == 10


@pytest.mark.parametrize("change", [{"row_length": "128"}, {"data_sha256": 5}, {"unknown": "x"}])
def test_an_identity_of_another_shape_is_damaged(change: dict[str, object], tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", []) / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DamagedDataError, match=r"run\.json is damaged"):
        read_identity(path.parent)
