"""`compare`: runs side by side."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from masklater.cli.app import AsJson, print_result


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Runs on the same SHARDS.")],
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

    document, figures = run(runs, out, x, baseline, scores or [], _hash_of)
    print_result(figures, as_json, lambda: f"{as_text(document)}\n\nThe report is in {out}; open {out}/index.html.")


def _hash_of(folder: Path) -> str:
    """Hash an encoder as `judge` does. The code that loads encoders is imported only when one is needed."""
    from masklater.judge.encoder import hash_folder

    return hash_folder(folder)
