"""`glue`, `blimp` and `compare`: how good an encoder is, and against what."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from masklater.cli.app import AsJson, print_result
from masklater.errors import UserError


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
    tasks: Annotated[
        str, typer.Option(help="cola,sst2,mrpc,stsb,qqp,mnli,qnli,rte,wnli: some of them, with commas; or all.")
    ] = "all",
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
    from masklater.glue.grid import SweepSettings, make_grid
    from masklater.glue.tasks import choose_tasks

    chosen = choose_tasks(tasks)
    settings = SweepSettings(make_grid(grid, lr, batch, epochs), seeds, max_train_rows)
    from masklater.glue.sweep import sweep as run
    from masklater.glue.table import as_text

    result = run(encoder, data, out, chosen, settings, resume)
    print_result(result.scores, as_json, lambda: f"{as_text(result.scores)}\nwritten to {out / 'scores.md'}")
    if result.faults:
        count = f"{len(result.faults)} of {len(chosen)} tasks could not be scored"
        raise UserError("\n  - ".join([f"{count}:", *result.faults.values()]), "The others are in the table.")


def blimp(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run with at least one checkpoint.")],
    *,
    data: Annotated[
        Path, typer.Option(help="A .jsonl file of minimal pairs (sentence_good, sentence_bad), or a folder of them.")
    ],
    out: Annotated[Path | None, typer.Option(help="A JSON file to write the result to.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score a run on minimal pairs, without fine-tuning.

    Which sentence of a pair is likelier? Each of its tokens is masked and predicted in turn.

    \b
    Examples:
      masklater blimp run --data blimp/data
      masklater blimp run --data pairs.jsonl --out blimp.json
    """
    if out is not None and (out.exists() or out.is_symlink()):
        kind = "is a folder; the result is one file" if out.is_dir() else "exists already"
        raise UserError(f"{out} {kind}", "Nothing is overwritten: name another file, or remove this one.")
    from masklater.glue.blimp import as_text, score_pairs

    result = score_pairs(run, data)
    if out is not None:
        from masklater.folders import write_file

        write_file(out, json.dumps(asdict(result), indent=1) + "\n")
    print_result(result, as_json, lambda: as_text(result))


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Runs on the same SHARDS.")],
    out: Annotated[Path, typer.Option(help="The REPORT folder to make.")],
    x: Annotated[
        Literal["flops", "hours", "rows", "tokens"], typer.Option(help="What the plots stand over at first sight.")
    ] = "flops",
    baseline: Annotated[
        Path | None, typer.Option(help="The run the others are compared with [default: the first].")
    ] = None,
    scores: Annotated[
        list[Path] | None,
        typer.Option(help="A SCORES folder of one of the runs; may be repeated. RUN/scores is found without."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set runs side by side: loss, accuracy and GLUE over compute.

    It says too where each run reaches the baseline's quality. REPORT holds index.html (one file, to send to a
    colleague), report.md, report.json and the plots.

    \b
    Examples:
      masklater compare run-vanilla run-3ml --out report
      masklater compare runs/* --baseline runs/vanilla --x hours --out report
      masklater compare run-vanilla run-3ml --scores scores-vanilla --scores scores-3ml --out report
    """
    from masklater.report.compare import compare as run
    from masklater.report.document import as_text

    document, figures = run(runs, out, x, baseline, scores or [])
    print_result(figures, as_json, lambda: f"{as_text(document)}\n\nThe report is in {out}; open {out}/index.html.")
