"""A tokenizer made smaller: what a text is cut into stays the same, and every id tells what it was before."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from transformers import AutoModel, PreTrainedTokenizerFast

from masklater.corpus import prepare as prepare_module
from masklater.corpus import tokenizer as tokenizers_
from masklater.corpus import whole as whole_module
from masklater.corpus.grow import Rows, find_rows
from masklater.corpus.prepare import prepare
from masklater.corpus.read import Document
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.shards import Shards
from masklater.corpus.show import show_rows
from masklater.corpus.train import train
from masklater.corpus.trim import count_uses, ids_before, trim
from masklater.errors import UserError
from masklater.model.export import export_encoder
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.loop import pretrain
from masklater.pretrain.start import find_start, renumber_special_tokens
from masklater.recipe.load import load
from masklater.run.folder import RunFolder
from tests.conftest import DATA, make_text
from tests.corpus.kinds import KINDS, TEXTS, save_kind
from tests.pretrain.test_start import continue_from, save_masked_lm
from tests.reference.test_against_transformers import tiny_config

PART = [text for text in TEXTS if "1" not in text and "A" not in text] + ["The oldest river"]
"""A part of what each kind was made from."""


def trimmed_for(texts: list[str], tokenizer: object, most: int | None = None) -> object:
    documents = (Document(text, 0) for text in texts)
    return trim(tokenizer, count_uses(documents, tokenizer.backend_tokenizer, 1), most)  # type: ignore[arg-type,attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_cut_as_before(kind: str, tmp_path: Path) -> None:
    save_kind(kind, tmp_path / "whole")
    whole = tokenizers_.load(tmp_path / "whole")
    tokenizers_.complete(whole)
    small = trimmed_for(PART, whole)
    tokenizers_.save(small, tmp_path / "small", 64)  # type: ignore[arg-type]
    small = tokenizers_.load(tmp_path / "small")
    assert len(small) <= len(whole) - (kind not in ("bert", "characters"))  # whose entries are all used
    for texts in (*((text,) for text in PART), PART[:2], (f"{PART[0]} {whole.mask_token}",)):
        before, now = whole(*texts), small(*texts)
        tokens = whole.convert_ids_to_tokens(before["input_ids"])
        assert small.convert_ids_to_tokens(now["input_ids"]) == tokens
        assert before.get("token_type_ids") == now.get("token_type_ids")
    one, other = tokenizers_.vocabulary(whole), tokenizers_.vocabulary(small)
    assert [whole.convert_ids_to_tokens(i) for i in (one.bos, one.eos, one.pad, one.mask)] == [
        small.convert_ids_to_tokens(i) for i in (other.bos, other.eos, other.pad, other.mask)
    ]
    old_ids = ids_before(whole, small)
    assert old_ids is not None
    assert {small.convert_ids_to_tokens(now): old for now, old in old_ids.items()} == {
        token: whole.get_vocab()[token] for token in small.get_vocab()
    }
    assert sorted(small.get_vocab().values()) == [*range(len(small))]


def bpe_with_bytes() -> PreTrainedTokenizerFast:
    """As Gemma's, which mmBERT has: merges of characters, and bytes for what they do not know."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    tree = json.loads(tokenizer.to_str())
    for byte in range(256):
        tree["model"]["vocab"][f"<0x{byte:02X}>"] = len(tree["model"]["vocab"])
    names = {f"{name[1:-1]}_token": name for name in special}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(tree)), **names)  # type: ignore[arg-type]


def test_bytes_stay_for_what_nobody_has_seen() -> None:
    whole = bpe_with_bytes()
    small = trimmed_for(PART, whole)
    assert len(small) < len(whole)  # type: ignore[arg-type]
    for text in (*PART, "A café 🌳 中文"):
        before, now = (each.tokenize(text) for each in (whole, small))  # type: ignore[attr-defined]
        if text in PART:
            assert before == now
        assert small.decode(small.convert_tokens_to_ids(now)) == text  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_the_most_frequent_stay_and_nothing_becomes_unknown(kind: str, tmp_path: Path) -> None:
    texts = [make_text(number, 200) for number in range(20)]
    whole = tokenizers_.wrap(train(iter(texts), kind, 400))  # type: ignore[arg-type]
    always = len(trimmed_for(["k"], whole))  # type: ignore[arg-type]
    used = len(trimmed_for(texts, whole))  # type: ignore[arg-type]
    most = (always + used) // 2
    small = trimmed_for(texts, whole, most)
    assert always < len(small) <= most < used  # type: ignore[arg-type]
    for text in texts:
        ids = small(text, add_special_tokens=False)["input_ids"]  # type: ignore[operator]
        assert len(ids) > len(whole(text, add_special_tokens=False)["input_ids"])
        assert small.unk_token_id not in ids  # type: ignore[attr-defined]
        decoded = [
            each.backend_tokenizer.decode(ids) for each, ids in ((small, ids), (whole, whole(text)["input_ids"]))
        ]  # type: ignore[attr-defined]
        assert decoded[0].strip() == decoded[1].strip()
    with pytest.raises(UserError, match=r"--vocab-size 5 is less than the .* entries that stay in any case"):
        trimmed_for(texts, whole, 5)


