"""Tokenizers: trained, loaded, saved; RoBERTa's ids from public files; nothing in a text becomes a special token."""

import json
import re
import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer

from masklater.corpus import tokenizer as tokenizers_
from masklater.corpus.index import read_index
from masklater.corpus.prepare import prepare
from masklater.corpus.read import Document
from masklater.corpus.same_ids import have_same_ids
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.shards import Shards
from masklater.corpus.tokenise import tokenise
from masklater.corpus.train import train
from masklater.doctor.examine import examine
from masklater.errors import DamagedDataError, UserError
from tests.conftest import DATA, make_shards, make_text
from tests.corpus.kinds import KINDS, save_kind

HARD_TEXT = "العربية देवनागरी 中文\n\n👩‍👩‍👧  e\u0301 a\u200bb\ttab </s> <mask> <s>"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bpe")
    texts = iter([make_text(i, 300) for i in range(10)])
    tokenizers_.save(tokenizers_.wrap(train(texts, "bpe", 400)), folder, 64)
    return folder


def ids_of(text: str, tokenizer: Path | Tokenizer) -> list[int]:
    backend = tokenizer if isinstance(tokenizer, Tokenizer) else tokenizers_.load(tokenizer).backend_tokenizer
    ((_, tokens),) = tokenise(iter([Document(text, 0)]), backend, 1)
    return tokens.ids_T.tolist()


def test_bpe_round_trip_is_exact_and_specials_in_a_text_stay_text(trained: Path) -> None:
    tokenizer = tokenizers_.load(trained)
    ids = ids_of(HARD_TEXT, trained)
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == HARD_TEXT
    assert not set(ids) & set(tokenizers_.vocabulary(tokenizer).special)


SPELLED = "the <s>tree</s> by <mask> the <pad> river [MASK] <cls> <eos>"


@pytest.mark.parametrize("kind", [*KINDS, "whitespace wordpiece"])
def test_a_text_that_spells_special_tokens_has_none(kind: str, tmp_path: Path) -> None:
    """They are entries of the model too, which a Unigram prefers to all others. Nothing else changes."""
    if kind == "whitespace wordpiece":
        tokenizer = KINDS["wordpiece"]()
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    else:
        tokenizer = KINDS[kind]()
    tokenizer.save_pretrained(tmp_path / "theirs")
    plain = tokenizer("the tree by the river")["input_ids"]
    notes = tokenizers_.complete(tokenizer)
    tokenizers_.save(tokenizer, tmp_path / "ours", 64)
    special = set(tokenizers_.vocabulary(tokenizer).special) - {tokenizer.unk_token_id}
    assert not special & set(ids_of(SPELLED, tokenizers_.load_backend(tmp_path / "ours")))
    loaded = tokenizers_.load(tmp_path / "ours")
    assert loaded("the tree by the river")["input_ids"] == plain
    assert loaded.mask_token_id in loaded(f"the {loaded.mask_token} by")["input_ids"]  # where it is looked for
    found = {"unigram", "xlm-roberta", "camembert", "whitespace wordpiece"}
    assert any("takes a text's own" in note for note in notes) == (kind in found)
    assert have_same_ids(tmp_path / "theirs", tmp_path / "ours")


def test_a_trained_unigram_makes_no_special_token_of_a_text(tmp_path: Path) -> None:
    texts = [*(make_text(i, 300) for i in range(10)), "kan <s> lot </s> <mask> net <pad>"]
    tokenizers_.save(tokenizers_.wrap(train(iter(texts), "unigram", 400)), tmp_path / "u", 64)
    tokenizer = tokenizers_.load(tmp_path / "u")
    assert tokenizers_.complete(tokenizer) == []
    special = set(tokenizers_.vocabulary(tokenizer).special) - {tokenizer.unk_token_id}
    assert not special & set(ids_of("kan <s>lot</s> <mask> <pad>net", tmp_path / "u"))


def test_padding_that_a_tokenizer_was_saved_with_is_nothing_around_a_text(tmp_path: Path) -> None:
    """As of sentence-transformers' exports: BERT's own segments were lost to a template that is ours."""
    tokenizer = KINDS["bert"]()
    tokenizer.backend_tokenizer.enable_padding(length=16, pad_id=0, pad_token="[PAD]")
    tokenizer.backend_tokenizer.enable_truncation(16)
    assert tokenizers_.complete(tokenizer) == []
    tokenizers_.save(tokenizer, tmp_path / "saved", 64)
    assert tokenizers_.token_types(tmp_path / "saved") == 2
    assert len(tokenizers_.load(tmp_path / "saved")("the tree " * 20)["input_ids"]) > 40


