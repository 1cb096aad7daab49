"""`rows`: rows of SHARDS as text."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from masklater.cli.app import AsJson, print_result


def rows(
    shards: Annotated[Path, typer.Argument(metavar="SHARDS", help="The SHARDS folder.")],
    numbers: Annotated[list[int], typer.Argument(metavar="ROW", help="Row numbers, from 0.")],
    split: Annotated[Literal["train", "valid"], typer.Option(help="Rows to train on, or held out.")] = "train",
    as_json: AsJson = False,
) -> None:
    """Print rows of SHARDS as text, special tokens and all.

    Look at those of a loss spike, say, or at the first few of new data.

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
