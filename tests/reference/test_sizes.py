"""Encoders from scratch are as large as their rows and their tokenizer ask, whatever the tokenizer's ids are.

What leaves the house is called as anybody calls it, without positions, and is the encoder that was trained.
"""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from masklater.budget.forecast import forecast, rows_of
from masklater.corpus.shards import Shards
from masklater.corpus.tokenizer import token_types
from masklater.judge.encoder import longest_row
from masklater.model.encoder import encode
from masklater.model.export import export_encoder
from masklater.pretrain.loop import pretrain
from tests.conftest import make_shards, make_text, tiny
from tests.reference.cases import COUNT_TOKENS, FAMILIES, make_model

L = 32


def save_late_tokenizer(folder: Path) -> None:
    """One whose special tokens were added last, and which gives the second text of a pair a type of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([make_text(i, 100) for i in range(20)], trainer)
    names = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
    tokenizer.add_special_tokens(list(names.values()))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B:1 </s>:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("<s>", "</s>")],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{part}_token": name for part, name in names.items()}
    ).save_pretrained(folder)


@pytest.fixture(scope="module")
def late(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Shards:
    folder = tmp_path_factory.mktemp("late")
    save_late_tokenizer(folder / "tokenizer")
    return Shards(make_shards(corpus, folder / "shards", tokenizer=folder / "tokenizer"))


@pytest.fixture(params=["early", "late"])
def shards_of_either(request: pytest.FixtureRequest, shards: Shards, late: Shards) -> Shards:
    return late if request.param == "late" else shards


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_and_types_are_as_many_as_are_needed(family: str, shards_of_either: Shards) -> None:
    shards = shards_of_either
    pad, types = shards.vocabulary.pad, token_types(shards.folder / "tokenizer")
    assert (pad, types) in {(1, 1), (303, 2)}
    model = make_model(shards, "3ml-self", family)
    config = model.encoder.config
    offset = pad + 1 if family in COUNT_TOKENS else 0
    assert model.config.position_offset == offset
    assert config.max_position_embeddings == offset + L
    assert getattr(config, "type_vocab_size", types) == types
    counted = forecast(tiny("3ml-small", f"model.family={family}"), rows_of(shards.folder)).parameters
    assert counted is not None
    for part, number in ((model, counted.trained), (model.encoder, counted.exported)):
        assert number == sum(parameter.numel() for parameter in part.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_exported_encoder_called_plainly_is_the_trained_one(
    family: str, shards_of_either: Shards, tmp_path: Path
) -> None:
    model = make_model(shards_of_either, "3ml-self", family)
    export_encoder(model, shards_of_either.folder / "tokenizer", tmp_path / "encoder")
    plain = AutoModel.from_pretrained(tmp_path / "encoder").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "encoder")
    pairs = [("kan lot mir nus", "res"), ("res", "so"), ("kan " * 40, "mir")]
    inputs = tokenizer(*zip(*pairs, strict=True), padding=True, truncation=True, max_length=L, return_tensors="pt")
    inputs = {name: tensor for name, tensor in inputs.items() if name != "token_type_ids" or family not in NO_TYPES}
    assert inputs["input_ids"].shape[1] == L
    is_text_BL = inputs["attention_mask"] == 1
    attend_BLL = is_text_BL[:, :, None] == is_text_BL[:, None, :]
    offset, pos_BL = model.config.position_offset or 0, torch.arange(L).expand_as(inputs["input_ids"])
    with torch.no_grad():
        theirs = plain(**inputs).last_hidden_state
        types_BL = inputs.get("token_type_ids")
        ours = encode(model.encoder, inputs["input_ids"], pos_BL, offset, attend_BLL, types_BL)
    torch.testing.assert_close(ours[is_text_BL], theirs[is_text_BL], rtol=1e-4, atol=1e-5)
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path / "encoder")
    assert longest_row(classifier, tokenizer.model_max_length) == longest_row(classifier) == L
    assert longest_row(classifier, 20) == 20


NO_TYPES = {"esm", "modernbert"}


def test_a_run_says_which_of_its_positions_are_never_used(
    late: Shards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "M of them will never be used: {} counts positions from the padding token's id + 1 on, 304 here"
    for family, is_said in (("roberta", True), ("bert", False)):
        pretrain(tiny("3ml-small", f"model.family={family}", "duration.steps=1"), late.folder, tmp_path / family)
        assert (said.format(family) in capsys.readouterr().err) == is_said
