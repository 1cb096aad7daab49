"""The pages of the documentation, and the commands on them."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from masklater.cli import main
from tests.conftest import REPOSITORY

PAGES = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]


def name_of(page: Path) -> str:
    """Return where a page is in the repository."""
    return str(page.relative_to(REPOSITORY))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def commands(page: Path) -> list[str]:
    return [
        line.split("  #")[0].strip() for block in blocks(page, "bash") for line in block.splitlines() if line.strip()
    ]


def run_here(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a command of masklater's in this process, which has torch imported already; it has to succeed."""
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as leave:
        main()
    assert not leave.value.code, shlex.join(words)
