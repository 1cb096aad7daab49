"""docs/how-to/judge.md from top to bottom: its tasks.yaml and its commands, on tiny files, in this process."""

import json
import shlex
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

from masklater.cli import main
from masklater.judge import bootstrap
from tests.conftest import REPOSITORY, make_text
from tests.end_to_end.test_readme import blocks, commands
from tests.judge.conftest import encoder_folder  # noqa: F401 - a fixture
from tests.judge.folders import sentences, write
from tests.judge.test_ready import make_superglue
from tests.judge.test_tagging import tagged

SMALLER = ["--epochs", "1"]
"""The only thing that is changed of a command; and fewer resamples are drawn."""
PAGE = REPOSITORY / "docs" / "how-to" / "judge.md"


def make_files(folder: Path) -> None:
    """What tasks.yaml of the page names."""
    tags = ("NOUN", "VERB", "ADJ")
    for split, rows in (("train", 10), ("dev", 6)):
        texts = sentences(rows, seed=1)
        write(
            folder / f"topics/{split}.csv",
            "headline,topic",
            *(f'"{text}",{"ab"[i % 2]}' for i, text in enumerate(texts)),
        )
        pairs = ({"sentence1": text, "sentence2": texts[0], "score": i % 6} for i, text in enumerate(texts))
        write(folder / f"likeness/{split}.jsonl", *map(json.dumps, pairs))
        (folder / "ner").mkdir(exist_ok=True)
        tagged(folder / f"ner/{split}.conll", rows, seed=rows)
    for seed, language in enumerate(("en", "hi", "th")):
        words = make_text(seed, 12).split()
        lines = (f"{i}\t{word}\t_\t{tags[i % 3]}" + "\t_" * 6 for i, word in enumerate(words, start=1))
        write(folder / f"ud/{language}.conllu", "# text = ...", *lines, "")


@pytest.mark.slow  # 40 fine-tuning runs
def test_judging_an_encoder(
    encoder_folder: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_files(tmp_path)
    make_superglue(tmp_path / "superglue")
    (tmp_path / "tasks.yaml").write_text(blocks(PAGE, "yaml")[0])
    (tmp_path / "encoder").symlink_to(encoder_folder)
    for name in ("other", "masked-lm"):
        torch.manual_seed(1)
        AutoModelForMaskedLM.from_config(AutoConfig.from_pretrained(encoder_folder)).save_pretrained(tmp_path / name)
        AutoTokenizer.from_pretrained(encoder_folder).save_pretrained(tmp_path / name)
    write(tmp_path / "pairs/a.jsonl", '{"sentence_good": "kan lot", "sentence_bad": "kan net", "category": "made up"}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bootstrap, "RESAMPLES", 10)
    said = ""
    for command in commands(PAGE):
        words = shlex.split(command)
        monkeypatch.setattr(sys, "argv", [*words, *(SMALLER if words[1] == "judge" else [])])
        with pytest.raises(SystemExit) as left:
            main()
        captured = capsys.readouterr()
        assert not left.value.code, f"{command}\n{captured.err}"
        said += captured.out
    assert "Against other" in said and "Against its random twin, compared/twin-encoder" in said and "made up" in said
    scores = json.loads((tmp_path / "scores/scores.json").read_text())
    assert list(scores["tasks"]) == ["topics", "places", "speech", "likeness"] and scores["runs"] == 12
    assert list(scores["tasks"]["speech"]["metric"]) == ["accuracy_hi", "accuracy_th"]
    assert scores["tasks"]["places"]["note"].startswith("train is not the official split: 10 rows, officially 3,394")
    compared = json.loads((tmp_path / "compared/comparison.json").read_text())
    assert compared["against"]["tasks"].keys() == compared["twin"]["tasks"].keys() == scores["tasks"].keys()
