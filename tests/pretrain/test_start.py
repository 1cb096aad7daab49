"""Starting from a model that exists: step 0 is where it left off, whatever family it is of and whatever was added."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
)

from masklater.corpus.grow import find_rows
from masklater.corpus.settings import TokenizerKind
from masklater.corpus.shards import Shards
from masklater.corpus.tokenizer import load as load_tokenizer
from masklater.corpus.tokenizer import wrap
from masklater.corpus.train import train
from masklater.errors import UserError
from masklater.model.check import settle
from masklater.model.export import export_encoder, export_masked_lm
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.model.positions import decoder_tables
from masklater.model.saved import copy_weights, open_source
from masklater.pretrain.batches import make_batches
from masklater.pretrain.loop import pretrain
from masklater.pretrain.start import find_start
from masklater.recipe.load import load
from masklater.recipe.recipe import Recipe
from masklater.run.folder import RunFolder
from masklater.run.metrics import read_metrics
from tests.conftest import TINY, make_shards, make_text, tiny
from tests.reference.cases import randomize, rebuild_rows
from tests.reference.test_against_transformers import tiny_config

ON_A_SAVED_MODEL = [override for override in TINY if not override.startswith("model.")]


def save_masked_lm(family: str, shards: Shards, folder: Path, **others: Any) -> PreTrainedModel:
    """transformers' own masked LM with the tokenizer of these shards, as anybody saves one."""
    torch.manual_seed(0)
    config = tiny_config(family, vocab_size=shards.vocabulary.size, **others)
    model = AutoModelForMaskedLM.from_config(config).eval()
    randomize(model)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(shards.folder / "tokenizer").save_pretrained(folder)
    return model


def continue_from(folder: Path, *overrides: str) -> Recipe:
    return load("continue", [*ON_A_SAVED_MODEL, f"model.from={folder}", "model.dropout=0", *overrides])


def first_loss(run: Path) -> float:
    return read_metrics(run / "metrics.jsonl")[0]["loss"]


@pytest.mark.parametrize(
    "family",
    ["roberta", "roberta-prelayernorm", "bert", "electra", "modernbert", "modernbert-windows", "esm", "deberta-v2"],
)
def test_step_0_of_vanilla_mode_has_the_checkpoints_loss(family: str, continuous: Shards, tmp_path: Path) -> None:
    """The other text is another split of rows under the same tokenizer; the checkpoint's loss is transformers' own."""
    reference = save_masked_lm(family, continuous, tmp_path / "model")
    recipe = continue_from(tmp_path / "model", "decoder.kind=none", "batch.attend=row", "duration.steps=1")
    pretrain(recipe, continuous.folder, tmp_path / "run")
    batches = make_batches(continuous, continuous.train, recipe.masking, False, "row", recipe.seed)
    ids_BL, labels_BL = rebuild_rows(batches.of_step(0, recipe.batch.rows), continuous.vocabulary.mask)
    with torch.no_grad():
        expected = float(reference(input_ids=ids_BL, labels=labels_BL).loss)
    assert first_loss(tmp_path / "run") == pytest.approx(expected, rel=1e-6)


