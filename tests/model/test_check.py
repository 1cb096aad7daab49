"""Which encoders carry the method, and which vanilla MLM: against what each family does by itself."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from masklater import MaskLaterForMaskedLM
from masklater.errors import UserError
from masklater.masking.batch import MaskedBatch
from masklater.model import encoder as encoders
from masklater.model.check import KNOWN_REASONS, Positions, check_dtype, check_encoder, find_positions, refusal
from masklater.model.encoder import build_encoder, encode
from tests.reference.cases import randomize
from tests.reference.test_against_transformers import tiny_config


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        *((family, Positions(2, False)) for family in ("roberta", "roberta-prelayernorm", "camembert", "xlm-roberta")),
        ("bert", Positions(0, False)),
        ("electra", Positions(0, False)),
        ("modernbert", Positions(0, True)),
        ("eurobert", Positions(0, True)),
        *((family, Positions(0, True)) for family in ("esmc", "gte", "jina_embeddings_v3")),
    ],
)
def test_positions_are_found(family: str, expected: Positions) -> None:
    if family not in CONFIG_MAPPING_NAMES:
        pytest.skip(f"this transformers does not know {family}")
    assert check_encoder(tiny_config(family), 24) == expected


def windows_config(**others: Any) -> PretrainedConfig:
    """Two local layers between global ones, whose windows reach 8 positions to either side."""
    layers = {"num_hidden_layers": 4, "global_attn_every_n_layers": 3, "local_attention": 16}
    return tiny_config("modernbert", max_position_embeddings=128, **layers, **others)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_windows_are_the_familys_own_and_follow_positions(implementation: str) -> None:
    torch.manual_seed(0)
    config = windows_config(attn_implementation=implementation)
    encoder = build_encoder(config).eval()
    randomize(encoder)
    ids_BL, pos_BL = torch.randint(5, 320, (2, 64)), torch.arange(64).expand(2, 64)
    seen_L = torch.rand(64) < 0.6
    with torch.no_grad():
        own_BLD = encoder(input_ids=ids_BL).last_hidden_state
        assert torch.equal(encode(encoder, ids_BL, pos_BL, 0, None), own_BLD)
        hidden_BLD = encoder(input_ids=ids_BL, attention_mask=seen_L.expand(2, 64).long()).last_hidden_state
        dropped_BSD = encode(encoder, ids_BL[:, seen_L], pos_BL[:, seen_L], 0, None)
        torch.testing.assert_close(dropped_BSD, hidden_BLD[:, seen_L], rtol=0, atol=1e-5)
        # Windows over the index would take in what stands farther off.
        by_index_BSD = encode(encoder, ids_BL[:, seen_L], pos_BL[:, : int(seen_L.sum())], 0, None)
    assert (by_index_BSD - dropped_BSD).abs().max() > 0.1
    assert check_encoder(config, 64) == Positions(0, True)


@pytest.mark.parametrize("row_length", [11, 16])
def test_windows_over_the_index_are_found_out(row_length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on rows a little longer than the window, whose seen tokens alone would fit into it."""
    monkeypatch.setattr(encoders, "WINDOWED", set())
    with pytest.raises(UserError, match=f"on rows of {row_length} its hidden states change by"):
        check_encoder(windows_config(vocab_size=321), row_length)  # a config that no other test has asked about


@pytest.mark.parametrize("biased", [True, False])
def test_vanilla_carries_deberta_beside_padding_and_other_documents(biased: bool) -> None:
    torch.manual_seed(0)
    config = tiny_config("deberta-v2", position_biased_input=biased)
    reference = AutoModelForMaskedLM.from_config(config).eval()
    randomize(reference)
    model = MaskLaterForMaskedLM.from_encoder(reference, {"kind": "none"}, mask_token_id=4).eval()
    assert model.config.position_offset == 0
    ids_BL = torch.randint(5, 320, (2, 24))
    ids_BL[1, 15:] = 1
    is_text_BL = ids_BL != 1
    with torch.no_grad():
        theirs = reference(input_ids=ids_BL, attention_mask=is_text_BL.long()).logits
        ours = model(input_ids=ids_BL, attention_mask=is_text_BL.long()).logits
        torch.testing.assert_close(ours[is_text_BL], theirs[is_text_BL], rtol=1e-4, atol=1e-4)
        if biased:
            return
        first, second = (reference(input_ids=part).logits for part in ids_BL[:1].split([10, 14], dim=1))
        documents_BL = (torch.arange(24) >= 10).long()[None]
        pos_BL = torch.arange(24)[None]
        batch = MaskedBatch(ids_BL[:1], pos_BL, pos_BL[:, :0], pos_BL, ids_BL[:1], documents_BL=documents_BL)
        packed = model.target_logits(batch)
    torch.testing.assert_close(packed, torch.cat([first, second], dim=1)[0], rtol=1e-4, atol=1e-4)


