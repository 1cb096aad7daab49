"""Against transformers itself: its masked LMs, its Trainer, its pipeline, its way of saving and loading."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    PretrainedConfig,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    pipeline,
)

from masklater import MaskLaterConfig, MaskLaterForMaskedLM
from masklater.corpus.shards import Shards
from masklater.corpus.tokenizer import load, wrap
from masklater.corpus.train import train
from masklater.errors import UserError
from masklater.hub import find
from masklater.masking.batch import IGNORE
from masklater.model.plain import plain_masked_lm
from masklater.model.saved import load_masked_lm
from tests.conftest import make_text
from tests.reference.cases import (
    COUNT_TOKENS,
    FAMILIES,
    OBJECTIVES,
    WINDOWS,
    PaddingSide,
    make_batch,
    make_model,
    padded_places,
    randomize,
    rebuild_rows,
)

SIZES = {
    "vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 40, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "mask_token_id": 4,
}  # fmt: skip
OF_FAMILY: dict[str, dict[str, Any]] = {
    "modernbert": {"global_attn_every_n_layers": 1, "cls_token_id": 0, "sep_token_id": 2},
    "electra": {"embedding_size": 16},
    "esm": {"position_embedding_type": "absolute"},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "type_vocab_size": 0},
    WINDOWS: {"global_attn_every_n_layers": 2, "local_attention": 8, "cls_token_id": 0, "sep_token_id": 2},
}


def tiny_config(family: str, **others: Any) -> PretrainedConfig:
    model_type = "modernbert" if family == WINDOWS else family
    return AutoConfig.for_model(model_type, **{**SIZES, **OF_FAMILY.get(family, {}), **others})


def masked_lm(family: str) -> PreTrainedModel:
    """transformers' own masked LM of a family, with weights large enough to matter."""
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(tiny_config(family)).eval()
    randomize(model)
    return model


@pytest.mark.parametrize("family", [*FAMILIES, "distilbert", "deberta-v2", WINDOWS])
def test_vanilla_mode_is_transformers_masked_lm(family: str, continuous: Shards) -> None:
    reference = masked_lm(family)
    body = getattr(reference, reference.base_model_prefix)
    model = MaskLaterForMaskedLM.from_encoder(reference, {"kind": "none"}, mask_token_id=4).eval()
    batch = make_batch(continuous, "vanilla", "batch.attend=row")
    ids_BL, labels_BL = rebuild_rows(batch, continuous.vocabulary.mask)
    loss_sum, num_targets = model(batch=batch)
    loss = loss_sum / num_targets
    reference_loss = reference(input_ids=ids_BL, labels=labels_BL).loss
    torch.testing.assert_close(loss, reference_loss, rtol=1e-5, atol=1e-6)
    loss.backward()
    reference_loss.backward()
    theirs = dict(body.named_parameters())
    for name, parameter in model.encoder.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("side", ["right", "left", "both", "middle"])
@pytest.mark.parametrize("family", [*FAMILIES, "distilbert"])
def test_positions_of_padded_rows_are_those_of_the_family(family: str, side: PaddingSide) -> None:
    """Families that count tokens do so in ours; in others padding on the left, which would move the row, does not."""
    reference = masked_lm(family)
    model = MaskLaterForMaskedLM.from_encoder(reference, {"kind": "none"}, mask_token_id=4).eval()
    ids_N, places_N = torch.randint(5, 320, (9,)), padded_places(9, 16, side)
    ids_BL = torch.full((1, 16), 1)
    ids_BL[0, places_N] = ids_N
    is_text_BL = ids_BL != 1
    with torch.no_grad():
        ours = model(input_ids=ids_BL, attention_mask=is_text_BL.long()).logits[0, places_N]
        if family in COUNT_TOKENS or side in {"right", "middle"}:
            expected = reference(input_ids=ids_BL, attention_mask=is_text_BL.long()).logits[0, places_N]
        else:
            expected = reference(input_ids=ids_N[None]).logits[0]
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
        if family in COUNT_TOKENS:  # they do without a mask, too, and then attend to padding
            ours, theirs = (each(input_ids=ids_BL).logits for each in (model, reference))
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_sources_to_start_from(shards: Shards, tmp_path: Path) -> None:
    """A masked LM, a bare encoder, a folder of either, a config, and a model of ours."""
    reference = masked_lm("bert")
    bare = reference.bert
    reference.save_pretrained(tmp_path / "masked-lm")
    bare.save_pretrained(tmp_path / "bare")
    ids_BL = torch.randint(5, 320, (2, 12))
    expected = bare(input_ids=ids_BL).last_hidden_state
    bias = reference.cls.predictions.bias
    for source, has_head in (
        (reference, True),
        (bare, False),
        (tmp_path / "masked-lm", True),
        (str(tmp_path / "bare"), False),
    ):
        model = MaskLaterForMaskedLM.from_encoder(source, {"num_layers": 1}, mask_token_id=4).eval()
        assert len(model.decoder.layers) == 1
        assert torch.equal(model.encoder(input_ids=ids_BL).last_hidden_state, expected)
        assert torch.equal(model.head.bias, bias) == has_head
    again = MaskLaterForMaskedLM.from_encoder(model, decoder={"num_layers": 1})
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    fresh = MaskLaterForMaskedLM.from_encoder(tiny_config("modernbert"), {"kind": "cross", "hidden_size": 16})
    assert fresh(input_ids=ids_BL).logits.shape == (2, 12, 320)


