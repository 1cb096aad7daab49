"""The method's invariants, for every objective on every encoder that carries it, each against the slow way.

`cases.py` lists the objectives and families; each test here runs over all pairs that differ in what it tests.
"""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from masklater.corpus.shards import Shards
from masklater.masking.batch import IGNORE, MaskedBatch
from masklater.model.attention import attention_mask, row_places, seen_places
from masklater.model.encoder import encode, run_upper_layers
from masklater.model.export import export_encoder
from masklater.model.masked_lm import MaskLaterForMaskedLM
from tests.reference.cases import (
    CASES,
    COUNT_TOKENS,
    STATE_CASES,
    PaddingSide,
    everywhere,
    gradients,
    make_batch,
    make_model,
    padded_places,
    rebuild_rows,
)

OF_FAMILIES = [
    case for case in [*CASES, *STATE_CASES] if case[0] in {"3ml-self", "late", "states"}
]  # windows among them
# Under these flows nothing sees the tokens whose change shows who sees whom.
SEEING = [case for case in [*CASES, *STATE_CASES] if case[0] not in {"cross-flows", "vanilla-flows"}]
FLOWS = ["unmasked-to-unmasked", "unmasked-to-masked", "masked-to-unmasked", "masked-to-masked"]


@pytest.mark.parametrize(("objective", "family"), OF_FAMILIES)
def test_encoding_what_is_seen_equals_hiding_what_is_not(objective: str, family: str, shards: Shards) -> None:
    model, batch = make_model(shards, objective, family), make_batch(shards, objective)
    assert batch.documents_BL is not None
    ids_BL, _ = rebuild_rows(batch, shards.vocabulary.mask)
    places = row_places(batch, ())
    is_seen_BL = torch.zeros_like(ids_BL, dtype=torch.bool).scatter_(1, batch.seen_pos_BS, True)
    hide_BLL = attention_mask(places, places, ()) & is_seen_BL[:, None, :]  # type: ignore[operator]
    hide_BLL |= torch.eye(ids_BL.shape[1], dtype=torch.bool)  # so that no softmax is empty; read by nobody
    pos_BL = torch.arange(ids_BL.shape[1]).expand_as(ids_BL)
    offset, stop = model.config.position_offset, model.config.decoder.enter_layer
    assert offset is not None
    with torch.no_grad():
        if family == "esm":  # it zeroes what it takes for [MASK]s; any other id is as invisible
            ids_BL = torch.where(is_seen_BL, ids_BL, 7)
        whole_BLD = encode(model.encoder, ids_BL, pos_BL, offset, hide_BLL, stop_before=stop)
        seen_BSD = model.encode(batch)
    # Padding that is dropped changes what other padding sees, and nothing else.
    is_text_BS = batch.documents_BL.gather(1, batch.seen_pos_BS) >= 0
    expected_BSD = whole_BLD.gather(1, batch.seen_pos_BS[:, :, None].expand_as(seen_BSD))
    torch.testing.assert_close(seen_BSD[is_text_BS], expected_BSD[is_text_BS], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["roberta", "electra", "modernbert"])
@pytest.mark.parametrize("kind", ["self", "cross"])
def test_an_embedding_skip_begins_as_if_there_were_none(kind: str, family: str, shards: Shards) -> None:
    plain, batch = make_model(shards, f"3ml-{kind}", family), make_batch(shards, f"3ml-{kind}")
    skipping = make_model(shards, f"{kind}-skip", family)
    missing, unexpected = skipping.load_state_dict(plain.state_dict(), strict=False)
    assert (missing, unexpected) == (["decoder.skip.weight"], [])
    with torch.no_grad():
        before = plain.target_logits(batch)
        assert not torch.allclose(skipping.target_logits(batch), before, atol=1e-3)
        fresh = MaskLaterForMaskedLM(skipping.config)
        skipping.get_parameter("decoder.skip.weight").copy_(fresh.get_parameter("decoder.skip.weight"))
        torch.testing.assert_close(skipping.target_logits(batch), before, rtol=0, atol=0)