def test_what_ignores_masks_is_refused_by_vanilla_too() -> None:
    with pytest.raises(UserError, match="type fnet cannot be trained here: it ignores masks"):
        MaskLaterForMaskedLM.from_encoder(tiny_config("fnet"), {"kind": "none"}, mask_token_id=4)


@pytest.mark.parametrize("family", ["bart", "mbart", "t5", "led"])
@pytest.mark.parametrize("kind", ["self", "none"])
def test_encoders_with_a_decoder_are_refused(family: str, kind: str) -> None:
    config = AutoConfig.for_model(family, d_model=32, encoder_layers=2, decoder_layers=2, vocab_size=320)
    with pytest.raises(UserError, match=f"type {family} cannot be trained here: it is an encoder with a decoder"):
        MaskLaterForMaskedLM.from_encoder(config, {"kind": kind}, mask_token_id=4, row_length=16)


@pytest.mark.parametrize("family", ["modernvbert", "perceiver"])
def test_what_is_no_encoder_of_text_is_refused_whatever_the_row(family: str) -> None:
    with pytest.raises(UserError, match=f"type {family} cannot be trained here: its config is not that of an encoder"):
        MaskLaterForMaskedLM.from_encoder(AutoConfig.for_model(family), {"kind": "none"}, mask_token_id=4)


@pytest.mark.parametrize("family", ["roc_bert", "mobilebert"])
def test_a_family_without_first_and_last_token_is_trained(family: str) -> None:
    """Their configs name neither."""
    sizes = {"embedding_size": 48, "intra_bottleneck_size": 48} if family == "mobilebert" else {}
    config = tiny_config(family, **sizes)
    for name in ("bos_token_id", "eos_token_id"):
        vars(config).pop(name, None)
    model = MaskLaterForMaskedLM.from_encoder(config, {"kind": "none"}, mask_token_id=4, row_length=16)
    assert (model.config.bos_token_id, model.config.eos_token_id) == (None, None)
    ids_BL = torch.randint(5, 320, (2, 16))
    assert model(input_ids=ids_BL).logits.shape == (2, 16, 320)


@pytest.mark.parametrize("family", ["deberta", "longformer", "mpnet"])
def test_encoders_that_read_distances_off_the_index_are_refused_by_name(family: str) -> None:
    with pytest.raises(UserError, match=f"an encoder of type {family} cannot leave tokens out: its attention"):
        check_encoder(AutoConfig.for_model(family), 24)
    assert family in KNOWN_REASONS


@pytest.mark.parametrize("buckets", [-1, 4])
@pytest.mark.parametrize("biased", [True, False])
def test_distances_of_deberta_are_those_in_the_row(buckets: int, biased: bool) -> None:
    """Seen tokens alone, others in each row, are what transformers makes of them where the others are hidden."""
    torch.manual_seed(0)
    config = tiny_config(
        "deberta-v2", position_buckets=buckets, position_biased_input=biased, share_att_key=True,
        norm_rel_ebd="layer_norm", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    ours = build_encoder(config)
    randomize(ours)
    theirs = AutoModel.from_config(config)
    theirs.load_state_dict(ours.state_dict())
    ids_BL = torch.randint(5, 320, (3, 24))
    pos_BS = torch.stack([torch.randperm(24)[:14].sort().values for _ in range(3)])
    is_seen_BL = torch.zeros(3, 24, dtype=torch.long).scatter(1, pos_BS, 1)
    ids_BS = ids_BL.gather(1, pos_BS)
    got_BSD = encode(ours, ids_BS, pos_BS, 0, None, whole_rows=False)
    whole_BLD = theirs(input_ids=ids_BL, attention_mask=is_seen_BL).last_hidden_state
    expected_BSD = whole_BLD.gather(1, pos_BS[:, :, None].expand(-1, -1, 32))
    torch.testing.assert_close(got_BSD, expected_BSD, rtol=1e-4, atol=1e-5)
    got_BSD.square().sum().backward()
    expected_BSD.square().sum().backward()
    gradients = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-3, atol=1e-4, msg=name)
    by_index_BSD = encode(ours, ids_BS, pos_BS, 0, None)
    assert (by_index_BSD - got_BSD).abs().max() > 0.01
    assert check_encoder(config, 24) == Positions(0, relative=not biased)


