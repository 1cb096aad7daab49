"""The main job from end to end: text -> SHARDS -> RUN -> ENCODER, and a look at what it has learned."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from masklater.console import clock, say
from masklater.corpus.prepare import prepare
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.shards import Shards
from masklater.errors import Interrupted, UserError
from masklater.folders import begun_folder
from masklater.quickstart.docstrings import find_sources, gather
from masklater.recipe.load import Recipe
from masklater.recipe.load import load as load_recipe

PROMPTS = (
    "Return a <mask> of the elements in the list.",
    "If True, the <mask> is computed along the given axis.",
    "Raises a ValueError if the <mask> is not valid.",
)


@dataclass(frozen=True)
class QuickstartResult:
    """The figures that came out, and those they are to be compared with."""

    out: str
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


def quickstart(
    out: Path, sources: list[Path] | None = None, overrides: Sequence[str] = (), vocab_size: int = 4096
) -> QuickstartResult:
    """Run the whole main job inside a new folder.

    Args:
        out: The folder to make.
        sources: Python files to take the text from; all that are installed, where none are given.
        overrides: Settings that replace those of the shipped recipe `quickstart`.
        vocab_size: Of the tokenizer that is trained.

    Raises:
        UserError: The folder exists, or the disk does not take it.
        Interrupted: SIGINT or SIGTERM while training; as after any other failure, the folder is gone.
    """
    try:
        with begun_folder(out):
            return _main_job(out, find_sources() if sources is None else sources, overrides, vocab_size)
    except Interrupted as stop:  # the run was saved, but nothing would go on with it
        message = f"stopped before its end; nothing is left of {out}"
        raise Interrupted(stop.signal_number, message, {"out": str(out), "finished": False}) from None


def _main_job(out: Path, sources: list[Path], overrides: Sequence[str], vocab_size: int) -> QuickstartResult:
    began = time.monotonic()
    say("1/5  text: docstrings of the installed Python packages")
    gathered = gather(out / "docstrings.jsonl", sources, os.cpu_count() or 1)
    if not gathered.characters:
        raise UserError("no documentation was found in the installed packages", "Were they stripped (python -OO)?")

    say("2/5  prepare: tokenizer and shards")
    settings = PrepareSettings(vocab_size=vocab_size, pack="continuous", valid_fraction=0.02)
    prepare([out / "docstrings.jsonl"], out / "shards", settings)

    say("3/5  pretrain: Mask More and Mask Later")
    from masklater.pretrain.loop import pretrain

    recipe = load_recipe("quickstart", overrides)
    result = pretrain(recipe, out / "shards", out / "run")

    say("4/5  export, and load it back with AutoModel")
    fills = _export_and_fill(out)

    say("5/5  compare with the unigram baseline")
    own, common = _unigram_scores(out, recipe)
    values = (result.valid_loss, result.valid_accuracy, result.valid_loss_15, result.valid_accuracy_15)
    loss, accuracy, loss_15, accuracy_15 = (float("nan") if value is None else value for value in values)
    quick = QuickstartResult(
        out=str(out),
        characters=gathered.characters,
        rows=result.rows,
        steps=result.steps,
        rows_per_second=result.rows_per_second,
        learning_seconds=result.seconds,
        valid_loss=loss,
        valid_accuracy=accuracy,
        unigram_loss=own[0],
        unigram_accuracy=own[1],
        valid_loss_15=loss_15,
        valid_accuracy_15=accuracy_15,
        unigram_loss_15=common[0],
        unigram_accuracy_15=common[1],
        fills=fills,
        seconds=time.monotonic() - began,
    )
    _plot(out, quick)
    return quick


def summary(quick: QuickstartResult) -> str:
    """The end of the quickstart, for a person."""
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
    lines += [f"  {prompt}\n      {', '.join(map(_shown, words))}" for prompt, words in quick.fills.items()]
    lines += [
        "",
        f"{quick.characters / 1e6:.1f} M characters read; {quick.rows:,} rows trained on in {quick.steps:,} steps and "
        f"{clock(quick.learning_seconds)} ({quick.rows_per_second:,.0f} rows/s); {clock(quick.seconds)} in all",
        "",
        f"  {out}/docstrings.jsonl  the text",
        f"  {out}/shards            rows of token ids, and the tokenizer",
        f"  {out}/run               recipe, metrics and checkpoints",
        f"  {out}/encoder           the encoder: AutoModel.from_pretrained('{out}/encoder')",
        f"  {out}/loss.png          the loss over rows",
    ]
    return "\n".join(lines)


def _shown(token: str) -> str:
    """A token in a list of words: without the space before it, and visible where it is nothing but space."""
    return token.strip() or repr(token)


def _export_and_fill(out: Path) -> dict[str, list[str]]:
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
    return {prompt: [guess.token for guess in fill_masks(model, tokenizer, prompt, 5)[0]] for prompt in PROMPTS}


def _unigram_scores(out: Path, recipe: Recipe) -> tuple[tuple[float, float], tuple[float, float]]:
    from masklater.pretrain.batches import EVALUATION_SEED, make_batches
    from masklater.pretrain.evaluate import unigram_baseline
    from masklater.recipe.sections import COMMON_CORRUPTION, MaskingSettings

    shards = Shards(out / "shards")

    def score(masking: MaskingSettings) -> tuple[float, float]:
        batches = make_batches(shards, shards.valid, masking, True, recipe.batch.attend, EVALUATION_SEED)
        fixed = batches.fixed(recipe.evaluation.rows, recipe.batch.pass_of(recipe.batch.rows))
        baseline = unigram_baseline(shards.train, shards.vocabulary.size, fixed)
        return baseline.loss, baseline.accuracy

    return score(recipe.masking), score(COMMON_CORRUPTION)


def _plot(out: Path, quick: QuickstartResult) -> None:
    from masklater.report.plots import plot_losses
    from masklater.run.metrics import read_metrics

    plot_losses(
        read_metrics(out / "run" / "metrics.jsonl"),
        {"unigram baseline": quick.unigram_loss},
        out / "loss.png",
        f"3ML on {quick.characters / 1e6:.0f} M characters of Python documentation",
    )
