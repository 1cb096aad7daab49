"""`glue`: fine-tuning on GLUE."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from masklater.cli.app import AsJson, print_result
from masklater.errors import UserError
from masklater.judge.tasks import TASKS, choose_tasks


def glue(
    encoder: Annotated[
        str,
        typer.Argument(
            metavar="ENCODER", help="A folder that AutoModel loads, a RUN, or the name of a model on the hub."
        ),
    ],
    *,
    data: Annotated[
        str,
        typer.Option(metavar="GLUE_DIR", help="The folder of CoLA, SST-2 and so on; or hub, to read through datasets."),
    ],
    out: Annotated[Path, typer.Option(help="The SCORES folder to make, or to go on with.")],
    tasks: Annotated[str, typer.Option(help=f"{','.join(TASKS)}: some of them, with commas; or all.")] = "all",
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Runs at each grid point: seeds 0, 1, ...")] = 5,
    grid: Annotated[
        Literal["paper", "single", "quick"],
        typer.Option(
            help="paper: 3 rates x 2 batch sizes, 10 epochs; single: one setting, 10 epochs; quick: 3 epochs."
        ),
    ] = "paper",
    lr: Annotated[str | None, typer.Option(help="Learning rates in place of the grid's, with commas.")] = None,
    batch: Annotated[str | None, typer.Option(help="Batch sizes in place of the grid's, with commas.")] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs in place of the grid's.")] = None,
    max_train_rows: Annotated[
        int | None, typer.Option(min=1, help="Train on so many rows of a task at most; the table says so.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on at the first run that SCORES lacks.")] = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune an encoder on GLUE with several seeds.

    The score of a task is the median over seeds of the best grid point. Each finished run is kept; Ctrl-C or SIGTERM
    leaves, --resume goes on. A task that is missing or damaged is reported, the others are scored, and the exit status
    is 2.

    \b
    Examples:
      masklater glue encoder --data glue --out scores
      masklater glue run --data glue --out scores --tasks cola,rte --seeds 3 --grid quick
      masklater glue encoder --data hub --out scores --lr 1e-4,3e-4 --batch 32 --epochs 5
    """
    from masklater.judge.grid import SweepSettings, make_grid

    chosen = choose_tasks(tasks)
    settings = SweepSettings(make_grid(grid, lr, batch, epochs), seeds, max_train_rows)
    from masklater.judge.sweep import sweep as run
    from masklater.judge.table import as_text

    result = run(encoder, data, out, chosen, settings, resume)
    print_result(result.scores, as_json, lambda: f"{as_text(result.scores)}\nwritten to {out / 'scores.md'}")
    if result.faults:
        count = f"{len(result.faults)} of {len(chosen)} tasks could not be scored"
        raise UserError("\n  - ".join([f"{count}:", *result.faults.values()]), "The others are in the table.")
