"""`export`: a run's encoder as a plain Hugging Face folder, or a masked LM with its head."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklater.cli.app import AsJson, print_result

if TYPE_CHECKING:
    from masklater.recipe.sections import DecoderSettings


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run with at least one checkpoint.")],
    out: Annotated[Path, typer.Option(help="The ENCODER folder to make.")],
    with_head: Annotated[
        bool,
        typer.Option(
            "--with-head",
            help="Write a masked LM, for AutoModelForMaskedLM, fill-mask and a next model.from: transformers' own "
            "class where [MASK]s are in the encoder (decoder.kind none, late), else a MaskLaterForMaskedLM.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a run's encoder as a plain Hugging Face folder, or with its LM head as a masked LM.

    \b
    Examples:
      masklater export run --out encoder
      masklater export run --out masked-lm --with-head
      python -c "from transformers import AutoModel; print(AutoModel.from_pretrained('encoder'))"
    """
    from masklater.folders import refuse_existing

    refuse_existing(out)
    from masklater.model.export import export_encoder, export_masked_lm
    from masklater.run.folder import RunFolder

    folder = RunFolder(run)
    model, step = folder.load_model()
    pooler = folder.load_pooler()
    if with_head:
        kind, parameters = export_masked_lm(model, folder.tokenizer, out, pooler)
    else:
        kind = type(model.encoder).__name__
        parameters = export_encoder(model, folder.tokenizer, out, pooler)
    result = {
        "run": str(run), "step": step, "encoder": str(out), "class": kind, "parameters": parameters,
        "pooler": pooler is not None,
    }  # fmt: skip
    size = f"of step {step:,} ({kind}, {parameters / 1e6:.1f} M parameters) is in {out}"
    lines = _about_masked_lm(model.config.decoder, out, size) if with_head else _about_encoder(size)
    print_result(result, as_json, lambda: "\n".join([*lines, _about_pooler(pooler is not None)]))


def _about_encoder(size: str) -> list[str]:
    return [
        f"The encoder {size}; AutoModel loads it.",
        "It has no LM head: fill-mask with it guesses at random, and needs `export --with-head` or `masklater fill`.",
    ]


def _about_masked_lm(decoder: "DecoderSettings", out: Path, size: str) -> list[str]:
    if decoder.has_layers:
        return [
            f'The masked LM {size}; AutoModelForMaskedLM and pipeline("fill-mask") load it after `import masklater`.',
            f"The encoder alone, which never saw a [MASK], is in {out}/encoder; AutoModel loads it without.",
        ]
    lines = [f'The masked LM {size}; AutoModelForMaskedLM and pipeline("fill-mask") load it, AutoModel its encoder.']
    if decoder.drops:
        lines.append(
            f"Its [MASK]s were trained from layer {decoder.enter_layer} on: the layers below have never seen one, and "
            "here they do, so that it fills masks worse than the run itself (`masklater fill`)."
        )
    return lines


def _about_pooler(has_pooler: bool) -> str:
    if has_pooler:
        return "Its pooler is that of the model it started from, unchanged: pre-training trains none."
    return "It has no pooler, as pre-training trains none: where a task needs one, transformers makes a fresh one."
