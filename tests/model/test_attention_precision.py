"""Attention under bfloat16 products on a CPU is computed in float32, in the encoder and in the decoder."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModel

from masklater.corpus.shards import Shards
from masklater.model.attention import attend
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.model.saved import open_source
from tests.reference.cases import CASES, gradients, make_batch, make_model

fused = F.scaled_dot_product_attention


def slow_mix(query: Tensor, key: Tensor, value: Tensor, attend_BQK: Tensor | None) -> Tensor:
    """Attention as it is written in books, in float64."""
    scores = query.double() @ key.double().transpose(2, 3) / query.shape[3] ** 0.5
    if attend_BQK is not None:
        scores = scores.masked_fill(~attend_BQK[:, None], float("-inf"))
    return scores.softmax(dim=3) @ value.double()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_values_and_gradients_are_those_of_the_slow_way(dtype: torch.dtype, masked: bool) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(3, 2, length, 16).to(dtype).requires_grad_() for length in (7, 9, 9)]
    attend_BQK = torch.rand(3, 7, 9) < 0.5 if masked else None
    if attend_BQK is not None:
        attend_BQK[:, :, 0] = True
    twins = [part.detach().clone().requires_grad_() for part in parts]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        found = attend(*parts, attend_BQK, dropout=0.0)
    expected = slow_mix(*twins, attend_BQK)
    assert found.dtype == dtype
    found.float().square().sum().backward()
    expected.square().sum().backward()
    # One rounding to bfloat16 at the end is half a unit in its last place, 2^-9; twice that for the gradients.
    rtol, atol = (2**-8, 2**-9) if dtype == torch.bfloat16 else (1e-5, 1e-5)
    torch.testing.assert_close(found.double(), expected, rtol=rtol, atol=atol)
    for part, twin in zip(parts, twins, strict=True):
        torch.testing.assert_close(part.grad.double(), twin.grad.double(), rtol=2 * rtol, atol=8 * atol)


@pytest.mark.parametrize(
    ("objective", "family"), [case for case in CASES if case[0] in {"3ml-self", "3ml-cross", "late", "vanilla"}]
)
def test_no_attention_of_a_model_is_in_bfloat16(
    objective: str, family: str, continuous: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = make_model(continuous, objective, family), make_batch(continuous, objective, rows=8)
    seen: list[torch.dtype] = []

    def listen(*parts: Tensor, **settings: object) -> Tensor:
        mixed = fused(*parts, **settings)
        seen.append(mixed.dtype)
        return mixed

    def run() -> tuple[float, dict[str, Tensor]]:
        loss, count = model(batch=batch)
        (loss / count).backward()
        return float(loss.detach() / count), gradients(model)

    monkeypatch.setattr(F, "scaled_dot_product_attention", listen)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, found = run()
    assert len(seen) >= 2
    assert set(seen) == {torch.float32}
    monkeypatch.undo()
    exact_loss, exact = run()
    assert loss == pytest.approx(exact_loss, rel=0.01)
    far = {name: float((found[name] - exact[name]).norm() / exact[name].norm()) for name in exact
           if float(exact[name].norm()) > 1e-3}  # fmt: skip
    assert max(far.values()) < 0.15, max(far, key=far.__getitem__)


def test_nothing_that_is_saved_knows_of_it(continuous: Shards, tmp_path: Path) -> None:
    model = make_model(continuous, "3ml-self", "modernbert")
    model.encoder.save_pretrained(tmp_path / "encoder")
    model.save_pretrained(tmp_path / "whole")
    for name in ("encoder", "whole"):
        assert "sdpa" not in (tmp_path / name / "config.json").read_text()
    plain = AutoModel.from_pretrained(tmp_path / "encoder")
    assert plain.config._attn_implementation == "sdpa"
    again = MaskLaterForMaskedLM.from_pretrained(tmp_path / "whole")
    assert again.encoder.config._attn_implementation == model.encoder.config._attn_implementation
    assert open_source(tmp_path / "encoder").encoder.config._attn_implementation == "sdpa"
