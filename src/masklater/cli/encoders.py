"""`export`, `fill` and `quickstart`: what came out of a run."""

from pathlib import Path
from typing import Annotated

import typer

from masklater.cli.app import AsJson, print_result


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run with at least one checkpoint.")],
    out: Annotated[Path, typer.Option(help="The ENCODER folder to make.")],
    as_json: AsJson = False,
) -> None:
    """Write a run's encoder as a plain Hugging Face folder.

    \b
    Examples:
      masklater export run --out encoder
      python -c "from transformers import AutoModel; print(AutoModel.from_pretrained('encoder'))"
    """
    from masklater.folders import refuse_existing

    refuse_existing(out)
    from masklater.model.export import export_encoder
    from masklater.run.folder import RunFolder

    folder = RunFolder(run)
    model, step = folder.load_model()
    parameters = export_encoder(model, folder.tokenizer, out)
    result = {"run": str(run), "step": step, "encoder": str(out), "parameters": parameters}
    print_result(
        result,
        as_json,
        lambda: (
            f"The encoder of step {step:,} ({parameters / 1e6:.1f} M parameters) is in {out}; AutoModel loads it.\n"
            "It has no pooler, as pre-training trains none: where a task needs one, transformers makes a fresh one."
        ),
    )


def fill(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run with at least one checkpoint.")],
    text: Annotated[str, typer.Argument(metavar="TEXT", help='Text with masks in it: "The <mask> is ..."')],
    top: Annotated[int, typer.Option(min=1, help="Candidates for each mask.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Show what a run puts in the place of each mask.

    \b
    Examples:
      masklater fill run "The <mask> of the function is a list."
      masklater fill run "Paris is the <mask> of <mask>." --top 10 --json
    """
    from transformers import AutoTokenizer

    from masklater.model.fill import fill_masks
    from masklater.run.folder import RunFolder

    folder = RunFolder(run)
    model, step = folder.load_model()
    tokenizer = AutoTokenizer.from_pretrained(folder.tokenizer, local_files_only=True, trust_remote_code=False)
    masks = fill_masks(model, tokenizer, text, top)
    result = {
        "run": str(run),
        "step": step,
        "text": text,
        "masks": [[guess._asdict() for guess in best] for best in masks],
    }

    def table() -> str:
        blocks = []
        for number, best in enumerate(masks, start=1):
            blocks.append(f"mask {number}")
            blocks += [f"  {guess.probability:6.1%}  {guess.token!r}" for guess in best]
        return "\n".join(blocks)

    print_result(result, as_json, table)


def quickstart(
    out: Annotated[Path, typer.Option(help="The folder to make.")] = Path("masklater-quickstart"),
    as_json: AsJson = False,
) -> None:
    """The whole main job in a few minutes, on text found on this machine: the documentation of Python packages.

    \b
    Examples:
      masklater quickstart
      masklater quickstart --out somewhere-else
    """
    from masklater.quickstart.main_job import quickstart as run
    from masklater.quickstart.main_job import summary

    result = run(out)
    print_result(result, as_json, lambda: summary(result))