def test_another_text_and_a_vocabulary_grown_by_its_words(continuous: Shards, tmp_path: Path) -> None:
    reference = save_masked_lm("roberta", continuous, tmp_path / "model")
    grown = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert grown.add_tokens(["kanlotmir", "sorenus"]) == 2
    grown.save_pretrained(tmp_path / "grown")
    (tmp_path / "other.txt").write_text("\n".join(f"{make_text(i, 60)} kanlotmir sorenus" for i in range(60)))
    data = make_shards(
        tmp_path / "other.txt", tmp_path / "data", tokenizer=tmp_path / "grown", documents="line", pack="continuous"
    )
    recipe = continue_from(tmp_path / "model", "decoder.kind=none", "batch.attend=row", "duration.steps=1")
    start = find_start(recipe, Shards(data))
    V = continuous.vocabulary.size
    assert sorted(start.rows.of_token) == [V, V + 1]
    assert start.config.encoder.vocab_size == V + 2

    model = MaskLaterForMaskedLM(start.config).eval()
    start.copy_weights(model)
    words_VD, old_VD = model.word_embeddings, reference.roberta.embeddings.word_embeddings.weight
    assert torch.equal(words_VD[:V], old_VD)
    old = AutoTokenizer.from_pretrained(tmp_path / "model")
    for token_id, text in ((V, "kanlotmir"), (V + 1, "sorenus")):
        pieces = old(text, add_special_tokens=False)["input_ids"]
        assert len(pieces) > 1
        assert start.rows.of_token[token_id] == pieces
        torch.testing.assert_close(words_VD[token_id], old_VD[pieces].mean(dim=0))
        torch.testing.assert_close(model.head.bias[token_id], reference.lm_head.bias[pieces].mean())

    # On rows without a new token the old logits stand as they were; the two new classes are all that is added.
    pretrain(recipe, data, tmp_path / "run")
    ids_BL = torch.randint(5, V, (2, 20))
    ids_BL[:, 3] = continuous.vocabulary.mask
    with torch.no_grad():
        ours, theirs = model(input_ids=ids_BL).logits, reference(input_ids=ids_BL).logits
    torch.testing.assert_close(ours[:, :, :V], theirs, rtol=1e-4, atol=1e-5)


def test_a_source_whose_tokenizer_pads_with_its_last_token_is_refused(continuous: Shards, tmp_path: Path) -> None:
    save_masked_lm("bert", continuous, tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match=r"model has '</s>' for its padding token and its last token"):
        find_start(continue_from(tmp_path / "model"), continuous)


def test_an_encoder_whose_config_pads_with_another_id_is_refused_where_positions_count_from_it(
    continuous: Shards, tmp_path: Path
) -> None:
    """A config's own default beside a tokenizer of one's own: a token would be without a position, and said by nobody."""
    assert continuous.vocabulary.pad == 1
    for family, refused in (("roberta", True), ("bert", False)):
        save_masked_lm(family, continuous, tmp_path / family, pad_token_id=5)
        recipe, out = continue_from(tmp_path / family, "duration.steps=1"), tmp_path / f"run-{family}"
        if not refused:
            pretrain(recipe, continuous.folder, out)
            continue
        with pytest.raises(
            UserError, match=r"config.json says is 5, and its tokenizer pads with 1.*\n.*pad_token_id: 1"
        ):
            pretrain(recipe, continuous.folder, out)
        assert not out.exists()


