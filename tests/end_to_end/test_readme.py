"""Every command in the README and in CONTRIBUTING runs as it stands there; every link leads somewhere."""

import re
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.conftest import REPOSITORY, TINY, make_text
from tests.docs.pages import PAGES, blocks, commands, name_of, run_here

SMALLER = [*TINY, "duration.steps=2"]
"""What is added to `pretrain`; nothing else of the commands changes."""


def test_the_readme_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts").mkdir()
    texts = [make_text(number, 300) for number in range(30)]
    (tmp_path / "texts" / "one.txt").write_text(texts[0])
    pq.write_table(pa.table({"id": range(29), "text": texts[1:]}), tmp_path / "texts" / "others.parquet")
    monkeypatch.chdir(tmp_path)
    ran = []
    for command in commands(REPOSITORY / "README.md"):
        words = shlex.split(command)
        if words[0] == "make":
            continue
        if words[1] == "pretrain":
            words = [*(word for word in words if not word.startswith("duration.")), *SMALLER]
        run_here(words, monkeypatch)
        ran.append(words[1])
    assert ran == ["prepare", "pretrain", "fill", "export"]
    assert capsys.readouterr().out.startswith("read            30 documents")
    for code in blocks(REPOSITORY / "README.md", "python"):
        exec(compile(code, "README.md", "exec"), found := {})
        assert found["encoder"].config.hidden_size == 32


def test_the_readme_is_a_screen_and_a_half() -> None:
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 75


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for command in commands(page):
        words = shlex.split(command.rpartition("|")[2])
        assert words[0] in {"make", "masklater", "torchrun"}, command
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:", makefile, flags=re.MULTILINE), command


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_files_and_tests_named_in_the_docs_exist() -> None:
    source = "\n".join(path.read_text() for path in (REPOSITORY / "tests").rglob("*.py"))
    for page in PAGES:
        for name in re.findall(r"\btest_\w+(?=[`, (])", page.read_text()):
            assert name in source, f"{page.name}: {name}"
        for name in re.findall(
            r"`((?:masking|model|corpus|pretrain|glue|budget|recipe|quickstart|report|doctor)/\w+\.py)",
            page.read_text(),
        ):
            assert (REPOSITORY / "src" / "masklater" / name).exists(), f"{page.name}: {name}"
