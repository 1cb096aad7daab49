"""Corruption: fixed counts, exact shares, specials left alone, and nothing that is not a function of the generator."""

from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from masklater.corpus.vocabulary import Vocabulary
from masklater.errors import UserError
from masklater.masking.batch import IGNORE, MaskedBatch, batch_from_inputs
from masklater.masking.corrupt import corrupt
from masklater.masking.corruption import Corruption, make_corruption
from masklater.masking.counts import share_of, share_of_each
from masklater.recipe.masking import MaskingSettings
from tests.conftest import draws

BOS, PAD, EOS, UNK, MASK, V, L = 0, 1, 2, 3, 4, 200, 32


def make(drop: bool = True, maskable: float = L - 2, row_length: int = L, **masking: float) -> Corruption:
    return make_corruption(
        MaskingSettings(**masking),  # type: ignore[arg-type]
        drop=drop,
        row_length=row_length,
        maskable_per_row=maskable,
        vocabulary=Vocabulary(bos=BOS, eos=EOS, pad=PAD, mask=MASK, all=(BOS, PAD, EOS, UNK, MASK), size=V),
    )


def full_rows(B: int) -> Tensor:
    rows_BL = torch.randint(5, V, (B, L), generator=draws(1).generator)
    rows_BL[:, 0], rows_BL[:, -1] = BOS, EOS
    return rows_BL


def padded_rows(B: int) -> Tensor:
    """Every amount of padding, and separators at random."""
    rows_BL = full_rows(B)
    for row in range(B):
        used = 3 + row % (L - 3)
        rows_BL[row, used - 1] = EOS
        rows_BL[row, used:] = PAD
        rows_BL[row, 5 : used - 2 : 7] = EOS
    return rows_BL


def states(rows_BL: Tensor, batch: MaskedBatch) -> tuple[Tensor, Tensor]:
    """What each position became: is_target_BL, is_dropped_BL."""
    is_dropped_BL = torch.zeros_like(rows_BL, dtype=torch.bool).scatter_(1, batch.masked_pos_BM, True)
    is_target_BL = torch.zeros_like(is_dropped_BL).scatter_(1, batch.target_pos_BT, batch.target_ids_BT != IGNORE)
    return is_target_BL, is_dropped_BL


@pytest.mark.parametrize("rate", [0.15, 0.4, 0.5, 0.9])
@pytest.mark.parametrize("drop", [True, False])
def test_full_rows_have_fixed_counts(rate: float, drop: bool) -> None:
    rows_BL, corruption = full_rows(64), make(drop, rate=rate)
    batch = corrupt(rows_BL, None, corruption, draws())
    T = round(rate * (L - 2))
    M = round(0.8 * T) if drop else 0
    assert batch.target_ids_BT.shape == (64, T)
    assert batch.seen_ids_BS.shape == (64, L - M)
    assert (batch.target_ids_BT != IGNORE).all()
    is_target_BL, is_dropped_BL = states(rows_BL, batch)
    assert (is_target_BL.sum(dim=1) == T).all()  # T different positions
    assert (is_dropped_BL & ~is_target_BL).sum() == 0
    assert (rows_BL.gather(1, batch.target_pos_BT) == batch.target_ids_BT).all()


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("make_rows", [full_rows, padded_rows])
def test_every_position_is_seen_or_dropped_once_and_specials_are_never_targets(drop: bool, make_rows) -> None:  # type: ignore[no-untyped-def]
    rows_BL = make_rows(120)
    batch = corrupt(rows_BL, None, make(drop), draws())
    together_BL = torch.cat([batch.seen_pos_BS, batch.masked_pos_BM], dim=1).sort(dim=1).values
    assert (together_BL == torch.arange(L)).all()
    assert (batch.seen_pos_BS.diff(dim=1) > 0).all()
    is_target_BL, _ = states(rows_BL, batch)
    assert not (is_target_BL & (rows_BL < 5)).any()
    if drop:
        assert MASK not in batch.seen_ids_BS


def test_padded_rows_keep_their_rate_and_padding_fills_the_dropped_slots() -> None:
    rows_BL = padded_rows(120)
    batch = corrupt(rows_BL, None, make(rate=0.5), draws())
    is_target_BL, is_dropped_BL = states(rows_BL, batch)
    maskable_B = (rows_BL >= 5).sum(dim=1)
    assert ((is_target_BL.sum(dim=1) - 0.5 * maskable_B).abs() <= 1.5).all()
    others_BL = is_dropped_BL & ~is_target_BL
    assert (rows_BL[others_BL] == PAD).all()
    assert others_BL.any()


