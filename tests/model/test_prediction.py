"""Targets predicted along a chain of states: against plain 3ML, and against the slow way, in values and gradients."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM

from masklater import MaskLaterForMaskedLM
from masklater.corpus.shards import Shards
from masklater.masking.batch import IGNORE, MaskedBatch
from masklater.model import head as heads
from masklater.model.chain import chain_order
from masklater.model.decoder import StateDecoder
from masklater.model.head import loss_sum
from masklater.model.prediction import AlongChain, Apart
from tests.reference.cases import STATES, everywhere, gradients, make_batch, make_model, rebuild_rows

ALL_MASKS = STATES["states"][:3]
FAMILIES = ["roberta-prelayernorm", "modernbert"]  # with learned and with rotary positions


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 1e-3) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(found[name], gradient, rtol=rtol, atol=rtol / 10 * max(scale, 1.0), msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_state_is_the_plain_decoder(family: str, shards: Shards) -> None:
    plain, batch = make_model(shards, "3ml-self", family, *ALL_MASKS), make_batch(shards, "states")
    assert type(plain.prediction) is Apart
    one = copy.deepcopy(plain)
    one.decoder, one.prediction = StateDecoder(plain.config), AlongChain(plain.config)
    missing, unexpected = one.decoder.load_state_dict(plain.decoder.state_dict(), strict=False)
    assert (missing, unexpected) == (["states.weight"], [])
    torch.nn.init.zeros_(one.decoder.states.weight)
    expected, found = plain(batch=batch), one(batch=batch)
    torch.testing.assert_close(found.loss_sum, expected.loss_sum, rtol=1e-6, atol=0)
    assert found.num_targets == expected.num_targets
    found.loss_sum.backward()
    expected.loss_sum.backward()
    of_one = {name: each for name, each in gradients(one.eval()).items() if not name.startswith("prediction")}
    of_states = of_one.pop("decoder.states.weight")
    assert_close(of_one, gradients(plain), rtol=1e-4)
    if family != "modernbert":
        torch.testing.assert_close(of_states[0], of_one["decoder.masks.embedding"], rtol=1e-4, atol=1e-3)
    with torch.no_grad():
        torch.testing.assert_close(
            one.target_logits(batch), plain.target_logits(batch).log_softmax(dim=1), rtol=1e-4, atol=1e-4
        )
        (loss, right), (plain_loss, plain_right) = one.score_targets(batch), plain.score_targets(batch)
    torch.testing.assert_close(loss, plain_loss, rtol=1e-5, atol=0)
    assert right == plain_right


def make_states(shards: Shards, family: str) -> MaskLaterForMaskedLM:
    """A model whose states are far apart and linked to their like, so that the chain matters."""
    model = make_model(shards, "states", family)
    assert isinstance(model.prediction, AlongChain)
    with torch.no_grad():
        model.decoder.states.weight.mul_(8)
        for linear in (model.prediction.links.query, model.prediction.links.key):
            linear.weight.add_(torch.eye(len(linear.weight)))
    return model


def slow_loss(model: MaskLaterForMaskedLM, batch: MaskedBatch) -> Tensor:
    """The loss by torch's own gradients: all logits at once, and the forward algorithm row by row, unscaled."""
    assert isinstance(model.prediction, AlongChain)
    states_BTkD = model.decode(model.encode(batch), batch)
    B, T, k, _ = states_BTkD.shape
    log_p_BTkV = model.head(states_BTkD, model.word_embeddings).log_softmax(dim=3)
    order = chain_order(batch)
    in_order_BTkD = torch.stack([states_BTkD[row, slots_T] for row, slots_T in enumerate(order.slots_BT)])
    links_BTkk = model.prediction.links(in_order_BTkD, order).exp()
    torch.testing.assert_close(links_BTkk.sum(dim=3), torch.ones(B, T, k))
    loss = torch.zeros(())
    for row in range(B):
        forward_k = torch.full((k,), 1 / k)
        for t in range(T):
            slot, token = int(order.slots_BT[row, t]), int(order.ids_BT[row, t])
            if token != IGNORE:
                forward_k = (forward_k @ links_BTkk[row, t]) * log_p_BTkV[row, slot, :, token].exp()
                loss = loss - forward_k.sum().log()
                forward_k = forward_k / forward_k.sum()
    return loss