def test_deberta_whose_layers_read_neighbours_is_refused() -> None:
    config = tiny_config("deberta-v2", conv_kernel_size=3, conv_act="gelu")
    with pytest.raises(UserError, match="type deberta-v2 cannot be trained here: its convolutions read neighbours"):
        check_encoder(config, 24)


@pytest.mark.parametrize("family", ["funnel", "perceiver"])
@pytest.mark.parametrize("find", [check_encoder, find_positions])
def test_what_is_no_encoder_of_text_like_others_is_refused_in_a_sentence(
    family: str, find: Callable[[PretrainedConfig, int], Positions]
) -> None:
    with pytest.raises(UserError, match=f"an encoder of type {family} cannot"):
        find(AutoConfig.for_model(family), 24)


def test_convolutions_keep_from_leaving_out_alone() -> None:
    config = AutoConfig.for_model("nystromformer", num_hidden_layers=1)
    with pytest.raises(UserError, match="type nystromformer cannot leave tokens out"):
        check_encoder(config, 24)
    assert find_positions(config, 24).offset == 2


NARROW = {
    "electra": "embedding_size",
    "albert": "embedding_size",
    "deberta-v2": "embedding_size",
    "rembert": "input_embedding_size",
}
"""Families whose word embeddings may be narrower than hidden states, and what says how wide they are."""


@pytest.mark.parametrize("family", NARROW)
def test_a_word_embedding_is_widened_as_the_encoder_does(family: str) -> None:
    """[MASK] is read by the decoder alone, in the encoder's width, and its row is trained."""
    torch.manual_seed(0)
    config = tiny_config(family, **{NARROW[family]: 16})
    decoder = {"mask_embedding": "word", "embedding_skip": True}
    model = MaskLaterForMaskedLM.from_encoder(config, decoder, mask_token_id=4, row_length=16)
    randomize(model)
    ids_BL = torch.randint(5, 320, (2, 16))
    ids_BL[:, 3::4] = 4
    words_VE = model.word_embeddings
    assert words_VE.shape == (320, 16)
    before_BLV = model.eval()(input_ids=ids_BL).logits[:, :, 5:]
    before_BLV.square().sum().backward()
    assert words_VE.grad[4].abs().max() > 1e-4
    with torch.no_grad():
        words_VE[4] += 1
        assert not torch.allclose(model(input_ids=ids_BL).logits[:, :, 5:], before_BLV, atol=1e-3)


def test_a_word_embedding_that_is_not_known_to_be_widened_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "WIDENED_BY", ())
    config = tiny_config("albert", embedding_size=16)
    with pytest.raises(UserError, match=r"mask_embedding is word.* type albert .* 16 wide, .* 32, is not known"):
        MaskLaterForMaskedLM.from_encoder(config, {"mask_embedding": "word"}, mask_token_id=4)
    with pytest.raises(UserError, match=r"embedding_skip is true.* type albert .* 16 wide, .* 32, is not known"):
        MaskLaterForMaskedLM.from_encoder(config, {"embedding_skip": True}, mask_token_id=4)
    for decoder in ({}, {"kind": "none", "mask_embedding": "word"}):  # whose [MASK]s are the encoder's own
        MaskLaterForMaskedLM.from_encoder(config, decoder, mask_token_id=4)


