"""The parts of benchmarks/gpu.py that measure training steps, the LM head and kernels.

Letters: N targets, D width, V vocabulary, E width of the word embedding.
"""

import gc
import json
import random
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from gpu_cells import Cell, Done, Part, Size
from gpu_files import scratch, write
from ours import made_up_tokenizer
from sides import Side, timed
from wanted import Wanted

from masklater.budget.forecast import forecast, rows_of, seconds_of
from masklater.corpus.prepare import prepare
from masklater.corpus.settings import PrepareSettings
from masklater.machine.distributed import ALONE
from masklater.machine.kernels import attention_kernels, refuse_cudnn_attention
from masklater.machine.peak import this_hardware
from masklater.machine.precision import choose_precision
from masklater.machine.versions import versions
from masklater.model import head as heads
from masklater.pretrain import loop
from masklater.recipe.load import load
from masklater.recipe.recipe import Recipe
from masklater.run.metrics import read_metrics

ASSUMED_UTILISATION = 0.4
"""The utilisation that `masklater budget` assumes by default."""
PROFILED = 2
"""Number of steps that are profiled, the last ones of a run."""


def machine(size: Size, out: Path) -> Done:
    """Return the facts about the machine that everything else runs on."""
    refuse_cudnn_attention()
    device = ALONE.device
    precision = choose_precision("auto", device)
    hardware = this_hardware(device, precision.name)
    return {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "a CPU",
        "peak_flops_per_second": hardware.peak_flops_per_second,
        "peak_source": hardware.source,
        "precision": precision.name,
        "attention_kernels": attention_kernels(device),
        "cuda": torch.version.cuda,
        **versions(),
    }


def steps(part: Part, size: Size, out: Path) -> Done:
    """Measure every cell, one after the other; record which ones do not fit the device's memory."""
    points = []
    for cell in part.cells:
        path = out / "points" / f"{cell}.json"
        if not path.exists():
            write(path, measure(cell, size, out))
        points.append(json.loads(path.read_text()))
        print(points[-1], flush=True)
    return {"points": points}