@pytest.mark.parametrize(("objective", "family"), CASES)
def test_computing_at_the_targets_only_equals_computing_everywhere(objective: str, family: str, shards: Shards) -> None:
    """The sparse head, the decoder's last layer and cross-attention queries, against the dense way, with gradients."""
    model, batch = make_model(shards, objective, family), make_batch(shards, objective)
    sparse, num_targets = model(batch=batch)
    sparse.backward()
    of_sparse = gradients(model)

    dense_batch = everywhere(batch, shards.vocabulary.mask)
    logits_NV = model.target_logits(dense_batch)
    labels_N = dense_batch.target_ids_BT.flatten()
    dense = F.cross_entropy(logits_NV, labels_N, ignore_index=IGNORE, reduction="sum")
    dense.backward()
    of_dense = gradients(model)
    assert num_targets == (labels_N != IGNORE).sum()
    torch.testing.assert_close(sparse, dense, rtol=1e-5, atol=1e-3)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert of_sparse.keys() == of_dense.keys() == trained
    for name, gradient in of_sparse.items():
        scale = float(of_dense[name].abs().max())
        torch.testing.assert_close(gradient, of_dense[name], rtol=1e-3, atol=1e-4 * max(scale, 1.0), msg=name)


@pytest.mark.parametrize(("objective", "family"), CASES)
def test_the_ordinary_interface_equals_the_fast_path(objective: str, family: str, continuous: Shards) -> None:
    overrides = ("batch.attend=row",)
    model, batch = make_model(continuous, objective, family), make_batch(continuous, objective, *overrides)
    ids_BL, labels_BL = rebuild_rows(batch, continuous.vocabulary.mask)
    loss_sum, num_targets = model(batch=batch)
    output = model(input_ids=ids_BL, labels=labels_BL)
    torch.testing.assert_close(output.loss, loss_sum / num_targets, rtol=1e-5, atol=1e-5)
    assert output.logits.shape == (*ids_BL.shape, continuous.vocabulary.size)


@pytest.mark.parametrize("side", ["right", "left", "both", "middle"])
@pytest.mark.parametrize(("objective", "family"), [*CASES, *STATE_CASES])
def test_padding_and_uneven_masks_change_no_row(
    objective: str, family: str, side: PaddingSide, continuous: Shards
) -> None:
    if side == "middle" and family not in COUNT_TOKENS:
        pytest.skip(f"to {family}, padding inside a row is a gap in it")
    model = make_model(continuous, objective, family)
    mask, pad = continuous.vocabulary.mask, continuous.vocabulary.pad
    lengths, masked = [20, 9, 14], [[3, 4, 5, 6, 7], [2], []]
    alone, places = [], []
    ids_BL = torch.full((3, 20), pad)
    for row, (length, positions) in enumerate(zip(lengths, masked, strict=True)):
        ids_N = torch.randint(5, continuous.vocabulary.size, (length,))
        ids_N[positions] = mask
        places.append(padded_places(length, 20, side))
        ids_BL[row, places[-1]] = ids_N
        with torch.no_grad():
            alone.append(model(input_ids=ids_N[None], labels=ids_N[None]))
    labels_BL = torch.where(ids_BL == pad, IGNORE, ids_BL)
    with torch.no_grad():
        together = model(input_ids=ids_BL, attention_mask=(ids_BL != pad).long(), labels=labels_BL)
    for row, here in enumerate(places):
        torch.testing.assert_close(together.logits[row, here], alone[row].logits[0], rtol=1e-4, atol=1e-3)
    loss = sum(float(each.loss) * length for each, length in zip(alone, lengths, strict=True)) / sum(lengths)
    assert float(together.loss) == pytest.approx(loss, rel=1e-4)


