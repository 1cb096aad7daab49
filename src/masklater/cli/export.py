"""`export`: a run's encoder as a plain Hugging Face folder, or a masked LM with its head."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masklater.cli.app import AsJson, print_result
from masklater.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from masklater.model.masked_lm import MaskLaterForMaskedLM
    from masklater.recipe.sections import DecoderSettings
    from masklater.run.folder import RunFolder


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
    license_: Annotated[
        str | None,
        typer.Option(
            "--license",
            metavar="ID",
            help="The licence that the model card names, by the hub's identifier: apache-2.0, cc-by-sa-4.0, other ...",
        ),
    ] = None,
    scores: Annotated[
        list[Path] | None,
        typer.Option(help="A SCORES folder for the model card, beside RUN/scores; several times for several."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a run's encoder as a plain Hugging Face folder, or with its LM head as a masked LM.

    A model card, README.md, stands in it: what it is, its data, recipe, cost, losses and scores.

    \b
    Examples:
      masklater export run --out encoder
      masklater export run --out masked-lm --with-head
      masklater export run --out encoder --license cc-by-sa-4.0 --scores scores
      python -c "from transformers import AutoModel; print(AutoModel.from_pretrained('encoder'))"
    """
    from masklater.folders import complete_folder, refuse_existing

    refuse_existing(out)
    check_license(license_)
    from masklater.console import say
    from masklater.model.export import export_encoder, export_masked_lm
    from masklater.model.positions import encoder_tables
    from masklater.report.card import model_card
    from masklater.report.origin import Exported, read_origin, scores_of
    from masklater.run.folder import RunFolder

    folder = RunFolder(run)
    checkpoint = folder.open_newest()
    model, pooler, step = folder.model_of(checkpoint), folder.load_pooler(), checkpoint.ledger.steps
    trained = checkpoint.progress.row_length
    origin, gone = read_origin(run, checkpoint.ledger, checkpoint.progress.phase)
    with complete_folder(out) as partial:
        if with_head:
            kind, parameters = export_masked_lm(model, folder.tokenizer, partial, pooler, trained)
        else:
            kind = type(model.encoder).__name__
            parameters = export_encoder(model, folder.tokenizer, partial, pooler, trained)
        hashes: set[str] = set()
        if scores or (run / "scores").is_dir():  # without scores there is no need to read weights
            hashes = _hashes_of(partial, with_head, folder, model, pooler, trained)
        found, pairs, left_out = scores_of(run, step, hashes, scores or [])
        exported = Exported(out.resolve().name, kind, parameters, with_head, pooler is not None, license_)
        (partial / "README.md").write_text(model_card(exported, origin, found, pairs), encoding="utf-8")
    for note in [*gone, *left_out]:
        say(f"not in the model card: {note}")
    result = {
        "run": str(run), "step": step, "encoder": str(out), "class": kind, "parameters": parameters,
        "pooler": pooler is not None, "license": license_, "scores": len(found),
    }  # fmt: skip
    size = f"of step {step:,} ({kind}, {parameters / 1e6:.1f} M parameters) is in {out}"
    lines = _about_masked_lm(model.config.decoder, out, size) if with_head else _about_encoder(size)
    room = max((table.room for table in encoder_tables(model)), default=0)
    lines += _about_positions(trained or room, room)
    lines += [_about_pooler(pooler is not None), _about_card(out, license_)]
    print_result(result, as_json, lambda: "\n".join(lines))


def check_license(identifier: str | None) -> None:
    """Raise UserError where a licence is not written as the hub's identifiers are."""
    if identifier is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", identifier):
        raise UserError(
            f"--license {identifier!r} is none of the hub's identifiers, which are in small letters without spaces",
            "Write it as in apache-2.0, mit, cc-by-sa-4.0, or other.",
        )


def _hashes_of(
    written: Path,
    has_head: bool,
    run: "RunFolder",
    model: "MaskLaterForMaskedLM",
    pooler: "dict[str, Tensor] | None",
    trained: int | None,
) -> set[str]:
    """Return the hashes by which SCORES may name what was written, or the encoder in it as `judge` exports it."""
    from masklater.judge.encoder import hash_folder, hash_of_export
    from masklater.model.saved import ENCODER

    hashes = {hash_folder(each) for each in (written, written / ENCODER) if each.is_dir()}
    if has_head and not (written / ENCODER).is_dir():
        hashes.add(hash_of_export(model, run.tokenizer, pooler, trained, written))
    return hashes


def _about_card(out: Path, identifier: str | None) -> str:
    card = f"Its model card is {out / 'README.md'}: read it before you publish it"
    return f"{card}." if identifier else f"{card}; it names no licence (--license)."


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


def _about_positions(trained: int, room: int) -> list[str]:
    if trained >= room:
        return []
    return [
        f"Its positions from {trained:,} on, which no row has trained, are copies of the {trained:,} before; its "
        "tokenizer cuts rows at that."
    ]


def _about_pooler(has_pooler: bool) -> str:
    if has_pooler:
        return "Its pooler is that of the model it started from, unchanged: pre-training trains none."
    return "It has no pooler, as pre-training trains none: where a task needs one, transformers makes a fresh one."