@pytest.mark.parametrize("name", ["RobertaTokenizer", "DebertaV2Tokenizer"])
def test_a_tokenizer_that_calls_itself_of_another_kind_is_what_its_file_says(name: str, tmp_path: Path) -> None:
    """A WordPiece that is called RoBERTa's: transformers 5 would cut all text into single characters."""
    tokenizer = KINDS["bert"]()
    tokenizer.save_pretrained(tmp_path)
    before = tokenizer("the tree")["input_ids"]
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": name}))
    assert tokenizers_.load(tmp_path)("the tree")["input_ids"] == before
    tokenizers_.save(tokenizers_.load(tmp_path), tmp_path / "saved", 64)
    assert AutoTokenizer.from_pretrained(tmp_path / "saved")("the tree")["input_ids"] == before


def test_what_a_class_makes_other_than_the_file_is_said(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A lower-casing RoBERTa: transformers 5 reads it without its normaliser."""
    make_shards(corpus, tmp_path / "first", tokenizer=save_kind("bpe", tmp_path / "bpe"))
    assert "other tokens" not in capsys.readouterr().err
    tree = json.loads((tmp_path / "bpe" / "tokenizer.json").read_text())
    tree["normalizer"] = {"type": "Lowercase"}
    (tmp_path / "bpe" / "tokenizer.json").write_text(json.dumps(tree))
    config = json.loads((tmp_path / "bpe" / "tokenizer_config.json").read_text())
    of_robertas = json.dumps({**config, "tokenizer_class": "RobertaTokenizer"})
    (tmp_path / "bpe" / "tokenizer_config.json").write_text(of_robertas)
    make_shards(corpus, tmp_path / "second", tokenizer=tmp_path / "bpe")
    file = tmp_path / "bpe" / "tokenizer.json"
    said = f"as a RobertaTokenizer, which makes other tokens of 'The', for example, .*, take --tokenizer {re.escape(str(file))}"
    assert re.search(said, capsys.readouterr().err)
    make_shards(corpus, tmp_path / "third", tokenizer=file)
    assert ids_of("The", tmp_path / "third") == ids_of("the", tmp_path / "third")


@pytest.mark.parametrize("name", ["vocab.txt", "spm.model"])
def test_entries_alone_are_told_with_what_is_missing(name: str, tmp_path: Path) -> None:
    """SciBERT and IndicBERT are published with such folders."""
    (tmp_path / name).write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nThe\n")
    with pytest.raises(UserError, match=rf"holds {name} and no tokenizer_config\.json, which says how it is read"):
        tokenizers_.load(tmp_path)
    if name == "vocab.txt":  # the remedy, followed
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
        AutoTokenizer.from_pretrained(tmp_path, do_lower_case=False).save_pretrained(tmp_path)
        assert tokenizers_.load(tmp_path)("The")["input_ids"] == [2, 5, 3]


def test_saved_folder_loads_with_auto_tokenizer(trained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained)
    assert (tokenizer.model_max_length, tokenizer.mask_token, tokenizer.bos_token) == (64, "<mask>", "<s>")
    one, two = tokenizer("kan lot"), tokenizer("kan", "lot")
    assert set(one) == {"input_ids", "attention_mask"}
    assert (one["input_ids"][0], one["input_ids"][-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.convert_ids_to_tokens(two["input_ids"]).count("</s>") == 3
    with_mask = tokenizer.convert_ids_to_tokens(tokenizer("a <mask> b")["input_ids"])
    assert with_mask[1:3] == ["a", "<mask>"]


def test_wordpiece(tmp_path: Path) -> None:
    texts = iter([make_text(i, 300) for i in range(10)] + ["Case and áccents Stay"])
    tokenizers_.save(tokenizers_.wrap(train(texts, "wordpiece", 400)), tmp_path / "wp", 64)
    tokenizer = tokenizers_.load(tmp_path / "wp")
    assert tokenizer.decode(tokenizer("Case áccents Stay")["input_ids"]) == "[CLS] Case áccents Stay [SEP]"
    assert len(tokenizers_.vocabulary(tokenizer).special) == 5


def test_training_is_repeatable() -> None:
    def text() -> str:
        return train(iter([make_text(i, 200) for i in range(5)]), "bpe", 350).to_str()

    assert text() == text()


def write_gpt2(folder: Path, fairseq: bool) -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    folder.mkdir()
    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, "ab", "abc", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\na b\nab c\n")
    if fairseq:
        order = [len(tokens) - 2, len(tokens) - 3, *range(len(alphabet)), len(tokens) - 1]
        (folder / "dict.txt").write_text("".join(f"{i} 5\n" for i in order) + "madeupword0000 0\n")


def test_gpt2_files_keep_their_order_behind_the_special_tokens(tmp_path: Path) -> None:
    """As in RoBERTa, whose positions are counted from the padding token's id on."""
    write_gpt2(tmp_path / "gpt2", fairseq=False)
    tokenizer = tokenizers_.load(tmp_path / "gpt2")
    assert ids_of("abc", tmp_path / "gpt2") == [4 + 257]
    vocabulary = tokenizers_.vocabulary(tokenizer)
    assert (vocabulary.bos, vocabulary.pad, vocabulary.eos) == (0, 1, 2)
    assert vocabulary.special == (0, 1, 2, 3, 263)
    assert vocabulary.size == 264


def test_gpt2_like_files_with_special_tokens_of_their_own_keep_their_ids(tmp_path: Path) -> None:
    write_gpt2(tmp_path / "own", fairseq=False)
    own = json.loads((tmp_path / "own" / "vocab.json").read_text()) | {"<pad>": 259, "<s>": 260}
    (tmp_path / "own" / "vocab.json").write_text(json.dumps(own))
    assert ids_of("abc", tmp_path / "own") == [257]
    assert tokenizers_.vocabulary(tokenizers_.load(tmp_path / "own")).special == (259, 260, 261, 262, 263)


def test_segments_are_told_apart_as_the_tokenizer_does(tmp_path: Path) -> None:
    from transformers import BertTokenizer

    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]))
    BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
    trained = tokenizers_.wrap(train(iter([make_text(i, 50) for i in range(9)]), "wordpiece", 320))
    trained.save_pretrained(tmp_path / "trained")
    assert [tokenizers_.token_types(tmp_path / name) for name in ("bert", "trained")] == [2, 1]
    (tmp_path / "bert" / "tokenizer.json").write_text("{}")
    with pytest.raises(DamagedDataError, match=r"tokenizer\.json does not load"):
        tokenizers_.token_types(tmp_path / "bert")