@pytest.mark.parametrize(("objective", "family"), SEEING)
def test_documents_in_one_row_do_not_see_each_other(objective: str, family: str, shards: Shards) -> None:
    model, batch = make_model(shards, objective, family), make_batch(shards, objective)
    assert batch.documents_BL is not None
    mixed = int((batch.documents_BL.max(dim=1).values > 0).nonzero()[0])
    row = everywhere(batch.slice(mixed, mixed + 1), shards.vocabulary.mask)
    assert row.documents_BL is not None
    is_first_S = row.documents_BL.gather(1, row.seen_pos_BS)[0] == 0
    ids_S = row.seen_ids_BS[0].clone()
    ids_S[~is_first_S] = 7
    changed = MaskedBatch(**{**row.__dict__, "seen_ids_BS": ids_S[None]})
    with torch.no_grad():
        before, after = (model.target_logits(each).detach() for each in (row, changed))
    is_first_L = row.documents_BL[0] == 0
    torch.testing.assert_close(before[is_first_L], after[is_first_L])
    assert not torch.allclose(before[~is_first_L], after[~is_first_L])


@pytest.mark.parametrize(("objective", "family"), OF_FAMILIES)
def test_the_exported_encoder_is_the_trained_one(objective: str, family: str, shards: Shards, tmp_path: Path) -> None:
    model = make_model(shards, objective, family)
    export_encoder(model, shards.folder / "tokenizer", tmp_path / "encoder")
    loaded = AutoModel.from_pretrained(tmp_path / "encoder").eval()
    assert type(loaded).__module__.startswith("transformers.models.")
    assert (loaded.config.model_type, loaded.config.num_hidden_layers) == (family.removesuffix("-windows"), 2)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "encoder")
    inputs = tokenizer(["kan lot mir nus", "res"], padding=True, return_tensors="pt")
    pos_BL = torch.arange(inputs["input_ids"].shape[1]).expand_as(inputs["input_ids"])
    is_text_BL = inputs["attention_mask"] == 1
    attend_BLL = is_text_BL[:, :, None] == is_text_BL[:, None, :]
    with torch.no_grad():
        theirs = loaded(**inputs).last_hidden_state
        ours = encode(model.encoder, inputs["input_ids"], pos_BL, model.config.position_offset or 0, attend_BLL)
    torch.testing.assert_close(ours[is_text_BL], theirs[is_text_BL], rtol=1e-4, atol=1e-5)
    for name, tensor in model.encoder.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name


def test_no_mask_reaches_the_encoder_and_its_own_embedding_learns(shards: Shards) -> None:
    model, batch = make_model(shards, "3ml-self", "roberta"), make_batch(shards, "3ml-self")
    assert shards.vocabulary.mask not in batch.seen_ids_BS
    model(batch=batch).loss_sum.backward()
    for parameter in (model.decoder.masks.embedding, model.decoder.masks.positions.weight):
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("family", ["roberta", "electra"])
def test_a_shared_mask_embedding_is_the_word_embeddings_row(family: str, shards: Shards) -> None:
    model, batch = make_model(shards, "word-mask", family), make_batch(shards, "word-mask")
    assert model.decoder.masks.embedding is None
    before = model(batch=batch).loss_sum
    with torch.no_grad():
        model.get_input_embeddings().weight[shards.vocabulary.mask] += 1.0
        # The head meets the row as a class; its bias is lowered until that class plays no part.
        model.head.bias[shards.vocabulary.mask] = -1e4
    assert not torch.isclose(before, model(batch=batch).loss_sum)


def sensitivity(model: MaskLaterForMaskedLM, batch: MaskedBatch) -> Tensor:
    """How much each target's hidden state moves with what the encoder gives for each position, from_to_LL."""
    L, masked = batch.row_length, batch.masked_pos_BM[0]
    seen_BSD = model.encode(batch).detach().requires_grad_()
    # [MASK]s share one embedding, so that their own influence is measured through their position embeddings.
    positions = model.decoder.masks.positions.weight
    targets_TD = model.decode(seen_BSD, batch)[0]
    from_to_LL = torch.zeros(L, L)
    probe_D = torch.randn(targets_TD.shape[1], generator=torch.Generator().manual_seed(0))
    for target, position in zip(targets_TD, batch.target_pos_BT[0], strict=True):
        of_seen, of_masks = torch.autograd.grad((target * probe_D).sum(), (seen_BSD, positions), retain_graph=True)
        from_to_LL[batch.seen_pos_BS[0], position] = of_seen[0].abs().sum(dim=1)
        from_to_LL[masked, position] = of_masks[masked].abs().sum(dim=1)
    return from_to_LL


