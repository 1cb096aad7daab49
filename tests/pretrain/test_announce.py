"""What a run says before its first step."""

import json
import random
import re
from pathlib import Path

import pytest

from masklater.corpus.shards import Shards
from masklater.pretrain.announce import announce_words
from masklater.pretrain.batches import make_batches
from masklater.pretrain.loop import pretrain
from masklater.recipe.masking import MaskingSettings
from tests.conftest import make_shards, tiny


def said(shards: Shards, capsys: pytest.CaptureFixture[str], **masking: object) -> str:
    settings = MaskingSettings(**masking)  # type: ignore[arg-type]
    announce_words(make_batches(shards, shards.train, settings, True, "row", 0))
    return capsys.readouterr().err


def numbers(text: str) -> list[float]:
    """Words in a row, tokens in a word, tokens in the longest."""
    found = re.search(r"words: ([\d.]+) in a row, of ([\d.]+) tokens each; the longest has (\d+) ", text)
    assert found, text
    return [float(number) for number in found.groups()]


@pytest.mark.parametrize("choose", ["word", "span"])
def test_how_many_words_a_row_has(choose: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(0)
    (tmp_path / "dna.txt").write_text("\n".join("".join(rng.choices("ACGT", k=1500)) for _ in range(40)))
    packing = {"pack": "continuous", "documents": "line", "vocab_size": 300}
    dna = Shards(make_shards(tmp_path / "dna.txt", tmp_path / "dna", **packing))
    (tmp_path / "words.txt").write_text("\n".join(" ".join(["ab", "cd"] * (400 + n)) for n in range(40)))
    words = Shards(make_shards(tmp_path / "words.txt", tmp_path / "words", **packing))

    text = said(dna, capsys, choose=choose, rate=0.2)
    # 30 of 32 positions hold text, or less where a document ends.
    assert 1 <= numbers(text)[0] < 1.5
    assert 20 < numbers(text)[1] <= 30
    assert "the longest has 30" in text
    assert "100% of the tokens stand in words longer than the 6 positions that are masked" in text
    assert "masking.choose=uniform" in text
    text = said(words, capsys, choose=choose, rate=0.2)
    assert 28 < numbers(text)[0] <= 30
    assert numbers(text)[1:] == [1, 1]
    assert "longer" not in text


def test_words_are_not_spoken_of_where_single_tokens_are_masked(
    shards: Shards, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(shards, capsys) == ""


@pytest.mark.parametrize(
    ("overrides", "remedy"),
    [
        (
            ["model.hidden_size=16", "model.intermediate_size=32", "model.num_hidden_layers=2", "decoder.num_layers=1"],
            "masking.predict below 1",
        ),
        (["decoder.num_layers=2"], "decoder.kind=cross, or an encoder of more layers"),
        (["decoder.num_layers=2", "decoder.kind=cross"], "nothing by the row: an encoder of more layers"),
        (["model.num_hidden_layers=12"], None),
        (["decoder.kind=none", "masking.rate=0.4"], None),  # nothing is meant to be saved
    ],
)
def test_a_row_that_costs_no_less_than_vanillas_is_said_to(
    overrides: list[str], remedy: str | None, continuous: Shards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny("3ml-small", "duration.steps=1", *overrides)
    pretrain(recipe, continuous.folder, tmp_path / "run")
    said = capsys.readouterr().err
    ledger = json.loads((tmp_path / "run" / "ledger.json").read_text())
    share = ledger["flops"] / ledger["flops_vanilla"]
    assert f"in the LM head; {share:.2f} of what vanilla MLM at 15% takes" in said
    assert (share >= 1) == (remedy is not None or recipe.masking.rate == 0.4)
    assert ("saves nothing by the row" in said) == (remedy is not None)
    assert remedy is None or remedy in said