def test_with_fairseqs_dictionary_the_ids_are_robertas(tmp_path: Path) -> None:
    write_gpt2(tmp_path / "roberta", fairseq=True)
    vocabulary = tokenizers_.vocabulary(tokenizers_.load(tmp_path / "roberta"))
    assert ids_of("abcab", tmp_path / "roberta") == [4, 5]  # the first two lines of the dictionary
    assert (vocabulary.bos, vocabulary.pad, vocabulary.eos) == (0, 1, 2)
    assert vocabulary.mask == vocabulary.size - 1


@pytest.mark.skipif(not (DATA / "vocab").is_dir(), reason="GPT-2's vocabulary is not on this machine")
def test_robertas_real_ids() -> None:
    tokenizer = tokenizers_.load(DATA / "vocab")
    vocabulary = tokenizers_.vocabulary(tokenizer)
    assert (vocabulary.size, vocabulary.mask) == (50_265, 50_264)
    # "Hello world" in roberta-base: 31414, 232 (transformers' own documentation of RobertaTokenizer)
    assert tokenizer("Hello world")["input_ids"] == [0, 31414, 232, 2]
    assert tokenizer(" Hello world")["input_ids"] == [0, 20920, 232, 2]


def test_the_tokenizer_of_shards_and_of_a_run(tmp_path: Path, trained: Path) -> None:
    shutil.copytree(trained, tmp_path / "shards" / "tokenizer")
    found = tokenizers_.load(tmp_path / "shards")
    assert found.get_vocab() == tokenizers_.load(trained).get_vocab()


