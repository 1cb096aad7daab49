"""Attention with and without masks, values and gradients, against float64 on a CPU, and a hunt for NaN."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask
from transformers import AttentionInterface

from masklater.machine.kernels import repeatable
from masklater.model.attention import attend
from masklater.model.implementations import BY_BLOCKS, FLOAT32_ON_CPU
from tests.model.test_attention_precision import slow_mix

pytestmark = pytest.mark.gpu
Attention = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
LENGTHS = (64, 78, 308, 1024)


def of_the_encoder(query: Tensor, key: Tensor, value: Tensor, attend_BQK: Tensor | None) -> Tensor:
    attend = AttentionInterface()[FLOAT32_ON_CPU]
    mask_B1QK = None if attend_BQK is None else attend_BQK[:, None]
    return attend(torch.nn.Module(), query, key, value, mask_B1QK, dropout=0.0, is_causal=False)[0].transpose(1, 2)


def by_blocks(query: Tensor, key: Tensor, value: Tensor, attend_BQK: Tensor | None) -> Tensor:
    """FlexAttention, as the encoder calls it where rows are long and there is a mask."""
    if query.device.type == "cpu":
        pytest.skip("FlexAttention has no gradients on CPUs")
    mask_B1QK = None
    if attend_BQK is not None:
        B, Q, K = attend_BQK.shape
        mask_B1QK = create_block_mask(lambda b, _, q, k: attend_BQK[b, q, k], B, None, Q, K, device=query.device)
    attend = AttentionInterface()[BY_BLOCKS]
    return attend(torch.nn.Module(), query, key, value, mask_B1QK, dropout=0.0, is_causal=False)[0].transpose(1, 2)


WAYS: dict[str, Attention] = {
    "decoder": lambda query, key, value, attend_BQK: attend(query, key, value, attend_BQK, 0.0),
    "encoder": of_the_encoder,
    "blocks": by_blocks,
}


def documents_mask(B: int, S: int) -> Tensor:
    """Three documents to a row, and padding that attends to padding."""
    document_BS = torch.rand(B, S).mul(4).long().sort(dim=1).values
    return document_BS[:, :, None] == document_BS[:, None, :]


def gradients_of(attend: Attention, parts: list[Tensor], mask: Tensor | None, d_mixed: Tensor) -> list[Tensor]:
    """Values and gradients, as float64 on the CPU."""
    parts = [part.detach().clone().requires_grad_() for part in parts]
    mixed = attend(*parts, mask)
    mixed.backward(d_mixed.to(mixed))
    return [mixed.detach().double().cpu(), *(part.grad.double().cpu() for part in parts)]


def far(found: list[Tensor], expected: list[Tensor]) -> float:
    return max(float((one - other).norm() / other.norm()) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("S", LENGTHS)
def test_values_and_gradients(
    S: int, dtype: torch.dtype, masked: bool, way: str, in_order: bool, device: torch.device
) -> None:
    if way == "blocks" and in_order:
        pytest.skip("in that order it does not run")
    torch.manual_seed(S)
    B, H, e = 2, 3, 64
    parts = [torch.randn(B, H, S, e).to(dtype) for _ in range(3)]
    mask, d_mixed = documents_mask(B, S) if masked else None, torch.randn(B, H, S, e).to(dtype)
    expected = gradients_of(slow_mix, [part.double() for part in parts], mask, d_mixed)
    there = [part.to(device) for part in parts]
    on_device = None if mask is None else mask.to(device)
    if not in_order:
        found = gradients_of(WAYS[way], there, on_device, d_mixed.to(device))
    else:
        with repeatable(device):
            found, again = (gradients_of(WAYS[way], there, on_device, d_mixed.to(device)) for _ in range(2))
        assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))
    # A unit in the last place is 2^-8 of bfloat16; float32 products must not be TF32, whose is 2^-11.
    assert far(found, expected) < (0.02 if dtype == torch.bfloat16 else 5e-5)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("e", [32, 64])
@pytest.mark.parametrize("S", [64, 78, 192, 308, 320, 1024, 1088])
def test_no_nan_where_all_scores_are_low(S: int, e: int, way: str, device: torch.device) -> None:
    """Scores of about -120, a row's log-sum of exponentials below that of the smallest float32 (pytorch issue 196678)."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 1, S, e) * scale for scale in (0.1, 0.1, 1.0))
    query[..., 0], key[..., 0] = 1.0, -120 * math.sqrt(e)
    for mask in (torch.ones(1, S, S, dtype=torch.bool), torch.ones(1, S, S, dtype=torch.bool).tril()):
        parts = [part.to(device, torch.bfloat16) for part in (query, key, value)]
        found = gradients_of(WAYS[way], parts, mask.to(device), torch.randn(1, 1, S, e).to(device))
        assert all(bool(tensor.isfinite().all()) for tensor in found)
