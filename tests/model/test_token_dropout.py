"""ESM-2's `token_dropout` scales what an encoder reads by how many [MASK]s it reads: a row reads its own alone."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM, EsmConfig, PreTrainedModel

from masklater import MaskLaterForMaskedLM
from masklater.errors import UserError
from masklater.masking.batch import IGNORE, MaskedBatch
from masklater.model import encoder as encoders
from masklater.model.check import Positions, check_encoder, find_positions
from tests.reference.cases import PaddingSide, padded_places, randomize

PAD, MASK = 1, 32


def esm2(**others: Any) -> EsmConfig:
    """As the published ones, but for the sizes: a letter is a token, and [MASK] the last of 33."""
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    special = {"pad_token_id": PAD, "mask_token_id": MASK, "vocab_size": 33, "max_position_embeddings": 1026}
    rotary = {"position_embedding_type": "rotary", "token_dropout": True, "emb_layer_norm_before": False}
    return EsmConfig(**{**sizes, **special, **rotary, **others})


def random_masked_lm(**others: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(esm2(**others)).eval()
    randomize(model)
    return model


def a_row(length: int, *masked: int) -> Tensor:
    ids_N = torch.randint(4, 24, (length,), generator=torch.Generator().manual_seed(length))
    ids_N[list(masked)] = MASK
    return ids_N


@pytest.mark.parametrize("row_length", [12, 320, 512, 1024])
def test_rows_of_every_length_are_taken(row_length: int) -> None:
    assert check_encoder(esm2(), row_length) == Positions(0, True)
    assert find_positions(esm2(), row_length) == Positions(0, True)


@pytest.mark.parametrize("positions", ["rotary", "absolute"])
@pytest.mark.parametrize("side", ["right", "left", "both", "middle"])
def test_a_padded_row_is_the_row_alone(side: PaddingSide, positions: str) -> None:
    """Of whose tokens, not of the tensor's, three in nine are [MASK]s."""
    if (side, positions) == ("middle", "rotary"):
        pytest.skip("the gap counts")
    reference = random_masked_lm(position_embedding_type=positions)
    model = MaskLaterForMaskedLM.from_encoder(reference, {"kind": "none"}).eval()
    ids_N, places_N = a_row(9, 2, 3, 6), padded_places(9, 64, side)
    ids_BL = torch.full((2, 64), PAD)
    ids_BL[0, places_N], ids_BL[1] = ids_N, a_row(64, 5)
    with torch.no_grad():
        expected = reference(input_ids=ids_N[None]).logits[0]
        alone = model(input_ids=ids_N[None]).logits[0]
        padded = model(input_ids=ids_BL, attention_mask=(ids_BL != PAD).long()).logits[0, places_N]
    torch.testing.assert_close(alone, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(padded, expected, rtol=1e-4, atol=1e-4)


def test_documents_in_one_row_are_each_alone() -> None:
    """One of which is nothing but [MASK]s: by their share it would be scaled by 1 / 0."""
    reference = random_masked_lm()
    model = MaskLaterForMaskedLM.from_encoder(reference, {"kind": "none"}).eval()
    parts = [a_row(10, 1, 4, 5, 8), a_row(14, 7), a_row(8), a_row(3, 0, 1, 2)]
    ids_BL = torch.cat(parts)[None]
    documents_BL = torch.cat([torch.full_like(part, number) for number, part in enumerate(parts)])[None]
    pos_BL = torch.arange(35)[None]
    batch = MaskedBatch(ids_BL, pos_BL, pos_BL[:, :0], pos_BL, torch.full_like(ids_BL, 5), documents_BL=documents_BL)
    with torch.no_grad():
        packed = model.target_logits(batch)
        alone = torch.cat([reference(input_ids=part[None]).logits[0] for part in parts[:3]])
    torch.testing.assert_close(packed[:32], alone, rtol=1e-4, atol=1e-4)
    model(batch=batch).loss_sum.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)


def test_what_is_seen_without_masks_is_scaled_as_in_fine_tuning() -> None:
    """Where [MASK]s are left out none is read, however many there are, and whatever the rows beside it have."""
    reference = random_masked_lm()
    model = MaskLaterForMaskedLM.from_encoder(reference, {"kind": "self"}, row_length=32).eval()
    ids_BL = torch.stack([a_row(24, 1, 2, 3, 9, 14), a_row(24)])
    is_seen_BL = ids_BL != MASK
    unread_BL = torch.where(is_seen_BL, ids_BL, 5)  # transformers would count [MASK]s that it is told to hide
    with torch.no_grad():
        together, alone = model(input_ids=ids_BL).logits, [model(input_ids=row[None]).logits[0] for row in ids_BL]
        torch.testing.assert_close(together, torch.stack(alone), rtol=1e-4, atol=1e-4)
        theirs_BLD = reference.esm(input_ids=unread_BL, attention_mask=is_seen_BL.long()).last_hidden_state
        pos_BS = is_seen_BL[:1].nonzero()[:, 1][None]
        none_B0 = torch.empty(1, 0, dtype=torch.long)
        batch = MaskedBatch(
            ids_BL[:1].gather(1, pos_BS), pos_BS, (~is_seen_BL[:1]).nonzero()[:, 1][None], none_B0, none_B0
        )
        torch.testing.assert_close(model.encode(batch)[0], theirs_BLD[0, is_seen_BL[0]], rtol=1e-4, atol=1e-4)


def test_the_trial_tells_counts_over_a_whole_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    def as_the_family_calls_it(encoder: PreTrainedModel, ids_BS: Tensor, pos_BS: Tensor, _: Tensor) -> Tensor:
        return encoder.embeddings(input_ids=ids_BS, position_ids=pos_BS)

    monkeypatch.setattr(encoders, "_embed_esm", as_the_family_calls_it)
    config = esm2(vocab_size=34)  # one that no other test has asked about
    with pytest.raises(UserError, match=r"its hidden states change by .* told positions and who attends to whom"):
        find_positions(config, 24)
    assert check_encoder(config, 24) == Positions(0, True)  # which reads no [MASK]s to be counted


def test_without_token_dropout_masks_are_words() -> None:
    reference = random_masked_lm(token_dropout=False)
    model = MaskLaterForMaskedLM.from_encoder(reference, {"kind": "none"}).eval()
    ids_BL = torch.full((1, 20), PAD)
    ids_BL[0, :9] = a_row(9, 2, 3)
    is_text_BL = ids_BL != PAD
    labels_BL = torch.where(ids_BL == MASK, 7, IGNORE)
    ours, theirs = (
        each(input_ids=ids_BL, attention_mask=is_text_BL.long(), labels=labels_BL).loss for each in (model, reference)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
