"""Tokenizers that are the same to rows: in whatever words a file says it, and not where a text becomes other ids."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, BertTokenizer

from masklater.corpus import tokenizer as tokenizers_
from masklater.corpus.join import join
from masklater.corpus.same_ids import have_same_ids
from masklater.corpus.settings import TokenizerKind
from masklater.corpus.train import train
from masklater.errors import DamagedDataError, UserError
from tests.conftest import DATA, make_shards, make_text

KINDS: tuple[TokenizerKind, ...] = ("bpe", "wordpiece", "unigram", "characters")
Tree = dict[str, Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tokenizer of each kind, of text with capitals, accents, digits and marks."""
    folder = tmp_path_factory.mktemp("trained")
    texts = [make_text(i, 100) for i in range(10)]
    texts += [text.title().replace("a", "á") for text in texts] + ["Über 12 नमस्ते हिन्दी e\u0301té ne\u0301 ＡＢ"] * 40
    for kind in KINDS:
        made = tokenizers_.wrap(train(iter(texts), kind, 700 if kind == "bpe" else 400))
        tokenizers_.save(made, folder / kind, 32)
    return {kind: folder / kind for kind in KINDS}


def rewritten(source: Path, out: Path, change: Callable[[Tree], object]) -> Path:
    """A copy of a tokenizer whose tokenizer.json is written in other words."""
    shutil.copytree(source, out)
    tree = json.loads((out / "tokenizer.json").read_text())
    change(tree)
    (out / "tokenizer.json").write_text(json.dumps(tree))
    assert (out / "tokenizer.json").read_bytes() != (source / "tokenizer.json").read_bytes()
    return out


def old_merges(tree: Tree) -> None:
    tree["model"]["merges"] = [" ".join(pair) for pair in tree["model"]["merges"]]


def last_digits(tree: Tree) -> None:
    tree["model"]["vocab"] = [[piece, score * (1 + 1e-15)] for piece, score in tree["model"]["vocab"]]


def cut_and_padded(tree: Tree) -> None:
    tree["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    tree["padding"] = {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 1,
                       "pad_type_id": 0, "pad_token": "<pad>"}  # fmt: skip


def in_a_sequence(tree: Tree) -> None:
    steps = [tree["normalizer"]] if tree["normalizer"] else []
    tree["normalizer"] = {"type": "Sequence", "normalizers": steps}
    tree["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [tree["pre_tokenizer"]]}


SAME: dict[str, Callable[[Tree], object]] = {
    "other spaces": lambda tree: tree.update(version="1.0"),
    "steps in a sequence": in_a_sequence,
    "cut and padded": cut_and_padded,
    "nothing around a text": lambda tree: tree.update(post_processor=None),
    "a mask that takes no space": lambda tree: [token.update(lstrip=False) for token in tree["added_tokens"]],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("change", SAME)
def test_other_words_are_the_same_tokenizer(change: str, kind: str, trained: dict[str, Path], tmp_path: Path) -> None:
    other = rewritten(trained[kind], tmp_path / "other", SAME[change])
    assert have_same_ids(trained[kind], other) and have_same_ids(other, trained[kind])


@pytest.mark.parametrize(("kind", "change"), [("bpe", old_merges), ("unigram", last_digits)])
def test_merges_and_scores_in_other_words_are_the_same(
    kind: str, change: Callable[[Tree], None], trained: dict[str, Path], tmp_path: Path
) -> None:
    assert have_same_ids(trained[kind], rewritten(trained[kind], tmp_path / "other", change))


@pytest.mark.parametrize("kind", KINDS)
def test_what_transformers_has_saved_again_is_the_same(kind: str, trained: dict[str, Path], tmp_path: Path) -> None:
    loaded = AutoTokenizer.from_pretrained(trained[kind])
    loaded("text", padding="max_length", truncation=True, max_length=7)  # which the file then says too
    loaded.save_pretrained(tmp_path / "again")
    assert have_same_ids(trained[kind], tmp_path / "again")
    loaded.add_tokens(["kanlot"])
    loaded.save_pretrained(tmp_path / "grown")
    assert not have_same_ids(trained[kind], tmp_path / "grown")


def test_a_normalizer_that_is_written_as_a_pre_tokenizer_is_the_same(tmp_path: Path) -> None:
    """As Llama's: spaces become ▁ in a normalizer, or in Metaspace; no document begins with a space."""
    entries = ["<unk>", "<s>", "</s>", "<pad>", "<mask>", *"▁kanloti", "an", "lo", "kan", "lot", "▁kan", "▁lot"]
    merges = [("a", "n"), ("l", "o"), ("k", "an"), ("lo", "t"), ("▁", "kan"), ("▁", "lot")]
    vocab = {entry: number for number, entry in enumerate(entries)}
    for name in ("normalizer", "pre-tokenizer"):
        tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True))
        if name == "normalizer":
            steps = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
            tokenizer.normalizer = normalizers.Sequence(steps)  # type: ignore[arg-type]
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
        tokenizer.decoder = decoders.Metaspace()
        tokenizers_.wrap(tokenizer).save_pretrained(tmp_path / name)
    assert have_same_ids(tmp_path / "normalizer", tmp_path / "pre-tokenizer")


