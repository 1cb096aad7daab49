"""The quickstart on text of the user's own."""

import gzip
import re
import shlex
import sys
from pathlib import Path

import pytest

from masklater.cli import main
from masklater.corpus.prepare import prepare
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.quickstart.main_job import quickstart, summary
from masklater.quickstart.own_text import MANY_FILES, choose_documents, prompts_of
from masklater.report import plots
from tests.conftest import make_text


@pytest.mark.parametrize(
    ("files", "unit"),
    [
        ({"a.txt": b"one\n\ntwo\n"}, "blank-line"),
        ({"a.txt": b"one\r\n\r\ntwo\r\n"}, "blank-line"),
        ({"a.txt": b"one\ntwo\n"}, "line"),
        ({"a.txt.gz": gzip.compress(b"one\n\ntwo\n")}, "blank-line"),
        ({"a.txt.gz": b"this is no gzip"}, "file"),
        ({"a.jsonl": b"{}"}, "file"),
        ({f"{number}.txt": b"one\ntwo\n" for number in range(MANY_FILES)}, "file"),
    ],
)
def test_documents_are_many(files: dict[str, bytes], unit: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert choose_documents(tmp_path) == unit


def test_there_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no text"):
        choose_documents(tmp_path)


def test_prompts_are_held_out_text_and_know_what_stood_there(tmp_path: Path) -> None:
    lines = [make_text(number, 40) for number in range(120)]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    settings = PrepareSettings(
        vocab_size=400, row_length=64, pack="continuous", valid_fraction=0.1, documents="line", workers=1
    )
    prepare([tmp_path / "text.txt"], tmp_path / "shards", settings)
    prompts = prompts_of(Shards(tmp_path / "shards"))
    assert len(prompts) == 3
    for prompt, word in prompts.items():
        assert prompt.count("<mask>") == 1
        assert " ".join(lines).count(prompt.replace("<mask>", word)) >= 1, prompt


def test_too_little_text_to_hold_any_out_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(make_text(0, 400))
    settings = PrepareSettings(vocab_size=400, row_length=64, pack="continuous", valid_fraction=0.0, workers=1)
    prepare([tmp_path / "text.txt"], tmp_path / "shards", settings)
    with pytest.raises(UserError, match="too few documents"):
        prompts_of(Shards(tmp_path / "shards"))


def test_the_next_commands_take_the_text_as_the_quickstart_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One file whose lines are documents, which as one document could not be held out, nor half a percent of them."""
    monkeypatch.chdir(tmp_path)
    titles = []
    monkeypatch.setattr(plots, "plot_losses", lambda records, baselines, out, title: titles.append(title))
    Path("my text.txt").write_text("\n".join(make_text(number, 60) for number in range(150)))
    size = Path("my text.txt").stat().st_size - 149
    small = ["evaluation.every_steps=4", "model.hidden_size=32", "model.intermediate_size=64"]
    quick = quickstart(Path("out"), None, ["duration.steps=4", *small], vocab_size=400, text=Path("my text.txt"))
    assert titles == [f"3ML on {size:,} characters of my text.txt"]
    printed = summary(quick)
    assert f"\n{size:,} characters read; " in printed
    commands = re.findall(r"^  (masklater .*)$", printed.partition("\nNext, ")[2], re.MULTILINE)
    assert [shlex.split(command)[1] for command in commands] == ["prepare", "pretrain", "export"]
    smaller = {"pretrain": [*small, "model.num_hidden_layers=2", "duration.hours=2e-4", "batch.rows=8"]}
    for command in commands:
        words = shlex.split(command)
        monkeypatch.setattr(sys, "argv", [*words, *smaller.get(words[1], [])])
        with pytest.raises(SystemExit) as leave:
            main()
        assert leave.value.code == 0, capsys.readouterr().err
    own, its = Shards(Path("shards")).index, Shards(Path("out/shards")).index
    assert own.pack == its.pack == "continuous"
    assert [own.source[name] == its.source[name] for name in ("unit", "valid_fraction")] == [True, True]
    assert own.valid.rows > 0
    assert Path("encoder/model.safetensors").is_file()
