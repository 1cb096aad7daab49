"""`join`: several SHARDS as one."""

from pathlib import Path
from typing import Annotated

import typer

from masklater.cli.app import AsJson, print_result
from masklater.console import aligned


def join(
    shards: Annotated[list[Path], typer.Argument(metavar="SHARDS", help="SHARDS folders, in the order of their rows.")],
    out: Annotated[Path, typer.Option(help="The SHARDS folder to make.")],
    as_json: AsJson = False,
) -> None:
    """Make one SHARDS folder of several, which have one tokenizer, row length and packing.

    Rows are not copied where the new folder is on the same disk: their files get a second name, and the old folders
    may be removed. Duplicates between the folders stay.

    \b
    Examples:
      masklater join shards-0 shards-1 shards-2 --out shards
    """
    from masklater.corpus.join import join as run

    result = run(shards, out)
    lines = {
        "joined": f"{result.joined:,} SHARDS",
        "rows": f"{result.train_rows:,} to train on, {result.valid_rows:,} held out",
        "tokens": f"{result.tokens:,}",
        "written to": f"{out}",
    }
    print_result(result, as_json, lambda: aligned([*lines.items()]))
