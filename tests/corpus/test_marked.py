"""Words that the text marks: rows are those of the text without marks, and remember where its words begin."""

import json
import random
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from masklater.corpus.join import join
from masklater.corpus.marked import WORD_MARK, continues, join_bit, split_bit, take_out
from masklater.corpus.read import Document
from masklater.corpus.shards import Shards
from masklater.corpus.show import BORDER, show_rows
from masklater.corpus.tokenise import tokenise
from masklater.corpus.tokenizer import load, wrap
from masklater.corpus.train import train
from masklater.errors import UserError
from masklater.masking.batch import IGNORE
from masklater.masking.choose import words_of_rows
from masklater.pretrain.announce import announce_words
from masklater.pretrain.batches import make_batches
from masklater.pretrain.loop import pretrain
from masklater.recipe.masking import MaskingSettings
from tests.conftest import DATA, make_shards, tiny

LEXICON = ["我们", "在", "北京", "大学", "学习", "自然", "语言", "处理", "计算机", "的", "预训练", "模型", "。", "，"]
THAI = DATA / "ud" / "th_pud.conllu"


def sentences(number: int) -> list[list[str]]:
    rng = random.Random(number)
    return [rng.choices(LEXICON, k=rng.randint(8, 60)) for _ in range(number)]


@pytest.fixture(scope="module")
def chinese(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same text marked and plain, and a tokenizer whose tokens are characters, as BERT's are."""
    from transformers import BertTokenizerFast

    folder = tmp_path_factory.mktemp("chinese")
    characters = sorted({character for word in LEXICON for character in word})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    BertTokenizerFast(vocab={token: i for i, token in enumerate(tokens)}).save_pretrained(folder / "tokenizer")
    for name, mark in (("marked", WORD_MARK), ("plain", "")):
        lines = [json.dumps({"text": mark.join(words)}) for words in sentences(80)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def marked(chinese: Path) -> Path:
    return make_shards(chinese / "marked.jsonl", chinese / "shards", tokenizer=chinese / "tokenizer", marked_words=True)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["中国", "人民"], "中国|人民"),
        (["中国", "人民"], "|中国||人民|"),  # marks without a word between them
        (["I", " am", " here"], "I am here"),  # spaces tell words, which begin with them
        (["在", "GPU", " 上"], "在|GPU| |上"),  # a mark beside a space adds nothing
        (["一", "\n\n二", "三"], "一\n\n二|三"),
        ([], "||"),
    ],
)
def test_marks_are_taken_out_and_words_numbered(words: list[str], text: str) -> None:
    plain, word_C = take_out(text.replace("|", WORD_MARK))
    assert plain == "".join(words)
    found = ["".join(c for c, word in zip(plain, word_C, strict=True) if word == n) for n in dict.fromkeys(word_C)]
    assert found == words


def test_bytes_of_one_character_are_in_one_word_and_a_token_may_reach_over_a_border() -> None:
    word_C = np.array([0, 0, 1, 1, 2])
    assert continues(word_C, np.array([0, 0, 0, 1, 2, 4])).tolist() == [False, True, True, True, False, False]
    assert continues(word_C, np.array([0, 1, 3])).tolist() == [False, True, False]
    assert continues(word_C, np.array([], np.int64)).tolist() == []
    assert continues(np.array([], np.int64), np.array([0])).tolist() == [False]


@pytest.mark.parametrize("dtype", ["<u2", "<u4"])
def test_the_highest_bit_comes_off_as_it_was_put_on(dtype: str) -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 2**15, (5, 7)).astype(dtype)
    is_continued = rng.random((5, 7)) < 0.5
    again, found = split_bit(join_bit(ids, is_continued))
    assert (again == ids).all() and (found == is_continued).all()


def words_by_tokens(text: str, tokenizer: object) -> list[str]:
    """The text of each word, put together from the tokens that are said to make it up."""
    ((_, tokens),) = tokenise(iter([Document(text, 0)]), tokenizer.backend_tokenizer, 1, True)  # type: ignore[attr-defined]
    assert tokens.continues_T is not None
    groups: list[list[int]] = []
    for token, is_continued in zip(tokens.ids_T.tolist(), tokens.continues_T.tolist(), strict=True):
        if is_continued:
            groups[-1].append(token)
        else:
            groups.append([token])
    decoded = [tokenizer.backend_tokenizer.decode(group, skip_special_tokens=False) for group in groups]  # type: ignore[attr-defined]
    return [word.replace(" ", "") for word in decoded]