def test_what_is_no_trimmed_version_is_not_taken_for_one(tmp_path: Path) -> None:
    texts = [make_text(number, 200) for number in range(20)]
    for kind in ("bpe", "wordpiece", "unigram"):
        whole = tokenizers_.wrap(train(iter(texts), kind, 300))  # type: ignore[arg-type]
        other = tokenizers_.wrap(train(iter(TEXTS), kind, 290))  # type: ignore[arg-type]
        assert ids_before(whole, other) is None
        with pytest.raises(UserError, match="prepared with another tokenizer"):
            find_rows(whole, other, len(whole), "model")


@pytest.mark.skipif(not (DATA / "vocab").exists(), reason=f"{DATA / 'vocab'} is not there")
@pytest.mark.parametrize("name", ["gpt2", "bert"])
def test_real_vocabularies_on_real_text(name: str) -> None:
    folder = DATA / "vocab"
    if name == "bert":
        from masklater.corpus.bare import load_bare

        whole = load_bare(folder / "bert-base-uncased-vocab.txt")
    else:
        whole = tokenizers_.load(folder)
    text = (DATA / "text" / "wikitext-2" / "valid.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip()]
    small = trimmed_for(lines, whole)
    assert len(small) < 0.5 * len(whole)  # type: ignore[arg-type]
    for line in lines[::7]:
        before, now = (each.tokenize(line) for each in (whole, small))  # type: ignore[attr-defined]
        assert before == now
    assert len(trimmed_for(lines, whole, 8000)) <= 8000  # type: ignore[arg-type]


@pytest.fixture
def other_text(tmp_path: Path) -> Path:
    """Text that uses a part of the vocabulary of the corpus."""
    (tmp_path / "part.txt").write_text("\n".join(" ".join(["kan lot", "mis", "reso"] * (5 + n % 9)) for n in range(60)))
    return tmp_path / "part.txt"


def prepared(text: Path, tokenizer: Path, out: Path, **settings: object) -> Shards:
    wanted = {"documents": "line", "row_length": 32, "valid_fraction": 0.1, "workers": 1, **settings}
    prepare([text], out, PrepareSettings(tokenizer=tokenizer, trim=True, **wanted))  # type: ignore[arg-type]
    return Shards(out)


@pytest.mark.parametrize("family", ["roberta", "bert", "electra", "deberta-v2", "modernbert"])
def test_a_model_goes_on_with_the_rows_that_are_left(
    family: str, continuous: Shards, other_text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = save_masked_lm(family, continuous, tmp_path / "model")
    shards = prepared(other_text, tmp_path / "model", tmp_path / "shards")
    V, before = shards.vocabulary.size, continuous.vocabulary.size
    assert before > V
    assert f"trimmed: {V} of the tokenizer's {before} entries stay, which are 100.00%" in capsys.readouterr().err
    shown = [document for row in show_rows(shards, "train", range(3)) for document in row.documents]
    assert all("kan lot" in document for document in shown)
    recipe = continue_from(tmp_path / "model", "decoder.kind=none", "duration.steps=1")
    start = find_start(recipe, shards)
    model = MaskLaterForMaskedLM(start.config).eval()
    start.copy_weights(model)
    assert f"{V} of its {before} word embeddings, as trimmed" in capsys.readouterr().err
    old_V = torch.tensor([start.rows.of_token[token_id][0] for token_id in range(V)])
    assert old_V.tolist() == sorted(old_V.tolist())
    assert old_V[shards.vocabulary.pad] == continuous.vocabulary.pad
    ids_BL = torch.randint(5, V, (2, 12))
    with torch.no_grad():
        ours = model(input_ids=ids_BL).logits
        theirs = reference(input_ids=old_V[ids_BL]).logits[:, :, old_V]
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)

    assert pretrain(continue_from(tmp_path / "model", "duration.steps=2"), shards.folder, tmp_path / "run").steps == 2
    trained, _ = RunFolder(tmp_path / "run").load_model()
    export_encoder(trained, tmp_path / "run" / "tokenizer", tmp_path / "encoder")
    loaded = AutoModel.from_pretrained(tmp_path / "encoder").eval()
    assert loaded.config.vocab_size == V and loaded.config.pad_token_id == shards.vocabulary.pad
    with torch.no_grad():
        ours, theirs = (each(input_ids=ids_BL).last_hidden_state for each in (trained.encoder.eval(), loaded))
    torch.testing.assert_close(ours, theirs)


def test_tokens_may_be_added_to_what_was_trimmed(continuous: Shards, other_text: Path, tmp_path: Path) -> None:
    reference = save_masked_lm("bert", continuous, tmp_path / "model")
    shards = prepared(other_text, tmp_path / "model", tmp_path / "shards")
    grown = tokenizers_.load(shards.folder / "tokenizer")
    assert grown.add_tokens(["kanlot"]) == 1
    grown.save_pretrained(tmp_path / "grown")
    prepare(
        [other_text], tmp_path / "again",
        PrepareSettings(tokenizer=tmp_path / "grown", documents="line", row_length=32, valid_fraction=0.1, workers=1),
    )  # fmt: skip
    rows = find_start(continue_from(tmp_path / "model"), Shards(tmp_path / "again")).rows
    whole = tokenizers_.load(tmp_path / "model")
    assert rows.trimmed and len(rows.of_token) == shards.vocabulary.size + 1
    pieces = whole("kanlot", add_special_tokens=False)["input_ids"]
    assert rows.of_token[grown.convert_tokens_to_ids("kanlot")] == pieces and len(pieces) > 1
    assert len(reference.get_input_embeddings().weight) == continuous.vocabulary.size


def test_a_padding_token_from_which_positions_are_counted_must_not_move() -> None:
    rows = Rows({0: [0], 1: [2], 2: [5]}, trimmed=True)
    config = tiny_config("bert", pad_token_id=5, bos_token_id=2)
    renumber_special_tokens(config, rows, "model")
    assert (config.pad_token_id, config.bos_token_id) == (2, 1)
    with pytest.raises(UserError, match=r"model counts positions from the id of its padding token on, 5, and .* 2"):
        renumber_special_tokens(tiny_config("roberta", pad_token_id=5), rows, "model")


def test_any_number_of_parts_gives_the_same_entries_and_a_second_try_takes_them_over(
    continuous: Shards, other_text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_masked_lm("bert", continuous, tmp_path / "model")
    one = prepared(other_text, tmp_path / "model", tmp_path / "one", trim_to=270)
    with monkeypatch.context() as patched:
        patched.setattr(prepare_module, "link_shards", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepared(other_text, tmp_path / "model", tmp_path / "many", trim_to=270, part_bytes=500)
    monkeypatch.setattr(whole_module, "count_uses", lambda *_: 1 / 0)  # what is used is known by now
    settings = PrepareSettings(
        tokenizer=tmp_path / "model", trim=True, trim_to=270, documents="line", row_length=32, valid_fraction=0.1,
        workers=1, part_bytes=500,
    )  # fmt: skip
    assert prepare([other_text], tmp_path / "many", settings, resume=True).parts_taken_over > 1
    many = Shards(tmp_path / "many")
    assert len(many.index.train.shards) > 1 and one.vocabulary.size <= 270
    assert one.index.tokenizer_sha256 == many.index.tokenizer_sha256


def test_a_run_from_scratch_takes_a_trimmed_tokenizer_as_any(
    continuous: Shards, other_text: Path, tmp_path: Path
) -> None:
    save_masked_lm("bert", continuous, tmp_path / "model")
    shards = prepared(other_text, tmp_path / "model", tmp_path / "shards")
    recipe = load("3ml-small", ["model.hidden_size=32", "model.num_hidden_layers=1", "model.num_attention_heads=2",
                                "model.intermediate_size=32", "batch.rows=4", "duration.steps=1", "evaluation.rows=4"])  # fmt: skip
    assert pretrain(recipe, shards.folder, tmp_path / "run").steps == 1
