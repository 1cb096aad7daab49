"""Words keep their combining marks in a byte-level BPE that is trained here, and long stretches do not slow it down."""

import random
import time

import pytest
from tokenizers import Tokenizer, pre_tokenizers

from masklater.corpus import split
from masklater.corpus.settings import TokenizerKind
from masklater.corpus.train import train

HINDI = "हिन्दी में किताबें पढ़ना और क्षेत्रीय समाचार सुनना मुझे बहुत अच्छा लगता है"
PERSIAN = "می‌خواهم کتاب‌ها را بخوانم"
SINHALA = "ශ්‍රී ලංකාව"
DECOMPOSED = "Tie\u0302\u0301ng Vie\u0323\u0302t de\u0301ja\u0300"


def pieces(splitter: pre_tokenizers.PreTokenizer, text: str) -> list[str]:
    return [text[start:end] for _, (start, end) in splitter.pre_tokenize_str(text)]


@pytest.mark.parametrize("text", [HINDI, PERSIAN, SINHALA, DECOMPOSED])
def test_marks_and_joiners_stay_in_their_words(text: str) -> None:
    first, *others = text.split(" ")
    assert pieces(split.mark_keeping_split(), text) == [first, *(f" {word}" for word in others)]
    assert len(pieces(split.gpt2_split(), text)) > len(text.split(" "))


@pytest.mark.parametrize(
    "text",
    [
        "I don't; we've 12 or 3.5 (three)  and\n\n  more...  ",
        "x2y 1️⃣ 👩‍👩‍👧 ❤️! a\u200d \u200c.",
        " \u0301a",
        "中文，かな漢字 русский текст العربية",
    ],
)
def test_all_else_is_split_as_by_gpt2(text: str) -> None:
    assert pieces(split.mark_keeping_split(), text) == pieces(split.gpt2_split(), text)


def trained_on(texts: list[str], size: int = 600) -> Tokenizer:
    return train(iter(texts), "bpe", size)


def test_a_word_with_marks_becomes_one_token() -> None:
    tokenizer = trained_on([HINDI] * 3)
    assert [tokenizer.decode([token]).strip() for token in tokenizer.encode(HINDI).ids[1:-1]] == HINDI.split(" ")
    assert tokenizer.decode(tokenizer.encode(HINDI + DECOMPOSED + PERSIAN).ids) == HINDI + DECOMPOSED + PERSIAN


def test_where_marks_are_next_to_none_the_split_is_gpt2s() -> None:
    """Up to four entries of 4,000 may join a mark to its letter."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnop", k=6)) for _ in range(3000)]
    assert type(trained_on([*words, *["कि"] * 30], 4000).pre_tokenizer).__name__ == "ByteLevel"
    assert type(trained_on([*words, "कि की खि खी गि गी " * 30], 4000).pre_tokenizer).__name__ == "Sequence"


@pytest.mark.parametrize("kind", ["bpe", "wordpiece"])
@pytest.mark.parametrize("alphabet", ["ACGT", "ACDEFGHIKLMNPQRSTVWY", "กขคงจา่้"])
def test_a_stretch_without_spaces_is_learned_in_time(kind: TokenizerKind, alphabet: str) -> None:
    """Half a million characters on one line: uncut, 200,000 took 18 s, and time grew with the square."""
    text = "".join(random.Random(0).choices(alphabet, k=500_000))
    began = time.process_time()
    tokenizer = train(iter([text]), kind, 400)
    assert time.process_time() - began < 10
    if kind == "bpe":
        assert tokenizer.get_vocab_size() == 400
        sample = text[:1000]
        assert tokenizer.decode(tokenizer.encode(sample).ids) == sample
        assert len(tokenizer.encode(sample, add_special_tokens=False).ids) < 750


def test_the_cut_is_for_training_only() -> None:
    tokenizer = trained_on(["ab" * 5000, "ก่" * 5000])
    assert len(tokenizer.pre_tokenizer.pre_tokenize_str("ก่" * 1000)) == 1
    joined = tokenizer.encode("ab" * 512, add_special_tokens=False).tokens
    assert max(map(len, joined)) <= split.LONGEST_STRETCH
