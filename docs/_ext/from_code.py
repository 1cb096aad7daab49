"""Markdown that is read off the code: commands, settings of a recipe, recipes."""

import inspect
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import typer
import yaml

from masklater.cli import app as command_line
from masklater.cli.app import help_in_groups
from masklater.recipe.load import describe, shipped
from masklater.recipe.recipe import Recipe


def command_pages() -> str:
    """Return every command as Markdown: what it does, its arguments and options, examples."""
    group: Any = typer.main.get_command(command_line)
    context = typer.Context(group, info_name="masklater")
    return "\n".join(_command(group.commands[name], name, context) for name in group.commands)


def _command(command: Any, name: str, above: Any) -> str:
    context = type(above)(command, info_name=name, parent=above)
    words, examples = _prose(inspect.cleandoc(command.callback.__doc__ or ""))
    usage = " ".join(command.get_usage(context).removeprefix("Usage: ").translate({ord(c): None for c in "{}"}).split())
    parts = [f"## masklater {name}\n", words, f"```console\n{usage}\n```\n"]
    for heading, parameters in help_in_groups(command, context).items():
        parts += [] if heading in ("Arguments", "Options") else [f"**{heading}**\n"]
        parts += [f"{head}\n: {text}\n" for head, text in _described(parameters)]
    if examples:
        parts += ["**Examples**\n", f"```console\n{examples}\n```\n"]
    return "\n".join(parts)


def _prose(docstring: str) -> tuple[str, str]:
    """Cut a command's docstring into its words and its examples."""
    words, _, examples = docstring.partition("\b\nExamples:\n")
    return words, textwrap.dedent(examples).rstrip()


def _described(parameters: list[tuple[Any, tuple[str, str]]]) -> Iterator[tuple[str, str]]:
    for parameter, record in parameters:
        if "--help" in parameter.opts:
            continue
        name = record[0] if parameter.opts[0].startswith("-") else parameter.metavar
        yield f"`{name}`", _escaped(" ".join(record[1].split()) or "Given by its name alone.")


def setting_pages() -> str:
    """Return every setting of a recipe as Markdown, section by section."""
    defaults = {key: (default, meaning) for key, default, meaning in describe()}
    loose, sections = [], []
    for name in list(Recipe.keys()):  # no mapping: its settings
        kind = Recipe.section_at(name)
        if name in defaults or kind is None:
            loose.append(name)
        if kind is not None and any(key.startswith(f"{name}.") for key in defaults):
            doc = " ".join((kind.__doc__ or "").split())
            sections.append(f"## {name}\n\n{_escaped(doc)}\n\n" + _settings(name, defaults))
    alone = "".join(_setting(name, *defaults[name]) for name in loose)
    return f"## Settings outside of a section\n\n{alone}\n" + "\n".join(sections)


def _settings(section: str, defaults: Mapping[str, tuple[str, str]]) -> str:
    return "".join(_setting(key, *values) for key, values in defaults.items() if key.startswith(f"{section}."))


def _setting(key: str, default: str, meaning: str) -> str:
    resume = " A resumed run may change it." if Recipe.may_change(key) else ""
    return f"`{key}`, default `{default}`\n: {_escaped(meaning.rstrip('.'))}.{resume}\n\n"


def recipe_pages() -> str:
    """Return every shipped recipe as Markdown: its name and what its first lines say."""
    lines = []
    for name, path in shipped().items():
        comment = [line.removeprefix("#").strip() for line in path.read_text().splitlines() if line.startswith("#")]
        size = (yaml.safe_load(path.read_text()).get("model") or {}).get("hidden_size")
        lines.append(f"`{name}`\n: {_escaped(' '.join(comment))}" + (f" Width {size}." if size else "") + "\n")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Return words in which brackets, stars and underscores stand for themselves, in Markdown."""
    parts = text.split("`")
    for place in range(0, len(parts), 2):
        for sign in "\\[]*_<>":
            parts[place] = parts[place].replace(sign, f"\\{sign}")
    return "`".join(parts)
