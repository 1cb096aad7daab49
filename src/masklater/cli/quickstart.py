"""`quickstart`: the whole main job on text that is on every machine."""

from pathlib import Path
from typing import Annotated

import typer

from masklater.cli.app import AsJson, print_result


def quickstart(
    out: Annotated[Path, typer.Option(help="The folder to make.")] = Path("masklater-quickstart"),
    as_json: AsJson = False,
) -> None:
    """Do the whole main job in minutes, on text found here.

    The text is the documentation inside the Python packages that are installed on this machine.

    \b
    Examples:
      masklater quickstart
      masklater quickstart --out somewhere-else
    """
    from masklater.quickstart.main_job import quickstart as run
    from masklater.quickstart.main_job import summary

    result = run(out)
    print_result(result, as_json, lambda: summary(result))
