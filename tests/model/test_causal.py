"""A causal batch: nothing later is known, documents are apart, the decoder rests; against transformers' own."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from masklater import MaskLaterForMaskedLM
from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.masking.batch import IGNORE, CausalBatch, MaskedBatch
from masklater.model import check
from masklater.model.check import check_causal
from masklater.model.encoder import GLOBAL, LOCAL, masks_by_layer
from masklater.pretrain.batches import make_batches
from masklater.recipe.masking import MaskingSettings
from tests.reference.cases import FAMILIES, WINDOWS, make_model
from tests.reference.test_against_transformers import masked_lm, tiny_config

CASES = [
    *(("3ml-self", family) for family in (*FAMILIES, WINDOWS)),
    *((objective, "roberta") for objective in ("3ml-cross", "late", "vanilla", "states", "self-flows", "narrow")),
    *((objective, WINDOWS) for objective in ("late", "vanilla", "states")),
]
"""Pairs of objective and family: what a run trains on before and after is of no matter to a causal phase."""


def causal_batch(shards: Shards, attend: str = "document", rows: int = 8) -> CausalBatch:
    batch = make_batches(shards, shards.train, MaskingSettings().as_causal(1.0), False, attend, 0).of_step(0, rows)
    assert isinstance(batch, CausalBatch)
    return batch


def everywhere(batch: MaskedBatch) -> MaskedBatch:
    """The same rows, with a slot at each position but the last, in order."""
    pos_BT = batch.seen_pos_BS[:, :-1]
    return replace(batch, target_pos_BT=pos_BT, target_ids_BT=batch.seen_ids_BS[:, 1:])


@pytest.mark.parametrize(("objective", "family"), CASES)
def test_a_later_token_changes_no_earlier_logit(objective: str, family: str, continuous: Shards) -> None:
    model, batch = make_model(continuous, objective, family), everywhere(causal_batch(continuous, "row", rows=2))
    L, changed_at = batch.row_length, 11
    ids_BL = batch.seen_ids_BS.clone()
    ids_BL[:, changed_at] = torch.where(ids_BL[:, changed_at] == 7, 8, 7)
    with torch.no_grad():
        before, after = (
            model.target_logits(each).view(2, L - 1, -1) for each in (batch, replace(batch, seen_ids_BS=ids_BL))
        )
    assert torch.equal(before[:, :changed_at], after[:, :changed_at])
    assert not torch.allclose(before[:, changed_at:], after[:, changed_at:])


def test_it_is_transformers_causal_lm(continuous: Shards) -> None:
    """Loss and gradients, the weights those of a masked LM; labels that are no targets of ours left out of either."""
    reference = masked_lm("roberta")
    causal = AutoModelForCausalLM.from_config(tiny_config("roberta", is_decoder=True)).eval()
    causal.load_state_dict(reference.state_dict())
    model = MaskLaterForMaskedLM.from_encoder(reference, {"kind": "self"}, mask_token_id=4).eval()
    batch = causal_batch(continuous, "row")
    labels_BL = torch.full_like(batch.seen_ids_BS, IGNORE)
    labels_BL.scatter_(1, batch.target_pos_BT + 1, batch.target_ids_BT)  # it shifts them by itself
    loss_sum, num_targets = model(batch=batch)
    theirs = causal(input_ids=batch.seen_ids_BS, labels=labels_BL, use_cache=False).loss
    torch.testing.assert_close(loss_sum / num_targets, theirs, rtol=1e-5, atol=1e-6)
    (loss_sum / num_targets).backward()
    theirs.backward()
    expected = {name: parameter.grad for name, parameter in causal.roberta.named_parameters()}
    for name, parameter in model.encoder.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-5, msg=name)
    head = causal.lm_head
    for mine, other in ((model.head.dense.weight, head.dense.weight), (model.head.norm.bias, head.layer_norm.bias),
                        (model.head.bias, head.bias)):  # fmt: skip
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("family", ["roberta", "esm", WINDOWS])
def test_two_documents_in_a_row_are_two_rows(family: str, shards: Shards) -> None:
    model, batch = make_model(shards, "3ml-self", family), causal_batch(shards, rows=40)
    assert batch.documents_BL is not None
    row = int((batch.documents_BL.max(dim=1).values > 0).nonzero()[0])
    both = batch.slice(row, row + 1)
    assert both.documents_BL is not None
    loss = torch.zeros(())
    with torch.no_grad():
        together_1LD = model.encode(both)
        for document in both.documents_BL[both.documents_BL >= 0].unique():
            place_N = (both.documents_BL[0] == document).nonzero().squeeze(1)
            ids_1N, pos_1N = both.seen_ids_BS[:, place_N], both.seen_pos_BS[:, place_N]
            alone = replace(both, seen_ids_BS=ids_1N, seen_pos_BS=pos_1N, documents_BL=None)
            hidden_1ND = model.encode(alone)
            torch.testing.assert_close(hidden_1ND, together_1LD[:, place_N], rtol=1e-4, atol=1e-4)
            next_N = torch.where(torch.isin(ids_1N[0], torch.tensor(shards.vocabulary.special)), IGNORE, ids_1N[0])
            loss += model.head.loss_sum(hidden_1ND[0, :-1], model.word_embeddings, next_N[1:])
        torch.testing.assert_close(model(batch=both).loss_sum, loss, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("objective", ["3ml-self", "3ml-cross", "late", "vanilla", "word-mask", "states"])
def test_the_decoder_gets_no_gradient_and_all_else_does(objective: str, continuous: Shards) -> None:
    model = make_model(continuous, objective, "roberta").train()
    model(batch=causal_batch(continuous)).loss_sum.backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {name for name, _ in model.named_parameters() if name.startswith(("decoder.", "prediction."))}


def test_windows_stay(continuous: Shards) -> None:
    encoder, L = make_model(continuous, "3ml-self", WINDOWS).encoder, 32
    pos_1L = torch.arange(L)[None]
    masks = masks_by_layer(encoder, pos_1L, torch.ones(1, L, L, dtype=torch.bool).tril())
    apart_LL = pos_1L.T - pos_1L  # from key to query
    for kind, reach in ((GLOBAL, L), (LOCAL, 4)):
        mask = masks[kind]
        assert isinstance(mask, Tensor)
        assert torch.equal(mask[0, 0], (apart_LL >= 0) & (apart_LL <= reach))


@pytest.mark.parametrize("family", ["roberta", "deberta-v2", WINDOWS])
def test_an_encoder_that_looks_ahead_is_refused_by_name(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MaskLaterForMaskedLM.from_encoder(tiny_config(family), {"kind": "none"}, mask_token_id=4)
    check_causal(model.config)
    encode = check.encode

    def without_a_mask(*arguments: object) -> Tensor:
        return encode(*arguments[:4], None)  # type: ignore[arg-type]

    monkeypatch.setattr(check, "encode", without_a_mask)
    name = model.config.encoder.model_type
    with pytest.raises(UserError, match=f"an encoder of type {name} cannot be trained in a causal phase"):
        check_causal(model.config)
