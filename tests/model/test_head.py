"""The chunked head against its slow twin: values and gradients, in both precisions, with slots that are not in use."""

import pytest
import torch
from torch import Tensor

from masklater.masking.batch import IGNORE
from masklater.model import head as heads
from masklater.model.head import LMHead, loss_sum

N, D, E, V = 50, 24, 16, 113


def inputs() -> tuple[LMHead, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    head = LMHead(D, E, V, 1e-5)
    torch.nn.init.normal_(head.bias)
    words_VE = torch.randn(V, E, requires_grad=True)
    target_ids_N = torch.randint(V, (N,))
    target_ids_N[::7] = IGNORE
    return head, torch.randn(N, D, requires_grad=True), words_VE, target_ids_N


def gradients(head: LMHead, *others: Tensor) -> list[Tensor]:
    found = [*head.parameters(), *others]
    result = [tensor.grad.clone() for tensor in found if tensor.grad is not None]
    assert len(result) == len(found)
    for tensor in found:
        tensor.grad = None
    return result


@pytest.mark.parametrize("chunk", [1, 7, 50, 1000])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_chunks_equal_the_whole(chunk: int, bfloat16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(heads.LOGITS_AT_ONCE, "cpu", chunk * V)
    head, hidden_ND, words_VE, target_ids_N = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        slow = loss_sum(head(hidden_ND, words_VE), target_ids_N)
    (slow / 3).backward()
    expected = gradients(head, hidden_ND, words_VE)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        fast = head.loss_sum(hidden_ND, words_VE, target_ids_N)
    (fast / 3).backward()
    assert fast.dtype == torch.float32
    tolerance = 2e-2 if bfloat16 else 1e-5
    torch.testing.assert_close(fast, slow, rtol=tolerance / 4, atol=0)
    for ours, theirs in zip(gradients(head, hidden_ND, words_VE), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * float(theirs.abs().max()))


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_a_score_in_chunks_is_that_of_the_whole(chunk: int, bfloat16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    head, hidden_ND, words_VE, target_ids_N = inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16), torch.no_grad():
        logits_NV = head(hidden_ND, words_VE)
    target_ids_N = torch.where(torch.arange(len(logits_NV)) % 3 == 0, logits_NV.argmax(dim=1), target_ids_N)
    target_ids_N[::7] = IGNORE
    most = []
    forward = LMHead.forward
    monkeypatch.setitem(heads.LOGITS_AT_ONCE, "cpu", chunk * V + V - 1)
    monkeypatch.setattr(LMHead, "forward", lambda *given: (most.append(len(given[1])), forward(*given))[1])
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        loss, right = head.score(hidden_ND, words_VE, target_ids_N)
    assert max(most) == min(chunk, len(hidden_ND)) and sum(most) == len(hidden_ND) and not loss.requires_grad
    expected = loss_sum(logits_NV, target_ids_N)
    torch.testing.assert_close(loss, expected, rtol=1e-3 if bfloat16 else 1e-6, atol=0)
    assert chunk < 1000 or loss.equal(expected)
    expected_right = int((logits_NV.argmax(dim=1) == target_ids_N).sum())
    assert expected_right > 10
    assert abs(int(right) - expected_right) <= (2 if bfloat16 else 0)  # bfloat16 rounds into ties


def test_bfloat16_products_keep_float32_sums() -> None:
    """Under autocast the loss is nearer to float32's than autocast's own way, which rounds the logits' bias too."""
    head, hidden_ND, words_VE, target_ids_N = inputs()
    exact = float(loss_sum(head(hidden_ND, words_VE), target_ids_N).detach())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = float(head.loss_sum(hidden_ND, words_VE, target_ids_N).detach())
    assert ours == pytest.approx(exact, rel=5e-3)


def test_nothing_in_use() -> None:
    head, hidden_ND, words_VE, target_ids_N = inputs()
    loss = head.loss_sum(hidden_ND, words_VE, torch.full_like(target_ids_N, IGNORE))
    loss.backward()
    assert loss == 0
    assert all((gradient == 0).all() for gradient in gradients(head, hidden_ND, words_VE))


def test_without_gradients() -> None:
    head, hidden_ND, words_VE, target_ids_N = inputs()
    with torch.no_grad():
        fast = head.loss_sum(hidden_ND, words_VE, target_ids_N)
        slow = loss_sum(head(hidden_ND, words_VE), target_ids_N)
    torch.testing.assert_close(fast, slow)