@pytest.mark.parametrize("family", ["modernbert", "gte", "roformer"])
@pytest.mark.parametrize("decoder", [{"kind": "none"}, {"positions": "dropped"}])
def test_heads_of_an_odd_width_are_refused_where_pairs_are_turned(family: str, decoder: dict[str, str]) -> None:
    if family not in CONFIG_MAPPING_NAMES:
        pytest.skip(f"this transformers does not know {family}")
    config = tiny_config(family, hidden_size=14, num_attention_heads=2)
    # RoFormer's config does not say that it turns anything; the trial finds out.
    said = (
        "it does not take" if family == "roformer" else "turns pairs of numbers by position, and its heads are 7 wide"
    )
    with pytest.raises(UserError, match=f"an encoder of type {family} .*{said}"):
        MaskLaterForMaskedLM.from_encoder(config, decoder, mask_token_id=4, row_length=16)


@pytest.mark.parametrize("family", ["bert", "esm"])
def test_heads_of_an_odd_width_are_heads_where_nothing_is_turned(family: str) -> None:
    config = tiny_config(family, hidden_size=14, num_attention_heads=2)
    model = MaskLaterForMaskedLM.from_encoder(config, mask_token_id=4, row_length=16)
    assert model(input_ids=torch.randint(5, 320, (2, 16))).logits.shape == (2, 16, 320)


@pytest.mark.parametrize(("family", "most"), [("roberta", 38), ("bert", 40), ("deberta-v2", 40)])
@pytest.mark.parametrize("kind", ["self", "none"])
def test_rows_are_no_longer_than_an_encoder_has_positions_for(family: str, most: int, kind: str) -> None:
    config, ids_BL = tiny_config(family), torch.randint(5, 320, (1, most))
    model = MaskLaterForMaskedLM.from_encoder(config, {"kind": kind}, mask_token_id=4, row_length=most)
    assert model(input_ids=ids_BL).logits.shape == (1, most, 320)
    for row_length in (most + 1, 1000):
        said = f"row_length is {row_length}, and the encoder has positions for rows of {most}"
        with pytest.raises(UserError, match=said):
            MaskLaterForMaskedLM.from_encoder(config, {"kind": kind}, mask_token_id=4, row_length=row_length)


@pytest.mark.parametrize("kind", ["self", "none"])
def test_an_encoder_that_turns_has_positions_for_any_row(kind: str) -> None:
    model = MaskLaterForMaskedLM.from_encoder(tiny_config("modernbert"), {"kind": kind}, mask_token_id=4, row_length=64)
    assert model(input_ids=torch.randint(5, 320, (1, 64))).logits.shape == (1, 64, 320)


def test_an_encoder_whose_own_code_mixes_types_is_refused_in_bfloat16_alone() -> None:
    """X-MOD writes what its adapters compute, in bfloat16, into float32: under autocast that is an error of torch."""
    cpu = torch.device("cpu")
    refused, taken = (
        MaskLaterForMaskedLM.from_encoder(tiny_config(family, **others), {"kind": "self"}, mask_token_id=4).config
        for family, others in (("xmod", {"languages": ["en_XX"], "default_language": "en_XX"}), ("roberta", {}))
    )
    with pytest.raises(UserError, match="an encoder of type xmod does not compute in bfloat16: Index put") as raised:
        check_dtype(refused, cpu, torch.bfloat16)
    assert "precision=float32" in str(raised.value)
    check_dtype(refused, cpu, torch.float32)
    check_dtype(taken, cpu, torch.bfloat16)


def test_memory_that_is_short_says_nothing_about_precision() -> None:
    """A GPU that others have filled refuses every computation, in float32 too."""

    def fails(error: Exception) -> None:
        raise error

    autocast = torch.autocast("cpu", torch.bfloat16)
    assert refusal(lambda: fails(RuntimeError("expected dtype float\nmore")), autocast) == "expected dtype float"
    for error in (torch.OutOfMemoryError("CUDA out of memory"), torch.AcceleratorError("CUDA error: out of memory")):
        with pytest.raises(type(error)):
            refusal(lambda error=error: fails(error), autocast)
