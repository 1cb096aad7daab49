"""Fine-tuning on a GPU repeats itself."""

from pathlib import Path

import pytest

from masklater.judge.grid import Grid, SweepSettings
from masklater.judge.sweep import sweep
from masklater.judge.tasks import TASKS

pytestmark = pytest.mark.gpu
ONE = SweepSettings(Grid((1e-3,), (8,), 1), seeds=2)


@pytest.mark.parametrize("key", ["rte", "stsb"])
def test_a_gpu_repeats_itself(encoder_folder: Path, glue_folder: Path, tmp_path: Path, key: str) -> None:
    first, second = (
        sweep(str(encoder_folder), str(glue_folder), tmp_path / name, [TASKS[key]], ONE).scores["tasks"]
        for name in ("first", "second")
    )
    assert first == second
