"""Whole words and spans: on real text the rate, the lengths and the integrity of what is chosen."""

import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer

from masklater.corpus.shards import Shards
from masklater.corpus.words import WordTable, word_table_of
from masklater.errors import UserError
from masklater.masking.choose import group_spans, number_words, rank_units, rank_weighted
from masklater.masking.corrupt import corrupt
from masklater.pretrain.batches import BatchMaker, make_batches
from masklater.recipe.masking import MaskingSettings
from tests.conftest import DATA, draws, make_shards, make_text

WIKITEXT = DATA / "text" / "wikitext-2" / "valid.txt"
LOW = 0.15


class RealRows(NamedTuple):
    shards: Shards
    rows_BL: Tensor
    maskable_BL: Tensor
    word_BL: Tensor


@pytest.fixture(scope="module", params=["bpe", "wordpiece"])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> RealRows:
    """Wikipedia's text in rows of 128, under either kind of tokenizer."""
    if not WIKITEXT.exists():
        pytest.skip(f"needs {WIKITEXT}")
    out = tmp_path_factory.mktemp("real") / request.param
    settings = {"documents": "line", "train_tokenizer": request.param, "vocab_size": 6000, "row_length": 128}
    shards = Shards(make_shards(WIKITEXT, out, pack="continuous", **settings))
    rows_BL = torch.from_numpy(shards.train.read(np.arange(shards.train.num_rows)).ids_NL)
    maskable_BL = ~torch.isin(rows_BL, torch.tensor(shards.vocabulary.special))
    words = WordTable(*map(torch.from_numpy, shards.words))
    return RealRows(shards, rows_BL, maskable_BL, number_words(rows_BL, maskable_BL, words))


def batches(real: RealRows, **masking: object) -> BatchMaker:
    settings = MaskingSettings(mask=1, random=0, keep=0, **masking)  # type: ignore[arg-type]
    return make_batches(real.shards, real.shards.train, settings, True, "row", 0)


def chosen_of(real: RealRows, **masking: object) -> Tensor:
    """Which positions are corrupted, chosen_BL."""
    batch = corrupt(real.rows_BL, None, batches(real, **masking).corruption, draws())
    return torch.zeros_like(real.maskable_BL).scatter_(1, batch.target_pos_BT, batch.target_ids_BT >= 0)


def sizes(unit_BL: Tensor, among_BL: Tensor) -> Tensor:
    """How many positions of each unit are among some, size_BU."""
    zeros_BL = torch.zeros_like(unit_BL)
    return zeros_BL.scatter_add_(1, unit_BL.clamp(min=0), (among_BL & (unit_BL >= 0)).long())


def words_of_the_tokenizer(real: RealRows, row: int) -> list[int]:
    """Slow and independent: the lengths in tokens of the words that the tokenizer's own splitting makes of a row."""
    tokenizer = AutoTokenizer.from_pretrained(real.shards.folder / "tokenizer")
    backend, lengths = tokenizer.backend_tokenizer, []
    tokens: list[str] = []
    for token_id, is_maskable in zip(
        [*real.rows_BL[row].tolist(), 0], [*real.maskable_BL[row].tolist(), False], strict=True
    ):
        if is_maskable:
            tokens.append(tokenizer.convert_ids_to_tokens(token_id))
            continue
        if not tokens:
            continue
        text = " ".join(tokens).replace(" ##", "").removeprefix("##")
        if real.shards.vocabulary.mask == tokenizer.convert_tokens_to_ids("<mask>"):
            text = backend.decode(tokenizer.convert_tokens_to_ids(tokens), skip_special_tokens=False)
        words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
        while tokens:
            word, taken = words.pop(0), 0
            built = ""
            while len(built) < len(word) and tokens:
                built += tokens.pop(0).removeprefix("##")
                taken += 1
            lengths.append(taken)
    return lengths


