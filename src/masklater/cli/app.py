"""The application that all commands share, and the printing of results."""

import json
import os
import platform
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

from masklater import __version__
from masklater.errors import UserError

app = typer.Typer(
    name="masklater",
    help="Pre-train a text encoder of your own by Mask More and Mask Later (3ML, arXiv 2211.04898).",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def help_in_groups(command: Any, context: Any) -> dict[str, list[tuple[Any, tuple[str, str]]]]:
    """Return the parameters of a command, each with its names and help text, by the heading that lists them."""
    groups: dict[str, list[tuple[Any, tuple[str, str]]]] = {}
    for parameter in command.get_params(context):
        if (record := parameter.get_help_record(context)) is not None:
            usual = "Arguments" if parameter.param_type_name == "argument" else "Options"
            groups.setdefault(getattr(parameter, "rich_help_panel", None) or usual, []).append((parameter, record))
    first = [name for name in ("Arguments", "Options") if name in groups]
    return {name: groups[name] for name in dict.fromkeys([*first, *groups])}


class OneOfEach(TyperCommand):
    """A command that refuses an option given twice; the parser alone would silently take the last one."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the help of all parameters under headings, which typer by itself writes only with rich."""
        for name, parameters in help_in_groups(self, ctx).items():
            with formatter.section(name):
                formatter.write_dl([record for _, record in parameters])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments; --help and --settings exit from within.

        Raises:
            UserError: An option that takes one value is given several times.
        """
        given = list(args)
        rest = super().parse_args(ctx, args)
        _, _, order = self.make_parser(ctx).parse_args(args=given)
        for option, times in Counter(order).items():
            if times > 1 and isinstance(option, TyperOption) and not option.is_flag and not option.multiple:
                raise UserError(f"{option.opts[0]} is given {times} times, and takes one value", "Keep one of them.")
        return rest


def add(command: Callable[..., None]) -> None:
    """Make a function a command; the list of commands shows its whole summary, which typer would cut."""
    summary = " ".join((command.__doc__ or "").split("\n\n")[0].split())
    app.command(cls=OneOfEach, short_help=summary)(command)


AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object, the last line of stdout.")]


def read_data(values: Sequence[str]) -> tuple[Path, list[str]]:
    """Read the values of --data: one folder, or several SHARDS, each with its share of the rows, as NAME=SHARE.

    Returns:
        The folder, or the one that holds all SHARDS, and the overrides that set the mixture in the recipe.

    Raises:
        UserError: A folder is named twice, or one of several has no share.
    """
    if len(values) == 1 and (Path(values[0]).exists() or "=" not in values[0]):
        return Path(values[0]), []
    shares: dict[Path, str] = {}
    for value in values:
        name, equals, share = value.rpartition("=")
        if not equals or not name:
            raise UserError(f"--data {value}: of several SHARDS each has its share", f"For example --data {value}=0.5.")
        if (folder := Path(os.path.normpath(name))) in shares:
            raise UserError(f"--data names {folder} twice", "Add its shares up.")
        shares[folder] = share
    parents = {str(folder.parent) for folder in shares}
    if len({Path(parent).is_absolute() for parent in parents}) > 1:
        raise UserError("--data names folders with their whole paths and such without", "Name them in one way.")
    base = os.path.commonpath(parents)
    names = {os.path.relpath(folder, base or "."): share for folder, share in shares.items()}
    return Path(base), [f"data={{{', '.join(f'{json.dumps(name)}: {share}' for name, share in names.items())}}}"]


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[
        bool, typer.Option("--version", help="Print the versions of masklater and of what it stands on.")
    ] = False,
) -> None:
    if version:
        print(", ".join([f"masklater {__version__}", *map(_installed, ("torch", "transformers"))]), end="")
        print(f", Python {platform.python_version()}")
        raise typer.Exit


def _installed(package: str) -> str:
    """Return a package's name and version, without importing it."""
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} is not installed"


def shipped_recipes(begun: str) -> list[str]:
    """Return the shipped recipes whose names begin so, for the shell to complete."""
    from masklater.recipe.load import shipped

    return [name for name in shipped() if name.startswith(begun)]


def print_result(result: Any, as_json: bool, text: Callable[[], str]) -> None:
    """Print a result for a program, or as text for a person."""
    if as_json:
        tree = asdict(result) if is_dataclass(result) and not isinstance(result, type) else result
        print(json.dumps(tree, default=str))
    else:
        print(text())