@pytest.mark.parametrize("family", [*FAMILIES, "distilbert"])
@pytest.mark.parametrize("objective", ["self", "none"])
def test_a_vocabulary_is_resized(family: str, objective: str, tmp_path: Path) -> None:
    """As scripts do after add_tokens; what the model knew of the tokens that stay, it still knows."""
    torch.manual_seed(0)
    model = MaskLaterForMaskedLM.from_encoder(masked_lm(family), {"kind": objective}, mask_token_id=4).eval()
    ids_BL = torch.randint(5, 300, (2, 12))
    ids_BL[:, 3] = 4
    labels_BL = torch.where(ids_BL == 4, 299, IGNORE)
    with torch.no_grad():
        before = model(input_ids=ids_BL).logits
        mean_bias = float(model.head.bias.mean())
        for size, multiple, expected in ((323, None, 323), (330, 64, 384), (300, None, 300), (None, None, 300)):
            words = model.resize_token_embeddings(size, pad_to_multiple_of=multiple)
            assert words is model.get_input_embeddings()
            assert {len(model.word_embeddings), len(model.head.bias)} == {expected}
            assert {model.config.encoder.vocab_size, model.encoder.config.vocab_size} == {expected}
            if size == 323:
                assert model.head.bias[320:].tolist() == pytest.approx([mean_bias] * 3)
            after = model(input_ids=ids_BL, labels=labels_BL)
            torch.testing.assert_close(after.logits[:, :, :300], before[:, :, :300])
            assert torch.isfinite(after.loss)
            folder = tmp_path / str(expected)
            model.save_pretrained(folder)
            loaded = AutoModelForMaskedLM.from_pretrained(folder).eval()
            assert torch.equal(loaded(input_ids=ids_BL).logits, after.logits)
            model.encoder.save_pretrained(folder / "encoder")
            assert len(AutoModel.from_pretrained(folder / "encoder").get_input_embeddings().weight) == expected
    grown = model.train().resize_token_embeddings(310)
    model(input_ids=torch.where(ids_BL == 4, 4, 309), labels=labels_BL).loss.backward()
    assert (grown.weight.grad[309] != 0).any()
    assert model.head.bias.grad is not None
    with pytest.raises(UserError, match="a vocabulary of 4 has no entry 4, which is the mask token"):
        model.resize_token_embeddings(4)


