"""`quickstart`: the whole main job on text that is on every machine."""

from pathlib import Path
from typing import Annotated

import typer

from masklater.cli.app import AsJson, print_result


def quickstart(
    out: Annotated[Path, typer.Option(help="The folder to make.")] = Path("masklater-quickstart"),
    text: Annotated[
        Path | None, typer.Option(help="Text of your own (.txt, .jsonl, either .gz, or a folder) to do it on.")
    ] = None,
    minutes: Annotated[
        float, typer.Option(min=0.01, max=10_000, help="Minutes of training; all else takes up to three.")
    ] = 3,
    as_json: AsJson = False,
) -> None:
    """Do the whole main job in minutes, on text found here.

    The text is the documentation inside the Python packages that are installed on this machine, unless you give your
    own.

    \b
    Examples:
      masklater quickstart
      masklater quickstart --minutes 1 --text texts --out somewhere-else
    """
    from masklater.quickstart.main_job import quickstart as run
    from masklater.quickstart.main_job import summary

    result = run(out, overrides=[f"duration.hours={minutes / 60:.6g}"], text=text)
    print_result(result, as_json, lambda: summary(result))
