"""Commands on the pages are ones that masklater takes, their recipes sound: said in seconds, where running them takes minutes."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from masklater.cli import app
from masklater.errors import UserError
from masklater.recipe.load import load
from tests.docs.pages import PAGES, commands, name_of


def check(command: str) -> None:
    """Parse a command of masklater's, alone or under torchrun, and load its recipe.

    Raises:
        typer's own errors, UserError: The command would be refused.
    """
    words = shlex.split(command)
    words = words[words.index("masklater") + 1 :]
    group: Any = typer.main.get_command(app)
    if words[0].startswith("-"):
        group.make_context("masklater", words)
        return
    if words[0] not in group.commands:
        raise UserError(f"there is no command {words[0]}", "Look at `masklater --help`.")
    if "--settings" in words:
        return  # prints, and leaves
    context = group.commands[words[0]].make_context(words[0], words[1:])
    if "recipe" in context.params:
        load(context.params["recipe"], context.params["overrides"] or [])


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_commands_are_ones_that_are_taken(page: Path) -> None:
    for command in commands(page):
        if shlex.split(command)[0] != "make":
            check(command)


@pytest.mark.parametrize(
    "command",
    [
        "masklater pretrain 3ml-smal --data shards --out run",
        "masklater pretrain 3ml-small duration.weeks=1 --data shards --out run",
        "masklater pretrain 3ml-small --data shards",
        "torchrun --nproc-per-node 2 -m masklater pretrain 3ml-small --shards shards --out run",
        "masklater prepair texts --out shards",
    ],
)
def test_a_command_that_is_not_taken_is_found(command: str) -> None:
    with pytest.raises(Exception) as refused:
        check(command)
    assert isinstance(refused.value, UserError) or hasattr(refused.value, "exit_code")