def test_a_vocabulary_is_resized_around_nothing_where_asked() -> None:
    model = MaskLaterForMaskedLM.from_encoder(masked_lm("roberta"), mask_token_id=4)
    model.resize_token_embeddings(323, mean_resizing=False)
    assert model.head.bias[320:].tolist() == [0, 0, 0]


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_a_pooler_that_stays_behind_is_said_to(family: str, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    AutoModel.from_config(tiny_config(family)).save_pretrained(tmp_path / "bare")
    masked_lm(family).save_pretrained(tmp_path / "masked-lm")
    for source, has_pooler in ((tmp_path / "bare", family != "electra"), (tmp_path / "masked-lm", False)):
        recwarn.clear()
        MaskLaterForMaskedLM.from_encoder(source, mask_token_id=4)
        said = [str(warning.message) for warning in recwarn if "pooler" in str(warning.message)]
        assert len(said) == has_pooler, said


OTHER_HEADS = {
    "roberta": ({"tie_word_embeddings": False}, "its output embedding is not the word embedding: they are not tied"),
    "bert": ({"hidden_act": "relu"}, r"it computes something else than dense, .* hidden_act is relu\)"),
    "albert": ({"embedding_size": 16, "hidden_act": "relu"}, r"it computes something else .* hidden_act is relu\)"),
    "eurobert": ({}, "it is not one dense layer, one LayerNorm and the word embedding"),
    "rembert": ({"input_embedding_size": 16}, "it is not one dense layer, one LayerNorm and the word embedding"),
}
"""Settings under which a family's LM head is not ours, and why."""


@pytest.mark.parametrize("family", OTHER_HEADS)
def test_a_head_that_stays_behind_is_said_to(family: str) -> None:
    others, reason = OTHER_HEADS[family]
    torch.manual_seed(0)
    source = AutoModelForMaskedLM.from_config(tiny_config(family, **others)).eval()
    randomize(source)
    with pytest.warns(UserWarning, match=f"^the source's head is left behind, and a new LM head .*: {reason}$"):
        model = MaskLaterForMaskedLM.from_encoder(source, {"kind": "none"}, mask_token_id=4)
    assert not model.head.bias.any()
    words_VE = source.get_input_embeddings().weight
    assert torch.equal(model.word_embeddings, words_VE)


@pytest.mark.parametrize(
    ("family", "activation"), [("albert", "gelu_new"), ("bert", "gelu_pytorch_tanh"), ("bert", "gelu")]
)
def test_a_head_that_computes_gelu_by_tanh_is_taken_over(family: str, activation: str, tmp_path: Path) -> None:
    """As ALBERT and BigBird do; a model of ours keeps it, saved, gone on from, and as transformers' own class again."""
    others = {"embedding_size": 16} if family == "albert" else {}
    torch.manual_seed(0)
    source = AutoModelForMaskedLM.from_config(tiny_config(family, hidden_act=activation, **others)).eval()
    randomize(source)
    model = MaskLaterForMaskedLM.from_encoder(source, {"kind": "none"}, mask_token_id=4).eval()
    assert model.config.head_activation == ("gelu" if activation == "gelu" else "gelu_new")
    model.save_pretrained(tmp_path)
    ids_BL = torch.randint(5, 320, (2, 12))
    with torch.no_grad():
        expected = source(input_ids=ids_BL).logits
        for same in (
            model, AutoModelForMaskedLM.from_pretrained(tmp_path), MaskLaterForMaskedLM.from_encoder(model, {"kind": "none"}),
            plain_masked_lm(model),
        ):  # fmt: skip
            torch.testing.assert_close(same.eval()(input_ids=ids_BL).logits, expected, rtol=1e-5, atol=1e-5)


def test_a_saved_head_is_judged_in_float32_whatever_it_is_saved_in(tmp_path: Path) -> None:
    """In bfloat16 quick_gelu is no further from GELU than rounding is."""
    torch.manual_seed(0)
    source = AutoModelForMaskedLM.from_config(tiny_config("bert", hidden_act="quick_gelu")).eval()
    randomize(source)
    source.to(torch.bfloat16).save_pretrained(tmp_path)
    saved = load_masked_lm(find(str(tmp_path), (), "it"))
    assert {parameter.dtype for parameter in saved.parameters()} == {torch.float32}
    with pytest.warns(UserWarning, match="left behind, .* it computes something else .* hidden_act is quick_gelu"):
        MaskLaterForMaskedLM.from_encoder(tmp_path, {"kind": "none"}, mask_token_id=4)


@pytest.mark.parametrize("make", [AutoModelForSequenceClassification, AutoModelForTokenClassification])
@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_head_that_predicts_no_tokens_stays_behind(family: str, make: Any) -> None:
    """ModernBERT's has a dense layer and a LayerNorm of the right shapes."""
    with pytest.warns(UserWarning, match="the source's head is left behind, and a new LM head begins at random: it "):
        model = MaskLaterForMaskedLM.from_encoder(make.from_config(tiny_config(family)), mask_token_id=4)
    assert not model.head.bias.any()


@pytest.mark.parametrize("family", ["bert", "ernie", "megatron-bert"])
def test_a_head_beside_that_of_the_next_sentence_is_taken_over(family: str, recwarn: pytest.WarningsRecorder) -> None:
    torch.manual_seed(0)
    source = AutoModelForPreTraining.from_config(tiny_config(family)).eval()
    randomize(source)
    model = MaskLaterForMaskedLM.from_encoder(source.train(), {"kind": "none"}, mask_token_id=4).eval()
    assert source.training
    ids_BL = torch.randint(5, 320, (2, 12))
    expected = source.eval()(input_ids=ids_BL).prediction_logits
    torch.testing.assert_close(model(input_ids=ids_BL).logits, expected, rtol=1e-4, atol=1e-4)
    assert not [warning for warning in recwarn if "head is left behind" in str(warning.message)]


@pytest.mark.parametrize("family", ["roberta", "bert", "modernbert", "electra", "esm"])
def test_nothing_is_said_of_a_head_that_is_taken_over_or_of_none(family: str, recwarn: pytest.WarningsRecorder) -> None:
    reference = masked_lm(family)
    for source in (reference, getattr(reference, reference.base_model_prefix), tiny_config(family)):
        MaskLaterForMaskedLM.from_encoder(source, mask_token_id=4)
    assert not [warning for warning in recwarn if "head is left behind" in str(warning.message)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_layers": 0}, r"decoder\.num_layers is 0: .*greater than 0.* at least 1: vanilla MLM is kind none"),
        ({"num_layers": 0, "kind": "cross"}, r"decoder\.num_layers is 0: .*greater than 0"),
        ({"kind": "vanilla"}, r"decoder\.kind is 'vanilla': it must be one of self, cross, cross-only, late, none"),
        ({"kind": "late"}, "enter_layer belongs to kind late, which needs it; kind is late"),
        ({"kind": "late", "enter_layer": 2}, r"decoder\.enter_layer is 2, and the encoder's 2 layers count from 0"),
        ({"mask_embedding": "none"}, r"decoder\.mask_embedding is 'none': input should be 'own' or 'word'"),
        ({"layers": 1, "knd": "cross"}, r"(?s)decoder\.layers is 1: .*no such key.*decoder\.knd.* Did you mean kind\?"),
    ],
)
def test_a_decoder_that_is_none(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"(?s){message}"):
        MaskLaterForMaskedLM.from_encoder(tiny_config("roberta"), settings)


