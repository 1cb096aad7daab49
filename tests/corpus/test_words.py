"""Where words begin, as read off a tokenizer, is where its own splitting begins them."""

from pathlib import Path

import pytest
import torch

from masklater.corpus.tokenizer import wrap
from masklater.corpus.train import train
from masklater.corpus.words import WordTable, word_table_of
from masklater.masking.choose import number_words
from tests.corpus.test_split import DECOMPOSED, HINDI, PERSIAN, SINHALA

TEXTS = [
    HINDI,
    PERSIAN,
    SINHALA,
    DECOMPOSED,
    "ภาษาไทย123ได้ (ที่นี่) กว่า 10 ปี",
    "We don't: 12 or 3.5 (three) things, x2y.",
    "A ❤️ b 👩‍👩‍👧, c",
]


@pytest.mark.parametrize(
    ("text", "size"),
    # At 300 entries characters beyond ASCII are bytes, whose class nobody can tell.
    [*((text, 1200) for text in TEXTS), ("We do: 12 or 3.5 (three) things,  x2y.\n\nAnd", 300)],
)
def test_words_are_the_splitters_own(text: str, size: int) -> None:
    tokenizer = train(iter(TEXTS * 2), "bpe", size)
    words = WordTable(*map(torch.from_numpy, word_table_of(wrap(tokenizer))))
    encoding = tokenizer.encode(text)
    rows_BL = torch.tensor([encoding.ids])
    maskable_BL = torch.tensor([[word is not None for word in encoding.word_ids]])
    expected = [-1 if word is None else word for word in encoding.word_ids]
    assert number_words(rows_BL, maskable_BL, words)[0].tolist() == expected


def test_marks_that_a_saved_tokenizer_splits_off_stay_with_their_words(tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    from masklater.corpus.split import gpt2_split

    tokenizer = train(iter([HINDI] * 3), "bpe", 400)
    saved = Tokenizer.from_str(tokenizer.to_str())
    saved.pre_tokenizer = gpt2_split()
    words = WordTable(*map(torch.from_numpy, word_table_of(wrap(saved))))
    encoding = saved.encode(HINDI)
    maskable_BL = torch.tensor([[word is not None for word in encoding.word_ids]])
    number = int(number_words(torch.tensor([encoding.ids]), maskable_BL, words).max()) + 1
    assert number == len(HINDI.split(" "))
    assert len({word for word in encoding.word_ids if word is not None}) > number


def test_a_wordpiece_tokenizer_may_write_its_pieces_otherwise() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    entries = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "Europ", "@@ean", "##ed", "lob"]
    vocab = {entry: number for number, entry in enumerate(entries)}
    for prefix, begins in (("@@", ["Europ", "##ed", "lob"]), ("##", ["Europ", "@@ean", "lob"])):
        tokenizer = Tokenizer(models.WordPiece(vocab, unk_token="<unk>", continuing_subword_prefix=prefix))
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece(prefix=prefix)
        table = word_table_of(wrap(tokenizer))
        assert [entries[place] for place in range(5, 9) if table.begins_V[place]] == begins