def test_characters_make_the_segmenters_own_words() -> None:
    tokenizer = wrap(train(iter("".join(words) for words in sentences(40)), "characters", 1000))
    for words in sentences(20):
        assert words_by_tokens(WORD_MARK.join(words), tokenizer) == words


@pytest.mark.parametrize(("kind", "size"), [("bpe", 300), ("bpe", 1000), ("unigram", 60)])
def test_a_word_begins_with_the_first_token_that_begins_in_it(kind: str, size: int) -> None:
    # At 300 entries of byte-level BPE tokens are bytes, and some reach from one character into the next.
    tokenizer = wrap(train(iter("".join(words) for words in sentences(40)), kind, size)).backend_tokenizer  # type: ignore[arg-type]
    for words in sentences(20):
        ((_, tokens),) = tokenise(iter([Document(WORD_MARK.join(words), 0)]), tokenizer, 1, True)
        encoding = tokenizer.encode("".join(words), add_special_tokens=False)
        assert tokens.ids_T.tolist() == encoding.ids
        borders, before, begins = {0, *np.cumsum([*map(len, words)]).tolist()}, -1, []
        for first, _ in encoding.offsets:
            begins.append(any(before < border <= first for border in borders))
            before = first
        assert tokens.continues_T is not None
        assert (~tokens.continues_T).tolist() == begins
        assert len(words) / 2 < sum(begins) <= len(words)


@pytest.mark.skipif(not THAI.exists(), reason=f"{THAI} is not there")
def test_real_thai_words() -> None:
    texts, words, spaced = [], [], False
    for line in THAI.read_text(encoding="utf-8").splitlines():
        columns = line.split("\t")
        if len(columns) > 5 and columns[0].isdecimal():
            words.append((" " if spaced else "") + columns[1])
            spaced = "SpaceAfter=No" not in columns[9]
        elif not line and words:
            texts.append(words)
            words, spaced = [], False
    tokenizer = wrap(train(iter("".join(words) for words in texts), "characters", 400))
    assert len(texts) == 1000
    for words in texts:
        assert words_by_tokens(WORD_MARK.join(words), tokenizer) == [word.replace(" ", "") for word in words]


def test_words_are_shown_as_they_are_masked(marked: Path, chinese: Path, tmp_path: Path) -> None:
    shards = Shards(marked)
    shown = show_rows(shards, "train", range(shards.train.num_rows), partial(words_of_rows, shards))
    words = {
        text.replace(" ", "") for row in shown for document in row.documents for text in document.split(BORDER)[2:-2]
    }  # a row may begin and end within a word
    assert words == {*LEXICON}
    characters = Shards(make_shards(chinese / "plain.jsonl", tmp_path / "plain", tokenizer=chinese / "tokenizer"))
    (row,) = show_rows(characters, "train", [0], partial(words_of_rows, characters))
    assert all(len(text) == 1 for text in row.documents[0].split(BORDER)[1:-1])


def test_rows_are_those_of_the_text_without_marks(chinese: Path, marked: Path, tmp_path: Path) -> None:
    plain = make_shards(chinese / "plain.jsonl", tmp_path / "plain", tokenizer=chinese / "tokenizer", valid_fraction=0)
    other = make_shards(
        chinese / "marked.jsonl", tmp_path / "marked", tokenizer=chinese / "tokenizer", valid_fraction=0,
        marked_words=True,
    )  # fmt: skip
    one, two = Shards(plain), Shards(other)
    two.verify()
    numbers = np.arange(one.train.num_rows)
    rows, marked_rows = one.train.read(numbers), two.train.read(numbers)
    assert (rows.ids_NL == marked_rows.ids_NL).all() and (rows.documents_NL == marked_rows.documents_NL).all()
    assert rows.continues_NL is None and marked_rows.continues_NL is not None
    counts = [{**entry.model_dump(), "shards": None} for entry in (one.index.train, two.index.train)]
    assert counts[0] == counts[1]
    assert (one.index.format, two.index.format) == (2, 4)
    assert two.index.source["word_marks"] == sum(len(words) - 1 for words in sentences(80))
    entries = [shards.index.source["sources"][0] for shards in (one, two)]  # type: ignore[index]
    assert [entry.unknown_share for entry in entries] == [0, 0]

    tokenizer = load(other / "tokenizer")
    begins = marked_rows.ids_NL[~marked_rows.continues_NL & (marked_rows.ids_NL >= 5)]
    assert {*tokenizer.convert_ids_to_tokens(begins.tolist())} == {word[0] for word in LEXICON}
    assert Shards(marked).fingerprint != two.fingerprint


