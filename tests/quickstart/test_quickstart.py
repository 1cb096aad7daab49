"""The quickstart: its text, and the whole of it made small."""

import json
import shlex
import textwrap
from pathlib import Path

import pytest
from transformers import AutoModel

from masklater.quickstart.docstrings import PACKAGES, docstrings_of, find_sources, gather
from masklater.quickstart.main_job import next_commands, quickstart, summary
from tests.conftest import make_text

LONG = "This sentence says again and again what a docstring says, until it is long enough. "


def test_docstrings_of_modules_classes_and_functions(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(
        textwrap.dedent(f'''
        """Module. {LONG}"""
        raise SystemExit("the file must not be run")
        class A:
            """Class. {LONG}"""
            async def f(self):
                """Function. {LONG}"""
                "no docstring, however long it may be" + "{LONG}"
        def g():
            """Short."""
        ''')
    )
    assert [text.split(".")[0] for text in docstrings_of(path)] == ["Module", "Class", "Function"]


@pytest.mark.parametrize("content", [b"def broken(:", b"\xff\xfe\x00", b"x = '\\d'\n", b"", b"(" * 5000])
def test_files_that_do_not_parse_are_passed_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.py").write_bytes(content)
    assert docstrings_of(tmp_path / "a.py") == []


def test_repeated_paragraphs_are_left_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text(f'"""Of {name}. {LONG}\n\n    {LONG}shared."""')
    gathered = gather(tmp_path / "out.jsonl", sorted(tmp_path.glob("*.py")), 1)
    texts = [json.loads(line)["text"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert sum(text.count("shared.") for text in texts) == 1
    assert gathered.repeated > len(LONG)
    assert gathered.modules == len(texts) == 3  # the two files and the topics of pydoc


def test_sources_are_those_of_the_installed_packages() -> None:
    sources = find_sources()
    parts = {part for file in sources for part in file.parts}
    assert set(PACKAGES[:3]) <= parts
    assert len(sources) == len(set(sources)) > 2000
    assert not {"test", "tests"} & {file.parent.name for file in sources}


def test_the_whole_job_made_small(tmp_path: Path) -> None:
    source = tmp_path / "sources"
    source.mkdir()
    for number in range(40):
        (source / f"m{number}.py").write_text(f'"""{make_text(number, 120)}"""')
    overrides = ["duration.steps=12", "evaluation.every_steps=4", "model.hidden_size=32", "model.intermediate_size=64"]
    quick = quickstart(tmp_path / "out", sorted(source.glob("*.py")), overrides, vocab_size=600)
    assert quick.steps == 12
    assert 0 < quick.valid_loss < 20
    assert 0 < quick.unigram_loss < 20
    assert all(len(words) == 5 for words in quick.fills.values())
    assert (tmp_path / "out" / "loss.png").stat().st_size > 10_000
    AutoModel.from_pretrained(tmp_path / "out" / "encoder")
    for expected in ("unigram baseline", "rows/s", "loss.png", "encoder", "15% [MASK]"):
        assert expected in summary(quick)
    for command in next_commands(str(tmp_path / "out" / "docstrings.jsonl")):
        assert f"\n  {command}" in summary(quick)


def test_the_next_commands_name_the_users_own_text_as_a_shell_takes_it() -> None:
    words = [shlex.split(command) for command in next_commands("/home/me/my texts; rm -r x.txt")]
    assert [(one[1], one[2]) for one in words] == [
        ("prepare", "/home/me/my texts; rm -r x.txt"), ("pretrain", "3ml-muon-causal-first-small"), ("export", "run"),
    ]  # fmt: skip