def test_a_source_of_which_the_mask_token_is_unknown() -> None:
    config = tiny_config("roberta")
    config.mask_token_id = None
    with pytest.raises(ValueError, match="mask_token_id is not known from the source"):
        MaskLaterForMaskedLM.from_encoder(config)


def test_a_checkpoint_saved_in_bfloat16_is_trained_in_float32(tmp_path: Path) -> None:
    reference = masked_lm("roberta").to(torch.bfloat16)
    reference.save_pretrained(tmp_path / "model")
    model = MaskLaterForMaskedLM.from_encoder(tmp_path / "model", mask_token_id=4)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.head.bias, reference.lm_head.bias.float()), "the LM head was not recognised"


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_save_and_load_round_trip(objective: str, shards: Shards, tmp_path: Path) -> None:
    model, batch = make_model(shards, objective, "roberta"), make_batch(shards, objective)
    model.save_pretrained(tmp_path / "model")
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path / "model").eval()
    assert isinstance(loaded, MaskLaterForMaskedLM)
    assert torch.equal(model(batch=batch).loss_sum, loaded(batch=batch).loss_sum)
    config = AutoConfig.from_pretrained(tmp_path / "model")
    assert isinstance(config, MaskLaterConfig)
    assert config.encoder.model_type == "roberta"


@pytest.mark.parametrize("family", ["roberta", "bert"])
def test_fill_mask_pipeline(family: str, shards: Shards) -> None:
    model = make_model(shards, "3ml-self", family)
    tokenizer = AutoTokenizer.from_pretrained(shards.folder / "tokenizer")
    answers = pipeline("fill-mask", model=model, tokenizer=tokenizer)("kan <mask> lot", top_k=3)
    assert len(answers) == 3
    assert sum(answer["score"] for answer in answers) <= 1


