"""`judge`: fine-tuning on tasks, own ones or GLUE's."""

from pathlib import Path
from typing import Annotated, Any

import typer

from masklater.cli.app import AsJson, print_result
from masklater.errors import UserError
from masklater.judge.grid import GridName

EncoderName = Annotated[
    str,
    typer.Argument(metavar="ENCODER", help="A folder that AutoModel loads, a RUN, or the name of a model on the hub."),
]
Out = Annotated[Path, typer.Option(help="The SCORES folder to make, or to go on with.")]
Seeds = Annotated[int, typer.Option(min=1, max=1000, help="Runs at each grid point: seeds 0, 1, ...")]
GridChoice = Annotated[
    GridName,
    typer.Option(help="paper: 3 rates x 2 batch sizes, 10 epochs; single: one setting, 10 epochs; quick: 3 epochs."),
]
Rates = Annotated[str | None, typer.Option(help="Learning rates in place of the grid's, with commas.")]
Batches = Annotated[str | None, typer.Option(help="Batch sizes in place of the grid's, with commas.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Epochs in place of the grid's.")]
MaxTrainRows = Annotated[
    int | None, typer.Option(min=1, help="Train on so many rows of a task at most; the table says so.")
]
TuneChoice = Annotated[
    str,
    typer.Option(
        metavar="full|head|bitfit|lora|pafi|hiwi|hiwi-weights",
        help="Which weights are trained; with a size as in pafi:0.01, lora:16. The rates follow.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on at the first run that SCORES lacks.")]


ZERO_SHOT_TAKES = {"encoder", "zero_shot", "out", "against", "random_twin", "as_json"}
"""The parameters that --zero-shot goes with; it trains nothing."""


def judge(
    context: typer.Context,
    encoder: EncoderName,
    *,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="A file of own tasks (TASKS.yaml), glue, superglue, snli, xnli, paws-x, masakhaner, or single tasks "
            "of these; several with commas."
        ),
    ] = None,
    zero_shot: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE:COLUMNS",
            help="Without training: pairs of texts. FILE:FIRST,SECOND,SCORE or FILE:QUERY,PASSAGE; may be repeated.",
        ),
    ] = None,
    out: Out,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Of tasks that come with masklater: the folder of their files as published (of GLUE CoLA, SST-2 and "
            "so on); for GLUE also hub.",
        ),
    ] = None,
    seeds: Seeds = 5,
    grid: GridChoice = "paper",
    lr: Rates = None,
    batch: Batches = None,
    epochs: Epochs = None,
    max_train_rows: MaxTrainRows = None,
    tune: TuneChoice = "full",
    against: Annotated[
        str | None,
        typer.Option(
            metavar="ENCODER", help="Score this one too, and say which differences rows and seeds do not make."
        ),
    ] = None,
    random_twin: Annotated[
        bool, typer.Option("--random-twin", help="The same against untrained weights of the encoder's config.")
    ] = False,
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Fine-tune an encoder on tasks of your own, or GLUE's, with several seeds; or score its vectors as they are.

    The score of a task is the median over seeds of the best grid point. Each finished run is kept; Ctrl-C or SIGTERM
    leaves, --resume goes on. A task whose files are damaged is reported, the others are scored, and the exit status
    is 2. docs/how-to/judge.md says how a task is written down.

    \b
    Examples:
      masklater judge encoder --tasks tasks.yaml --out scores
      masklater judge encoder --tasks tasks.yaml,cola,rte --data glue --out scores --seeds 3 --grid quick
      masklater judge encoder --tasks xnli,paws-x --data downloads --out scores --grid single
      masklater judge encoder --tasks tasks.yaml --out scores --against FacebookAI/xlm-roberta-base --random-twin
      masklater judge encoder --zero-shot sts.tsv:first,second,score --zero-shot faq.csv:ask,answer --out scores
    """
    if zero_shot:
        _refuse_beside_zero_shot(context)
        from masklater.judge import zero_shot as without_training

        scores, compared = without_training.judge_zero_shot(encoder, zero_shot, out, against, random_twin)
        text = f"{without_training.as_text(scores, compared)}\nwritten to {out / 'zero-shot.md'}"
        print_result(scores if compared is None else {**scores, "comparison": compared}, as_json, lambda: text)
        return
    if tasks is None:
        raise UserError("judge needs --tasks or --zero-shot", "For example --tasks tasks.yaml; --help has more.")
    from masklater.judge.grid import make_settings
    from masklater.judge.task_file import find_tasks

    chosen = find_tasks(tasks, data)
    settings = make_settings(grid, lr, batch, epochs, seeds, max_train_rows, tune)
    if against is None and not random_twin:
        from masklater.judge.sweep import sweep as run

        report(run(encoder, data, out, chosen, settings, resume), out, as_json)
        return
    from masklater.judge.against import as_text, judge

    result, comparison = judge(encoder, data, out, chosen, settings, resume, against, random_twin)
    report(result, out, as_json, comparison, f"{as_text(comparison)}\nwritten to {out / 'comparison.md'}")


def _refuse_beside_zero_shot(context: typer.Context) -> None:
    """Raise UserError where --zero-shot is given with an option that says how to train."""
    sources = {
        each.opts[0]: context.get_parameter_source(str(each.name))
        for each in context.command.params
        if each.name not in ZERO_SHOT_TAKES
    }
    given = [option for option, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
    if given:
        raise UserError(
            f"--zero-shot trains nothing, and {', '.join(given)} says how to", "Leave it out, or judge in two commands."
        )


def report(result: Any, out: Path, as_json: bool, comparison: Any = None, compared: str = "") -> None:
    """Print the table of a sweep, and of a comparison where there is one.

    Raises:
        UserError: Some tasks could not be scored; the message says why.
    """
    from masklater.judge.table import as_text

    tree = result.scores if comparison is None else {**result.scores, "comparison": comparison}
    text = f"{as_text(result.scores)}\nwritten to {out / 'scores.md'}"
    print_result(tree, as_json, lambda: f"{text}\n{compared}" if compared else text)
    if result.errors:
        tasks = len(result.errors) + len(result.rows)
        count = f"{len(result.errors)} of {tasks} tasks could not be scored"
        said = [f"{error.problem}\n    {error.remedy}" for error in result.errors.values()]
        raise UserError("\n  - ".join([f"{count}:", *said]), "The others are in the table.")
