"""Whichever of transformers' attention implementations computes it, a row is the same, whatever stands beside it."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM

from masklater import MaskLaterForMaskedLM
from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.masking.batch import IGNORE
from masklater.model.encoder import ATTENTION_IMPLEMENTATIONS
from masklater.recipe.families import ONE_STACK
from tests.reference.cases import FAMILIES, PaddingSide, make_batch, make_model, padded_places
from tests.reference.test_against_transformers import tiny_config

IN_KIND = [
    (objective, family)
    for objective in ("3ml-self", "3ml-cross", "late", "vanilla")
    for family in FAMILIES
    if objective != "late" or family in ONE_STACK
]


@pytest.mark.parametrize("implementation", ATTENTION_IMPLEMENTATIONS)
@pytest.mark.parametrize(("objective", "family"), IN_KIND)
def test_a_row_is_the_same_whatever_stands_beside_it(
    objective: str, family: str, implementation: str, continuous: Shards, tmp_path: Path
) -> None:
    made = make_model(continuous, objective, family)
    made.save_pretrained(tmp_path / "model")
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "model", attn_implementation=implementation).eval()
    assert is_eager(model) == (implementation == "eager")
    mask, pad = continuous.vocabulary.mask, continuous.vocabulary.pad
    row_N, other_N = (torch.randint(5, continuous.vocabulary.size, (length,)) for length in (9, 21))
    labels_N = torch.where(torch.arange(9) % 4 == 2, row_N, IGNORE)
    row_N = torch.where(labels_N == IGNORE, row_N, mask)
    with torch.no_grad():
        expected = made(input_ids=row_N[None], labels=labels_N[None])
        alone = model(input_ids=row_N[None], attention_mask=torch.ones(1, 9).long(), labels=labels_N[None])
        torch.testing.assert_close(alone.loss, expected.loss, rtol=1e-4, atol=1e-4)
        for side in get_args(PaddingSide):
            if side == "middle":  # a gap, to families that do not count tokens
                continue
            places_N = padded_places(9, 21, side)
            ids_BL = torch.stack([torch.full((21,), pad).scatter(0, places_N, row_N), other_N])
            labels_BL = torch.full((2, 21), IGNORE)
            labels_BL[0, places_N] = labels_N
            beside = model(input_ids=ids_BL, attention_mask=(ids_BL != pad).long(), labels=labels_BL)
            torch.testing.assert_close(beside.loss, alone.loss, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(beside.logits[0, places_N], alone.logits[0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("objective", "family"), IN_KIND)
def test_documents_and_dropped_masks_weigh_the_same(objective: str, family: str, shards: Shards) -> None:
    """The fast path, with padding and several documents to a row; changed on the model as it stands."""
    model, batch = make_model(shards, objective, family), make_batch(shards, objective)
    losses, gradients = [], []
    for implementation in ATTENTION_IMPLEMENTATIONS:
        model.set_attn_implementation(implementation)
        assert is_eager(model) == (implementation == "eager")
        loss = model(batch=batch).loss_sum
        loss.backward()
        losses.append(loss.detach())
        gradients.append(word_gradient(model))
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-3 * float(gradients[0].abs().max()))


def is_eager(model: MaskLaterForMaskedLM) -> bool:
    return model.encoder.config._attn_implementation == "eager"


def word_gradient(model: MaskLaterForMaskedLM) -> Tensor:
    gradient = model.word_embeddings.grad
    assert gradient is not None
    model.zero_grad()
    return gradient.clone()


def test_half_precision_has_a_lowest_number_of_its_own(shards: Shards) -> None:
    model, batch = make_model(shards, "3ml-self", "roberta"), make_batch(shards, "3ml-self")
    expected = model(batch=batch).loss_sum
    model.set_attn_implementation("eager")
    for dtype in (torch.bfloat16, torch.float16):
        loss = model.to(dtype)(batch=batch).loss_sum
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=0.02)


def test_from_encoder_takes_one_and_leaves_the_source_its_own() -> None:
    config = tiny_config("roberta")
    eager = MaskLaterForMaskedLM.from_encoder(config, attn_implementation="eager")
    again = MaskLaterForMaskedLM.from_encoder(eager.encoder, mask_token_id=4)
    fused = MaskLaterForMaskedLM.from_encoder(eager.encoder, mask_token_id=4, attn_implementation="sdpa")
    default = MaskLaterForMaskedLM.from_encoder(config)
    assert [is_eager(model) for model in (eager, again, fused, default)] == [True, True, False, False]
    assert config._attn_implementation is None


@pytest.mark.parametrize("name", ["flash_attention_2", "flex_attention", "paged|sdpa", "kernels-community/flash-attn3"])
def test_implementations_that_take_no_mask_of_pairs_are_refused(name: str, tmp_path: Path) -> None:
    model = MaskLaterForMaskedLM.from_encoder(tiny_config("bert"))
    model.save_pretrained(tmp_path)
    said = f"attn_implementation is {name}, which takes no mask of who attends to whom".replace("|", ".")
    with pytest.raises(UserError, match=said):
        MaskLaterForMaskedLM.from_encoder(tiny_config("bert"), attn_implementation=name)
    for requested in (name, {"encoder": name}):
        with pytest.raises(UserError, match=said):
            MaskLaterForMaskedLM.from_pretrained(tmp_path, attn_implementation=requested)
    with pytest.raises(UserError, match=said):
        model.set_attn_implementation(name)
    model.encoder.config._attn_implementation = name
    with pytest.raises(UserError, match=said):
        model(input_ids=torch.randint(5, 320, (1, 8)))