def test_no_tokenizer_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no tokenizer folder"):
        tokenizers_.load(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no tokenizer"):
        tokenizers_.load(tmp_path)


def test_a_tokenizer_without_a_mask_is_refused(tmp_path: Path, trained: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(trained)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(tmp_path / "maskless")
    with pytest.raises(UserError, match="the tokenizer lacks a mask token"):
        tokenizers_.load(tmp_path / "maskless")


ROLE_NAMES = {"bos": ("cls", "bos"), "eos": ("sep", "eos"), "pad": ("pad",), "mask": ("mask",), "unk": ("unk",)}


def with_one_token(trained: Path, role: str, other: str, folder: Path) -> Path:
    """The tokenizer with one token for two roles, as anybody saves it."""
    tokenizer = AutoTokenizer.from_pretrained(trained)
    for name in ROLE_NAMES[role]:
        setattr(tokenizer, f"{name}_token", getattr(tokenizer, f"{other}_token"))
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("role", "other", "said"),
    [
        ("pad", "eos", "'</s>' for its padding token and its last token"),
        ("pad", "bos", "'<s>' for its padding token and its first token"),
        ("pad", "unk", "'<unk>' for its padding token and its unknown token"),
        ("pad", "mask", "'<mask>' for its padding token and its mask token"),
        ("mask", "pad", "'<pad>' for its padding token and its mask token"),
        ("mask", "eos", "'</s>' for its mask token and its last token"),
        ("mask", "bos", "'<s>' for its mask token and its first token"),
        ("mask", "unk", "'<unk>' for its mask token and its unknown token"),
        ("eos", "pad", "'<pad>' for its padding token and its last token"),
    ],
)
def test_padding_and_mask_have_to_be_tokens_of_their_own(
    role: str, other: str, said: str, trained: Path, tmp_path: Path
) -> None:
    folder = with_one_token(trained, role, other, tmp_path / "one")
    with pytest.raises(UserError, match=rf"the tokenizer in {folder} has {said}, which rows could not") as refused:
        tokenizers_.load(folder)
    code = re.search(r"tokenizer\.add_special_tokens\((\{.*\})\)", refused.value.remedy)
    assert code is not None
    mended = AutoTokenizer.from_pretrained(folder)
    mended.add_special_tokens(json.loads(code[1]))
    mended.save_pretrained(tmp_path / "mended")
    vocabulary = tokenizers_.vocabulary(tokenizers_.load(tmp_path / "mended"))
    assert len({vocabulary.pad, vocabulary.mask} - {vocabulary.bos, vocabulary.eos, mended.unk_token_id}) == 2


def test_gpt2_with_one_token_for_all_goes_on_once_it_has_padding_and_mask(tmp_path: Path) -> None:
    """As GPT-2 itself has it, `pad_token = eos_token` included, by which it is padded everywhere."""
    write_gpt2(tmp_path / "files", fairseq=False)
    names = dict.fromkeys(("bos", "eos", "unk", "pad"), "<|endoftext|>")
    files = [str(tmp_path / "files" / name) for name in ("vocab.json", "merges.txt")]
    tokenizer = tokenizers_.named(Tokenizer(models.BPE.from_file(*files)), names | {"mask": "<mask>"})
    tokenizer.save_pretrained(tmp_path / "one")
    with pytest.raises(UserError, match=r"padding token and its first token.*\n.*\{\"pad_token\": \"<pad>\"\}"):
        tokenizers_.load(tmp_path / "one")
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(tmp_path / "own")
    vocabulary = tokenizers_.vocabulary(tokenizers_.load(tmp_path / "own"))
    assert vocabulary.bos == vocabulary.eos == 258 and vocabulary.pad == 260


def test_an_eos_that_no_row_has_may_be_the_padding(trained: Path, tmp_path: Path) -> None:
    """Beside cls and sep, which begin and end rows."""
    tokenizer = AutoTokenizer.from_pretrained(trained)
    tokenizer.add_special_tokens({"cls_token": "[CLS]", "sep_token": "[SEP]"})
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(tmp_path)
    vocabulary = tokenizers_.vocabulary(tokenizers_.load(tmp_path))
    assert tokenizer.convert_ids_to_tokens([vocabulary.bos, vocabulary.eos, vocabulary.pad]) == [
        "[CLS]",
        "[SEP]",
        "</s>",
    ]


@pytest.mark.parametrize("trim", [False, True])
def test_prepare_refuses_it_before_anything_is_made(
    trim: bool, corpus: Path, shards_folder: Path, tmp_path: Path
) -> None:
    one = with_one_token(shards_folder / "tokenizer", "pad", "eos", tmp_path / "one")
    with pytest.raises(UserError, match="for its padding token and its last token"):
        prepare([corpus], tmp_path / "out", PrepareSettings(tokenizer=one, trim=trim))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("role", "other"), [("pad", "eos"), ("pad", "mask"), ("mask", "bos")])
def test_an_index_that_has_one_id_for_padding_or_mask_and_another_is_refused(
    role: str, other: str, shards_folder: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(shards_folder, tmp_path / "data"))
    index = read_index(folder)
    special = index.special.model_copy(update={role: getattr(index.special, other)})
    old = index.model_copy(update={"special": special, "format": 1, "checksum": None})  # which has no checksum
    (folder / "index.json").write_text(old.model_dump_json())
    with pytest.raises(UserError, match=rf"index\.json has the id {getattr(special, other)} for the .* tell apart"):
        Shards(folder)
    assert any("which rows cannot tell apart" in problem for problem in examine(folder).problems)
