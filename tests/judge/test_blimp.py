"""Minimal pairs: against a slow twin that masks one token of one sentence at a time, and what is reported of bad files."""

import json
import os
import sys
from pathlib import Path
from threading import Thread

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer, PreTrainedTokenizerFast

from masklater import hub
from masklater.cli import main
from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.judge import blimp
from masklater.judge import sentences as sentences_module
from masklater.judge.blimp import as_text, score_pairs
from masklater.judge.sentences import SentenceScorer
from masklater.model.saved import load_masked_lm
from masklater.pretrain.loop import pretrain
from masklater.run.folder import RunFolder
from tests.conftest import make_text, tiny
from tests.judge.folders import sentences, write


def pair(good: str, bad: str) -> str:
    return json.dumps({"sentence_good": good, "sentence_bad": bad, "field": "syntax", "UID": "made_up"})


def slow_twin(run: Path, sentence: str) -> float:
    """The definition: one forward pass for each token, a batch of one."""
    folder = RunFolder(run)
    model, _ = folder.load_model()
    scorer = SentenceScorer(model, folder.tokenizer)
    (ids,) = scorer.tokenise([sentence])
    total = 0.0
    for position, token in enumerate(ids):
        if token in scorer.tokenizer.all_special_ids and token != scorer.tokenizer.unk_token_id:
            continue
        masked = torch.tensor([ids])
        masked[0, position] = scorer.tokenizer.mask_token_id
        with torch.no_grad():
            logits = model(input_ids=masked).logits[0, position]
        total += float(torch.log_softmax(logits.double(), dim=0)[token])
    return total


