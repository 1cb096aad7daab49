"""What all commands share: the application, and how results are printed."""

import json
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import Annotated, Any

import typer

from masklater import __version__

app = typer.Typer(
    name="masklater",
    help="Pre-train a text encoder of your own by Mask More and Mask Later (3ML, arXiv 2211.04898).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object, the last line of stdout.")]


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def print_result(result: Any, as_json: bool, text: Callable[[], str]) -> None:
    """Print a result for a program, or as text for a person."""
    if as_json:
        tree = asdict(result) if is_dataclass(result) and not isinstance(result, type) else result
        print(json.dumps(tree, default=str))
    else:
        print(text())


def table(lines: dict[str, str]) -> str:
    """Names and values, aligned."""
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())