def test_shares_of_mask_random_and_keep() -> None:
    rows_BL = full_rows(400)
    batch = corrupt(rows_BL, None, make(rate=0.5, mask=0.6, random=0.3, keep=0.1), draws())
    is_target_BL, is_dropped_BL = states(rows_BL, batch)
    seen_BL = rows_BL.clone().scatter_(1, batch.seen_pos_BS, batch.seen_ids_BS)
    changed_BL = (seen_BL != rows_BL) & ~is_dropped_BL
    assert not (changed_BL & ~is_target_BL).any()  # nothing but targets is changed
    T = 15
    assert (is_dropped_BL.sum(dim=1) == round(0.6 * T)).all()
    # A random draw gives the old token 1 time in 195.
    assert changed_BL.sum() / (400 * T) == pytest.approx((round(0.9 * T) - round(0.6 * T)) / T, abs=0.01)
    assert seen_BL[changed_BL].min() >= 5  # never a special token


def test_vanilla_puts_mask_tokens_where_3ml_drops() -> None:
    rows_BL = full_rows(16)
    dropped = corrupt(rows_BL, None, make(True), draws())
    vanilla = corrupt(rows_BL, None, make(False), draws())
    is_mask_BL = vanilla.seen_ids_BS == MASK
    _, is_dropped_BL = states(rows_BL, dropped)
    assert (is_mask_BL == is_dropped_BL).all()
    assert (vanilla.seen_ids_BS.gather(1, dropped.seen_pos_BS) == dropped.seen_ids_BS).all()
    assert (vanilla.target_pos_BT == dropped.target_pos_BT).all()


def test_every_position_is_equally_likely() -> None:
    rows_BL = full_rows(1).expand(20_000, L).contiguous()
    is_target_BL, _ = states(rows_BL, corrupt(rows_BL, None, make(rate=0.5), draws()))
    share_L = is_target_BL.float().mean(dim=0)[1:-1]
    assert (share_L - 0.5).abs().max() < 5 * (0.25 / 20_000) ** 0.5  # five standard deviations


def test_the_same_generator_gives_the_same_batch_and_another_does_not() -> None:
    rows_BL = padded_rows(30)
    first, again, other = (corrupt(rows_BL, None, make(), draws(seed)) for seed in (7, 7, 8))
    for field in fields(first):
        a, b = getattr(first, field.name), getattr(again, field.name)
        assert a is b or torch.equal(a, b)
    assert not torch.equal(first.target_pos_BT, other.target_pos_BT)


