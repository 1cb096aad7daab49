"""Tokenizers trained here: kinds, sizes, what is done to a text first."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from masklater.corpus import tokenizer as tokenizers_
from masklater.corpus.prepare import prepare
from masklater.corpus.settings import PrepareSettings, TokenizerKind
from masklater.corpus.shards import Shards
from masklater.corpus.special import BERT_TOKENS
from masklater.corpus.train import train
from masklater.corpus.words import word_table_of
from masklater.errors import UserError
from tests.conftest import make_text

TEXTS = [*(make_text(i, 120) for i in range(8)), "Déjà vu, the ﬁne tree.\nIsn't it?"]


@pytest.mark.parametrize("kind", ["unigram", "characters"])
def test_a_trained_tokenizer_is_saved_and_loaded(kind: TokenizerKind, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n".join(TEXTS))
    settings = PrepareSettings(
        train_tokenizer=kind, vocab_size=60, row_length=32, documents="blank-line", valid_fraction=0
    )
    result = prepare([tmp_path], tmp_path / "out", settings)
    assert result.vocabulary <= 60 and result.unknown_tokens == 0
    shards, tokenizer = Shards(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out" / "tokenizer")
    assert shards.vocabulary.special == (0, 1, 2, 3, 4)
    ids = tokenizer("kan lot")["input_ids"]
    assert (ids[0], ids[-1], tokenizer.decode(ids[1:-1])) == (0, 2, "kan lot")
    assert tokenizers_.load(tmp_path / "out" / "tokenizer")("kan lot")["input_ids"] == ids
    block = shards.train.read(np.arange(shards.train.num_rows))
    assert "".join(tokenizer.decode(block.ids_NL[0][1:-1]).split()) in "".join("".join(TEXTS).split())


def test_characters_are_one_entry_each_the_most_frequent_ones() -> None:
    tokenizer = tokenizers_.wrap(train(iter(["ACCGGGTTTT", "A\nB"]), "characters", 5 + 4))
    assert tokenizer.convert_ids_to_tokens(range(9)) == ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "T", "G", "A", "C"]
    assert tokenizer.convert_ids_to_tokens(tokenizer("AB T<mask>T")["input_ids"]) == [
        "<s>", "A", "<unk>", "<unk>", "T", "<mask>", "T", "</s>",
    ]  # fmt: skip
    spaced = tokenizers_.wrap(train(iter(["A B"]), "characters", 8))
    assert spaced.convert_ids_to_tokens(spaced("A <mask> B")["input_ids"])[1:-1] == ["A", " ", "<mask>", " ", "B"]


def test_words_of_a_unigram_tokenizer_begin_at_spaces() -> None:
    tokenizer = tokenizers_.wrap(train(iter(TEXTS), "unigram", 60))
    begins = word_table_of(tokenizer).begins_V
    ids = tokenizer("kan lot\nmit", add_special_tokens=False)["input_ids"]
    assert sum(begins[ids]) == 3 and begins[ids[0]]


def test_unigram_training_is_repeatable() -> None:
    assert train(iter(TEXTS), "unigram", 60).to_str() == train(iter(TEXTS), "unigram", 60).to_str()


TRAIN = """
import json, sys
from masklater.corpus.train import train
texts = json.load(open(sys.argv[1]))
for kind in ("bpe", "wordpiece", "unigram"):
    print(train(iter(texts), kind, 700).to_str())
"""


def test_training_is_repeatable_from_process_to_process(tmp_path: Path) -> None:
    """Hashes of both languages are seeded anew in each, and most pairs of letters are as frequent as others."""
    letters = "abcdefghijklmnopqrstuvwxyz\u00e4\u00f6\u00fc\u4e00\u0938\u0902"
    rng = random.Random(0)
    words = ["".join(rng.sample(letters, rng.randrange(2, 9))) for _ in range(1500)]
    (tmp_path / "texts.json").write_text(json.dumps([" ".join(words[start::30]) for start in range(30)]))
    made = set()
    for seed in ("0", "1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TOKENIZERS_PARALLELISM": "true"}
        command = [sys.executable, "-c", TRAIN, tmp_path / "texts.json"]
        made.add(subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300).stdout)
    assert len(made) == 1
    assert [len(json.loads(line)["model"]["vocab"]) for line in made.pop().splitlines()] == [700] * 3


def test_wordpiece_has_pieces_of_one_character_first_and_nothing_more_special() -> None:
    tokenizer = train(iter(["abc abd", "cab"]), "wordpiece", 300)
    entries = sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)
    assert entries[:12] == [*BERT_TOKENS.values(), "a", "b", "c", "d", "##a", "##b", "##c"]
    assert entries[12:14] == ["##d", "ab"]  # the most frequent pair
    assert {each.content for each in tokenizer.get_added_tokens_decoder().values()} == {*BERT_TOKENS.values()}
    assert tokenizer.encode("abd c d", add_special_tokens=False).tokens[-2:] == ["c", "d"]


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram", "characters"])
@pytest.mark.parametrize(
    ("steps", "text", "becomes"),
    [
        ((), "Déjà", "Déjà"), (("nfc",), "De\u0301ja\u0300", "Déjà"), (("nfkc",), "ﬁne", "fine"), (("lower",), "Déjà", "déjà"),
        (("strip-accents",), "Déjà", "Deja"), (("strip-accents", "lower"), "De\u0301jà", "deja"),
    ],
)  # fmt: skip
def test_what_is_done_to_a_text_first(
    kind: TokenizerKind, steps: tuple[str, ...], text: str, becomes: str, tmp_path: Path
) -> None:
    tokenizer = tokenizers_.wrap(train(iter([*TEXTS, text, becomes]), kind, 400, steps))
    tokenizers_.save(tokenizer, tmp_path / "saved", 64)
    for loaded in (tokenizer, AutoTokenizer.from_pretrained(tmp_path / "saved")):
        ids = loaded(text, add_special_tokens=False)["input_ids"]
        assert loaded.decode(ids).strip() == becomes and loaded.unk_token_id not in ids


def test_a_vocabulary_that_is_too_small_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(UserError, match=r"--vocab-size 100 is too small for --train-tokenizer bpe: it begins at 300"):
        prepare([tmp_path], tmp_path / "out", PrepareSettings(vocab_size=100))
    with pytest.raises(UserError, match=r"--normalise 'nfd' is none of nfc, nfkc, lower, strip-accents"):
        prepare([tmp_path], tmp_path / "out", PrepareSettings(normalise=("nfd",)))