@pytest.mark.parametrize("blocked", FLOWS)
@pytest.mark.parametrize("decoder", ["self", "late"])
def test_a_blocked_flow_carries_nothing_and_the_others_do(decoder: str, blocked: str, continuous: Shards) -> None:
    """In one layer where both kinds meet, a position depends on another exactly where a flow leads there."""
    layers = ("decoder.num_layers=1",) if decoder == "self" else ("decoder.kind=late", "decoder.enter_layer=1")
    model = make_model(continuous, "3ml-self", "roberta", *layers, f"decoder.blocked_flows=[{blocked}]")
    batch = everywhere(make_batch(continuous, "3ml-self", "batch.attend=row", rows=1), continuous.vocabulary.mask)
    from_to_LL = sensitivity(model, batch)
    is_mask_L = torch.zeros(batch.row_length, dtype=torch.bool)
    is_mask_L[batch.masked_pos_BM[0]] = True
    itself_LL = torch.eye(batch.row_length, dtype=torch.bool)
    assert (from_to_LL[itself_LL] > 0).all()
    for flow in FLOWS:
        source, _, goal = flow.partition("-to-")
        from_L = is_mask_L if source == "masked" else ~is_mask_L
        to_L = is_mask_L if goal == "masked" else ~is_mask_L
        strength = from_to_LL[from_L[:, None] & to_L[None, :] & ~itself_LL]
        assert (strength == 0).all() if flow == blocked else (strength > 0).all(), flow


@pytest.mark.parametrize("objective", ["3ml-self", "late-flows"])
def test_no_flow_is_blocked_where_one_kind_stands_alone(objective: str, continuous: Shards) -> None:
    """The encoder, or its layers before [MASK]s enter, mixes unmasked positions, as the exported one does."""
    blocked = make_model(continuous, objective, "roberta", "decoder.blocked_flows=[unmasked-to-unmasked]")
    free = make_model(continuous, objective, "roberta", "decoder.blocked_flows=[]")
    free.load_state_dict(blocked.state_dict())
    batch = make_batch(continuous, objective)
    assert torch.equal(blocked.encode(batch), free.encode(batch))


def test_masks_that_give_nothing_leave_the_unmasked_as_if_they_were_not_there(shards: Shards) -> None:
    model, batch = make_model(shards, "late-flows", "roberta"), make_batch(shards, "late-flows")
    dense = everywhere(batch, shards.vocabulary.mask)
    places = seen_places(batch, shards.vocabulary.mask, ())
    with torch.no_grad():
        row_BLD = model.decode(model.encode(batch), dense)
        alone_BSD = run_upper_layers(
            model.encoder, model.encode(batch), batch.seen_pos_BS, 1, attention_mask(places, places, ())
        )
    assert batch.documents_BL is not None
    is_text_BS = batch.documents_BL.gather(1, batch.seen_pos_BS) >= 0
    joined_BSD = row_BLD.gather(1, batch.seen_pos_BS[:, :, None].expand_as(alone_BSD))
    torch.testing.assert_close(joined_BSD[is_text_BS], alone_BSD[is_text_BS], rtol=1e-4, atol=1e-5)


def test_masks_entering_at_layer_0_are_vanilla(shards: Shards) -> None:
    late, vanilla = (make_model(shards, name, "bert") for name in ("late-from-0", "vanilla"))
    vanilla.load_state_dict(late.state_dict())
    batch = make_batch(shards, "vanilla")
    assert torch.equal(late(batch=batch).loss_sum, vanilla(batch=batch).loss_sum)