@pytest.mark.parametrize(("says", "expected"), [(None, 94), (80, 80), (512, 94), (16, 32)])
def test_an_export_takes_the_rows_that_its_source_took(
    says: int | None, expected: int, continuous: Shards, tmp_path: Path
) -> None:
    """Rows of the data may be shorter: nobody's published encoder is to be cut at them. A decoder has room for no others."""
    assert continuous.index.row_length == 32
    save_masked_lm("roberta", continuous, tmp_path / "model", max_position_embeddings=96)
    path = tmp_path / "model" / "tokenizer_config.json"
    config = {name: value for name, value in json.loads(path.read_text()).items() if name != "model_max_length"}
    path.write_text(json.dumps(config | ({} if says is None else {"model_max_length": says})))
    pretrain(continue_from(tmp_path / "model", "duration.steps=1"), continuous.folder, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    trained, _ = run.longest_trained()
    export_encoder(run.load_model()[0], run.tokenizer, tmp_path / "encoder", trained=trained)
    export_masked_lm(run.load_model()[0], run.tokenizer, tmp_path / "masked-lm", trained=trained)
    found = [
        AutoTokenizer.from_pretrained(folder).model_max_length
        for folder in (tmp_path / "encoder", tmp_path / "masked-lm" / "encoder", tmp_path / "masked-lm")
    ]
    assert found == [expected, expected, 32]
    pretrain(continue_from(tmp_path / "run", "duration.steps=1"), continuous.folder, tmp_path / "on")
    assert AutoTokenizer.from_pretrained(tmp_path / "on" / "tokenizer").model_max_length == expected


def test_words_saved_beside_a_checkpoint_that_has_no_rows_for_them(
    continuous: Shards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = save_masked_lm("roberta", continuous, tmp_path / "model")
    grown = AutoTokenizer.from_pretrained(tmp_path / "model")
    pieces = {word: grown(word, add_special_tokens=False)["input_ids"] for word in ("kanlotmir", "sorenus")}
    grown.add_tokens(list(pieces))
    grown.save_pretrained(tmp_path / "model")
    (tmp_path / "other.txt").write_text("\n".join(f"{make_text(i, 60)} kanlotmir sorenus" for i in range(60)))
    data = make_shards(tmp_path / "other.txt", tmp_path / "data", tokenizer=tmp_path / "model", documents="line")
    start = find_start(continue_from(tmp_path / "model"), Shards(data))
    assert start.rows.of_token == {grown.convert_tokens_to_ids(word): cut for word, cut in pieces.items()}
    model = MaskLaterForMaskedLM(start.config)
    start.copy_weights(model)
    assert "2 new tokens begin as the mean of the pieces" in capsys.readouterr().err
    words_VD = reference.roberta.embeddings.word_embeddings.weight
    for token_id, parts in start.rows.of_token.items():
        torch.testing.assert_close(model.word_embeddings[token_id], words_VD[parts].mean(dim=0))


def test_a_head_that_stays_behind_is_said_to_with_the_reason(
    continuous: Shards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for tied, said in ((True, "encoder, LM head; new: decoder"), (False, "they are not tied), decoder")):
        folder = tmp_path / f"{tied}"
        save_masked_lm("roberta", continuous, folder, tie_word_embeddings=tied)
        start = find_start(continue_from(folder), continuous)
        start.copy_weights(MaskLaterForMaskedLM(start.config))
        text = " ".join(capsys.readouterr().err.split())
        assert said in text, text
        assert ("new: LM head (the source's stays behind: its output embedding" in text) == (not tied)


@pytest.mark.parametrize("decoder", ["self", "cross"])
def test_a_run_as_the_source_brings_its_decoder(decoder: str, continuous: Shards, tmp_path: Path) -> None:
    pretrain(tiny("3ml-small", f"decoder.kind={decoder}"), continuous.folder, tmp_path / "first")
    recipe = continue_from(tmp_path / "first", f"decoder.kind={decoder}", "duration.steps=1")
    pretrain(recipe, continuous.folder, tmp_path / "second")
    first, _ = RunFolder(tmp_path / "first").load_model()
    batch = make_batches(continuous, continuous.train, recipe.masking, True, "document", 0).of_step(0, 8)
    with torch.no_grad():
        expected, count = first(batch=batch)
    assert first_loss(tmp_path / "second") == pytest.approx(float(expected / count), rel=1e-6)


def test_an_exported_masked_lm_brings_its_decoder_to_shorter_rows(
    continuous: Shards, corpus: Path, tmp_path: Path
) -> None:
    """As the RUN does: its decoder keeps the positions that it has."""
    pretrain(tiny("3ml-small"), continuous.folder, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    export_masked_lm(run.load_model()[0], run.tokenizer, tmp_path / "exported")
    short = make_shards(corpus, tmp_path / "short", row_length=16, tokenizer=continuous.folder)
    for name in ("run", "exported"):
        pretrain(continue_from(tmp_path / name, "duration.steps=1"), short, tmp_path / f"on-{name}")
    assert first_loss(tmp_path / "on-run") == first_loss(tmp_path / "on-exported")
    model = MaskLaterForMaskedLM.from_pretrained(tmp_path / "on-exported")
    assert model.config.row_length == continuous.index.row_length


def test_a_decoder_goes_on_with_longer_rows(
    continuous: Shards, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its new positions begin as copies, of the RUN's and of the export's alike; the decoder began at random."""
    short = make_shards(corpus, tmp_path / "short", row_length=16, tokenizer=continuous.folder)
    source = save_masked_lm("bert", continuous, tmp_path / "source")
    first = continue_from(tmp_path / "source", "decoder.kind=self", "decoder.num_layers=1", "duration.steps=1")
    pretrain(first, short, tmp_path / "run")
    assert source.config.max_position_embeddings > continuous.index.row_length > 16
    run = RunFolder(tmp_path / "run")
    export_masked_lm(run.load_model()[0], run.tokenizer, tmp_path / "exported")
    for name in ("run", "exported"):
        capsys.readouterr()
        later = continue_from(tmp_path / name, "decoder.kind=self", "decoder.num_layers=1", "duration.steps=1")
        pretrain(later, continuous.folder, tmp_path / f"on-{name}")
        said = capsys.readouterr().err
        assert "encoder, LM head, decoder" in said
        assert "positions from 16 on, of which none was trained so far, begin as copies of the 16 before" in said
    assert first_loss(tmp_path / "on-run") == first_loss(tmp_path / "on-exported")
    (before,) = decoder_tables(run.load_model()[0])
    model = MaskLaterForMaskedLM.from_encoder(tmp_path / "exported", first.decoder, row_length=40)
    (after,) = decoder_tables(model)
    assert torch.equal(after.weight[:32], before.weight.repeat(2, 1))
    assert torch.equal(after.weight[32:], before.weight[:8])


def test_a_decoder_that_is_not_taken_over_is_told_in_python_too(recwarn: pytest.WarningsRecorder) -> None:
    """An encoder may have positions for longer rows than the decoder, which is taken over as it is."""
    source = MaskLaterForMaskedLM.from_encoder(tiny_config("roberta"), {"num_layers": 1}, row_length=16)
    model = MaskLaterForMaskedLM.from_encoder(source, {"num_layers": 1})
    assert model.config.row_length == 16
    assert all(torch.equal(part, source.state_dict()[name]) for name, part in model.state_dict().items())
    MaskLaterForMaskedLM.from_encoder(source, {"kind": "none"})
    assert not recwarn
    with pytest.warns(UserWarning, match="a new one begins at random"):
        MaskLaterForMaskedLM.from_encoder(source, {"num_layers": 1}, row_length=8)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"positions": "all"}, {"positions": "dropped"}),
        ({"positions": "dropped"}, {"positions": "all"}),
        ({"kind": "late", "enter_layer": 1}, {"kind": "late", "enter_layer": 2}),
    ],
)
def test_a_decoder_of_the_same_shapes_that_means_something_else_stays_behind(
    before: dict[str, Any], after: dict[str, Any]
) -> None:
    config = tiny_config("roberta", num_hidden_layers=3)
    source = MaskLaterForMaskedLM.from_encoder(config, before)
    randomize(source)
    flows = {**before, "blocked_flows": ["masked-to-masked"]}
    for settings, carried in ((after, False), (before, True), (flows, True)):
        model = MaskLaterForMaskedLM.from_encoder(config, settings)
        theirs, ours = source.decoder.state_dict(), model.decoder.state_dict()
        assert {name: part.shape for name, part in ours.items()} == {name: part.shape for name, part in theirs.items()}
        assert copy_weights(open_source(source), model).decoder == carried
        assert all(torch.equal(part, theirs[name]) for name, part in model.decoder.state_dict().items()) == carried


@pytest.mark.parametrize("states", [1, 2])
def test_a_model_of_ours_is_taken_over_with_the_links_between_its_states(states: int) -> None:
    settings = {"num_layers": 1, "states": states}
    source = MaskLaterForMaskedLM.from_encoder(tiny_config("roberta"), settings).eval()
    randomize(source)
    model = MaskLaterForMaskedLM.from_encoder(source, settings).eval()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, source.get_parameter(name)), name
    assert any(name.startswith("prediction.") for name, _ in model.named_parameters()) == (states == 2)
    ids_BL = torch.randint(5, 320, (2, 16))
    ids_BL[:, 3::3] = 4
    assert torch.equal(model(input_ids=ids_BL).logits, source(input_ids=ids_BL).logits)


@pytest.mark.parametrize("kind", ["self", "cross"])
def test_deberta_goes_on_with_tokens_left_out(
    kind: str, shards: Shards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Padded rows of several documents, of which other positions are left out in each; then as anybody loads it."""
    before = save_masked_lm("deberta-v2", shards, tmp_path / "model", position_buckets=8, position_biased_input=False)
    recipe = continue_from(tmp_path / "model", f"decoder.kind={kind}", "duration.steps=2")
    assert pretrain(recipe, shards.folder, tmp_path / "run").steps == 2
    assert "attention: in the encoder its family's own" in (said := capsys.readouterr().err)
    assert "in the decoder torch's scaled_dot_product_attention" in said
    model, _ = RunFolder(tmp_path / "run").load_model()
    assert model.config.decoder.positions == "rotary"
    changed = dict(before.deberta.named_parameters())
    for name, parameter in model.encoder.named_parameters():  # distance embeddings too
        assert not torch.equal(parameter, changed[name]), name

    export_encoder(model, tmp_path / "run" / "tokenizer", tmp_path / "encoder")
    loaded = AutoModel.from_pretrained(tmp_path / "encoder").eval()
    ids_BL = torch.randint(5, 300, (2, 12))
    with torch.no_grad():
        theirs_BLD, ours_BLD = (each(input_ids=ids_BL).last_hidden_state for each in (loaded, model.encoder.eval()))
    torch.testing.assert_close(theirs_BLD, ours_BLD)


def test_resuming_needs_the_source_no_longer(continuous: Shards, tmp_path: Path) -> None:
    save_masked_lm("bert", continuous, tmp_path / "model")
    recipe = continue_from(tmp_path / "model", "duration.steps=2")
    pretrain(recipe, continuous.folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "model")
    longer = continue_from(tmp_path / "model", "duration.steps=4")
    assert pretrain(longer, continuous.folder, tmp_path / "run", resume=True).steps == 4


def test_a_run_stopped_before_its_first_checkpoint_starts_from_the_source_again(
    continuous: Shards, tmp_path: Path
) -> None:
    save_masked_lm("bert", continuous, tmp_path / "model")
    recipe = continue_from(tmp_path / "model", "duration.steps=2")
    for name in ("straight", "stopped"):
        pretrain(recipe, continuous.folder, tmp_path / name)
    shutil.rmtree(tmp_path / "stopped" / "checkpoints")
    (tmp_path / "stopped" / "checkpoints").mkdir()
    pretrain(recipe, continuous.folder, tmp_path / "stopped", resume=True)
    assert first_loss(tmp_path / "stopped") == first_loss(tmp_path / "straight")


def test_a_pooler_that_is_kept_is_said_to_be(
    continuous: Shards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_masked_lm("bert", continuous, tmp_path / "model")
    for name, has_pooler in (("first", False), ("second", True)):
        if has_pooler:
            AutoModel.from_config(model.config).save_pretrained(tmp_path / "model")
        pretrain(continue_from(tmp_path / "model", "duration.steps=1"), continuous.folder, tmp_path / name)
        assert ("the pooler is kept for the export as it is" in capsys.readouterr().err) == has_pooler


def test_weights_that_a_source_lacks_are_told_where_transformers_has_no_masked_lm_of_it(tmp_path: Path) -> None:
    config = tiny_config("bert-generation")
    AutoModel.from_config(config).save_pretrained(tmp_path)
    assert open_source(tmp_path).encoder is not None
    weights = load_file(tmp_path / "model.safetensors")
    some = {name: tensor for name, tensor in weights.items() if "layer.1." not in name}
    save_file(some, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks weights of its encoder: encoder\.layer\.1\."):
        open_source(tmp_path)


def test_a_run_keeps_the_activation_of_the_head_that_it_takes_over(continuous: Shards, tmp_path: Path) -> None:
    """The first loss is that of the saved model, and what is exported computes what the RUN does."""
    source = save_masked_lm("bert", continuous, tmp_path / "source", hidden_act="gelu_new")
    recipe = continue_from(tmp_path / "source", "decoder.kind=none", "duration.steps=1")
    pretrain(recipe, continuous.folder, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert run.load_model()[0].config.head_activation == "gelu_new"
    start = find_start(continue_from(tmp_path / "run", "decoder.kind=cross", "decoder.num_layers=1"), continuous)
    assert start.config.head_activation == "gelu_new"
    fresh = MaskLaterForMaskedLM(find_start(recipe, continuous).config).eval()
    find_start(recipe, continuous).copy_weights(fresh)
    ids_BL = torch.randint(5, continuous.vocabulary.size, (2, 12))
    with torch.no_grad():
        torch.testing.assert_close(
            fresh(input_ids=ids_BL).logits, source(input_ids=ids_BL).logits, rtol=1e-4, atol=1e-5
        )


def test_weights_of_layers_that_no_class_reads_are_told(tmp_path: Path) -> None:
    """Relative positions of a BERT, which transformers 5 no longer has, or a layer more than the config says."""
    folder = tmp_path / "model"
    AutoModelForMaskedLM.from_config(tiny_config("bert")).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    name = "bert.encoder.layer.0.attention.self.distance_embedding.weight"
    beside = {"bert.embeddings.position_ids": torch.arange(9), "classifier.0.weight": torch.ones(2, 2)}
    save_file({**weights, **beside}, folder / "model.safetensors", {"format": "pt"})
    assert open_source(folder).head is not None
    save_file({**weights, name: torch.ones(9, 8)}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=rf"layers that a BertModel of this config has no place for.*: {name} \.\.\."):
        open_source(folder)


def test_weights_of_other_sizes_are_told_by_name(tmp_path: Path) -> None:
    AutoModelForMaskedLM.from_config(tiny_config("bert")).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 80}))
    with pytest.raises(UserError, match=r"layer\.0\.intermediate\.dense\.bias is \[\d+\], and would be \[80\]\n.*Mend"):
        open_source(tmp_path)
    (tmp_path / "config.json").write_text(
        json.dumps({**config, "intermediate_size": 80, "auto_map": {"AutoModel": "x.Y"}})
    )
    with pytest.raises(UserError, match=r"and would be \[80\]\n *Its own class is code in its repository"):
        open_source(tmp_path)


def test_a_tokenizer_that_lacks_its_library_hides_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokenizer of Japanese BERTs needs fugashi: without it there was a traceback."""
    AutoModelForMaskedLM.from_config(tiny_config("bert", mask_token_id=None)).save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "fugashi", None)
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
    config = {"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert open_source(tmp_path).mask_token_id is None
    with pytest.raises(UserError, match=r"does not load: You need to install fugashi"):
        load_tokenizer(tmp_path)


def test_mistakes(continuous: Shards, tmp_path: Path) -> None:
    save_masked_lm("bert", continuous, tmp_path / "model")
    with pytest.raises(UserError, match=r"model\.from is .*nowhere, and there is no such folder"):
        find_start(continue_from(tmp_path / "nowhere"), continuous)
    with pytest.raises(UserError, match=r"decoder\.enter_layer is 2, and the encoder's 2 layers count from 0"):
        late = continue_from(tmp_path / "model", "decoder.kind=late", "decoder.enter_layer=2")
        settle(find_start(late, continuous).config)
    long_config = tiny_config("bert", vocab_size=continuous.vocabulary.size, max_position_embeddings=16)
    AutoModelForMaskedLM.from_config(long_config).save_pretrained(tmp_path / "short")
    with pytest.raises(UserError, match="short holds no tokenizer"):
        find_start(continue_from(tmp_path / "short"), continuous)
    load_tokenizer(continuous.folder / "tokenizer").save_pretrained(tmp_path / "short")
    with pytest.raises(UserError, match=r"short has positions for rows of 16, and those of .* have 32"):
        find_start(continue_from(tmp_path / "short"), continuous)
    other = wrap(train(iter([make_text(i, 200)[::-1] for i in range(20)]), "bpe", 300))
    other.save_pretrained(tmp_path / "model")
    with pytest.raises(UserError, match=r"the data was prepared with another tokenizer than .*model was trained with"):
        find_start(continue_from(tmp_path / "model"), continuous)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"model does not load as a saved model"):
        find_start(continue_from(tmp_path / "model"), continuous)


def test_the_labels_of_a_task_stay_behind_with_its_head(continuous: Shards, tmp_path: Path) -> None:
    """Else a classifier made from the export would have another task's names, and their number, in silence."""
    config = tiny_config("bert", vocab_size=continuous.vocabulary.size, id2label={0: "bad", 1: "good", 2: "none"})
    config.problem_type = "single_label_classification"
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "model")
    load_tokenizer(continuous.folder / "tokenizer").save_pretrained(tmp_path / "model")
    model = MaskLaterForMaskedLM(settle(find_start(continue_from(tmp_path / "model"), continuous).config))
    export_encoder(model, continuous.folder / "tokenizer", tmp_path / "encoder")
    for saved, names in (("model", ["bad", "good", "none"]), ("encoder", ["LABEL_0", "LABEL_1"])):
        loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / saved)
        assert list(loaded.config.id2label.values()) == names
    assert loaded.config.problem_type is None


@pytest.mark.parametrize("family", ["modernbert", "esm"])
def test_a_rotary_encoder_goes_on_with_longer_rows_than_its_config_says(
    family: str, corpus: Path, continuous: Shards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rotary = {"position_embedding_type": "rotary"} if family == "esm" else {}
    save_masked_lm(family, continuous, tmp_path / "model", max_position_embeddings=16, **rotary)
    recipe = continue_from(tmp_path / "model", "duration.steps=1")
    pretrain(recipe, continuous.folder, tmp_path / "run")
    assert "rows of 32 are longer than the 16 that" in capsys.readouterr().err
    model, _ = RunFolder(tmp_path / "run").load_model()
    export_encoder(model, RunFolder(tmp_path / "run").tokenizer, tmp_path / "encoder", trained=32)
    assert AutoModel.from_pretrained(tmp_path / "encoder").config.max_position_embeddings == 32
    assert AutoTokenizer.from_pretrained(tmp_path / "encoder").model_max_length == 32
    tokenizer = continuous.folder / "tokenizer"
    longer = make_shards(corpus, tmp_path / "rows-64", tokenizer=tokenizer, row_length=64, pack="continuous")
    pretrain(continue_from(tmp_path / "run", "duration.steps=1"), longer, tmp_path / "longer")
    assert "encoder, LM head, decoder" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
def test_pieces_of_new_tokens(kind: TokenizerKind, tmp_path: Path) -> None:
    before = wrap(train(iter([make_text(i, 200) for i in range(20)]), kind, 300))
    before.save_pretrained(tmp_path)
    now = AutoTokenizer.from_pretrained(tmp_path)
    assert find_rows(before, now, len(before), "model").of_token == {}
    now.add_tokens(["minus", "mirnus"])
    pieces = find_rows(before, now, len(before), "model").of_token
    assert find_rows(now, now, len(before), "model").of_token == pieces  # saved beside the model, which has no rows
    assert find_rows(now, before, len(before), "model").of_token == {}  # and the data has none of them
    assert find_rows(now, now, len(now), "model").of_token == {}
    assert sorted(pieces) == [len(before), len(before) + 1]
    assert all(len(parts) > 1 and max(parts) < len(before) for parts in pieces.values())
