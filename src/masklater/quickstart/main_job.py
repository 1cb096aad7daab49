"""The main job from end to end: text -> SHARDS -> RUN -> ENCODER, and a look at what it has learned."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from masklater.console import clock, say
from masklater.corpus.prepare import prepare
from masklater.corpus.settings import DocumentUnit, PrepareSettings, available_cores
from masklater.corpus.shards import Shards
from masklater.corpus.show import visible
from masklater.errors import Interrupted, UserError
from masklater.folders import begun_folder
from masklater.quickstart.docstrings import find_sources, gather
from masklater.quickstart.own_text import choose_documents, prompts_of
from masklater.recipe.load import load as load_recipe
from masklater.recipe.recipe import Recipe

PROMPTS = (
    "Return a <mask> of the elements in the list.",
    "If True, the <mask> is computed along the given axis.",
    "Raises a ValueError if the <mask> is not valid.",
)


PREPARED: dict[str, Any] = {"pack": "continuous", "valid_fraction": 0.02}
"""The settings of prepare, except how text is cut into documents; the next command has the same."""
NEXT_VOCABULARY = 16_000

MEANING = {"line": "a document a line", "blank-line": "documents between blank lines"}


@dataclass(frozen=True)
class QuickstartResult:
    """The figures of the quickstart, and those to compare them with."""

    out: str
    text: str  # the user's own, or the gathered text
    characters: int
    rows: int
    steps: int
    rows_per_second: float
    learning_seconds: float
    valid_loss: float  # of masked tokens, under the recipe's own corruption
    valid_accuracy: float
    unigram_loss: float  # of the same tokens
    unigram_accuracy: float
    valid_loss_15: float  # the same two under 15% [MASK]
    valid_accuracy_15: float
    unigram_loss_15: float
    unigram_accuracy_15: float
    fills: dict[str, list[str]]
    seconds: float
    stood_there: dict[str, str] = field(default_factory=dict)  # by prompt, the masked word, where it was text
    documents: DocumentUnit = "file"  # what counted as one document


def quickstart(
    out: Path,
    sources: list[Path] | None = None,
    overrides: Sequence[str] = (),
    vocab_size: int = 4096,
    text: Path | None = None,
) -> QuickstartResult:
    """Run the whole main job inside a new folder.

    Args:
        out: The folder to make.
        sources: Python files to take the text from; None: all installed ones.
        overrides: Settings that replace those of the shipped recipe `quickstart`.
        vocab_size: Vocabulary size of the tokenizer that is trained.
        text: A file or folder of text to use instead of the documentation in Python files.

    Raises:
        UserError: The folder exists, the disk refuses it, or there is no text, or too little.
        Interrupted: SIGINT or SIGTERM while training; as after any other failure, the folder is removed.
    """
    unit = None if text is None else choose_documents(text)  # before any folder is made
    try:
        with begun_folder(out):
            if text is None or unit is None:
                text, unit = out / "docstrings.jsonl", None
                say("1/5  text: docstrings of the installed Python packages")
                gathered = gather(text, find_sources() if sources is None else sources, available_cores())
                if not gathered.characters:
                    message = "no documentation was found in the installed packages"
                    raise UserError(message, "Were they stripped (python -OO)?")
            else:
                say(f"1/5  text: {text}" + (f", {MEANING[unit]}" if unit != "file" else ""))
            return _main_job(out, text, unit, overrides, vocab_size)
    except Interrupted as stop:  # the run was saved, but nothing will continue it
        message = f"stopped before its end; nothing is left of {out}"
        raise Interrupted(stop.signal_number, message, {"out": str(out), "finished": False}) from None


def _main_job(
    out: Path, text: Path, unit: DocumentUnit | None, overrides: Sequence[str], vocab_size: int
) -> QuickstartResult:
    """Run the job on a text; `unit` is None where the text was gathered here."""
    began = time.monotonic()
    say("2/5  prepare: tokenizer and shards")
    settings = PrepareSettings(vocab_size=vocab_size, documents=unit or "file", **PREPARED)
    prepared = prepare([text], out / "shards", settings)
    stood_there = {} if unit is None else prompts_of(Shards(out / "shards"))

    say("3/5  pretrain: Mask More and Mask Later")
    from masklater.pretrain.loop import pretrain

    recipe = load_recipe("quickstart", overrides)
    result = pretrain(recipe, out / "shards", out / "run")

    say("4/5  export, and load it back with AutoModel")
    fills = _export_and_fill(out, tuple(stood_there) or PROMPTS)

    say("5/5  compare with the unigram baseline")
    unigram_loss, unigram_accuracy = _unigram_score(out, recipe)
    values = (
        result.valid_loss,
        result.valid_accuracy,
        result.valid_loss_15,
        result.valid_accuracy_15,
        result.unigram_loss_15,
        result.unigram_accuracy_15,
    )
    loss, accuracy, loss_15, accuracy_15, unigram_loss_15, unigram_accuracy_15 = (
        float("nan") if value is None else value for value in values
    )
    quick = QuickstartResult(
        out=str(out),
        text=str(text),
        characters=prepared.read.characters,
        rows=result.rows,
        steps=result.steps,
        rows_per_second=result.rows_per_second,
        learning_seconds=result.seconds,
        valid_loss=loss,
        valid_accuracy=accuracy,
        unigram_loss=unigram_loss,
        unigram_accuracy=unigram_accuracy,
        valid_loss_15=loss_15,
        valid_accuracy_15=accuracy_15,
        unigram_loss_15=unigram_loss_15,
        unigram_accuracy_15=unigram_accuracy_15,
        fills=fills,
        seconds=time.monotonic() - began,
        stood_there=stood_there,
        documents=settings.documents,
    )
    _plot(out, quick, "Python documentation" if unit is None else text.resolve().name)
    return quick


def summary(quick: QuickstartResult) -> str:
    """Return the last output of the quickstart, for a person."""
    out = quick.out

    def compared(name: str, loss: float, accuracy: float, unigram_loss: float, unigram_accuracy: float) -> list[str]:
        return [
            f"{name:<22}{'loss (nats)':>14}{'accuracy':>12}",
            f"  {'this encoder':<20}{loss:>14.3f}{accuracy:>12.1%}",
            f"  {'unigram baseline':<20}{unigram_loss:>14.3f}{unigram_accuracy:>12.1%}",
            f"  {'better by':<20}{unigram_loss - loss:>14.3f}{accuracy / max(unigram_accuracy, 1e-9):>11.1f}x",
        ]

    lines = ["", "Masked tokens of held-out text"]
    lines += compared(
        "as trained (50%)", quick.valid_loss, quick.valid_accuracy, quick.unigram_loss, quick.unigram_accuracy
    )
    lines += compared(
        "15% [MASK]", quick.valid_loss_15, quick.valid_accuracy_15, quick.unigram_loss_15, quick.unigram_accuracy_15
    )
    lines += ["", "What it puts in the place of <mask>"]
    for prompt, words in quick.fills.items():
        was = f"   (the text has: {_shown(quick.stood_there[prompt])})" if prompt in quick.stood_there else ""
        lines.append(f"  {''.join(map(visible, prompt))}\n      {', '.join(map(_shown, words))}{was}")
    lines += [
        "",
        f"{_characters(quick.characters)} read; {quick.rows:,} rows trained on in {quick.steps:,} steps and "
        f"{clock(quick.learning_seconds)} ({quick.rows_per_second:,.0f} rows/s); {clock(quick.seconds)} in all",
        "",
        f"  {quick.text}  the text",
        f"  {out}/shards            rows of token ids, and the tokenizer",
        f"  {out}/run               recipe, metrics and checkpoints",
        f"  {out}/encoder           the encoder: AutoModel.from_pretrained('{out}/encoder')",
        f"  {out}/loss.png          the loss over rows",
        "",
        "Next, the same at a size of your choice:",
        *(f"  {command}" for command in next_commands(quick.text, quick.documents)),
    ]
    return "\n".join(lines)


def next_commands(text: str, documents: str = "file") -> list[str]:
    """Return the three commands that come after the quickstart, for the same text and documents."""
    settings = {"vocab_size": NEXT_VOCABULARY, "documents": documents, **PREPARED}
    options = [
        f"--{name.replace('_', '-')} {value}"
        for name, value in settings.items()
        if value != getattr(PrepareSettings(), name)
    ]
    return [
        f"masklater prepare {shlex.quote(text)} --out shards {' '.join(options)}",
        "masklater pretrain 3ml-muon-causal-first-small duration.hours=1 --data shards --out run",
        "masklater export run --out encoder",
    ]


def _characters(number: int) -> str:
    return f"{number / 1e6:.1f} M characters" if number >= 1e6 else f"{number:,} characters"


def _shown(token: str) -> str:
    """Return a token for a list of words: without the space before it, and visible where it is only space."""
    return "".join(map(visible, token.strip())) or repr(token)


def _export_and_fill(out: Path, prompts: Sequence[str]) -> dict[str, list[str]]:
    from transformers import AutoModel, AutoTokenizer

    from masklater.model.export import export_encoder
    from masklater.model.fill import fill_masks
    from masklater.run.folder import RunFolder

    run = RunFolder(out / "run")
    model, _ = run.load_model()
    export_encoder(model, run.tokenizer, out / "encoder")
    encoder = AutoModel.from_pretrained(out / "encoder", trust_remote_code=False)
    tokenizer = AutoTokenizer.from_pretrained(out / "encoder", trust_remote_code=False)
    hidden = encoder(**tokenizer("It loads.", return_tensors="pt")).last_hidden_state
    say(f"{type(encoder).__name__} gives hidden states of shape {tuple(hidden.shape)}")
    return {prompt: [guess.token for guess in fill_masks(model, tokenizer, prompt, 5)[0]] for prompt in prompts}


def _unigram_score(out: Path, recipe: Recipe) -> tuple[float, float]:
    from masklater.pretrain.batches import EVALUATION_SEED, make_batches
    from masklater.pretrain.evaluate import unigram_baseline

    shards, masking, attend = Shards(out / "shards"), recipe.masking, recipe.batch.attend
    training = make_batches(shards, shards.train, masking, True, attend, recipe.seed)
    held_out = make_batches(shards, shards.valid, masking, True, attend, EVALUATION_SEED)
    fixed = held_out.fixed(recipe.evaluation.rows, recipe.batch.pass_of(recipe.batch.rows))
    baseline = unigram_baseline(training, fixed)
    return baseline.loss, baseline.accuracy


def _plot(out: Path, quick: QuickstartResult, text: str) -> None:
    from masklater.report.plots import plot_losses
    from masklater.run.metrics import read_metrics

    plot_losses(
        read_metrics(out / "run" / "metrics.jsonl"),
        {"unigram baseline": quick.unigram_loss},
        out / "loss.png",
        f"3ML on {_characters(quick.characters)} of {text}",
    )