@pytest.mark.parametrize("recipe", ["3ml-small", "vanilla-small"])
def test_batched_scores_are_those_of_the_slow_twin(
    recipe: str, run_folder: Path, shards_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_folder
    if recipe != "3ml-small":
        run = tmp_path / "run"
        pretrain(tiny(recipe, "duration.steps=2"), shards_folder, run)
    folder = RunFolder(run)
    model, _ = folder.load_model()
    scorer = SentenceScorer(model, folder.tokenizer)
    texts = [*sentences(9, seed=5), "kan", "kan <unk> lot", ""]
    rows = scorer.tokenise(texts)
    assert len({len(row) for row in rows}) > 3 and scorer.tokenizer.unk_token_id in rows[-2]
    expected = [slow_twin(run, text) for text in texts]
    assert scorer.score(rows).tolist() == pytest.approx(expected, abs=1e-4)
    assert scorer.score(rows)[-1] == 0  # nothing to predict
    monkeypatch.setattr(sentences_module, "TOKENS_AT_ONCE", 1)  # one copy at a time
    assert scorer.score(rows).tolist() == pytest.approx(expected, abs=1e-4)


def test_files_are_counted_apart_and_together(run_folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    one, other = sentences(6, seed=1), sentences(6, seed=2)
    write(data / "a.jsonl", *(pair(x, y) for x, y in zip(one, other, strict=True)))
    write(data / "b.jsonl", *(pair(y, x) for x, y in zip(one, other, strict=True)), bom=True)
    result = score_pairs(run_folder, data)
    a, b = result.files["a.jsonl"], result.files["b.jsonl"]
    assert a["pairs"] == b["pairs"] == 6 and a["right"] + b["right"] == 6  # what is right one way is wrong the other
    assert result.accuracy == pytest.approx(50) and result.left_out == 0 and result.step == 4
    expected = [slow_twin(run_folder, x) > slow_twin(run_folder, y) for x, y in zip(one, other, strict=True)]
    assert a["right"] == sum(expected) and a["accuracy"] == pytest.approx(100 * sum(expected) / 6)
    hashes = [score_pairs(run_folder, data / name).pairs_sha256 for name in ("a.jsonl", "b.jsonl", "a.jsonl")]
    assert hashes[0] == hashes[2] != hashes[1] and result.pairs_sha256 not in hashes


def test_what_cannot_be_scored_is_reported(
    run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    long = make_text(0, 60)
    write(
        tmp_path / "mixed.jsonl",
        pair("kan lot", "kan net"),
        pair("kan lot", "kan lot"),
        "{broken",
        '{"sentence_good": "kan"}',
        '{"sentence_good": "kan", "sentence_bad": 3}',
        pair(long, "kan"),
    )
    out = tmp_path / "result.json"
    arguments = ["masklater", "blimp", str(run_folder), "--data", str(tmp_path / "mixed.jsonl"), "--out", str(out)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr().out
    assert not left.value.code
    assert "3 unreadable lines (the first is line 3)" in said and "1 identical pairs" in said
    assert "1 pairs longer than the run's rows" in said
    stored = json.loads(out.read_text())
    assert stored["pairs"] == 1 and stored["left_out"] == 5
    assert stored["files"]["mixed.jsonl"]["unreadable"] == [3, 4, 5]
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2 and "exists already" in capsys.readouterr().err


def test_what_a_folder_holds_beside_is_said(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    write(data / "a.jsonl", pair("kan lot", "kan net"))
    write(data / "B.JSONL", pair("kan lot", "kan net"))
    for name in ("c.jsonl.gz", "d.tsv", "sub/e.jsonl"):
        write(data / name, "")
    assert score_pairs(run_folder, data).files.keys() == {"B.JSONL", "a.jsonl"}
    assert "not read, as no file of JSON lines: c.jsonl.gz, d.tsv, sub\n" in capsys.readouterr().err


def test_pairs_come_through_a_pipe(run_folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = Thread(target=(tmp_path / "pipe").write_text, args=(pair("kan lot", "kan net") + "\n",))
    writer.start()
    assert score_pairs(run_folder, tmp_path / "pipe").pairs == 1
    writer.join()


def test_a_tie_is_wrong_and_said(run_folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "tie.jsonl", pair("", "<s>"), pair("kan lot", "kan net"))  # nothing to predict in either: 0 and 0
    result = score_pairs(run_folder, tmp_path)
    tie = result.files["tie.jsonl"]
    assert tie["ties"] == 1 and tie["pairs"] == 2 and tie["right"] <= 1
    assert "tie.jsonl: 1 ties, counted as wrong" in blimp.as_text(result)


def test_mistakes(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no \.jsonl file"):
        score_pairs(run_folder, tmp_path)
    write(tmp_path / "empty.jsonl", "{}")
    with pytest.raises(UserError, match="holds no minimal pair"):
        score_pairs(run_folder, tmp_path)
    write(tmp_path / "empty.jsonl", pair(make_text(0, 90), "kan"))
    with pytest.raises(UserError, match="longer than the run's rows"):
        score_pairs(run_folder, tmp_path)
    write(tmp_path / "empty.jsonl", pair("lot", "kan"))
    with pytest.raises(UserError, match="there is no run"):
        score_pairs(tmp_path / "nowhere", tmp_path)


def test_the_shards_are_the_ones_the_sentences_are_made_of(shards: Shards) -> None:
    assert shards.index.row_length == 32  # what "longer than the run's rows" rests on


@pytest.fixture(scope="module")
def masked_lm(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked LM of transformers' own, tiny and random, for rows of 32 tokens."""
    out = tmp_path_factory.mktemp("masked_lm") / "lm"
    torch.manual_seed(1)
    AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(encoder_folder)).save_pretrained(out)
    AutoTokenizer.from_pretrained(encoder_folder).save_pretrained(out)
    return out


def plain_twin(folder: Path, sentence: str) -> float:
    """The definition, with transformers alone: one forward pass for each token."""
    model, tokenizer = AutoModelForMaskedLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    (ids,) = tokenizer([sentence])["input_ids"]
    total = 0.0
    for position, token in enumerate(ids):
        if token not in tokenizer.all_special_ids or token == tokenizer.unk_token_id:
            masked = torch.tensor([ids])
            masked[0, position] = tokenizer.mask_token_id
            with torch.no_grad():
                total += torch.log_softmax(model(input_ids=masked).logits[0, position].double(), dim=0)[token].item()
    return total


def test_any_masked_lm_by_category_and_with_ties(
    masked_lm: Path, encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*sentences(4, seed=5), "घर", "ไทย"]
    scorer = SentenceScorer(load_masked_lm(hub.find(str(masked_lm), (), "it")), masked_lm)
    expected = [plain_twin(masked_lm, text) for text in texts]
    assert scorer.score(scorer.tokenise(texts)).tolist() == pytest.approx(expected, abs=1e-4)
    monkeypatch.setattr(sentences_module, "TOKENS_AT_ONCE", 1)
    assert scorer.score(scorer.tokenise(texts)).tolist() == pytest.approx(expected, abs=1e-4)
    order = sorted(range(6), key=lambda number: expected[number])
    worse, better = texts[order[0]], texts[order[-1]]
    lines = [
        {"sentence_good": better, "sentence_bad": worse, "linguistics_term": "agreement"},
        {"sentence_good": worse, "sentence_bad": better, "linguistics_term": "agreement"},
        {"sentence_good": better, "sentence_bad": worse, "category": "order", "linguistics_term": "agreement"},
        {"sentence_good": "", "sentence_bad": "<s>"},  # nothing to predict in either
        {"sentence_good": make_text(0, 60), "sentence_bad": "kan"},
    ]
    write(tmp_path / "pairs.jsonl", *map(json.dumps, lines))
    result = score_pairs(str(masked_lm), tmp_path / "pairs.jsonl")
    assert (result.step, result.pairs, result.left_out) == (None, 4, 1)
    assert (result.accuracy, result.accuracy_ties_half) == (50.0, 62.5)
    shares = {name: (score["pairs"], score["accuracy"]) for name, score in result.categories.items()}
    assert shares == {"agreement": (2, 50.0), "order": (1, 100.0)}
    text = blimp.as_text(result)
    assert "1 ties, counted as wrong; as half right: 62.50%" in text and "pairs longer than the model's rows" in text
    assert "category   pairs  accuracy\nagreement      2    50.00%\norder          1   100.00%" in text
    with pytest.raises(UserError, match=r"encoder has no LM head, or not all of it"):
        score_pairs(encoder_folder, tmp_path / "pairs.jsonl")


def test_a_model_that_has_diverged_has_no_score(masked_lm: Path, tmp_path: Path) -> None:
    """Of NaN none is the larger one: every pair would count as wrong."""
    model = AutoModelForMaskedLM.from_pretrained(masked_lm)
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(torch.nan)
    model.save_pretrained(tmp_path / "dead")
    AutoTokenizer.from_pretrained(masked_lm).save_pretrained(tmp_path / "dead")
    write(tmp_path / "pairs.jsonl", pair("kan lot", "kan net"))
    with pytest.raises(UserError, match=r"dead gives likelihoods that are not finite"):
        score_pairs(str(tmp_path / "dead"), tmp_path / "pairs.jsonl")


def of_words(folder: Path, out: Path, **roles: str) -> Path:
    """A masked LM whose tokenizer knows two words."""
    entries = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "kan", "lot"]
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(entries)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    usual = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
    }
    PreTrainedTokenizerFast(tokenizer_object=words, **{**usual, **roles}).save_pretrained(out)
    torch.manual_seed(1)
    config = AutoConfig.from_pretrained(folder, vocab_size=len(entries))
    AutoModelForMaskedLM.from_config(config).save_pretrained(out)
    return out


def test_a_word_that_the_tokenizer_does_not_know_is_part_of_the_sentence(masked_lm: Path, tmp_path: Path) -> None:
    """Left out, each would make its sentence likelier: about ln 7 nats, with random weights."""
    lm = of_words(masked_lm, tmp_path / "lm")
    scorer = SentenceScorer(load_masked_lm(hub.find(str(lm), (), "it")), lm)
    texts = ["kan lot", "kan xyz", "xyz", "kan xyz xyz xyz"]
    assert scorer.tokenise(texts)[1] == [0, 5, 3, 2]
    scores = scorer.score(scorer.tokenise(texts)).tolist()
    assert scores == pytest.approx([plain_twin(lm, text) for text in texts], abs=1e-4)
    write(tmp_path / "pairs.jsonl", pair(texts[0], texts[3]))
    result = score_pairs(str(lm), tmp_path / "pairs.jsonl")
    assert result.accuracy == 100 and result.unknown_share == pytest.approx(3 / 6)
    assert "all: 50.0% of the tokens stand for text that the tokenizer does not know" in as_text(result)
    write(tmp_path / "known.jsonl", pair("kan lot", "lot kan"))
    assert "does not know" not in as_text(score_pairs(str(lm), tmp_path / "known.jsonl"))
    ends = of_words(masked_lm, tmp_path / "ends", unk_token="</s>")  # as GPT-2's: it ends each row, and is special
    assert SentenceScorer(load_masked_lm(hub.find(str(ends), (), "it")), ends).special >= {0, 1, 2, 4}


def test_nothing_to_predict_and_half_of_a_pair_are_no_tracebacks(masked_lm: Path, tmp_path: Path) -> None:
    write(tmp_path / "empty.jsonl", pair("", " "))
    assert score_pairs(str(masked_lm), tmp_path / "empty.jsonl").unknown_share == 0
    write(tmp_path / "cut.jsonl", json.dumps({"sentence_good": "kan \ud83d", "sentence_bad": "kan \ufffd"}))
    found = score_pairs(str(masked_lm), tmp_path / "cut.jsonl")
    assert (found.pairs, found.accuracy_ties_half) == (1, 50)  # read as one text
