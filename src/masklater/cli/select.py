"""`select`: the rows of SHARDS that are worth training on."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from masklater.cli.app import AsJson, print_result
from masklater.console import aligned


def select(
    shards: Annotated[Path, typer.Argument(metavar="SHARDS", help="The SHARDS whose training rows are scored.")],
    early: Annotated[Path, typer.Option(metavar="RUN", help="A run that has begun to learn, usually on these rows.")],
    reference: Annotated[
        Path, typer.Option(metavar="RUN", help="A run on other text of the kind that is wanted, not on these rows.")
    ],
    out: Annotated[Path, typer.Option(help="The SELECTION folder to make.")],
    keep: Annotated[float, typer.Option(help="Share of the rows that is kept, above 0 and at most 1.")] = 0.5,
    micro_rows: Annotated[int, typer.Option(min=1, help="Rows of a forward pass.")] = 32,
    precision: Annotated[
        Literal["auto", "bfloat16", "float16", "float32"], typer.Option(help="What is computed in, as in a recipe.")
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """Choose the rows that an early model has most to learn from, by what a reference model has learned.

    A row's score is the loss of the early model less that of the reference, a target, under the same masks: noise is
    hard for both, what is known already is easy for both. `pretrain --data SELECTION` trains on the rows that are kept.

    \b
    Examples:
      masklater select shards --early early --reference reference --keep 0.5 --out selection
      masklater pretrain 3ml-small --data selection --out run
      masklater pretrain 3ml-small --data selection=0.8 --data other-shards=0.2 --out run
    """
    from masklater.folders import refuse_existing

    refuse_existing(out)
    from masklater.select.select import select as run

    result = run(shards, early, reference, keep, out, micro_rows=micro_rows, precision=precision)

    def text() -> str:
        lines = {"kept": f"{result.kept:,} of {result.rows:,} rows"}
        means = {"kept": result.mean_kept, "left out": result.mean_dropped}
        lines["mean score"] = ", ".join(
            f"{mean:+.3f} of rows {which}" for which, mean in means.items() if mean is not None
        )
        if result.lowest_kept is not None:
            lines["kept from"] = f"{result.lowest_kept:+.3f} nats a target on"
        lines["highest"] = f"rows {', '.join(map(str, result.best_rows))} (masklater rows SHARDS ROW...)"
        lines["lowest"] = f"rows {', '.join(map(str, result.worst_rows))}"
        lines["compute"] = f"{result.flops:.3g} FLOPs in {result.seconds:,.0f} s"
        lines["written to"] = result.out
        return aligned([*lines.items()])

    print_result(result, as_json, text)
