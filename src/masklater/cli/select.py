"""`select`: the rows of SHARDS that are worth training on, or the tokens that are worth predicting."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from masklater.cli.app import AsJson, print_result
from masklater.console import aligned

if TYPE_CHECKING:
    from masklater.select.select import SelectResult
    from masklater.select.targets import TargetsResult

KEEP = 0.5


def select(
    shards: Annotated[Path, typer.Argument(metavar="SHARDS", help="The SHARDS whose training rows are scored.")],
    early: Annotated[Path, typer.Option(metavar="RUN", help="A run that has begun to learn, usually on these rows.")],
    reference: Annotated[
        Path, typer.Option(metavar="RUN", help="A run on other text of the kind that is wanted, not on these rows.")
    ],
    out: Annotated[Path, typer.Option(help="The SELECTION folder to make; with --targets, the TABLE.")],
    keep: Annotated[
        float | None,
        typer.Option(help="Share of the rows that is kept, above 0 and at most 1.", show_default=str(KEEP)),
    ] = None,
    targets: Annotated[
        bool, typer.Option("--targets", help="Score tokens, not rows: which of the masked ones are worth predicting.")
    ] = False,
    micro_rows: Annotated[int, typer.Option(min=1, help="Rows of a forward pass.")] = 32,
    precision: Annotated[
        Literal["auto", "bfloat16", "float16", "float32"], typer.Option(help="What is computed in, as in a recipe.")
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """Choose the rows that an early model has most to learn from, by what a reference model has learned.

    A row's score is the loss of the early model less that of the reference, a target, under the same masks: noise is
    hard for both, what is known already is easy for both. `pretrain --data SELECTION` trains on the rows that are kept.
    With --targets each token has a score, and all rows are kept: a run with `masking.predict_by=TABLE` predicts those
    first, of what is masked, that have more to teach.

    \b
    Examples:
      masklater select shards --early early --reference reference --keep 0.5 --out selection
      masklater pretrain 3ml-small --data selection --out run
      masklater pretrain 3ml-small --data selection=0.8 --data other-shards=0.2 --out run
      masklater select shards --early early --reference reference --targets --out table
      masklater pretrain 3ml-small masking.predict=0.5 masking.predict_by=table --data shards --out run
    """
    from masklater.errors import UserError
    from masklater.folders import refuse_existing

    if targets and keep is not None:
        raise UserError(
            f"--keep {keep:g} is a share of the rows, and --targets keeps them all", "Leave one of them out."
        )
    refuse_existing(out)
    from masklater.select.select import select as select_rows
    from masklater.select.targets import make_targets

    if targets:
        table = make_targets(shards, early, reference, out, micro_rows=micro_rows, precision=precision)
        print_result(table, as_json, lambda: _describe_targets(table))
    else:
        share = KEEP if keep is None else keep
        result = select_rows(shards, early, reference, share, out, micro_rows=micro_rows, precision=precision)
        print_result(result, as_json, lambda: _describe(result))


def _describe(result: "SelectResult") -> str:
    lines = {"kept": f"{result.kept:,} of {result.rows:,} rows"}
    means = {"kept": result.mean_kept, "left out": result.mean_dropped}
    lines["mean score"] = ", ".join(f"{mean:+.3f} of rows {which}" for which, mean in means.items() if mean is not None)
    if result.lowest_kept is not None:
        lines["kept from"] = f"{result.lowest_kept:+.3f} nats a target on"
    lines["highest"] = f"rows {', '.join(map(str, result.best_rows))} (masklater rows SHARDS ROW...)"
    lines["lowest"] = f"rows {', '.join(map(str, result.worst_rows))}"
    lines["compute"] = f"{result.flops:.3g} FLOPs in {result.seconds:,.0f} s"
    lines["written to"] = result.out
    return aligned([*lines.items()])


def _describe_targets(result: "TargetsResult") -> str:
    above = f"above 0 for the tokens of {result.share_above:.0%} of the targets"
    return aligned(
        [
            ("scored", f"{result.tokens:,} tokens at {result.targets:,} targets"),
            ("mean excess", f"{result.mean_excess:+.3f} nats a target, {above}"),
            ("highest", " ".join(map(repr, result.most))),
            ("lowest", " ".join(map(repr, result.least))),
            ("compute", f"{result.flops:.3g} FLOPs in {result.seconds:,.0f} s"),
            ("written to", result.out),
        ]
    )
