"""`budget`: what a run would cost."""

from typing import Annotated

import typer

from masklater.cli.app import AsJson, print_result, read_data, shipped_recipes
from masklater.errors import UserError

VOCABULARY = 50_265
"""The size of RoBERTa's vocabulary."""
ROW_LENGTH = 128


def budget(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="A YAML file, or the name of a shipped recipe.", autocompletion=shipped_recipes
        ),
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings that replace the recipe's.")
    ] = None,
    *,
    against: Annotated[str | None, typer.Option(metavar="RECIPE", help="Compare with another recipe.")] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SHARDS",
            help="SHARDS to take row length, vocabulary and special tokens from, as `pretrain` takes them.",
        ),
    ] = None,
    row_length: Annotated[
        int | None, typer.Option(min=8, max=65536, help=f"Without --data: tokens a row [default: {ROW_LENGTH}].")
    ] = None,
    vocab_size: Annotated[
        int | None,
        typer.Option(
            min=2, help=f"Without --data: entries of the tokenizer [default: model.from's, or {VOCABULARY:,}]."
        ),
    ] = None,
    gpu: Annotated[str, typer.Option(help="What it runs on: h100, a100, ..., or this (measured).")] = "h100",
    utilisation: Annotated[float, typer.Option(min=0.001, max=1, help="Share of the peak rate that is reached.")] = 0.4,
    watts: Annotated[float | None, typer.Option(min=0, help="Power drawn [default: the board's own].")] = None,
    as_json: AsJson = False,
) -> None:
    """Count what a recipe costs: FLOPs, memory, time and energy.

    They are counted part by part, alone or against another recipe.

    \b
    Examples:
      masklater budget 3ml-base-50 --against roberta-base-15
      masklater budget 3ml-large-50 decoder.num_layers=4 --gpu a100 --utilisation 0.5
      masklater budget my-recipe.yaml --data shards --gpu this --json
    """
    from masklater.budget.forecast import Forecast, Rows, find_hardware, forecast, rows_in
    from masklater.budget.forecast_text import against_text, as_text, as_tree, ratios
    from masklater.recipe.load import load

    if data and not (row_length is None and vocab_size is None):
        raise UserError(
            "--row-length and --vocab-size are for want of data, and --data has its own", "Leave out either."
        )
    folder, mixture = read_data(data) if data else (None, [])

    def forecast_of(name: str, settings: list[str]) -> Forecast:
        loaded = load(name, [*settings, *mixture])
        length = row_length or ROW_LENGTH
        rows = Rows(length, vocab_size or VOCABULARY, length - 2, any_tokenizer=vocab_size is None)
        return forecast(loaded, rows_in(loaded, folder) if folder else rows)

    hardware = find_hardware(gpu)
    power = hardware.watts if watts is None else watts
    one = forecast_of(recipe, overrides or [])
    tree = as_tree(one, recipe, hardware, utilisation, power)
    text = as_text(one, recipe, hardware, utilisation, power)
    if against:
        other = forecast_of(against, [])
        tree["against"] = as_tree(other, against, hardware, utilisation, power)
        tree["ratios"] = {"executed": ratios(one.row, other.row), "paper": ratios(one.paper, other.paper)}
        text += "\n\n" + against_text(one, other, (recipe, against))
    print_result(tree, as_json, lambda: text)
