"""Whichever of transformers' attention implementations computes it, a row is the same, whatever stands beside it."""

from pathlib import Path
from typing import get_args
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor
from torch.nn.attention import flex_attention
from torch.nn.attention.flex_attention import BlockMask
from transformers import AttentionInterface, AutoModelForMaskedLM

from masklater import MaskLaterForMaskedLM
from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.machine import compilation
from masklater.machine.parallel import stacked_layers
from masklater.masking.batch import IGNORE
from masklater.model import implementations
from masklater.model.implementations import ATTENTION_IMPLEMENTATIONS
from masklater.recipe.families import ONE_STACK
from tests.reference.cases import FAMILIES, WINDOWS, PaddingSide, make_batch, make_model, padded_places
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


BY_BLOCKS_TOO = [
    *((objective, family) for objective in ("3ml-self", "vanilla-flows") for family in (*FAMILIES, WINDOWS)),
    *(("late", family) for family in (*sorted(ONE_STACK), WINDOWS)),
]


@pytest.mark.parametrize(("objective", "family"), BY_BLOCKS_TOO)
def test_blocks_weigh_the_same_as_masks(
    objective: str, family: str, shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FlexAttention in training, in its plain form, which computes all pairs: its kernel is for GPUs alone."""
    model, batch = make_model(shards, objective, family), make_batch(shards, objective)
    expected = model(batch=batch).loss_sum
    expected.backward()
    d_expected = word_gradient(model)
    monkeypatch.setattr(implementations, "SHORTEST_BY_BLOCKS", 1)
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *parts: None)  # which refuses gradients on CPUs
    called = Mock(side_effect=AttentionInterface()["flex_attention"])
    monkeypatch.setitem(AttentionInterface._global_mapping, "flex_attention", called)
    assert model.attend_by_blocks()
    with torch.compiler.set_stance("force_eager"):
        evaluated = model(batch=batch).loss_sum
        assert not called.called
        loss = model.train()(batch=batch).loss_sum
        loss.backward()
    assert called.called
    torch.testing.assert_close(evaluated, expected)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(word_gradient(model), d_expected, rtol=1e-3, atol=1e-3 * float(d_expected.abs().max()))


@pytest.mark.parametrize("family", ["roberta-prelayernorm", WINDOWS])
def test_layers_with_blocks_are_one_graph_each(family: str, shards: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = make_model(shards, "3ml-self", family).train(), make_batch(shards, "3ml-self")
    expected = model(batch=batch).loss_sum
    monkeypatch.setattr(implementations, "SHORTEST_BY_BLOCKS", 1)
    monkeypatch.setattr(flex_attention, "_validate_device", lambda *parts: None)
    graphs = Mock(side_effect=lambda module, _: module.forward)  # without writing a kernel for it
    monkeypatch.setattr(compilation, "BACKEND", graphs)
    assert model.attend_by_blocks()
    compilation.compile_layers(stacked_layers(model))
    made: list[int] = []
    for _ in range(3):  # the blocks of each batch are other ones
        loss = model(batch=batch).loss_sum
        loss.backward()
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-3)
        made.append(graphs.call_count)
    assert made[0] == made[1] == made[2] > 0


def test_blocks_are_for_long_rows_and_for_attention_without_dropout(shards: Shards) -> None:
    model = make_model(shards, "3ml-self", "roberta").train()
    attend_BSS = torch.rand(2, implementations.SHORTEST_BY_BLOCKS, implementations.SHORTEST_BY_BLOCKS) < 0.5
    assert model.attend_by_blocks()
    for shorter, kind in ((0, BlockMask), (1, Tensor)):
        part = attend_BSS[:, shorter:, shorter:]
        mask = implementations.attention_mask(model.encoder, part)
        assert isinstance(mask, kind)
        assert mask.shape == (2, 1, *part.shape[1:])
    assert implementations.attention_mask(model.encoder, None) is None
    assert not make_model(shards, "3ml-self", "roberta", "model.dropout=0.1").attend_by_blocks()
    assert not MaskLaterForMaskedLM.from_encoder(
        tiny_config("bert"), mask_token_id=4, attn_implementation="eager"
    ).attend_by_blocks()


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
