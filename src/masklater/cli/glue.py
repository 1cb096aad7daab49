"""`glue`: `judge` on GLUE, under its own name."""

from typing import Annotated

import typer

from masklater.cli.app import AsJson
from masklater.cli.judge import (
    Batches,
    EncoderName,
    Epochs,
    GridChoice,
    MaxTrainRows,
    Out,
    Rates,
    Resume,
    Seeds,
    TuneChoice,
    report,
)
from masklater.judge.tasks import TASKS, choose_tasks


def glue(
    encoder: EncoderName,
    *,
    data: Annotated[
        str,
        typer.Option(metavar="GLUE_DIR", help="The folder of CoLA, SST-2 and so on; or hub, to read through datasets."),
    ],
    out: Out,
    tasks: Annotated[str, typer.Option(help=f"{','.join(TASKS)}: some of them, with commas; or all.")] = "all",
    seeds: Seeds = 5,
    grid: GridChoice = "paper",
    lr: Rates = None,
    batch: Batches = None,
    epochs: Epochs = None,
    max_train_rows: MaxTrainRows = None,
    tune: TuneChoice = "full",
    resume: Resume = False,
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
    from masklater.judge.grid import make_settings

    chosen = choose_tasks(tasks)
    settings = make_settings(grid, lr, batch, epochs, seeds, max_train_rows, tune)
    from masklater.judge.sweep import sweep as run

    report(run(encoder, data, out, chosen, settings, resume), out, as_json)