@pytest.mark.parametrize("rows_at_once", [1, 3, 1000])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_and_its_gradients_are_those_of_the_slow_way(
    family: str, rows_at_once: int, shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = make_states(shards, family), make_batch(shards, "states", rows=12)
    assert batch.documents_BL is not None
    expected = slow_loss(model, batch)
    (expected / 3).backward()
    of_slow = gradients(model)
    if rows_at_once == 3:  # what a GPU gets: entries up to a multiple that are never likely
        monkeypatch.setitem(heads.ENTRIES_MULTIPLE, "cpu", 48)
        assert len(model.word_embeddings) % 48
    a_row = batch.target_ids_BT.shape[1] * 2 * len(model.word_embeddings)
    monkeypatch.setitem(heads.LOGITS_AT_ONCE, "cpu", rows_at_once * a_row + a_row // 2)
    found, num_targets = model(batch=batch)
    (found / 3).backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    assert num_targets == (batch.target_ids_BT != IGNORE).sum()
    of_fast = gradients(model)
    assert {f"prediction.links.{name}" for name in ("query.weight", "key.weight", "gate.weight", "begin")} < set(
        of_fast
    )
    assert all(gradient.abs().sum() > 0 for name, gradient in of_fast.items() if name.startswith("prediction"))
    assert_close(of_fast, of_slow)


def test_bfloat16_products_keep_float32_sums(continuous: Shards) -> None:
    model, batch = make_model(continuous, "states", "roberta"), make_batch(continuous, "states", rows=8)
    exact = model(batch=batch).loss_sum
    exact.backward()
    expected = gradients(model)["prediction.links.key.weight"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(batch=batch).loss_sum
    rounded.backward()
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=1e-2, atol=0)
    found = gradients(model)["prediction.links.key.weight"]
    assert float((found - expected).norm() / expected.norm()) < 0.1


def test_nothing_in_use(continuous: Shards) -> None:
    model, batch = make_model(continuous, "states", "roberta"), make_batch(continuous, "states", rows=2)
    loss, num_targets = model(batch=batch.without_targets())
    loss.backward()
    assert (float(loss.detach()), int(num_targets)) == (0, 0)
    assert all((gradient == 0).all() for gradient in gradients(model).values())


def test_parts_of_a_batch_add_up(shards: Shards) -> None:
    model, batch = make_states(shards, "roberta"), make_batch(shards, "states", rows=6)
    with torch.no_grad():
        whole, parts = model(batch=batch), [model(batch=batch.slice(first, first + 2)) for first in (0, 2, 4)]
    torch.testing.assert_close(whole.loss_sum, sum(part.loss_sum for part in parts))
    assert whole.num_targets == sum(part.num_targets for part in parts)


def test_two_documents_in_a_row_are_two_rows(shards: Shards) -> None:
    model, batch = make_states(shards, "roberta"), make_batch(shards, "states")
    assert batch.documents_BL is not None
    document_BT = batch.documents_BL.gather(1, batch.target_pos_BT)
    fewest_B = torch.stack([(document_BT == document).sum(dim=1) for document in (0, 1)]).amin(dim=0)
    row = int(fewest_B.argmax())
    assert fewest_B[row] > 2
    both, document_1T = batch.slice(row, row + 1), document_BT[row][None]
    apart = []
    for document in document_1T.unique():
        ids_1T = torch.where(document_1T == document, both.target_ids_BT, IGNORE)
        apart.append(MaskedBatch(**{**both.__dict__, "target_ids_BT": ids_1T}))
    with torch.no_grad():
        torch.testing.assert_close(model(batch=both).loss_sum, sum(model(batch=each).loss_sum for each in apart))
        torch.testing.assert_close(model.score_targets(both)[0], sum(model.score_targets(each)[0] for each in apart))


def test_slots_in_any_order_and_beside_others_not_in_use_give_one_loss(continuous: Shards) -> None:
    """The dense twin: a slot at every position; and slots in another order."""
    model, batch = make_states(continuous, "roberta"), make_batch(continuous, "states", rows=6)
    flipped = MaskedBatch(
        **{**batch.__dict__, "target_pos_BT": batch.target_pos_BT.flip(1), "target_ids_BT": batch.target_ids_BT.flip(1)}
    )
    dense = everywhere(batch, continuous.vocabulary.mask)
    loss = model(batch=batch).loss_sum
    loss.backward()
    expected = gradients(model)
    for other in (flipped, dense):
        again = model(batch=other).loss_sum
        torch.testing.assert_close(again, loss, rtol=1e-5, atol=0)
        again.backward()
        assert_close(gradients(model), expected)
    with torch.no_grad():
        (reported, right), logits_NV = model.score_targets(batch), model.target_logits(flipped)
        torch.testing.assert_close(model.target_losses(batch).sum(), reported)
        torch.testing.assert_close(loss_sum(logits_NV, flipped.target_ids_BT.flatten()), reported, rtol=1e-5, atol=0)
        torch.testing.assert_close(model.score_targets(dense)[0], reported, rtol=1e-5, atol=0)
    assert right == (logits_NV.argmax(dim=1) == flipped.target_ids_BT.flatten()).sum()
    torch.testing.assert_close(logits_NV.exp().sum(dim=1), torch.ones(len(logits_NV)))
    assert abs(float(reported - loss.detach())) > 1e-3 * float(reported)  # what is trained on is another loss


def test_labels_are_trained_on_along_the_chain_and_reported_by_themselves(continuous: Shards) -> None:
    overrides = ("batch.attend=row",)
    model, batch = make_states(continuous, "roberta"), make_batch(continuous, "states", *overrides, rows=4)
    ids_BL, labels_BL = rebuild_rows(batch, continuous.vocabulary.mask)
    trained_on, num_targets = model(batch=batch)
    with torch.no_grad():
        reported, _ = model.score_targets(batch)
        output = model(input_ids=ids_BL, labels=labels_BL)
    torch.testing.assert_close(output.loss, reported / num_targets, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.loss, loss_sum(output.logits.flatten(0, 1), labels_BL.flatten()) / num_targets)
    in_training = model.train()(input_ids=ids_BL, labels=labels_BL)  # without dropout
    torch.testing.assert_close(in_training.loss, trained_on / num_targets, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(in_training.logits, output.logits)


def test_states_begin_apart_and_a_saved_model_is_the_same(continuous: Shards, tmp_path: Path) -> None:
    made = make_model(continuous, "states", "roberta")
    states_kd = MaskLaterForMaskedLM(made.config).decoder.states.weight
    assert (states_kd[0] != states_kd[1]).all()
    made.save_pretrained(tmp_path / "model")
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "model").eval()
    assert again.config.decoder.states == 2 and type(again.prediction) is AlongChain
    batch = make_batch(continuous, "states", rows=4)
    assert torch.equal(again(batch=batch).loss_sum, made(batch=batch).loss_sum)
