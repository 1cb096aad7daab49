"""Tokenizers of one file: the ids are those of the library that the file is from."""

import io
import json
import random
import sys
from pathlib import Path

import pytest
import sentencepiece
from transformers import AutoTokenizer, BertTokenizer, EsmTokenizer

from masklater.corpus import tokenizer as tokenizers_
from masklater.corpus.bare import load_bare
from masklater.corpus.prepare import prepare
from masklater.corpus.read import Document
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.tokenise import tokenise
from masklater.errors import DamagedDataError, UserError
from tests.conftest import DATA, make_text
from tests.corpus.kinds import KINDS, save_kind

TEXTS = [*(make_text(i, 60) for i in range(30)), "The fine  tree, isn't it? " * 3, "déjà vu " * 3]
TRIALS = [*TEXTS[:3], "  two  spaces ", "kan</s><s>lot", "The tree", "ﬁne ½", "<unk> x", "中文 kan"]


def spm(folder: Path, **options: object) -> Path:
    out = io.BytesIO()
    wanted = {"vocab_size": 50, "model_type": "unigram", "minloglevel": 2, "num_threads": 1, **options}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(TEXTS), model_writer=out, **wanted)
    (folder / "spm.model").write_bytes(out.getvalue())
    return folder / "spm.model"


MODELS: dict[str, dict[str, object]] = {
    "unigram": {},
    "bpe": {"model_type": "bpe"},
    "unigram with bytes": {"byte_fallback": True, "vocab_size": 340, "hard_vocab_limit": False},
    "bpe with bytes": {"model_type": "bpe", "byte_fallback": True, "vocab_size": 340},
    "unigram as it stands": {"normalization_rule_name": "identity", "add_dummy_prefix": False, "remove_extra_whitespaces": False},
    "unigram with ids of its own": {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3, "control_symbols": ["[MASK]"]},
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_ids_are_sentencepieces(name: str, tmp_path: Path) -> None:
    file = spm(tmp_path, **MODELS[name])
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(file))
    tokenizer = load_bare(file)
    pairs = tokenise(iter(Document(text, 0) for text in TRIALS), tokenizer.backend_tokenizer, 1)
    for document, (ids, _) in pairs:
        if document.text == "<unk> x":
            continue  # what stands for the unknown is not matched by it, and may be split in another way here
        if "</s>" not in document.text:  # such a name is cut, and the unknown on either side counted by itself
            assert ids.tolist() == oracle.encode(document.text), document.text
        assert not {*ids.tolist()} & {*tokenizers_.vocabulary(tokenizer).special} - {tokenizer.unk_token_id}
    assert tokenizer.decode(oracle.encode("kan lot")) == "kan lot"
    vocabulary = tokenizers_.vocabulary(tokenizer)
    assert vocabulary.bos == oracle.bos_id() and vocabulary.eos == oracle.eos_id()
    assert vocabulary.pad == (oracle.pad_id() if oracle.pad_id() >= 0 else len(oracle))


def test_prepare_reads_a_model_and_says_what_it_adds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("\n".join(TEXTS[:20]))
    file = spm(tmp_path)
    result = prepare(
        [tmp_path / "a.txt"], tmp_path / "out", PrepareSettings(tokenizer=file, documents="line", row_length=16)
    )
    assert result.vocabulary == 52 and result.unknown_tokens == 0
    assert "<pad>, <mask> are not in it, and come behind its 50 entries" in capsys.readouterr().err
    loaded = tokenizers_.load(tmp_path / "out" / "tokenizer")
    assert loaded("kan lot")["input_ids"][1:-1] == sentencepiece.SentencePieceProcessor(model_file=str(file)).encode(
        "kan lot"
    )


@pytest.mark.skipif(not (DATA / "vocab").is_dir(), reason="BERT's vocabulary is not on this machine")
def test_berts_vocabulary_is_lower_case_by_what_is_in_it() -> None:
    file = DATA / "vocab" / "bert-base-uncased-vocab.txt"
    text = "The Tree, isn't it? Déjà vu 中文"
    assert load_bare(file)(text)["input_ids"] == BertTokenizer(str(file), do_lower_case=True)(text)["input_ids"]


def test_vocabularies_are_read_as_what_they_are(tmp_path: Path) -> None:
    bert = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "The", "the", "t", "##ree", "É"]
    (tmp_path / "vocab.txt").write_text("\n".join(bert) + "\n")
    cased = load_bare(tmp_path / "vocab.txt")
    assert cased.tokenize("The tree É e") == ["The", "t", "##ree", "É", "[UNK]"]
    special = bert[:5]
    for text, entries in (
        ("संयुक्त राज्य", ["संयुक्त", "राज्य"]),
        ("나는 학교", ["나는", "학교"]),
        ("ÉTÉ déjà", ["été", "déjà"]),  # lower case, with its accents
    ):
        (tmp_path / "marks.txt").write_text("\n".join([*special, *entries]) + "\n")
        assert load_bare(tmp_path / "marks.txt").tokenize(text) == entries
    esm = ["<cls>", "<pad>", "<eos>", "<unk>", "L", "A", "G", "<mask>"]
    (tmp_path / "esm.txt").write_text("\n".join(esm))
    letters = load_bare(tmp_path / "esm.txt")
    assert letters.tokenize("LAGX<mask>A") == ["L", "A", "G", "<unk>", "<mask>", "A"]
    assert tokenizers_.vocabulary(letters).special == (0, 1, 2, 3, 7)
    (tmp_path / "special.txt").write_text("\n".join(["<cls>", "<pad>", "<eos>", "<unk>", "<mask>"]))
    with pytest.raises(UserError, match="is no vocabulary of BERT or ESM"):
        load_bare(tmp_path / "special.txt")


