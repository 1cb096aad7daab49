"""The chain's dynamic programmes against the enumeration of all paths."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from masklater.masking.batch import IGNORE, MaskedBatch
from masklater.model.chain import chain_order, forward_backward, log_marginals


def random_links(B: int, T: int, k: int, begins_BT: Tensor) -> Tensor:
    """Links whose rows sum to 1, and are all the same where a chain begins."""
    links_BTkk = torch.randn(B, T, k, k, dtype=torch.float64).mul(2).log_softmax(dim=3)
    return torch.where(begins_BT[:, :, None, None], links_BTkk[:, :, :1], links_BTkk)


def begins(B: int, T: int, *also: int) -> Tensor:
    begins_BT = torch.zeros(B, T, dtype=torch.bool)
    begins_BT[:, [0, *also]] = True
    return begins_BT


def paths(log_p_Tk: Tensor, log_links_Tkk: Tensor) -> dict[tuple[int, ...], float]:
    """The likelihood of every path through one row."""
    T, k = log_p_Tk.shape
    found = {}
    for path in itertools.product(range(k), repeat=T):
        links = [log_links_Tkk[t, path[t - 1] if t else 0, path[t]] for t in range(T)]
        found[path] = math.exp(sum(map(float, links)) + sum(float(log_p_Tk[t, path[t]]) for t in range(T)))
    return found


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("T", [1, 2, 5])
def test_the_likelihood_and_the_posteriors_are_those_of_all_paths(T: int, k: int) -> None:
    torch.manual_seed(0)
    log_p_BTk = torch.randn(2, T, k, dtype=torch.float64)
    log_links_BTkk = random_links(2, T, k, begins(2, T))
    found = forward_backward(log_p_BTk, log_links_BTkk, torch.ones(2, T, dtype=torch.bool))
    for row in range(2):
        of_paths = paths(log_p_BTk[row], log_links_BTkk[row])
        total = sum(of_paths.values())
        assert float(found.log_likelihood_B[row]) == pytest.approx(math.log(total))
        for t, j in itertools.product(range(T), range(k)):
            share = sum(p for path, p in of_paths.items() if path[t] == j) / total
            assert float(found.states_BTk[row, t, j]) == pytest.approx(share)
            for i in range(k) if t else ():
                share = sum(p for path, p in of_paths.items() if path[t - 1 : t + 1] == (i, j)) / total
                assert float(found.links_BTkk[row, t, i, j]) == pytest.approx(share)


def test_all_sequences_together_have_probability_1() -> None:
    torch.manual_seed(0)
    T, k, V = 3, 2, 3
    log_p_TkV = torch.randn(T, k, V, dtype=torch.float64).log_softmax(dim=2)
    log_links_1Tkk = random_links(1, T, k, begins(1, T))
    sequences_BT = torch.tensor(list(itertools.product(range(V), repeat=T)))
    log_p_BTk = torch.stack([log_p_TkV[torch.arange(T), :, sequence_T] for sequence_T in sequences_BT])
    joint = forward_backward(log_p_BTk, log_links_1Tkk.expand(V**T, -1, -1, -1), torch.ones(V**T, T, dtype=torch.bool))
    assert float(joint.log_likelihood_B.exp().sum()) == pytest.approx(1)
    # What each target is by itself is what the sequences that have it add up to.
    weights_Tk1 = log_marginals(log_links_1Tkk)[0].exp()[:, :, None]
    marginals_TV = (weights_Tk1 * log_p_TkV.exp()).sum(dim=1)
    for t, v in itertools.product(range(T), range(V)):
        share = joint.log_likelihood_B.exp()[sequences_BT[:, t] == v].sum()
        assert float(marginals_TV[t, v]) == pytest.approx(float(share))


def test_posteriors_are_gradients_and_slots_not_in_use_change_nothing() -> None:
    torch.manual_seed(0)
    B, T, k = 3, 6, 2
    in_use_BT = torch.arange(T) < torch.tensor([6, 4, 0])[:, None]
    log_p_BTk = torch.randn(B, T, k, dtype=torch.float64, requires_grad=True)
    log_links_BTkk = random_links(B, T, k, begins(B, T, 3)).requires_grad_()
    found = forward_backward(log_p_BTk, log_links_BTkk, in_use_BT)
    of_p, of_links = torch.autograd.grad(found.log_likelihood_B.sum(), (log_p_BTk, log_links_BTkk))
    torch.testing.assert_close(found.states_BTk, of_p)
    torch.testing.assert_close(found.links_BTkk, of_links)
    torch.testing.assert_close(found.states_BTk.sum(dim=2), in_use_BT.double())
    alone = forward_backward(log_p_BTk[1:2, :4], log_links_BTkk[1:2, :4], in_use_BT[1:2, :4])
    torch.testing.assert_close(alone.log_likelihood_B[0], found.log_likelihood_B[1])
    torch.testing.assert_close(alone.states_BTk[0], found.states_BTk[1, :4])
    assert found.log_likelihood_B[2] == 0


def test_where_a_chain_begins_nothing_before_matters() -> None:
    torch.manual_seed(0)
    log_p_BTk, log_links_BTkk = torch.randn(1, 5, 3).double(), random_links(1, 5, 3, begins(1, 5, 2))
    used = torch.ones(1, 5, dtype=torch.bool)
    whole = forward_backward(log_p_BTk, log_links_BTkk, used)
    parts = [
        forward_backward(log_p_BTk[:, part], log_links_BTkk[:, part], used[:, part]) for part in (slice(2), slice(2, 5))
    ]
    torch.testing.assert_close(whole.log_likelihood_B, sum(part.log_likelihood_B for part in parts))
    torch.testing.assert_close(whole.states_BTk, torch.cat([part.states_BTk for part in parts], dim=1))
    torch.testing.assert_close(log_marginals(log_links_BTkk)[:, 2:], log_marginals(log_links_BTkk[:, 2:]))


def test_a_long_row_loses_no_digits() -> None:
    torch.manual_seed(0)
    T = 2000  # at 10 nats a target, float32 knows the sum to a thousandth alone
    log_p_BTk, log_links_BTkk = torch.randn(1, T, 4).double() - 10, random_links(1, T, 4, begins(1, T))
    used = torch.ones(1, T, dtype=torch.bool)
    exact, found = (
        forward_backward(log_p_BTk, log_links_BTkk, used),
        forward_backward(log_p_BTk.float(), log_links_BTkk.float(), used),
    )
    torch.testing.assert_close(found.states_BTk.double(), exact.states_BTk, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.states_BTk.sum(dim=2), torch.ones(1, T), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.log_likelihood_B.double(), exact.log_likelihood_B, rtol=1e-6, atol=0)


def test_targets_are_visited_by_position_document_by_document() -> None:
    batch = MaskedBatch(
        seen_ids_BS=torch.zeros(1, 3, dtype=torch.int64),
        seen_pos_BS=torch.tensor([[0, 3, 7]]),
        masked_pos_BM=torch.tensor([[1, 2, 4, 5, 6]]),
        target_pos_BT=torch.tensor([[5, 1, 2, 6, 4]]),
        target_ids_BT=torch.tensor([[15, 11, IGNORE, 16, 14]]),
        documents_BL=torch.tensor([[0, 0, 0, 0, 0, 1, 1, 1]]),
    )
    order = chain_order(batch)
    assert order.slots_BT.tolist() == [[1, 4, 0, 3, 2]]
    assert order.pos_BT.tolist() == [[1, 4, 5, 6, 2]]
    assert order.ids_BT.tolist() == [[11, 14, 15, 16, IGNORE]]
    assert order.begins_BT.tolist() == [[True, False, True, False, True]]
