"""The device that these tests are about. MASKLATER_TEST_DEVICE=cpu runs them on a CPU, to try the tests themselves."""

import os

import pytest
import torch

from masklater.machine.kernels import refuse_cudnn_attention
from tests.judge.conftest import encoder_folder, glue_folder  # noqa: F401 - fixtures


@pytest.fixture(scope="session", autouse=True)
def device() -> torch.device:
    name = os.environ.get("MASKLATER_TEST_DEVICE", "cuda")
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU, or it is hidden: `make test-gpu` shows it")
    refuse_cudnn_attention()  # as all of masklater's own entries do
    return torch.device(name)
