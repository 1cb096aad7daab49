"""`rows` and `doctor`: what data holds, and whether machine, SHARDS and RUN are sound."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from masklater.cli.app import AsJson, print_result


def rows(
    shards: Annotated[Path, typer.Argument(metavar="SHARDS", help="The SHARDS folder.")],
    numbers: Annotated[list[int], typer.Argument(metavar="ROW...", help="Row numbers, from 0.")],
    split: Annotated[Literal["train", "valid"], typer.Option(help="Rows to train on, or held out.")] = "train",
    as_json: AsJson = False,
) -> None:
    """Print rows as text, special tokens and all: those of a loss spike, say, or the first few of new data.

    \b
    Examples:
      masklater rows shards 0 1 2
      masklater rows shards 17 --split valid --json
    """
    from masklater.corpus.shards import Shards
    from masklater.corpus.show import as_text, show_rows

    shown = show_rows(Shards(shards), split, numbers)
    result = {
        "shards": str(shards),
        "split": split,
        "rows": [{"number": row.number, "documents": row.documents, "positions": row.positions} for row in shown],
    }
    print_result(result, as_json, lambda: as_text(shown, split))


def doctor(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[SHARDS|RUN]", help="What to examine beside the machine.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Examine this machine, and SHARDS or a RUN: checksums, versions, device, free space. Nothing is changed.

    The exit status is 2 where something is wrong; all of it is listed. Put what it prints into a bug report.

    \b
    Examples:
      masklater doctor
      masklater doctor shards
      masklater doctor run --json
    """
    from masklater.doctor.examination import as_text
    from masklater.doctor.examine import examine

    found = examine(folder)
    print_result(found, as_json, lambda: as_text(found))
    if found.problems:
        raise typer.Exit(2)
