"""`pretrain`: the run."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from masklater.cli.app import AsJson, print_result, read_data, shipped_recipes
from masklater.console import aligned


def _print_settings(wanted: bool) -> None:
    if not wanted:
        return
    from masklater.recipe.load import describe, shipped

    rows = [("setting", "default", "meaning"), *describe()]
    print(aligned(rows, width=max(88, shutil.get_terminal_size((120, 24)).columns)))
    print(f"\nshipped recipes: {', '.join(shipped())}")
    raise typer.Exit


def pretrain(
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
    data: Annotated[
        list[str],
        typer.Option(
            metavar="SHARDS",
            help="The SHARDS folder, or a SELECTION of its rows; or, once for each, SHARDS=SHARE of the rows; or the "
            "folder that holds the sources which the recipe names.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The RUN folder to make, or to continue.")],
    resume: Annotated[bool, typer.Option("--resume", help="Continue RUN from its newest checkpoint.")] = False,
    settings: Annotated[
        bool,
        typer.Option(
            "--settings", callback=_print_settings, is_eager=True, help="List every setting of a recipe, then exit."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Pre-train an encoder on SHARDS.

    Ctrl-C or SIGTERM saves a checkpoint and leaves; --resume goes on exactly where the run stood. Under torchrun the
    processes share each step, and the run is the same however many there are.

    \b
    Examples:
      masklater pretrain 3ml-small --data shards --out run
      masklater pretrain 3ml-small duration.hours=0.5 optimizer.lr=5e-4 --data shards --out run
      masklater pretrain my-recipe.yaml --data shards --out run --resume
      masklater pretrain 3ml-small --data general=0.7 --data medical=0.3 --out run
      torchrun --nproc-per-node 8 -m masklater pretrain 3ml-base-50 --data shards --out run
    """
    from masklater.recipe.load import load

    folder, mixture = read_data(data)
    loaded = load(recipe, [*(overrides or []), *mixture])
    from masklater.machine.distributed import is_main_process
    from masklater.pretrain.loop import pretrain as run

    result = run(loaded, folder, out, resume)
    if not is_main_process():
        return
    lines = {
        "run": f"{result.run}, {result.steps:,} steps, {result.rows:,} rows, {result.tokens:,} tokens",
        "compute": f"{result.flops:.3g} FLOPs in {result.seconds:,.0f} s, {result.rows_per_second:,.1f} rows/s",
    }
    if result.skipped_steps:
        lines["skipped"] = f"{result.skipped_steps:,} steps, whose loss or gradient was not finite"
        if result.overflowed_steps:
            lines["skipped"] += f"; {result.overflowed_steps:,} of them to find float16's loss scale"
    if result.utilisation is not None:
        lines["hardware"] = f"{result.utilisation:.1%} of the operations that it can do at best in this time"
        if result.utilisation > 1:
            lines["hardware"] += ", as measured before the first step: too low, perhaps beside other work"
    for name, loss, accuracy, targets in (
        ("held out, own masking", result.valid_loss, result.valid_accuracy, result.valid_targets),
        ("held out, 15% [MASK]", result.valid_loss_15, result.valid_accuracy_15, result.valid_targets_15),
    ):
        if targets is not None:
            lines[name] = (
                f"loss {loss:.4f} nats a token, {accuracy:.2%} of them guessed right"
                if targets
                else "nothing to predict"
            )
    if result.unigram_loss_15 is not None:
        lines["by frequency alone"] = (
            f"loss {result.unigram_loss_15:.4f} nats a token, {result.unigram_accuracy_15:.2%} of them guessed right"
        )
    if result.hardly_beats_frequencies:
        lines["by frequency alone"] += "; the run is hardly better yet, if at all (docs/how-to/watch.md)"
    print_result(result, as_json, lambda: aligned([*lines.items()]))