def test_any_number_of_parts_has_the_same_words(chinese: Path, tmp_path: Path) -> None:
    settings = {"tokenizer": chinese / "tokenizer", "marked_words": True, "row_length": 256}  # no document is cut
    whole = Shards(make_shards(chinese / "marked.jsonl", tmp_path / "whole", **settings))
    cut = Shards(make_shards(chinese / "marked.jsonl", tmp_path / "cut", **settings, part_bytes=2000))
    assert len(cut.index.train.shards) > 1

    def words(shards: Shards) -> list[str]:
        tokenizer, found = load(shards.folder / "tokenizer"), []
        for split in (shards.train, shards.valid):
            block = split.read(np.arange(split.num_rows))
            assert block.continues_NL is not None
            for ids_L, continues_L in zip(block.ids_NL, block.continues_NL, strict=True):
                tokens = tokenizer.convert_ids_to_tokens(ids_L.tolist())
                for token, is_continued in zip(tokens, continues_L.tolist(), strict=True):
                    if is_continued:
                        found[-1] += token
                    elif not token.startswith("["):
                        found.append(token)
        return sorted(found)

    assert words(cut) == words(whole)
    assert {*words(whole)} == {*LEXICON}


@pytest.mark.parametrize("choose", ["word", "span"])
def test_marked_words_are_masked_whole(
    choose: str, marked: Path, chinese: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards = Shards(marked)
    masking = MaskingSettings(choose=choose, rate=0.3, mask=1.0, random=0.0, keep=0.0)
    maker = make_batches(shards, shards.train, masking, True, "row", 0)
    assert maker.corruption.table is None
    places_N = maker.places_of_step(0, 16)
    block = maker.rows.read(places_N)
    assert block.continues_NL is not None
    batch = maker.of_step(0, 16)
    is_target_BL = torch.zeros(block.ids_NL.shape, dtype=torch.bool)
    is_target_BL.scatter_(1, batch.target_pos_BT, batch.target_ids_BT != IGNORE)
    is_special_BL = maker.corruption.is_special_V[torch.from_numpy(block.ids_NL)].numpy()
    begins_BL = ~block.continues_NL | np.roll(is_special_BL, 1, axis=1)
    for row, begins_L, special_L in zip(is_target_BL.numpy(), begins_BL, is_special_BL, strict=True):
        word_L = np.cumsum(begins_L)
        shares = [row[(word_L == word) & ~special_L].mean() for word in {*word_L[~special_L].tolist()}]
        assert sum(0 < share < 1 for share in shares) <= (
            1 if choose == "word" else 2
        )  # a span may be cut at both ends
        assert any(share == 1 for share in shares)

    announce_words(maker)
    assert "of 1.0 tokens each" not in (said := capsys.readouterr().err) and "words: " in said
    recipe = tiny("3ml-small", f"masking.choose={choose}", "duration.steps=2")
    assert pretrain(recipe, marked, tmp_path / "run").steps == 2

    plain = Shards(make_shards(chinese / "plain.jsonl", tmp_path / "plain", tokenizer=chinese / "tokenizer"))
    capsys.readouterr()
    announce_words(make_batches(plain, plain.train, masking, True, "row", 0))
    assert "each word is one token" in (said := capsys.readouterr().err) and "--marked-words" in said


def test_a_mixture_and_a_join_tell_words_one_way(chinese: Path, marked: Path, tmp_path: Path) -> None:
    settings = {"tokenizer": chinese / "tokenizer"}
    plain = make_shards(chinese / "plain.jsonl", tmp_path / "plain", **settings)
    other = make_shards(chinese / "plain.jsonl", tmp_path / "other", **settings, marked_words=True)  # spaces alone
    with pytest.raises(UserError, match=r"was made with --marked-words, and .*plain without"):
        join([plain, marked], tmp_path / "joined")
    join([marked, other], tmp_path / "joined")
    assert Shards(tmp_path / "joined").index.marked

    def run(two: Path, out: str, *overrides: str) -> int:
        recipe = tiny("3ml-small", "duration.steps=2", f"data={{{marked}: 0.5, {two}: 0.5}}", *overrides)
        return pretrain(recipe, tmp_path, tmp_path / out).steps

    assert run(plain, "uniform") == 2  # single tokens may come from both
    assert run(other, "word", "masking.choose=word") == 2
    with pytest.raises(UserError, match=r"rows say where they begin, in .*plain the tokens do"):
        run(plain, "mixed", "masking.choose=word")
