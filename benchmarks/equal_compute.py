"""3ML and vanilla MLM at equal compute, judged by GLUE: the paper's question, at a size that fits one machine.

    python benchmarks/equal_compute.py --size cpu --text TEXT --glue GLUE --subsets GLUE_SUBSETS --out equal
    python benchmarks/equal_compute.py --size cpu --text TEXT --seed 1 --out equal-1      # pre-training and pairs alone

Six pre-training runs of one encoder shape on the same rows. Each spends the FLOPs (LM head included) that vanilla MLM
at 15% spends on a fixed number of rows; 3ML is run at 78% of them too. Each encoder, and one with random weights, is
fine-tuned on GLUE; each run tells minimal pairs apart (pairs.py); `masklater compare` writes the report. Sizes stand in
equal_compute.yaml. What is finished is kept: given again, the command goes on where it was; --minutes makes it stop in
order after so long.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from pairs import make_pairs

from masklater.budget.forecast import forecast, rows_of
from masklater.console import say
from masklater.corpus.prepare import PrepareSettings, prepare
from masklater.errors import Interrupted, UserError
from masklater.folders import complete_folder
from masklater.glue.blimp import score_pairs
from masklater.glue.grid import SweepSettings, make_grid
from masklater.glue.sweep import sweep
from masklater.glue.tasks import choose_tasks
from masklater.machine.signals import StopOnSignal
from masklater.model.export import export_encoder
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.loop import pretrain
from masklater.recipe.load import Recipe, load
from masklater.report.compare import compare
from masklater.run.folder import RunFolder
from masklater.seeds import derive_seed

SUBSETS = ("MNLI", "QNLI", "QQP")
PAPERS_SHARE = 0.78
HELD_OUT = 0.01
PAIRS_OF_A_KIND = 1000
MOST_KINDS = 4
"""Of minimal pairs, to have columns of their own."""
RANDOM = "random"
"""The arm that is not trained: what fine-tuning makes of random weights."""


@dataclass(frozen=True)
class Arm:
    """One pre-training run."""

    name: str
    recipe: str
    overrides: tuple[str, ...] = ()
    share: float = 1.0  # of the baseline's FLOPs


@dataclass(frozen=True)
class Plan:
    """What all arms share."""

    shards: Path
    glue: Path | None  # None: nothing is fine-tuned
    pairs: Path  # minimal pairs
    out: Path
    seed: int  # of pre-training
    at_once: int  # arms side by side


def arms_of(layers: int) -> list[Arm]:
    """What is compared; the baseline is first."""
    return [
        Arm("vanilla-15", "vanilla-small"),
        Arm("vanilla-40", "vanilla-40-small"),
        Arm("3ml-self-50", "3ml-small"),
        Arm("3ml-cross-50", "3ml-cross-small"),
        Arm("late-50", "late-entry-small", (f"decoder.enter_layer={round(layers * 2 / 3)}",)),
        Arm("3ml-self-50-at-78%", "3ml-small", share=PAPERS_SHARE),
    ]


def recipe_of(arm: Arm, size: dict[str, Any], shape: dict[str, int], seed: int, flops: float) -> Recipe:
    """The recipe of an arm, its duration in FLOPs."""
    sizes = [f"model.{key}={value}" for key, value in shape.items()]
    # The shipped recipes last for steps; naming another unit replaces that.
    return load(arm.recipe, [*sizes, *size["overrides"], *arm.overrides, f"seed={seed}", f"duration.flops={flops}"])


def baseline_flops(size: dict[str, Any], shape: dict[str, int], shards: Path) -> float:
    """What vanilla MLM at 15% spends on the fixed number of rows."""
    recipe = recipe_of(arms_of(shape["num_hidden_layers"])[0], size, shape, 0, 1.0)
    return size["baseline_rows"] * forecast(recipe, rows_of(shards)).row.training


def gather_glue(glue: Path, subsets: Path | None, out: Path) -> Path:
    """One folder of links: the official tasks, and subsets in place of those whose training data is not there."""
    if not out.exists():
        with complete_folder(out) as partial:
            for folder in sorted(glue.iterdir()):
                if subsets is None or folder.name not in SUBSETS:
                    (partial / folder.name).symlink_to(folder.resolve())
            for name in SUBSETS if subsets is not None else ():
                (partial / name).symlink_to((subsets / name).resolve())
    return out


def random_twin(run: Path, out: Path) -> Path:
    """The encoder of a run as it was before the first step."""
    if not out.exists():
        folder = RunFolder(run)
        torch.manual_seed(derive_seed(folder.recipe.seed, "weights"))
        config = MaskLaterForMaskedLM.config_class.from_pretrained(run)
        export_encoder(MaskLaterForMaskedLM(config), folder.tokenizer, out)
    return out


def score(encoder: Path, data: Path, out: Path, settings: dict[str, Any]) -> None:
    """Write scores.json of an encoder or a run, unless it is there."""
    if not (out / "scores.json").exists():
        grid = make_grid("quick", settings["lr"], settings["batch"], settings["epochs"])
        wanted = SweepSettings(grid, settings["seeds"], settings["max_train_rows"])
        resume = (out / "sweep.json").exists()
        sweep(str(encoder), str(data), out, choose_tasks(settings["tasks"]), wanted, resume)


def run_arm(arm: Arm | None, name: str, size: dict[str, Any], plan: Plan) -> None:
    """Pre-train an arm and score it; None: score the encoder of the first arm with random weights."""
    shape, out = size["shapes"][name], plan.out / name
    if arm is None:
        assert plan.glue is not None
        say(f"{name}: scores of an encoder with random weights")
        twin = random_twin(out / arms_of(shape["num_hidden_layers"])[0].name, out / RANDOM / "encoder")
        score(twin, plan.glue, out / RANDOM / "scores", size["glue"])
        return
    flops = baseline_flops(size, shape, plan.shards) * arm.share
    recipe = recipe_of(arm, size, shape, plan.seed, flops)
    run = out / arm.name
    if not is_finished(run, recipe):
        say(f"{name}: pre-training {arm.name}, {flops:.3g} FLOPs")
        pretrain(recipe, plan.shards, run, resume=(run / "run.json").exists())
    if plan.glue is not None:
        say(f"{name}: scores of {arm.name}")
        score(run, plan.glue, run / "scores", size["glue"])
    if not (run / "pairs.json").exists():
        (run / "pairs.json").write_text(json.dumps(asdict(score_pairs(run, plan.pairs)), indent=1) + "\n")


def run_shape(name: str, size: dict[str, Any], plan: Plan) -> None:
    """All arms of one encoder shape, their scores and the report."""
    shape, out = size["shapes"][name], plan.out / name
    arms = arms_of(shape["num_hidden_layers"])
    everything = arms if plan.glue is None else [*arms, None]
    if plan.at_once == 1:
        for arm in everything:
            run_arm(arm, name, size, plan)
    else:
        run_side_by_side([arm.name if arm else RANDOM for arm in everything], name, plan)
    if not (out / "report").exists():
        compare([out / arm.name for arm in arms], out / "report")
    text = table(out, [arm.name if arm else RANDOM for arm in everything])
    (out / "results.md").write_text(text + "\n")
    print(f"\n{name}: {shape}\n\n{text}")


def run_side_by_side(names: list[str], shape: str, plan: Plan) -> None:
    """Arms in processes of their own, which share the cores; what each says goes to SHAPE/ARM.log.

    Raises:
        UserError: A process failed. Those beside it have run to their end.
        Interrupted: A signal came. The processes were told, and have stopped in order.
    """
    threads = max(1, (os.cpu_count() or 1) // plan.at_once)
    waiting, running, failed = list(names), {}, []
    (plan.out / shape).mkdir(parents=True, exist_ok=True)
    with StopOnSignal() as stop:
        while running or (waiting and not failed):
            while waiting and not failed and len(running) < plan.at_once:
                arm = waiting.pop(0)
                command = [sys.executable, *sys.argv, "--shape", shape, "--only", arm]
                with (plan.out / shape / f"{arm}.log").open("a") as log:
                    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
                    running[arm] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
                say(f"{shape}: {arm} is running ({len(names) - len(waiting)} of {len(names)})")
            time.sleep(0.5)
            if stop.received is not None:
                for process in running.values():
                    process.send_signal(signal.SIGTERM)
                for process in running.values():
                    process.wait()
                raise Interrupted(stop.received, "stopped in order")
            ended = [arm for arm, process in running.items() if process.poll() is not None]
            failed += [arm for arm in ended if running.pop(arm).returncode != 0]
    if failed:
        logs = ", ".join(str(plan.out / shape / f"{arm}.log") for arm in failed)
        raise UserError(f"{' and '.join(failed)} failed", f"Read {logs}, then give the same command again.")


def is_finished(run: Path, recipe: Recipe) -> bool:
    """Whether a run has spent all it was to spend."""
    if not (run / "ledger.json").exists():
        return False
    return json.loads((run / "ledger.json").read_text())["flops"] >= recipe.duration.amount


def table(out: Path, names: list[str]) -> str:
    """Arms as rows: what was spent, the loss, medians over seeds of GLUE with their spread, and minimal pairs."""
    files = {name: out / name / "scores" / "scores.json" for name in names}
    scored = all(path.exists() for path in files.values())
    scores = {name: json.loads(path.read_text()) for name, path in files.items()} if scored else {}
    tasks = list(scores[names[0]]["tasks"]) if scored else []
    pairs = {name: json.loads((out / name / "pairs.json").read_text()) for name in names if name != RANDOM}
    kinds = list(pairs[names[0]]["files"])
    kinds = kinds if len(kinds) <= MOST_KINDS else []  # BLiMP has 67
    heads = ["arm", "steps", "rows", "FLOPs", "minutes", "loss at 15%", "accuracy"]
    heads += [*tasks, "average"] if scored else []
    heads += [*(Path(kind).stem for kind in kinds), "all pairs"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name in names:
        cells = [name] + [""] * 6
        if name != RANDOM:
            ledger = json.loads((out / name / "ledger.json").read_text())
            records = [json.loads(line) for line in (out / name / "metrics.jsonl").read_text().splitlines()]
            last = [record for record in records if "valid_loss_15" in record][-1]
            cells = [
                name, f"{ledger['steps']:,}", f"{ledger['rows']:,}", f"{ledger['flops']:.3g}",
                f"{ledger['seconds'] / 60:.1f}", f"{last['valid_loss_15']:.3f}", f"{last['valid_accuracy_15']:.1%}",
            ]  # fmt: skip
        for task in tasks:
            found = scores[name]["tasks"][task]
            main = found["metric"][found["main"]]
            cells.append(f"{main['median']:.1f} ({main['min']:.1f}-{main['max']:.1f})")
        if scored:
            cells.append(f"{scores[name]['average']['value']:.2f}")
        right = [pairs[name]["files"][kind] for kind in kinds] + [pairs[name]] if name in pairs else []
        cells += [f"{each['accuracy']:.1f}" for each in right] or [""] * (len(kinds) + 1)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> None:
    """Data, then all arms of each shape, or the one that is asked for."""
    size = yaml.safe_load(arguments.sizes.read_text())[arguments.size]
    out: Path = arguments.out
    shards = out / "shards"
    if not shards.exists():
        settings = PrepareSettings(
            vocab_size=size["vocab_size"], row_length=size["row_length"], pack="continuous", valid_fraction=HELD_OUT
        )
        prepare(arguments.text, shards, settings)
    pairs = arguments.pairs or out / "pairs"
    if not pairs.exists():
        make_pairs(arguments.text, HELD_OUT, PAIRS_OF_A_KIND, pairs)
    glue = gather_glue(arguments.glue, arguments.subsets, out / "glue") if arguments.glue else None
    plan = Plan(shards, glue, pairs, out, arguments.seed, arguments.at_once)
    if arguments.only:
        name = arguments.shape[-1]  # whatever shapes the command named that started this one
        arms: dict[str, Arm | None] = {arm.name: arm for arm in arms_of(size["shapes"][name]["num_hidden_layers"])}
        if glue is not None:
            arms[RANDOM] = None
        if arguments.only not in arms:
            raise UserError(f"there is no arm {arguments.only}", f"Arms: {', '.join(arms)}.")
        run_arm(arms[arguments.only], name, size, plan)
    else:
        for name in arguments.shape or size["shapes"]:
            run_shape(name, size, plan)


def main() -> int:
    """Run what is left of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("cpu", "gpu"), required=True)
    parser.add_argument("--sizes", type=Path, default=Path(__file__).with_suffix(".yaml"), help="the YAML of sizes")
    parser.add_argument("--shape", action="append", help="one of the size's shapes; may be repeated [default: all]")
    parser.add_argument("--text", type=Path, nargs="+", required=True, help=".jsonl and .txt files, or folders of them")
    parser.add_argument("--glue", type=Path, help="GLUE in the classic layout [default: no fine-tuning]")
    parser.add_argument("--subsets", type=Path, help="a folder whose MNLI, QNLI and QQP stand in for the official ones")
    parser.add_argument(
        "--pairs", type=Path, help="minimal pairs in place of those made of held-out text: a .jsonl file or a folder"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0, help="of pre-training")
    parser.add_argument("--at-once", type=int, choices=range(1, 7), default=1, help="arms side by side [default: 1]")
    parser.add_argument("--only", help="one arm of one --shape, without the report")
    parser.add_argument("--minutes", type=float, help="stop in order after so long")
    arguments = parser.parse_args()
    if arguments.only and not arguments.shape:
        parser.error("--only needs a --shape")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # transformers' own bars for saving and loading
    timer = None
    if arguments.minutes:
        timer = threading.Timer(arguments.minutes * 60, lambda: os.kill(os.getpid(), signal.SIGTERM))
        timer.daemon = True
        timer.start()
    try:
        run(arguments)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"{stop}; give the same command again", file=sys.stderr)
        return 128 + stop.signal_number
    finally:
        if timer:
            timer.cancel()
    return 0


if __name__ == "__main__":
    sys.exit(main())
