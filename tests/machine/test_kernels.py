"""Which kernels a GPU may run. What they compute is in tests/gpu."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from masklater.corpus.shards import Shards
from masklater.machine.kernels import attention_kernels, refuse_cudnn_attention, repeatable
from masklater.pretrain.loop import pretrain
from tests.conftest import tiny
from tests.reference.cases import CASES, make_batch, make_model

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
fused = F.scaled_dot_product_attention


@pytest.fixture(autouse=True)
def as_torch_begins() -> Iterator[None]:
    torch.backends.cuda.enable_cudnn_sdp(True)
    yield
    refuse_cudnn_attention()


def test_cudnn_is_refused_and_the_others_are_named() -> None:
    assert attention_kernels(CUDA) == "flash, memory-efficient, math, cuDNN"
    refuse_cudnn_attention()
    assert attention_kernels(CUDA) == "flash, memory-efficient, math"
    assert attention_kernels(CPU) is None


def test_repeatable_ends_as_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    memory = torch.utils.deterministic
    before = memory.fill_uninitialized_memory
    for device, inside in ((CUDA, True), (CPU, False)):
        with repeatable(device):
            assert torch.are_deterministic_algorithms_enabled() == inside
            assert ("flash" in str(attention_kernels(CUDA))) == (not inside)
        assert not torch.are_deterministic_algorithms_enabled()
        assert memory.fill_uninitialized_memory == before
        assert "flash" in str(attention_kernels(CUDA))
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_repeatable_leaves_a_workspace_that_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with repeatable(CUDA):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_training_refuses_cudnn_and_deterministic_changes_nothing_on_a_cpu(
    shards_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    results = [
        pretrain(tiny("3ml-small", "duration.steps=2", f"deterministic={wanted}"), shards_folder, tmp_path / wanted)
        for wanted in ("false", "true")
    ]
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    # Whatever is asked for: torch looks for it when cuBLAS is first called, and what comes next may ask for the other.
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert results[0].loss == results[1].loss
    said = capsys.readouterr().err
    assert said.count("deterministic: a CPU is so in any case") == 1
    assert "deterministic: true" in (tmp_path / "true" / "recipe.yaml").read_text()
    assert '"attention_kernels": null' in (tmp_path / "true" / "ledger.json").read_text()


@pytest.mark.parametrize(
    ("objective", "family"), [case for case in CASES if case[0] in {"3ml-self", "3ml-cross", "late", "vanilla"}]
)
def test_masks_that_attention_gets_are_boolean(
    objective: str, family: str, shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under autocast too, and none that would be added in float32."""
    model, batch = make_model(shards, objective, family), make_batch(shards, objective, rows=4)
    masks: list[Tensor | None] = []

    def listen(*parts: Tensor, **settings: object) -> Tensor:
        masks.append(settings.get("attn_mask"))  # type: ignore[arg-type]
        return fused(*parts, **settings)

    monkeypatch.setattr(F, "scaled_dot_product_attention", listen)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(batch=batch)
    assert len(masks) >= 2
    assert all(mask is not None and mask.dtype == torch.bool for mask in masks)
