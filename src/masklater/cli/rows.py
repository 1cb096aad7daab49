"""`rows`: rows of SHARDS as text."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import typer

from masklater.cli.app import AsJson, print_result


def rows(
    shards: Annotated[Path, typer.Argument(metavar="SHARDS", help="The SHARDS folder.")],
    numbers: Annotated[list[int], typer.Argument(metavar="ROW", help="Row numbers, from 0.")],
    split: Annotated[Literal["train", "valid"], typer.Option(help="Rows to train on, or held out.")] = "train",
    words: Annotated[
        bool, typer.Option("--words", help="Put │ between what masking.choose=word masks as one word.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print rows of SHARDS as text, special tokens and all.

    Look at those of a loss spike, say, or at the first few of new data.

    \b
    Examples:
      masklater rows shards 0 1 2
      masklater rows shards 17 --split valid --json
      masklater rows shards 0 --words
    """
    from masklater.corpus.shards import Shards
    from masklater.corpus.show import as_text, show_rows

    opened, words_of = Shards(shards), None
    if words:
        from masklater.masking.choose import words_of_rows

        words_of = partial(words_of_rows, opened)
    shown = show_rows(opened, split, numbers, words_of)
    result = {
        "shards": str(shards),
        "split": split,
        "rows": [{"number": row.number, "documents": row.documents, "positions": row.positions} for row in shown],
    }
    print_result(result, as_json, lambda: as_text(shown, split))