ESM = ["<cls>", "<pad>", "<eos>", "<unk>", *"LAGVSERTIDPKQNFYMHWCXBUZO.-", "<null_1>", "<mask>"]


def test_the_tokenizer_of_a_published_protein_encoder(tmp_path: Path) -> None:
    """Transformers has ESM's in Python alone; that of its folder, or of its vocab.txt, gives the same ids."""
    (tmp_path / "esm").mkdir()
    (tmp_path / "esm" / "vocab.txt").write_text("\n".join(ESM))
    slow = EsmTokenizer(str(tmp_path / "esm" / "vocab.txt"))
    slow.save_pretrained(tmp_path / "esm")
    assert not (tmp_path / "esm" / "tokenizer.json").exists()
    draw = random.Random(0)
    pieces = [*ESM[4:31] * 3, *"Jjacd1é<> \n\t", "<null_1>", "<mask>", "<unk>", "  ", "JJ", "<null"]
    texts = ["".join(draw.choices(pieces, k=draw.randrange(30))) for _ in range(500)]
    for ours in (tokenizers_.load(tmp_path / "esm"), load_bare(tmp_path / "esm" / "vocab.txt")):
        assert ours(texts)["input_ids"] == slow(texts)["input_ids"]
        assert ours("MK", "AY")["input_ids"] == slow("MK", "AY")["input_ids"]
        assert tokenizers_.vocabulary(ours).special == (0, 1, 2, 3, 32)
        assert tokenizers_.complete(ours) == []
        tokenizers_.save(ours, tmp_path / "saved", 64)
        assert AutoTokenizer.from_pretrained(tmp_path / "saved")(texts)["input_ids"] == slow(texts)["input_ids"]
    config = json.loads((tmp_path / "esm" / "tokenizer_config.json").read_text())
    (tmp_path / "esm" / "tokenizer_config.json").write_text(json.dumps({**config, "mask_token": "X"}))
    with pytest.raises(UserError, match=r"\(EsmTokenizer\) exists in Python alone"):
        tokenizers_.load(tmp_path / "esm")


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "bert", "unigram", "xlm-roberta", "characters"])
def test_a_tokenizer_json_alone_gives_the_ids_of_its_folder(kind: str, tmp_path: Path) -> None:
    folder = save_kind(kind, tmp_path / "folder")
    whole, bare = tokenizers_.load(folder), load_bare(folder / "tokenizer.json")
    assert tokenizers_.vocabulary(bare).model_dump(exclude={"all"}) == tokenizers_.vocabulary(whole).model_dump(
        exclude={"all"}
    )
    text = "The tree by the river"
    assert bare(text, add_special_tokens=False)["input_ids"] == whole(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alone", [True, False], ids=["tokenizer.json", "folder"])
def test_a_mask_stands_for_a_word_with_its_space(kind: str, alone: bool, tmp_path: Path) -> None:
    """Whatever its maker said of the mask token: no lone space is left before it, which stands before no word."""
    folder = save_kind(kind, tmp_path / "folder")
    tokenizer = load_bare(folder / "tokenizer.json") if alone else tokenizers_.load(folder)
    tokenizers_.complete(tokenizer)
    tokenizers_.save(tokenizer, tmp_path / "saved", 64)
    for one in (tokenizer, AutoTokenizer.from_pretrained(tmp_path / "saved")):
        mask = one.mask_token_id
        before = [
            ids[: ids.index(mask)] for ids in one([f"tree {one.mask_token}", f"tree{one.mask_token}"])["input_ids"]
        ]
        assert (before[0] == before[1]) == (kind != "characters"), one.convert_ids_to_tokens(before[0])
    assert tokenizers_.complete(tokenizer) == []


BAD = {
    "spm.model": (b"\xff\xfe rubbish", r"is no SentencePiece model"),
    "empty.model": (b"", r"is no SentencePiece model|without pieces"),
    "tokenizer.json": (b"{}", r"is no tokenizer\.json"),
    "vocab.txt": (b"one\ntwo\n", r"is no vocabulary of BERT or ESM"),
    "other.txt": (b"\xff\xfe", r"is no vocabulary in UTF-8"),
    "vocab.bin": (b"", r"its name does not say of which kind"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_none(name: str, tmp_path: Path) -> None:
    content, message = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        load_bare(tmp_path / name)


def test_a_truncated_model_is_refused(tmp_path: Path) -> None:
    file = spm(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises((DamagedDataError, UserError)):
        load_bare(file)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": {"type": "Unigram"}}))
    with pytest.raises(DamagedDataError):
        load_bare(tmp_path / "tokenizer.json")


def test_a_folder_with_a_sentencepiece_model_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As DeBERTa-v3 and mDeBERTa are published."""
    file = spm(
        tmp_path, pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]", eos_piece="[SEP]",
        unk_piece="[UNK]",
    )  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False, "vocab_type": "spm"}))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "deberta-v2"}))
    oracle = sentencepiece.SentencePieceProcessor(model_file=str(file))
    tokenizer = tokenizers_.load(tmp_path)
    for text in TEXTS:
        assert tokenizer.encode(text, add_special_tokens=False) == oracle.encode(text)
    vocabulary = tokenizers_.vocabulary(tokenizer)
    assert (vocabulary.pad, vocabulary.bos, vocabulary.eos, vocabulary.mask) == (0, 1, 2, 50)
    monkeypatch.setitem(sys.modules, "sentencepiece.sentencepiece_model_pb2", None)
    with pytest.raises(UserError, match=r"spm\.model needs sentencepiece.*\n.*masklater\[spm\]"):
        tokenizers_.load(tmp_path)


def test_symbols_of_ones_own_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="user_defined_symbols is not read"):
        load_bare(spm(tmp_path, user_defined_symbols=["kan"]))
