"""The method's invariants, each against transformers itself or the slow way of computing the same thing."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    RobertaForMaskedLM,
    RobertaPreLayerNormForMaskedLM,
    pipeline,
)

from masklater import MaskLaterConfig, MaskLaterForMaskedLM
from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.masking.batch import IGNORE, MaskedBatch
from masklater.model.encoder import check_encoder, encode
from masklater.model.export import export_encoder
from masklater.model.masked_lm import same_document
from masklater.pretrain.loader import make_batches
from masklater.pretrain.loop import make_model_config
from tests.conftest import tiny

FAMILIES = ["roberta", "roberta-prelayernorm"]


def model_and_batch(shards: Shards, *overrides: str) -> tuple[MaskLaterForMaskedLM, MaskedBatch]:
    """A tiny model with weights large enough to matter, and a batch of padded rows with several documents in some."""
    recipe = tiny("3ml-small", "model.dropout=0", *overrides)
    torch.manual_seed(0)
    model = MaskLaterForMaskedLM(make_model_config(recipe, shards)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    drop = recipe.decoder.kind != "none"
    return model, make_batches(shards, shards.train, recipe.masking, drop, recipe.batch.attend, 0).of_step(0, 60)


def rebuild_rows(batch: MaskedBatch, mask_id: int) -> tuple[Tensor, Tensor]:
    """The whole rows as any masked LM takes them, and their labels."""
    B, L = batch.seen_ids_BS.shape[0], batch.row_length
    ids_BL = torch.full((B, L), mask_id).scatter_(1, batch.seen_pos_BS, batch.seen_ids_BS)
    labels_BL = torch.full((B, L), IGNORE).scatter_(1, batch.target_pos_BT, batch.target_ids_BT)
    return ids_BL, labels_BL


@pytest.mark.parametrize("family", FAMILIES)
def test_encoding_what_is_seen_equals_hiding_what_is_not(family: str, shards: Shards) -> None:
    model, batch = model_and_batch(shards, f"model.family={family}")
    assert batch.documents_BL is not None
    ids_BL, _ = rebuild_rows(batch, shards.vocabulary.mask)
    is_seen_BL = torch.zeros_like(ids_BL, dtype=torch.bool).scatter_(1, batch.seen_pos_BS, True)
    attend_BLL = same_document(batch.documents_BL, ~is_seen_BL)
    pos_BL = torch.arange(ids_BL.shape[1]).expand_as(ids_BL)
    with torch.no_grad():
        whole_BLD = encode(model.encoder, ids_BL, pos_BL, model.config.position_offset, attend_BLL)
        seen_BSD = model.encode(batch)
    # Padding that is dropped changes what other padding sees, and nothing else.
    is_text_BS = batch.documents_BL.gather(1, batch.seen_pos_BS) >= 0
    expected_BSD = whole_BLD.gather(1, batch.seen_pos_BS[:, :, None].expand_as(seen_BSD))
    torch.testing.assert_close(seen_BSD[is_text_BS], expected_BSD[is_text_BS], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "reference_class"), zip(FAMILIES, [RobertaForMaskedLM, RobertaPreLayerNormForMaskedLM], strict=True)
)
def test_vanilla_mode_is_transformers_masked_lm(family: str, reference_class: type, continuous: Shards) -> None:
    model, batch = model_and_batch(continuous, f"model.family={family}", "decoder.kind=none", "batch.attend=row")
    ids_BL, labels_BL = rebuild_rows(batch, continuous.vocabulary.mask)
    reference = reference_class(model.config.encoder).eval()
    body = getattr(reference, reference.base_model_prefix)
    body.load_state_dict(model.encoder.state_dict())
    head = reference.lm_head
    head.dense.load_state_dict(model.head.dense.state_dict())
    head.layer_norm.load_state_dict(model.head.norm.state_dict())
    with torch.no_grad():
        head.bias.copy_(model.head.bias)
        head.decoder.bias.copy_(model.head.bias)

    loss_sum, num_targets = model(batch=batch)
    loss = loss_sum / num_targets
    reference_loss = reference(input_ids=ids_BL, labels=labels_BL).loss
    torch.testing.assert_close(loss, reference_loss, rtol=1e-5, atol=1e-6)
    loss.backward()
    reference_loss.backward()
    ours, theirs = dict(model.encoder.named_parameters()), dict(body.named_parameters())
    assert ours.keys() == theirs.keys()
    for name, parameter in ours.items():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-4, atol=1e-6, msg=name)
    torch.testing.assert_close(model.head.dense.weight.grad, head.dense.weight.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model.head.bias.grad, head.decoder.bias.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("decoder", ["self", "none"])
def test_the_sparse_head_equals_the_dense_head(decoder: str, shards: Shards) -> None:
    model, batch = model_and_batch(shards, f"decoder.kind={decoder}")
    _, labels_BL = rebuild_rows(batch, shards.vocabulary.mask)
    sparse, num_targets = model(batch=batch)
    sparse.backward()
    gradients = {
        name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None
    }
    model.zero_grad()

    row_BLD = model.decode(model.encode(batch), batch)
    logits_BLV = model.head(row_BLD, model.get_input_embeddings().weight)
    dense = F.cross_entropy(logits_BLV.flatten(0, 1), labels_BL.flatten(), ignore_index=IGNORE, reduction="sum")
    dense.backward()
    assert num_targets == (labels_BL != IGNORE).sum()
    torch.testing.assert_close(sparse, dense)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_exported_encoder_is_the_trained_one(family: str, shards: Shards, tmp_path: Path) -> None:
    model, _ = model_and_batch(shards, f"model.family={family}")
    export_encoder(model, shards.folder / "tokenizer", tmp_path / "encoder")
    loaded = AutoModel.from_pretrained(tmp_path / "encoder").eval()
    assert type(loaded).__module__.startswith("transformers.models.")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "encoder")
    inputs = tokenizer(["kan lot mir nus", "res"], padding=True, return_tensors="pt")
    pos_BL = torch.arange(inputs["input_ids"].shape[1]).expand_as(inputs["input_ids"])
    attend_BLL = same_document(torch.where(inputs["attention_mask"] == 1, 0, -1))
    with torch.no_grad():
        theirs = loaded(**inputs).last_hidden_state
        ours = encode(model.encoder, inputs["input_ids"], pos_BL, model.config.position_offset, attend_BLL)
    is_text = inputs["attention_mask"] == 1
    torch.testing.assert_close(ours[is_text], theirs[is_text], rtol=1e-4, atol=1e-5)
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("decoder", ["self", "none"])
def test_the_ordinary_interface_equals_the_fast_path(family: str, decoder: str, continuous: Shards) -> None:
    overrides = (f"model.family={family}", f"decoder.kind={decoder}", "batch.attend=row")
    model, batch = model_and_batch(continuous, *overrides)
    ids_BL, labels_BL = rebuild_rows(batch, continuous.vocabulary.mask)
    loss_sum, num_targets = model(batch=batch)
    output = model(input_ids=ids_BL, labels=labels_BL)
    torch.testing.assert_close(output.loss, loss_sum / num_targets)
    assert output.logits.shape == (*ids_BL.shape, continuous.vocabulary.size)


@pytest.mark.parametrize("decoder", ["self", "none"])
def test_padding_and_uneven_masks_change_no_row(decoder: str, continuous: Shards) -> None:
    model, _ = model_and_batch(continuous, f"decoder.kind={decoder}")
    mask, pad = continuous.vocabulary.mask, continuous.vocabulary.pad
    lengths, masked = [20, 9, 14], [[3, 4, 5, 6, 7], [2], []]
    alone = []
    ids_BL = torch.full((3, 20), pad)
    for row, (length, positions) in enumerate(zip(lengths, masked, strict=True)):
        ids_BL[row, :length] = torch.randint(5, continuous.vocabulary.size, (length,))
        ids_BL[row, positions] = mask
        with torch.no_grad():
            alone.append(model(input_ids=ids_BL[row : row + 1, :length]).logits[0])
    with torch.no_grad():
        together = model(input_ids=ids_BL, attention_mask=(ids_BL != pad).long()).logits
    for row, length in enumerate(lengths):
        torch.testing.assert_close(together[row, :length], alone[row], rtol=1e-4, atol=1e-4)


def test_documents_in_one_row_do_not_see_each_other(shards: Shards) -> None:
    model, batch = model_and_batch(shards)
    assert batch.documents_BL is not None
    row = int((batch.documents_BL.max(dim=1).values > 0).nonzero()[0])
    is_first_S = batch.documents_BL.gather(1, batch.seen_pos_BS)[row] == 0
    changed = batch.slice(row, row + 1)
    before = model.decode(model.encode(changed), changed)[0]
    ids_S = changed.seen_ids_BS[0].clone()
    ids_S[~is_first_S] = 7
    after_batch = MaskedBatch(**{**changed.__dict__, "seen_ids_BS": ids_S[None]})
    after = model.decode(model.encode(after_batch), after_batch)[0]
    is_first_L = batch.documents_BL[row] == 0
    torch.testing.assert_close(before[is_first_L], after[is_first_L])
    assert not torch.allclose(before[~is_first_L], after[~is_first_L])


def test_no_mask_embedding_reaches_the_encoder_and_both_learn(shards: Shards) -> None:
    model, batch = model_and_batch(shards)
    assert shards.vocabulary.mask not in batch.seen_ids_BS
    loss_sum, _ = model(batch=batch)
    loss_sum.backward()
    assert model.decoder is not None
    for parameter in (model.decoder.mask_embedding, model.decoder.position_embeddings.weight):
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
    # The row of [MASK] in the word embedding is met by the LM head only, as a class that is never right.
    assert all(p.grad is not None for p in model.parameters()), "a parameter without gradient would not be trained"


def test_save_and_load_round_trip(shards: Shards, tmp_path: Path) -> None:
    model, batch = model_and_batch(shards)
    model.save_pretrained(tmp_path / "model")
    for loaded in (
        MaskLaterForMaskedLM.from_pretrained(tmp_path / "model"),
        AutoModelForMaskedLM.from_pretrained(tmp_path / "model"),
    ):
        assert isinstance(loaded, MaskLaterForMaskedLM)
        assert torch.equal(model(batch=batch).loss_sum, loaded.eval()(batch=batch).loss_sum)
    config = AutoConfig.from_pretrained(tmp_path / "model")
    assert isinstance(config, MaskLaterConfig)
    assert config.encoder.model_type == "roberta-prelayernorm"


def test_fill_mask_pipeline(shards: Shards) -> None:
    model, _ = model_and_batch(shards)
    tokenizer = AutoTokenizer.from_pretrained(shards.folder / "tokenizer")
    answers = pipeline("fill-mask", model=model, tokenizer=tokenizer)("kan <mask> lot", top_k=3)
    assert len(answers) == 3
    assert sum(answer["score"] for answer in answers) <= 1


@pytest.mark.parametrize(
    ("family", "offset"),
    [("roberta", 2), ("roberta-prelayernorm", 2), ("camembert", 2), ("xlm-roberta", 2), ("bert", 0), ("electra", 0)],
)
def test_position_offsets_are_found(family: str, offset: int) -> None:
    assert check_encoder(AutoConfig.for_model(family)) == offset


@pytest.mark.parametrize("family", ["mpnet", "deberta-v2"])
def test_encoders_that_read_distances_off_the_index_are_refused(family: str) -> None:
    with pytest.raises(UserError, match=f"an encoder of type {family} cannot leave tokens out"):
        check_encoder(AutoConfig.for_model(family))
