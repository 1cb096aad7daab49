"""The command line: parse, load, call one function, say what came out.

Exit status: 0 success; 2 a mistake of the user's (one message on stderr); 1 a fault of ours (a traceback); 128 + n
where signal n stopped a run, after it was saved. With --json the last line of stdout is one JSON object.
"""

import json
import os
import shutil
import sys
import textwrap
import traceback
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from masklater import __version__
from masklater.errors import Interrupted, UserError

app = typer.Typer(
    name="masklater",
    help="Pre-train a text encoder of your own by Mask More and Mask Later (3ML, arXiv 2211.04898).",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object, the last line of stdout.")]


def main() -> None:
    """Run the command line and exit with its status."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers' own bars for saving and loading
    try:
        status = app(standalone_mode=False)
    except UserError as error:
        print(f"masklater: {error}", file=sys.stderr)
        status = 2
    except Interrupted as stop:
        print(f"masklater: {stop}", file=sys.stderr)
        if "--json" in sys.argv:
            print(json.dumps(stop.result))
        status = 128 + stop.signal_number
    except (KeyboardInterrupt, typer.Abort):
        print("masklater: interrupted", file=sys.stderr)
        status = 130
    except typer.Exit as leave:
        status = leave.exit_code
    except BrokenPipeError:
        status = 1
    except Exception as error:
        if hasattr(error, "show") and hasattr(error, "exit_code"):  # what click raises for a malformed call
            error.show()
            status = error.exit_code
        else:
            traceback.print_exc()
            print(f"masklater {__version__}: a fault of ours; please report the lines above", file=sys.stderr)
            status = 1
    sys.exit(status)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def prepare(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="INPUT...", help="Text files (.txt, .jsonl, either .gz) or folders of them.")
    ],
    out: Annotated[Path, typer.Option(help="The SHARDS folder to make.")],
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="A saved tokenizer: a Hugging Face folder, or GPT-2's vocab.json and merges.txt."),
    ] = None,
    train_tokenizer: Annotated[
        Literal["bpe", "wordpiece"] | None, typer.Option(help="Train one on the input [default: bpe].")
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option(min=300, max=2**31 - 1, help="Its entries [default: 32000].")
    ] = None,
    row_length: Annotated[int, typer.Option(min=8, max=65536, help="Tokens a row, <s> and </s> included.")] = 128,
    documents: Annotated[
        Literal["file", "line", "blank-line"], typer.Option(help="What one document is in a .txt file.")
    ] = "file",
    text_field: Annotated[str, typer.Option(help="The field of a .jsonl record that holds the text.")] = "text",
    valid_fraction: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of the documents held out, chosen by a hash of their text.")
    ] = 0.005,
    pack: Annotated[
        Literal["documents", "continuous"],
        typer.Option(help="documents: whole documents, padded rows; continuous: full rows across documents."),
    ] = "documents",
    workers: Annotated[int | None, typer.Option(min=1, help="Tokenising threads [default: all cores].")] = None,
    as_json: AsJson = False,
) -> None:
    """Turn text into SHARDS, rows of token ids that training reads in place.

    \b
    Examples:
      masklater prepare texts/ --out shards
      masklater prepare wiki.jsonl.gz --out shards --train-tokenizer bpe --vocab-size 16000
      masklater prepare corpus.txt --documents blank-line --out shards --tokenizer my-tokenizer
    """
    from masklater.corpus.prepare import PrepareSettings
    from masklater.corpus.prepare import prepare as run

    if tokenizer is not None and (train_tokenizer is not None or vocab_size is not None):
        raise UserError(
            f"--tokenizer {tokenizer} names a ready tokenizer; --train-tokenizer and --vocab-size ask to train one",
            "Keep one of the two.",
        )
    defaults = PrepareSettings()
    result = run(
        inputs,
        out,
        PrepareSettings(
            tokenizer=tokenizer,
            train_tokenizer=train_tokenizer or defaults.train_tokenizer,
            vocab_size=vocab_size or defaults.vocab_size,
            row_length=row_length,
            documents=documents,
            text_field=text_field,
            valid_fraction=valid_fraction,
            pack=pack,
            workers=workers or defaults.workers,
        ),
    )
    read = result.read
    mended = {
        "empty documents left out": read.empty,
        "lines with invalid UTF-8 mended": read.invalid_utf8,
        "NUL characters removed": read.nul,
        "byte-order marks removed": read.bom,
        "long documents passed on in parts": read.cut,
        "tokens left over at the end": result.left_out_tokens,
    }
    lines = {
        "read": f"{read.documents:,} documents, {read.characters / 1e6:,.1f} M characters in {read.files:,} files",
        **{name: f"{count:,}" for name, count in mended.items() if count},
        "tokenizer": f"{result.vocabulary:,} entries",
        "rows": f"{result.train_rows:,} to train on, {result.valid_rows:,} held out, {row_length} positions each",
        "tokens": f"{result.tokens:,}, {result.real_share:.1%} of all positions",
        "speed": f"{result.tokens_per_second:,.0f} tokens/s",
        "peak memory": f"{result.peak_memory_bytes / 2**20:,.0f} MiB",
        "written to": f"{out}",
    }
    if tokenizer is None and result.vocabulary < (vocab_size or defaults.vocab_size):
        lines["tokenizer"] += ", fewer than asked for: the text holds no more"
    _print_result(result, as_json, lambda: _table(lines))


def _print_settings(wanted: bool) -> None:
    if not wanted:
        return
    from masklater.recipe.load import describe, shipped

    rows = [("setting", "default", "meaning"), *describe()]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    indent = sum(widths) + 4
    room = max(40, shutil.get_terminal_size((120, 24)).columns - indent)
    for setting, default, meaning in rows:
        first, *others = textwrap.wrap(meaning, room, break_on_hyphens=False)
        print(f"{setting:<{widths[0]}}  {default:<{widths[1]}}  {first}")
        for line in others:
            print(" " * indent + line)
    print(f"\nshipped recipes: {', '.join(shipped())}")
    raise typer.Exit


@app.command()
def budget(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped recipe.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings that replace the recipe's.")
    ] = None,
    *,
    against: Annotated[str | None, typer.Option(metavar="RECIPE", help="Compare with another recipe.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="SHARDS to take row length, vocabulary and special tokens from.")
    ] = None,
    row_length: Annotated[int, typer.Option(min=8, max=65536, help="Without --data: tokens a row.")] = 128,
    vocab_size: Annotated[int, typer.Option(min=2, help="Without --data: entries of the tokenizer.")] = 50_265,
    gpu: Annotated[str, typer.Option(help="What it runs on: h100, a100, ..., or this (measured).")] = "h100",
    utilisation: Annotated[float, typer.Option(min=0.001, max=1, help="Share of the peak rate that is reached.")] = 0.4,
    watts: Annotated[float | None, typer.Option(min=0, help="Power drawn [default: the board's own].")] = None,
    as_json: AsJson = False,
) -> None:
    """Count what a recipe will cost: FLOPs per part, parameters, memory, time and energy.

    \b
    Examples:
      masklater budget 3ml-base-50 --against roberta-base-15
      masklater budget 3ml-large-50 decoder.num_layers=4 --gpu a100 --utilisation 0.5
      masklater budget my-recipe.yaml --data shards --gpu this --json
    """
    from masklater.pretrain.forecast import Rows, find_hardware, forecast, rows_of
    from masklater.pretrain.forecast_text import against_text, as_text, as_tree, ratios
    from masklater.recipe.load import load

    rows = rows_of(data) if data else Rows(row_length, vocab_size, row_length - 2)
    hardware = find_hardware(gpu)
    power = hardware.watts if watts is None else watts
    one = forecast(load(recipe, overrides or []), rows)
    tree = as_tree(one, recipe, hardware, utilisation, power)
    text = as_text(one, recipe, hardware, utilisation, power)
    if against:
        other = forecast(load(against), rows)
        tree["against"] = as_tree(other, against, hardware, utilisation, power)
        tree["ratios"] = {"executed": ratios(one.row, other.row), "paper": ratios(one.paper, other.paper)}
        text += "\n\n" + against_text(one, other, (recipe, against))
    _print_result(tree, as_json, lambda: text)


@app.command()
def pretrain(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of a shipped recipe.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Settings that replace the recipe's.")
    ] = None,
    *,
    data: Annotated[Path, typer.Option(help="The SHARDS folder.")],
    out: Annotated[Path, typer.Option(help="The RUN folder to make, or to continue.")],
    resume: Annotated[bool, typer.Option("--resume", help="Continue RUN from its newest checkpoint.")] = False,
    settings: Annotated[
        bool,
        typer.Option(
            "--settings", callback=_print_settings, is_eager=True, help="List every setting of a recipe, then exit."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Pre-train an encoder on SHARDS.

    Ctrl-C or SIGTERM saves a checkpoint and leaves; --resume goes on exactly where the run stood.

    \b
    Examples:
      masklater pretrain 3ml-small --data shards --out run
      masklater pretrain 3ml-small duration.hours=0.5 optimizer.lr=5e-4 --data shards --out run
      masklater pretrain my-recipe.yaml --data shards --out run --resume
    """
    from masklater.recipe.load import load

    loaded = load(recipe, overrides or [])
    from masklater.pretrain.loop import pretrain as run

    result = run(loaded, data, out, resume)
    lines = {
        "run": f"{result.run}, {result.steps:,} steps, {result.rows:,} rows, {result.tokens:,} tokens",
        "compute": f"{result.flops:.3g} FLOPs in {result.seconds:,.0f} s, {result.rows_per_second:,.1f} rows/s",
    }
    if result.utilisation is not None:
        lines["of the peak rate"] = (
            f"{result.utilisation:.1%}; {result.utilisation_vanilla_equivalent:.1%} counted as vanilla MLM at 15%"
        )
    if result.valid_loss is not None:
        lines["held out, own masking"] = f"loss {result.valid_loss:.4f} nats, accuracy {result.valid_accuracy:.2%}"
        lines["held out, 15% [MASK]"] = f"loss {result.valid_loss_15:.4f} nats, accuracy {result.valid_accuracy_15:.2%}"
    _print_result(result, as_json, lambda: _table(lines))


@app.command()
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
    from masklater.pretrain.run import RunFolder

    folder = RunFolder(run)
    model, step = folder.load_model()
    parameters = export_encoder(model, folder.tokenizer, out)
    result = {"run": str(run), "step": step, "encoder": str(out), "parameters": parameters}
    _print_result(
        result,
        as_json,
        lambda: f"The encoder of step {step:,} ({parameters / 1e6:.1f} M parameters) is in {out}; AutoModel loads it.",
    )


@app.command()
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
    from masklater.pretrain.run import RunFolder

    folder = RunFolder(run)
    model, step = folder.load_model()
    tokenizer = AutoTokenizer.from_pretrained(folder.tokenizer, local_files_only=True)
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

    _print_result(result, as_json, table)


@app.command()
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
    """Set runs side by side: loss, accuracy and GLUE over compute, and where each reaches the baseline's quality.

    REPORT holds index.html (one file, to send to a colleague), report.md, report.json and the plots.

    \b
    Examples:
      masklater compare run-vanilla run-3ml --out report
      masklater compare runs/* --baseline runs/vanilla --x hours --out report
      masklater compare run-vanilla run-3ml --scores scores-vanilla --scores scores-3ml --out report
    """
    from masklater.report.compare import compare as run
    from masklater.report.document import as_text

    document, figures = run(runs, out, x, baseline, scores or [])
    _print_result(figures, as_json, lambda: f"{as_text(document)}\n\nThe report is in {out}; open {out}/index.html.")


@app.command()
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
    _print_result(result, as_json, lambda: summary(result))


def _print_result(result: Any, as_json: bool, text: Callable[[], str]) -> None:
    if as_json:
        tree = asdict(result) if is_dataclass(result) and not isinstance(result, type) else result
        print(json.dumps(tree, default=str))
    else:
        print(text())


def _table(lines: dict[str, str]) -> str:
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines.items())
