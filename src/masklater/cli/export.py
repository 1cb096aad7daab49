"""`export`: a run's encoder as a plain Hugging Face folder."""

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