def measure(cell: Cell, size: Size, out: Path) -> Done:
    """Measure one cell: its rate, utilisation and memory, and the forecasts of `masklater budget` for both.

    `device_seconds` is the total time of a step's kernels. If it is far below the step's time, the GPU waits for its
    host.
    """
    shards = made_up_shards(out, size, cell.row_length)
    recipe = recipe_of(cell, size)
    expected = forecast(recipe, rows_of(shards))
    assert expected.memory
    hardware = this_hardware(ALONE.device, choose_precision(recipe.precision, ALONE.device).name)
    step_seconds = seconds_of(expected.row.training * cell.rows, hardware, ASSUMED_UTILISATION)
    point: Done = {
        "cell": str(cell), **asdict(cell),
        "forecast_bytes": expected.memory.total, "forecast_step_seconds": step_seconds,
    }  # fmt: skip
    gc.collect()
    if ALONE.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    torch.compiler.reset()
    with scratch(out) as run:
        try:
            with profiled_at_the_end(size.steps) as profiler:
                loop.pretrain(recipe, shards, run)
        except torch.OutOfMemoryError:
            return {**point, "failed": "out of memory"}
        records = [record for record in read_metrics(run / "metrics.jsonl") if "loss" in record]
        ledger = json.loads((run / "ledger.json").read_text())
    seconds, kernels = [record["step_seconds"] for record in records], kernels_of(profiler)
    step_seconds = statistics.median(seconds[size.steps // 3 : -PROFILED])
    step_flops = (records[-1]["flops"] - records[0]["flops"]) / (len(records) - 1)
    return {
        **point,
        "step_seconds": step_seconds,
        "device_seconds": sum(own for _, own, _ in kernels) / PROFILED,
        "launches": sum(calls for _, _, calls in kernels) // PROFILED,
        "rows_per_second": cell.rows / step_seconds,
        "utilisation": step_flops / step_seconds / hardware.peak_flops_per_second,
        "bytes": ledger["peak_memory_bytes"],
        "first_step_seconds": seconds[0],
        "all_step_seconds": seconds,
        "longest_kernels": [(name[:100], own / PROFILED, calls // PROFILED) for name, own, calls in kernels[:25]],
        "loss": records[-1]["loss"],
    }


@contextmanager
def profiled_at_the_end(steps: int) -> Iterator[torch.profiler.profile]:
    """Profile the last steps of a run of `steps` steps."""
    plain_step, made, profiler = loop.train_step, 0, torch.profiler.profile()

    def step(*given: Any) -> Any:
        nonlocal made
        made += 1
        if made == steps - PROFILED + 1:
            profiler.start()
        result = plain_step(*given)
        if made == steps:
            if ALONE.device.type == "cuda":
                torch.cuda.synchronize()
            profiler.stop()
        return result

    with mock.patch.object(loop, "train_step", step):
        yield profiler


def kernels_of(profiler: torch.profiler.profile) -> list[tuple[str, float, int]]:
    """Return kernels of a GPU, or operators of a CPU: name, own seconds, and calls; the longest first."""
    on_gpu = ALONE.device.type == "cuda"
    order = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    found = [(event.key, getattr(event, order) / 1e6, event.count) for event in profiler.key_averages()]
    kernels = [each for each in found if each[1] > 0 and not (on_gpu and each[0].startswith("aten::"))]
    return sorted(kernels, key=lambda each: -each[1])


def recipe_of(cell: Cell, size: Size) -> Recipe:
    """Return a cell's recipe."""
    overrides = [*cell.overrides(dict(Recipe.model_fields)), f"duration.steps={size.steps}", *size.shrink]
    return load(cell.recipe, overrides)


def stock(size: Size, out: Path) -> Done:
    """Measure transformers' Trainer in bfloat16, compiled on a GPU, with logits at every position."""
    points = []
    for name, rows, row_length in size.stock:
        wanted = Wanted(name, rows, row_length, size.vocabulary, "bfloat16", ALONE.device.type == "cuda")
        side = Side("stock-bf16", wanted)
        side.wait()
        seconds = [side.step(number).wall for number in range(size.steps)][size.steps // 3 :]
        step_seconds = sum(seconds) / len(seconds)
        points.append({
            "size": name, "rows": rows, "row_length": row_length, "compiled": wanted.compile_stock,
            "step_seconds": step_seconds, "rows_per_second": rows / step_seconds, "bytes": side.end(),
        })  # fmt: skip
    return {"points": points}


def head(size: Size, out: Path) -> Done:
    """Measure loss and gradients of the LM head alone, at a vocabulary as it is and at the next multiple of 64."""
    targets, width, vocabularies = size.head
    device, points = ALONE.device, []
    precision = choose_precision("auto", device)
    for vocabulary in vocabularies:
        for compiled in (False, True) if hasattr(heads.LMHead, "compiled") and device.type == "cuda" else (False,):
            torch.manual_seed(0)
            lm_head = heads.LMHead(width, width, vocabulary, 1e-5).to(device)
            if compiled:
                lm_head.compiled = True
            words_VE = torch.randn(vocabulary, width, device=device).mul_(0.02).requires_grad_()
            hidden_ND = torch.randn(targets, width, device=device, requires_grad=True)
            target_ids_N = torch.randint(vocabulary, (targets,), device=device)

            def once(
                lm_head: heads.LMHead = lm_head, words_VE: torch.Tensor = words_VE,
                hidden_ND: torch.Tensor = hidden_ND, target_ids_N: torch.Tensor = target_ids_N,
            ) -> None:  # fmt: skip
                with precision.autocast():
                    loss = lm_head.loss_sum(hidden_ND, words_VE, target_ids_N)
                loss.backward()

            seconds = sorted(timed(once, device).wall for _ in range(8))[2]
            points.append({"vocabulary": vocabulary, "compiled": compiled, "targets": targets, "seconds": seconds})
    return {"points": points}


def made_up_shards(out: Path, size: Size, row_length: int) -> Path:
    """Make SHARDS of random words with a vocabulary of the wanted size, once."""
    shards = out / "shards" / str(row_length)
    if not shards.exists():
        shards.parent.mkdir(exist_ok=True)
        with scratch(out) as folder:
            folder.mkdir()
            made_up_tokenizer(size.vocabulary).save_pretrained(folder / "tokenizer")
            rng = random.Random(0)
            with (folder / "text.jsonl").open("w") as file:
                for _ in range(size.words // 500):
                    words = (f"w{rng.randrange(5, size.vocabulary)}" for _ in range(rng.randrange(20, 980)))
                    file.write(json.dumps({"text": " ".join(words)}) + "\n")
            settings = PrepareSettings(
                tokenizer=folder / "tokenizer", row_length=row_length, pack="continuous", valid_fraction=0.02
            )
            prepare([folder / "text.jsonl"], shards, settings)
    return shards