def test_fill_mask_pipeline_with_a_bert_tokenizer() -> None:
    """It hands over token_type_ids, which count where a text is a pair."""
    tokenizer = wrap(train(iter([make_text(i, 200) for i in range(20)]), "wordpiece", 320))
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    torch.manual_seed(0)
    config = tiny_config("bert", pad_token_id=tokenizer.pad_token_id, type_vocab_size=2)
    model = MaskLaterForMaskedLM.from_encoder(config, mask_token_id=tokenizer.mask_token_id).eval()
    randomize(model)
    assert len(pipeline("fill-mask", model=model, tokenizer=tokenizer)("kan [MASK] lot", top_k=3)) == 3
    pair = tokenizer("kan [MASK] lot", "mir nus", return_tensors="pt")
    alike = model(**pair).logits
    pair["token_type_ids"][:, 5:] = 1
    assert not torch.allclose(alike, model(**pair).logits)


@pytest.mark.parametrize("objective", ["3ml-self", "3ml-cross", "vanilla"])
def test_accumulation_in_the_stock_trainer_changes_nothing(objective: str, shards: Shards, tmp_path: Path) -> None:
    """transformers' own RoBERTa sums its mean loss over the micro-batches here; ours divides by num_items_in_batch."""
    tokenizer = load(shards.folder / "tokenizer")
    texts = [{"input_ids": tokenizer(make_text(i, 4 + i % 12))["input_ids"][:30]} for i in range(32)]
    losses, ends = [], []
    for accumulation in (1, 4):
        model = make_model(shards, objective, "roberta-prelayernorm").train()
        arguments = TrainingArguments(
            output_dir=str(tmp_path / str(accumulation)), max_steps=2, per_device_train_batch_size=16 // accumulation,
            gradient_accumulation_steps=accumulation, learning_rate=1e-3, logging_steps=1, save_strategy="no",
            report_to=[], use_cpu=True, disable_tqdm=True, seed=0,
        )  # fmt: skip
        trainer = Trainer(model, arguments, train_dataset=texts, data_collator=SameMasks(tokenizer))
        trainer.train()
        losses.append([record["loss"] for record in trainer.state.log_history if "loss" in record])
        ends.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-3, atol=1e-4)


class SameMasks:
    """The stock collator, each text masked by a seed of its own, so that micro-batches hold the same masks."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def __call__(self, texts: list[dict[str, list[int]]]) -> dict[str, Tensor]:
        rows = []
        for text in texts:
            collate = DataCollatorForLanguageModeling(self.tokenizer, mlm_probability=0.5, seed=sum(text["input_ids"]))
            masked = collate([text])
            rows.append({"input_ids": masked["input_ids"][0], "labels": masked["labels"][0]})
        L = max(len(row["input_ids"]) for row in rows)

        def padded(key: str, value: int) -> Tensor:
            return torch.stack([torch.nn.functional.pad(row[key], (0, L - len(row[key])), value=value) for row in rows])

        ids_BL = padded("input_ids", self.tokenizer.pad_token_id)
        mask_BL = (ids_BL != self.tokenizer.pad_token_id).long()
        return {"input_ids": ids_BL, "attention_mask": mask_BL, "labels": padded("labels", IGNORE)}


def test_late_entry_is_refused_where_layers_cannot_be_called_one_by_one() -> None:
    with pytest.raises(UserError, match="not known how to do for an encoder of type esm"):
        MaskLaterForMaskedLM.from_encoder(tiny_config("esm"), {"kind": "late", "enter_layer": 1})


def test_a_decoder_width_that_is_no_whole_number_of_heads() -> None:
    with pytest.raises(UserError, match="a decoder of width 20 does not fit the encoder, whose heads are 8 wide"):
        MaskLaterForMaskedLM.from_encoder(tiny_config("roberta"), {"hidden_size": 20})


def test_rows_longer_than_the_decoder_has_positions_for() -> None:
    model = MaskLaterForMaskedLM.from_encoder(tiny_config("modernbert"), row_length=16)
    with pytest.raises(ValueError, match="rows of 17, and the decoder has positions for 16: truncate them"):
        model(input_ids=torch.randint(5, 320, (1, 17)))


def test_the_encoder_of_a_late_entry_model_loads_as_any_other(shards: Shards, tmp_path: Path) -> None:
    model = make_model(shards, "late", "bert")
    model.encoder.save_pretrained(tmp_path / "encoder")
    assert json.loads((tmp_path / "encoder" / "config.json").read_text())["num_hidden_layers"] == 2
    assert len(AutoModel.from_pretrained(tmp_path / "encoder").encoder.layer) == 2