@pytest.mark.parametrize("drop", [True, False])
def test_rows_of_almost_nothing_but_separators(drop: bool) -> None:
    rows_BL = full_rows(8)
    rows_BL[:, 2:-1] = EOS  # one maskable position
    rows_BL[1, 1] = EOS  # none at all
    rows_BL[2, 1:] = PAD
    batch = corrupt(rows_BL, None, make(drop), draws())
    assert (batch.target_ids_BT != IGNORE).sum(dim=1).tolist() == [1, 0, 0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("percent", range(1, 101))
def test_counts_of_rows_are_those_that_slots_were_counted_by(percent: int) -> None:
    """Every share in percent of every number of positions, halves among them."""
    numbers = torch.arange(4097)
    for share in (percent / 100, percent / 100 + 0.005):
        assert share_of_each(share, numbers).tolist() == [share_of(share, number) for number in range(4097)]


@pytest.mark.parametrize(("mask", "length", "rate"), [(0.55, 222, 0.5), (0.7, 92, 0.5)])
@pytest.mark.parametrize("drop", [True, False])
def test_all_that_is_to_be_a_mask_is_one_and_nothing_else_is_dropped(
    mask: float, length: int, rate: float, drop: bool
) -> None:
    """Where the share of the corrupted positions is a half, which float32 rounds to the other side."""
    rows_BL = torch.randint(5, V, (16, length), generator=draws(1).generator)
    rows_BL[:, 0], rows_BL[:, -1] = BOS, EOS
    corruption = make(drop, length - 2, length, rate=rate, mask=mask, random=0.0, keep=1 - mask)
    batch, num_masks = corrupt(rows_BL, None, corruption, draws()), round(mask * corruption.counts.corrupted)
    is_target_BL, is_dropped_BL = states(rows_BL, batch)
    is_mask_BL = is_dropped_BL if drop else batch.seen_ids_BS == MASK
    assert (is_mask_BL.sum(dim=1) == num_masks).all()
    assert not (is_mask_BL & ~is_target_BL).any()


@pytest.mark.parametrize("predict", [0.55, 0.7])
def test_slots_of_what_is_predicted_are_as_many_as_targets(predict: float) -> None:
    for number in range(1, L - 2):
        batch = corrupt(full_rows(4), None, make(rate=number / (L - 2), predict=predict), draws())
        assert (batch.target_ids_BT != IGNORE).all(), number


def test_a_rate_too_low_for_the_rows() -> None:
    with pytest.raises(UserError, match=r"masking\.rate 0\.01 leaves no target"):
        make(rate=0.01)


def test_separators_inside_rows_lower_the_count_not_the_rate() -> None:
    assert make(rate=0.5, maskable=20.4).counts.targets == 10


def test_batch_from_inputs_takes_padding_and_uneven_masks() -> None:
    ids_BL = full_rows(4)
    ids_BL[0, 3] = MASK
    ids_BL[1, 3:20] = MASK
    ids_BL[3, 10:] = PAD
    batch = batch_from_inputs(ids_BL, (ids_BL != PAD).long(), None, MASK, drop=True)
    assert batch.seen_ids_BS.shape[1] == L  # row 2 has neither
    assert batch.hidden_BS is not None
    assert (~batch.hidden_BS).sum(dim=1).tolist() == [L - 1, L - 17, L, 10]
    assert MASK not in batch.seen_ids_BS[~batch.hidden_BS]


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("make_rows", [full_rows, padded_rows])
def test_fewer_are_predicted_than_are_hidden(drop: bool, make_rows) -> None:  # type: ignore[no-untyped-def]
    """Corruption and prediction rate apart: what is hidden stays hidden, and any half of it is predicted."""
    rows_BL = make_rows(120)
    half = corrupt(rows_BL, None, make(drop, rate=0.4, predict=0.5), draws())
    whole = corrupt(rows_BL, None, make(drop, rate=0.4), draws())
    assert torch.equal(half.seen_ids_BS, whole.seen_ids_BS)
    assert torch.equal(half.masked_pos_BM, whole.masked_pos_BM)
    (is_half_BL, _), (is_whole_BL, _) = states(rows_BL, half), states(rows_BL, whole)
    assert not (is_half_BL & ~is_whole_BL).any()
    assert ((is_half_BL.sum(dim=1) - 0.5 * is_whole_BL.sum(dim=1)).abs() <= 0.5).all()
    assert half.target_ids_BT.shape[1] == round(0.5 * whole.target_ids_BT.shape[1])
    # The predicted half is not the half that became [MASK]: what was kept or replaced is among it as often.
    seen_BL = rows_BL.clone().scatter_(1, half.seen_pos_BS, half.seen_ids_BS)
    changed_BL = (seen_BL != rows_BL) & (seen_BL != MASK)
    assert (is_half_BL & changed_BL).any()
    assert (is_whole_BL & changed_BL & ~is_half_BL).any()


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("make_rows", [full_rows, padded_rows])
def test_weights_that_are_all_the_same_choose_as_none_do(drop: bool, make_rows) -> None:  # type: ignore[no-untyped-def]
    rows_BL, none = make_rows(400), make(drop, rate=0.4, predict=0.5)
    alike = replace(none, weights_V=torch.full((V,), 0.37, dtype=torch.float64))
    one, other = (corrupt(rows_BL, None, corruption, draws()) for corruption in (none, alike))
    assert all(tensor is None or torch.equal(tensor, getattr(other, name)) for name, tensor in vars(one).items())


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize("make_rows", [full_rows, padded_rows])
def test_tokens_of_more_weight_are_predicted_first(drop: bool, make_rows) -> None:  # type: ignore[no-untyped-def]
    """What is hidden and how many are predicted stay; one token in ten is predicted nearly wherever it is corrupted."""
    rows_BL = make_rows(400)
    hot_BL = (rows_BL >= 5) & (rows_BL % 10 == 7)
    weights_V = torch.where(torch.arange(V) % 10 == 7, 1.0, 0.005).double()
    plain = make(drop, rate=0.4, predict=0.5)
    before, after = (corrupt(rows_BL, None, each, draws()) for each in (plain, replace(plain, weights_V=weights_V)))
    assert torch.equal(before.seen_ids_BS, after.seen_ids_BS)
    assert torch.equal(before.masked_pos_BM, after.masked_pos_BM)
    assert torch.equal(before.target_ids_BT == IGNORE, after.target_ids_BT == IGNORE)
    is_whole_BL, _ = states(rows_BL, corrupt(rows_BL, None, make(drop, rate=0.4), draws()))
    is_before_BL, is_after_BL = (states(rows_BL, batch)[0] for batch in (before, after))
    assert not (is_after_BL & ~is_whole_BL).any()
    could = (is_whole_BL & hot_BL).sum()
    assert (is_before_BL & hot_BL).sum() / could == pytest.approx(0.5, abs=0.06)
    assert (is_after_BL & hot_BL).sum() / could > 0.95
    assert (is_after_BL & ~hot_BL).any()
