"""`blimp`: minimal pairs, without fine-tuning."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from masklater.cli.app import AsJson, print_result
from masklater.errors import UserError


def blimp(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A RUN with at least one checkpoint, a folder that AutoModelForMaskedLM loads, or a name on the hub.",
        ),
    ],
    *,
    data: Annotated[
        Path,
        typer.Option(
            help="A .jsonl file of minimal pairs (sentence_good, sentence_bad, perhaps category), or a folder of them."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="A JSON file to write the result to.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score a run, or any masked LM, on minimal pairs.

    Nothing is fine-tuned. Which sentence of a pair is likelier? Each of its tokens is masked and predicted in turn.
    Pairs may be in any language; those of a category get a mean of their own.

    \b
    Examples:
      masklater blimp run --data blimp/data
      masklater blimp run --data pairs.jsonl --out blimp.json
      masklater blimp FacebookAI/xlm-roberta-base --data pairs.jsonl
    """
    from masklater.folders import refuse_existing, write_file

    if out is not None:
        if out.is_dir():
            raise UserError(f"{out} is a folder; the result is one file", "Name a file in it.")
        refuse_existing(out)
    from masklater.judge.blimp import as_text, score_pairs

    result = score_pairs(model, data)
    print_result(result, as_json, lambda: as_text(result))  # printed first, as writing the file may fail
    if out is not None:
        write_file(out, json.dumps(asdict(result), indent=1, allow_nan=False) + "\n")
