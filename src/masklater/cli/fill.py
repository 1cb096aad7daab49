"""`fill`: what a run puts in place of a mask."""

from pathlib import Path
from typing import Annotated

import typer

from masklater.cli.app import AsJson, print_result


def fill(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run with at least one checkpoint.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help='Text with masks in it: "The <mask> is ..."')],
    top: Annotated[int, typer.Option(min=1, help="Candidates for each mask.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Show what a run puts in the place of each mask.

    \b
    Examples:
      masklater fill run "The <mask> of the function is a list."
      masklater fill run "Paris is the <mask> of <mask>." --top 10 --json
    """
    from transformers import AutoTokenizer

    from masklater.model.fill import fill_masks
    from masklater.run.folder import RunFolder

    folder = RunFolder(run)
    model, step = folder.load_model()
    tokenizer = AutoTokenizer.from_pretrained(folder.tokenizer, local_files_only=True, trust_remote_code=False)
    masks = fill_masks(model, tokenizer, text, top)
    result = {
        "run": str(run),
        "step": step,
        "text": text,
        "masks": [[guess._asdict() for guess in best] for best in masks],
    }

    def table() -> str:
        blocks = []
        for number, best in enumerate(masks, start=1):
            blocks.append(f"mask {number}")
            blocks += [f"  {guess.probability:6.1%}  {guess.token!r}" for guess in best]
        return "\n".join(blocks)

    print_result(result, as_json, table)