def without_regex(tree: Tree) -> None:
    tree["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def spaced(tree: Tree) -> None:
    tree["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


def gpt2s(tree: Tree) -> None:
    tree["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def single_digits(tree: Tree) -> None:
    digits = {"type": "Digits", "individual_digits": True}
    tree["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, tree["pre_tokenizer"]]}


def normalising(*steps: Tree) -> Callable[[Tree], None]:
    return lambda tree: tree.update(normalizer={"type": "Sequence", "normalizers": [*steps]})


OTHERS: dict[str, tuple[str, Callable[[Tree], object]]] = {
    **{
        f"{kind}, {step}": (kind, normalising({"type": step}))
        for kind in KINDS
        for step in ("Lowercase", "NFD", "NFKC")
    },
    "bpe, NFC": ("bpe", normalising({"type": "NFC"})),
    "bpe, without accents": ("bpe", normalising({"type": "NFD"}, {"type": "StripAccents"}, {"type": "NFC"})),
    "bpe, digits one by one": ("bpe", single_digits),
    "bpe, words not parted": ("bpe", without_regex),
    "bpe, a space before": ("bpe", spaced),
    "bpe, marks parted from letters": ("bpe", gpt2s),
    "bpe, without its last merge": ("bpe", lambda tree: tree["model"]["merges"].pop()),
    "wordpiece, shorter words": ("wordpiece", lambda tree: tree["model"].update(max_input_chars_per_word=9)),
    "wordpiece, another sign within words": ("wordpiece", lambda tree: tree["model"].update(continuing_subword_prefix="")),
    "unigram, another score": ("unigram", lambda tree: tree["model"]["vocab"][-1].__setitem__(1, -1.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_the_same_entries_on_another_text_are_another_tokenizer(
    name: str, trained: dict[str, Path], tmp_path: Path
) -> None:
    kind, change = OTHERS[name]
    other = rewritten(trained[kind], tmp_path / "other", change)
    assert not have_same_ids(trained[kind], other) and not have_same_ids(other, trained[kind])


def test_cased_and_uncased_of_one_vocabulary_are_refused_where_rows_come_together(corpus: Path, tmp_path: Path) -> None:
    words = sorted({word for text in map(make_text, range(20), [50] * 20) for word in text.split()})
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *(word.title() for word in words)]
    entries = {word: number for number, word in enumerate(dict.fromkeys(vocab))}
    folders = []
    for name, is_lower in (("uncased", True), ("cased", False)):
        BertTokenizer(vocab=entries, do_lower_case=is_lower).save_pretrained(tmp_path / name / "tokenizer")
        settings = {"tokenizer": tmp_path / name / "tokenizer", "max_unknown": 1.0}
        folders.append(make_shards(corpus, tmp_path / name / "shards", **settings))
    with pytest.raises(UserError, match=r"cased/shards was made with another tokenizer than .*uncased/shards"):
        join(folders, tmp_path / "out")


def test_a_file_that_does_not_load_is_named(trained: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DamagedDataError, match=r"tokenizer\.json does not load"):
        have_same_ids(trained["bpe"], tmp_path)


@pytest.mark.skipif(not (DATA / "vocab").is_dir(), reason="GPT-2's vocabulary is not on this machine")
def test_robertas_saved_again(tmp_path: Path) -> None:
    tokenizers_.load(DATA / "vocab").save_pretrained(tmp_path / "one")
    AutoTokenizer.from_pretrained(tmp_path / "one").save_pretrained(tmp_path / "other")
    rewritten(tmp_path / "one", tmp_path / "lower", normalising({"type": "Lowercase"}))
    assert have_same_ids(tmp_path / "one", tmp_path / "other")
    assert not have_same_ids(tmp_path / "one", tmp_path / "lower")