def test_words_are_the_tokenizers_own(real: RealRows) -> None:
    agree = total = 0
    for row in range(40):
        ends = set(np.cumsum(words_of_the_tokenizer(real, row)).tolist())
        of_ours = sizes(real.word_BL[row : row + 1], real.maskable_BL[row : row + 1])[0]
        ours = set(of_ours[of_ours > 0].cumsum(0).tolist())
        agree += len(ends & ours)
        total += len(ends | ours)
    assert total > 2500
    # The two differ where a contraction is cut ('t) and where bytes of a character stand alone.
    assert agree / total > 0.98


@pytest.mark.parametrize("choose", ["uniform", "word", "span"])
@pytest.mark.parametrize("rate", [LOW, 0.5])
def test_the_rate_is_exact_whatever_is_chosen(choose: str, rate: float, real: RealRows) -> None:
    chosen_BL = chosen_of(real, choose=choose, rate=rate)
    assert not (chosen_BL & ~real.maskable_BL).any()
    counts_B = chosen_BL.sum(dim=1)
    C = batches(real, choose=choose, rate=rate).corruption.counts.corrupted
    assert (counts_B == C).float().mean() > 0.99  # the last row may be padded
    assert float(counts_B.sum() / real.maskable_BL.sum()) == pytest.approx(rate, abs=0.005)


@pytest.mark.parametrize("choose", ["word", "span"])
def test_every_position_is_as_likely_as_any_other(choose: str, real: RealRows) -> None:
    """Over many draws of the same rows: no place in a row, and no word by its length, is favoured by much."""
    rows = real._replace(rows_BL=real.rows_BL[:1].expand(4000, -1), maskable_BL=real.maskable_BL[:1].expand(4000, -1))
    chosen_L = chosen_of(rows, choose=choose, rate=0.3).float().mean(dim=0)[real.maskable_BL[0]]
    assert (chosen_L - chosen_L.mean()).abs().max() < 0.06
    assert (chosen_L[:20].mean() - chosen_L[-20:].mean()).abs() < 0.02


def test_whole_words_stay_whole(real: RealRows) -> None:
    chosen_BL = chosen_of(real, choose="word", rate=LOW)
    size_BU, got_BU = sizes(real.word_BL, real.maskable_BL), sizes(real.word_BL, chosen_BL)
    cut_BU = (got_BU > 0) & (got_BU < size_BU)
    assert cut_BU.sum(dim=1).max() <= 1
    assert cut_BU.any(dim=1).float().mean() < 0.01
    several_BU = size_BU > 1
    assert several_BU.sum() > 1000
    # Single tokens would leave most words of several tokens in parts.
    uniform_BU = sizes(real.word_BL, chosen_of(real, choose="uniform", rate=LOW))
    assert ((uniform_BU > 0) & (uniform_BU < size_BU)).sum() > 20 * cut_BU.sum()
    # Filling the gaps with smaller words favours them by little.
    mean_size = float(size_BU[size_BU > 0].float().mean())
    assert float(size_BU[(got_BU == size_BU) & (size_BU > 0)].float().mean()) == pytest.approx(mean_size, rel=0.05)


@pytest.mark.parametrize(("p", "longest"), [(0.2, 10), (0.5, 4)])
def test_span_lengths_are_geometric(p: float, longest: int, real: RealRows) -> None:
    span_BL = group_spans(real.word_BL, p, longest, draws())
    words = []
    for row in range(len(span_BL)):
        spans, numbers = span_BL[row][real.maskable_BL[row]], real.word_BL[row][real.maskable_BL[row]]
        firsts = torch.cat([torch.ones(1, dtype=torch.bool), numbers.diff() != 0])
        lengths = torch.bincount(spans[firsts])
        words.append(lengths[:-1])  # the last span of a row is what is left
    found_n = torch.bincount(torch.cat(words), minlength=longest + 1)[1:].double()
    share_n = (1 - p) ** torch.arange(longest).double()
    share_n /= share_n.sum()
    assert found_n.sum() > 3000
    assert len(found_n) == longest
    # Spans cut short by the end of a document make short ones a little likelier.
    torch.testing.assert_close(found_n / found_n.sum(), share_n, atol=0.03, rtol=0)


