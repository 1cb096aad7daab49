"""Every command in the README and in CONTRIBUTING runs as it stands there; every link leads somewhere."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, make_text
from tests.docs.pages import PAGES, blocks, commands, name_of
from tests.glue.folders import make_glue


@pytest.mark.longest
def test_the_readme_from_top_to_bottom(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for number in range(30):
        (tmp_path / "texts" / f"{number}.txt").write_text(make_text(number, 300))
    make_glue(tmp_path / "glue")
    pair = {"sentence_good": make_text(0, 8), "sentence_bad": make_text(1, 8)}
    (tmp_path / "pairs").mkdir()
    (tmp_path / "pairs" / "made_up.jsonl").write_text(json.dumps(pair))
    ran = []
    for command in commands(REPOSITORY / "README.md"):
        words = shlex.split(command)
        if words[0] == "make":
            continue
        module = ["torch.distributed.run", *words[1:]] if words[0] == "torchrun" else words
        done = subprocess.run(
            [sys.executable, "-m", *module], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        ran.append(words[1] if words[0] == "masklater" else words[0])
    assert ran == [
        "prepare", "pretrain", "pretrain", "export", "export", "fill", "rows", "doctor", "blimp", "glue", "pretrain", "budget",
        "budget", "torchrun", "pretrain", "compare", "prepare", "pretrain",
    ]  # fmt: skip
    for code in blocks(REPOSITORY / "README.md", "python"):
        subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, timeout=120)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_exist(page: Path) -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    for command in commands(page):
        words = shlex.split(command)
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
