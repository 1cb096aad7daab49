"""Rotary positions in the decoder: products know distances only, and so does the model around a rotary encoder."""

import pytest
import torch
from transformers import AutoConfig
from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

from masklater import MaskLaterForMaskedLM
from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.masking.batch import MaskedBatch, batch_from_inputs
from masklater.model.attention import ROTARY_BASE, rotary_angles, rotate
from masklater.model.masked_lm import MaskLaterConfig
from tests.reference.cases import make_batch, make_model


def test_turned_products_are_those_of_transformers() -> None:
    torch.manual_seed(0)
    pos_BX = torch.randint(0, 1000, (2, 7))
    ours, theirs = ([torch.randn(2, 3, 7, 16, generator=torch.Generator().manual_seed(seed), requires_grad=True)
                     for seed in (1, 2)] for _ in range(2))  # fmt: skip
    speed = ROTARY_BASE ** (-torch.arange(0, 16, 2) / 16)
    angles = (pos_BX[:, :, None] * speed).repeat(1, 1, 2)
    query, key = apply_rotary_pos_emb(*theirs, angles.cos(), angles.sin())
    expected = query @ key.transpose(2, 3)
    found = rotate(ours[0], rotary_angles(pos_BX, 16)) @ rotate(ours[1], rotary_angles(pos_BX, 16)).transpose(2, 3)
    torch.testing.assert_close(found, expected)
    expected.square().sum().backward()
    found.square().sum().backward()
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_turned_products_know_distances_only() -> None:
    query, key = torch.randn(1, 1, 5, 8), torch.randn(1, 1, 5, 8)
    pos_BX = torch.tensor([[0, 3, 4, 9, 100]])
    products = [
        rotate(query, rotary_angles(pos_BX + moved, 8)) @ rotate(key, rotary_angles(pos_BX + moved, 8)).transpose(2, 3)
        for moved in (0, 37)
    ]
    torch.testing.assert_close(*products, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(products[0], query @ key.transpose(2, 3), atol=1e-2)


@pytest.mark.parametrize("family", ["modernbert", "esm", "roberta"])
@pytest.mark.parametrize("objective", ["3ml-self", "3ml-cross", "cross-only", "late"])
def test_a_model_around_a_rotary_encoder_is_rotary(objective: str, family: str, continuous: Shards) -> None:
    """Moving a row as a whole changes nothing there, and does where positions are embeddings."""
    if (objective, family) == ("late", "esm"):
        pytest.skip("[MASK]s do not enter ESM late")
    model = make_model(continuous, objective, family)
    mask = continuous.vocabulary.mask
    ids_BL = torch.randint(5, continuous.vocabulary.size, (1, 12))
    ids_BL[0, [3, 4, 9]] = mask
    batch = batch_from_inputs(ids_BL, None, None, mask, drop=True)
    moved = MaskedBatch(
        seen_ids_BS=batch.seen_ids_BS,
        seen_pos_BS=batch.seen_pos_BS + 6,
        masked_pos_BM=torch.cat([torch.arange(6)[None], batch.masked_pos_BM + 6], dim=1),
        target_pos_BT=batch.target_pos_BT + 6,
        target_ids_BT=batch.target_ids_BT,
        documents_BL=torch.tensor([[-1] * 6 + [0] * 12]),
        hidden_BS=batch.hidden_BS,
    )
    with torch.no_grad():
        logits_LV, moved_LV = model.target_logits(batch), model.target_logits(moved)
    is_rotary = family != "roberta"
    assert model.config.decoder.positions == ("rotary" if is_rotary else "dropped")
    assert (model.decoder.masks.positions is None) == is_rotary
    assert torch.allclose(logits_LV, moved_LV, rtol=1e-3, atol=1e-3) == is_rotary
    assert not torch.allclose(logits_LV[3], logits_LV[4], atol=1e-2)  # [MASK]s that start as the same vector


def test_a_rotary_decoder_on_an_encoder_with_position_embeddings(continuous: Shards) -> None:
    model = make_model(continuous, "3ml-self", "roberta", "decoder.positions=rotary")
    batch = make_batch(continuous, "3ml-self")
    model(batch=batch).loss_sum.backward()
    assert model.decoder.masks.embedding.grad.abs().sum() > 0
    assert model.decoder.masks.positions is None


def test_what_cannot_be_turned_is_refused() -> None:
    sizes = {"num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 32, "vocab_size": 50}
    odd = AutoConfig.for_model("roberta", hidden_size=20, **sizes)
    with pytest.raises(UserError, match="heads are 5 wide"):
        MaskLaterForMaskedLM(MaskLaterConfig(odd, {"positions": "rotary"}))
    even = AutoConfig.for_model("roberta", hidden_size=16, **sizes)
    with pytest.raises(UserError, match="those of roberta turn nothing"):
        MaskLaterForMaskedLM(MaskLaterConfig(even, {"positions": "rotary", "kind": "late", "enter_layer": 1}))