def test_chosen_spans_are_whole_but_one_a_row(real: RealRows) -> None:
    settings = batches(real, choose="span", rate=LOW).corruption
    wanted_B = torch.full((len(real.rows_BL),), settings.counts.corrupted)
    span_BL = group_spans(real.word_BL, 0.2, 10, draws())
    order_BL = rank_units(span_BL, wanted_B, False, draws())
    L = order_BL.shape[1]
    rank_BL = torch.empty_like(order_BL).scatter_(1, order_BL, torch.arange(L).expand_as(order_BL))
    chosen_BL = (rank_BL < wanted_B[:, None]) & real.maskable_BL
    size_BU, got_BU = sizes(span_BL, real.maskable_BL), sizes(span_BL, chosen_BL)
    assert ((got_BU > 0) & (got_BU < size_BU)).sum(dim=1).max() <= 1
    # Runs of chosen positions are as long as spans are: several words where single tokens make runs of 1.2.
    runs = float(chosen_BL.sum() / (chosen_BL & ~chosen_BL.roll(1, dims=1)).sum())
    assert runs > 3
    uniform_BL = chosen_of(real, choose="uniform", rate=LOW)
    assert float(uniform_BL.sum() / (uniform_BL & ~uniform_BL.roll(1, dims=1)).sum()) < 1.3


def units(lengths: list[int], specials: int = 1) -> Tensor:
    """One row: specials, then units of the given lengths, then specials."""
    numbers = [-1] * specials + [unit for unit, length in enumerate(lengths) for _ in range(length)] + [-1] * specials
    return torch.tensor([numbers])


def test_units_of_one_make_up_for_the_one_that_would_be_cut() -> None:
    unit_BL = units([5, 5, 3, 2, *[1] * 30])
    for seed in range(200):
        for wanted in (14, 22, 31):
            chosen = rank_units(unit_BL, torch.tensor([wanted]), True, draws(seed))[0, :wanted]
            got = torch.bincount(unit_BL[0, chosen], minlength=34)[:4].tolist()
            assert all(taken in (0, size) for taken, size in zip(got, (5, 5, 3, 2), strict=True)), (seed, wanted)


LENGTHS = [[30], [10, 9, 1], [6, 2, 2], [5, 5, 1, 1, 1], [20, 1, 1, 1, 1, 3], [2, 1, 1, 2, 1, 1, 1, 3, 1, 1]]


