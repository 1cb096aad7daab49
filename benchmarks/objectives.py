"""Every objective for 300 steps on the same rows: do all of them train, and what does each cost?

    python benchmarks/objectives.py wikipedia_en.jsonl --out objectives

Prepares SHARDS from the text once, then pre-trains one small encoder for each shipped recipe. A finished run is left as
it is and an interrupted one continues, so the command can be repeated. Losses at different masking can be compared in
the column of 15% [MASK] only. Three hundred steps rank nothing: they show that each objective trains, and what a row of
it costs.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from masklater.console import say
from masklater.corpus.prepare import prepare
from masklater.corpus.settings import PrepareSettings
from masklater.errors import Interrupted, UserError
from masklater.pretrain.loop import PretrainResult, pretrain
from masklater.recipe.load import load

OBJECTIVES = (
    "vanilla-small", "vanilla-40-small", "vanilla-predict-half-small", "vanilla-dynamic-small", "3ml-small",
    "3ml-cross-small", "3ml-cross-only-small", "3ml-narrow-small", "3ml-word-mask-small", "3ml-two-flows-small",
    "3ml-stepwise-small", "3ml-whole-word-small", "3ml-span-small", "mae-lm-small", "late-entry-small",
)  # fmt: skip
CPU_SIZE = (
    "model.hidden_size=128", "model.intermediate_size=512", "model.dropout=0", "batch.rows=16", "batch.micro_rows=16",
    "optimizer.name=muon", "optimizer.lr=0.02", "optimizer.adamw_lr=0.01", "schedule.name=wsd", "schedule.decay=0.4",
    "evaluation.rows=256", "evaluation.every_steps=300", "checkpoint.keep=1", "precision=float32",
)  # fmt: skip
"""The size that learns fastest on two cores (docs/log.md, choosing the quickstart's recipe)."""


def run_one(name: str, steps: int, data: Path, out: Path) -> PretrainResult:
    """Make one run, or the rest of it."""
    overrides = [*CPU_SIZE, f"duration.steps={steps}"]
    if name == "3ml-narrow-small":
        overrides.append("decoder.hidden_size=64")
    return pretrain(load(name, overrides), data, out, resume=(out / "run.json").exists())


def table(results: dict[str, PretrainResult]) -> str:
    """Return the results as Markdown."""
    lines = [
        "| recipe | GFLOPs a row | rows/s | training loss | held out, own masking | held out, 15% [MASK] | accuracy |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, r in results.items():
        training = "" if r.loss is None else f"{r.loss:.3f}"  # a run that was already finished made no step
        lines.append(
            f"| {name} | {r.flops / r.rows / 1e9:.2f} | {r.rows_per_second:.0f} | {training} | {r.valid_loss:.3f} | "
            f"{r.valid_loss_15:.3f} | {r.valid_accuracy_15:.1%} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Run all objectives; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="a .jsonl or .txt file, or a folder of them")
    parser.add_argument("--out", type=Path, required=True, help="where shards and runs go")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--recipes", nargs="+", default=OBJECTIVES, help="shipped recipes, or files")
    parser.add_argument("--vocab-size", type=int, default=4096)
    arguments = parser.parse_args()
    out: Path = arguments.out
    try:
        if not (out / "shards" / "index.json").exists():
            prepare(
                [arguments.text], out / "shards", PrepareSettings(vocab_size=arguments.vocab_size, pack="continuous")
            )
        results: dict[str, PretrainResult] = {}
        for number, name in enumerate(arguments.recipes, start=1):
            record = out / f"{name}.json"
            if record.exists():
                results[name] = PretrainResult(**json.loads(record.read_text()))
                continue
            say(f"{number}/{len(arguments.recipes)}  {name}")
            results[name] = run_one(name, arguments.steps, out / "shards", out / name)
            record.write_text(json.dumps(asdict(results[name])))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return 128 + stop.signal_number
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
