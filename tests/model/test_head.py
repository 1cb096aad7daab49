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
@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_chunks_equal_the_whole(chunk: int, dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(heads.LOGITS_AT_ONCE, "cpu", chunk * V)
    head, hidden_ND, words_VE, target_ids_N = inputs()
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        slow = loss_sum(head(hidden_ND, words_VE), target_ids_N)
    (slow / 3).backward()
    expected = gradients(head, hidden_ND, words_VE)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        fast = head.loss_sum(hidden_ND, words_VE, target_ids_N)
    (fast / 3).backward()
    assert fast.dtype == torch.float32
    tolerance = {None: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}[dtype]
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


def test_a_padded_vocabulary_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU gets: entries up to a multiple of 64 that are never likely, and gradients of the real ones only."""
    head, hidden_ND, words_VE, target_ids_N = inputs()
    plain = head.loss_sum(hidden_ND, words_VE, target_ids_N)
    plain.backward()
    expected = gradients(head, hidden_ND, words_VE)
    monkeypatch.setitem(heads.ENTRIES_MULTIPLE, "cpu", 64)
    padded_words, padded_bias = heads.pad(words_VE.detach(), head.bias.detach(), 64)
    assert padded_words.shape == (128, E)
    assert torch.equal(padded_words[:V], words_VE)
    assert (padded_bias[V:] == -torch.inf).all()
    padded = head.loss_sum(hidden_ND, words_VE, target_ids_N)
    padded.backward()
    torch.testing.assert_close(padded, plain, rtol=3e-7, atol=0)
    for ours, theirs in zip(gradients(head, hidden_ND, words_VE), expected, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=3e-7, atol=3e-7 * float(theirs.abs().max()))
    assert heads.pad(padded_words, padded_bias, 64)[0] is padded_words


@pytest.mark.parametrize(
    ("dtype", "compiled"),
    [
        (torch.float32, False),
        (torch.bfloat16, False),
        pytest.param(torch.float32, True, marks=pytest.mark.slow),
        pytest.param(torch.bfloat16, True, marks=pytest.mark.slow),
    ],
)
def test_what_a_compiler_gets_equals_the_plain_way(dtype: torch.dtype, compiled: bool) -> None:
    torch.manual_seed(0)
    logits_cV, bias_V = (torch.randn(12, V) * 5).to(dtype), torch.randn(V)
    bias_V[-3:] = -torch.inf
    class_c1, in_use_c1 = torch.randint(V - 3, (12, 1)), torch.arange(12)[:, None] % 5 != 0
    fused = heads._compiled() if compiled else heads.loss_and_gradient_fused
    found = fused(logits_cV, bias_V, class_c1, in_use_c1)
    for ours, plain in zip(found, heads.loss_and_gradient(logits_cV.clone(), bias_V, class_c1, in_use_c1), strict=True):
        assert ours is not None
        assert plain is not None
        assert ours.dtype == plain.dtype
        tolerance = 3e-7 if ours.dtype == torch.float32 else 2**-8
        torch.testing.assert_close(ours, plain, rtol=tolerance, atol=tolerance * float(plain.abs().max()))
    without_gradient = heads.loss_and_gradient_fused(logits_cV, bias_V, class_c1, in_use_c1, needs_gradient=False)
    assert without_gradient[1] is None
    torch.testing.assert_close(without_gradient[0], found[0])


@pytest.mark.parametrize("chunk", [1, 7, 16, 49, 50, 1000])
def test_what_is_compiled_meets_one_shape(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A last part of another size would have all parts computed by code for shapes that change, tuned for that one."""
    monkeypatch.setitem(heads.LOGITS_AT_ONCE, "cpu", chunk * V)
    head, hidden_ND, words_VE, target_ids_N = inputs()
    slow = loss_sum(head(hidden_ND, words_VE), target_ids_N)
    slow.backward()
    expected = gradients(head, hidden_ND, words_VE)
    shapes = []

    def follow(logits_cV: Tensor, *others: Tensor) -> tuple[Tensor, Tensor | None]:
        shapes.append((logits_cV.shape, *(other.shape for other in others[:3])))
        return heads.loss_and_gradient_fused(logits_cV, *others)

    monkeypatch.setattr(heads, "_compiled", lambda: follow)
    head.compiled = True
    fast = head.loss_sum(hidden_ND, words_VE, target_ids_N)
    fast.backward()
    assert len(set(shapes)) == 1 and len(shapes) == -(-N // min(chunk, N)) and shapes[0][0][0] <= chunk
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=0)
    for ours, theirs in zip(gradients(head, hidden_ND, words_VE), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))


def test_a_compiled_logit_costs_few_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a chunk does between its products, counted by inductor: 16 bytes a bfloat16 logit with the products."""
    from torch._inductor import compile_fx, metrics

    monkeypatch.setattr(compile_fx.inductor_metrics_log, "isEnabledFor", lambda level: True)  # or nothing is counted
    torch.compiler.reset()
    c, vocabulary = 64, 4096
    logits_cV = torch.randn(c, vocabulary, dtype=torch.bfloat16)
    metrics.reset()
    with torch._inductor.config.patch(force_disable_caches=True):
        heads._compiled()(
            logits_cV, torch.zeros(vocabulary), torch.zeros(c, 1, dtype=torch.int64), torch.ones(c, 1) > 0
        )
    others = 2 + 2 + 2 + 2  # products write logits and read their gradient twice; the bias's gradient reads it once
    assert 4 <= metrics.num_bytes_accessed / logits_cV.numel() <= 16.5 - others  # half a byte: one number a target