@pytest.mark.parametrize("fill", [True, False])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_every_position_is_as_likely_at_every_rank_whatever_the_lengths(lengths: list[int], fill: bool) -> None:
    """Also where one unit is longer than what is wanted: none of its parts is left out more often than another."""
    times, N = 20_000, sum(lengths)
    unit_BL = units(lengths).expand(times, -1)
    for wanted in {2, N // 3, N - 2}:
        order_BL = rank_units(unit_BL, torch.full((times,), wanted), fill, draws(wanted))
        for first, last in ((0, wanted), (0, wanted // 2), (wanted - 1, wanted)):
            frequency_L = torch.bincount(order_BL[:, first:last].flatten(), minlength=N + 2) / times
            share = (last - first) / N
            assert frequency_L[0] == frequency_L[-1] == 0
            assert (frequency_L[1:-1] - share).abs().max() < 5 * (share * (1 - share) / times) ** 0.5, (first, last)


def test_chances_are_those_of_drawing_one_after_another_without_replacement() -> None:
    """By weight among those left, as the product of such chances is; what may not be chosen comes last."""
    times, weight_L = 40_000, torch.tensor([3.0, 1.0, 9.0, 2.0, 0.5], dtype=torch.float64)
    maskable_BL = torch.tensor([True, True, False, True, True]).expand(times, -1)
    order_BL = rank_weighted(maskable_BL, weight_L.expand(times, -1), draws())
    assert (order_BL[:, -1] == 2).all()
    total = float(weight_L.sum() - weight_L[2])
    for first in (0, 1, 3, 4):
        for second in {0, 1, 3, 4} - {first}:
            chance = float(weight_L[first] / total * weight_L[second] / (total - weight_L[first]))
            found = ((order_BL[:, 0] == first) & (order_BL[:, 1] == second)).sum() / times
            assert abs(float(found) - chance) < 5 * (chance * (1 - chance) / times) ** 0.5, (first, second)


def without_spaces(kind: str) -> list[str]:
    """Texts whose words are longer than what is masked of a row: all of one word, or long ones among short ones."""
    rng = random.Random(0)
    if kind == "thai":
        words = ["ประเทศ", "ไทย", "เป็น", "ภาษา", "และ", "การ", "ของ", "ใน", "ที่", "มี", "คน", "น้ำ", "เมือง", "แม่", "ให้"]
        phrases = ["".join(rng.choices(words, k=rng.randint(1, 12))) for _ in range(900)]
        return [" ".join(phrases[n : n + 30]) for n in range(0, 900, 30)]
    letters = {"dna": "ACGT", "protein": "ACDEFGHIKLMNPQRSTVWY"}[kind]
    return ["".join(rng.choices(letters, k=900)) for _ in range(30)]


@pytest.fixture(scope="module", params=["dna", "protein", "thai"])
def spaceless(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shards:
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "text.txt").write_text("\n".join(without_spaces(request.param)))
    settings = {"documents": "line", "vocab_size": 300, "row_length": 64, "pack": "continuous"}
    return Shards(make_shards(folder / "text.txt", folder / "shards", **settings))


@pytest.mark.parametrize("choose", ["word", "span"])
@pytest.mark.parametrize("rate", [LOW, 0.5])
def test_every_position_is_as_likely_where_words_are_longer_than_what_is_masked(
    choose: str, rate: float, spaceless: Shards
) -> None:
    """To be predicted, to be dropped, and to be predicted from a random token or from itself."""
    masking = MaskingSettings(choose=choose, rate=rate)  # type: ignore[arg-type]
    maker = make_batches(spaceless, spaceless.train, masking, True, "row", 0)
    longest = 0
    for row in range(3):
        ids_L = torch.from_numpy(spaceless.train.read(np.array([row])).ids_NL[0])
        rows_BL = ids_L.expand(4000, -1)
        batch = corrupt(rows_BL, None, maker.corruption, draws(row))
        is_maskable_L = ~torch.isin(ids_L, torch.tensor(spaceless.vocabulary.special))
        is_target_BL = torch.zeros_like(rows_BL).scatter_(1, batch.target_pos_BT, (batch.target_ids_BT >= 0).long())
        is_dropped_BL = torch.zeros_like(rows_BL).scatter_(1, batch.masked_pos_BM, 1)
        for is_what_BL in (is_target_BL, is_dropped_BL, is_target_BL - is_dropped_BL):
            frequency_L = is_what_BL.float().mean(dim=0)[is_maskable_L]
            share = float(frequency_L.mean())
            assert (frequency_L - share).abs().max() < 5 * (share * (1 - share) / 4000) ** 0.5
        word_1L = number_words(ids_L[None], is_maskable_L[None], maker.corruption.table)
        longest = max(longest, int(sizes(word_1L, is_maskable_L[None]).max()))
    assert longest > LOW * spaceless.index.row_length


def test_one_unit_is_cut_where_none_fits() -> None:
    unit_BL = units([4, 4, 4])
    for fill in (True, False):
        chosen = rank_units(unit_BL, torch.tensor([6]), fill, draws())[0, :6]
        assert sorted(torch.bincount(unit_BL[0, chosen], minlength=3).tolist()) == [0, 2, 4]


def test_as_many_as_there_are() -> None:
    unit_BL = units([3, 2])
    order_BL = rank_units(unit_BL, torch.tensor([5]), True, draws())
    assert sorted(order_BL[0, :5].tolist()) == [1, 2, 3, 4, 5]


def test_a_tokenizer_that_shows_no_words(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(UserError, match="do not show where they begin"):
        word_table_of(tokenizer)


def test_sentencepiece_like_tokens() -> None:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=80, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator([make_text(i, 100) for i in range(20)], trainer)
    classes = word_table_of(PreTrainedTokenizerFast(tokenizer_object=tokenizer))
    begins = {token for token, token_id in tokenizer.get_vocab().items() if classes.begins_V[token_id]}
    assert begins == {token for token in tokenizer.get_vocab() if token.startswith("▁")}
    assert begins
