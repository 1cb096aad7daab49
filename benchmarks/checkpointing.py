"""Peak memory and time of a training step with and without activation checkpointing, next to `budget`'s estimates."""

import argparse
import os
import subprocess
import sys
import time

import torch
from memory import resident
from ours import Ours

from masklater.budget.memory import estimate_memory
from masklater.budget.parameters import count_parameters
from masklater.budget.shape import row_shape
from masklater.budget.sizes import encoder_sizes
from masklater.machine.distributed import ALONE
from masklater.machine.precision import Precision
from masklater.recipe.load import load
from masklater.recipe.recipe import Recipe

ROW_LENGTH, VOCABULARY, STEPS = 128, 8000, 2
MEASURED_IN = Precision("float32", "measured in it", ALONE.device)
FREED_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0"}
"""Settings under which glibc returns freed buffers at once, so that resident memory is the memory in use.

`pretrain` keeps the buffers, which is faster.
"""


def recipe_of(name: str, setting: str) -> Recipe:
    """Load a recipe without dropout: with it, a CPU holds the weights of all pairs of positions, and no GPU does."""
    overrides = (f"activation_checkpointing={setting}", "model.dropout=0", "precision=float32")
    return load(name, [*overrides, "model.family=bert"])


def measure(name: str, setting: str, rows: int) -> None:
    """Print the memory of a step beyond that before the model, its estimate, both in bytes, and the step's seconds."""
    recipe = recipe_of(name, setting)
    small = Ours(recipe, 2, 16, 100, MEASURED_IN)
    small.train(small.share(0, small.corruption), 0)  # the first step also loads the libraries' own memory
    on_gpu = ALONE.device.type == "cuda"
    if on_gpu:
        del small
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if on_gpu else resident().now
    side = Ours(recipe, rows, ROW_LENGTH, VOCABULARY, MEASURED_IN)
    if recipe.checkpoint_every:
        side.model.checkpoint_activations(recipe.checkpoint_every)
    seconds = []
    for number in range(STEPS):
        share = side.share(number, side.corruption)
        began = time.perf_counter()
        side.train(share, number)
        seconds.append(time.perf_counter() - began)
    shape = row_shape(encoder_sizes(side.encoder), recipe.decoder, side.corruption.counts)
    parameters = count_parameters(shape)
    assert parameters is not None  # shipped recipes are of families that are counted
    estimate = estimate_memory(recipe, shape, parameters, rows).total
    highest = torch.cuda.max_memory_allocated() if on_gpu else resident().highest
    print(highest - before, estimate, seconds[-1])


def main() -> None:
    """Measure each setting in a separate process, because a peak never falls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", nargs="+", default=["vanilla-small", "3ml-small"], help="shipped recipes")
    parser.add_argument("--rows", type=int, default=64, help="rows of a step, in one forward pass")
    parser.add_argument("--one", nargs=2, metavar=("RECIPE", "SETTING"), help="measure this one, in this process")
    given = parser.parse_args()
    if given.one:
        measure(*given.one, given.rows)
        return
    print(f"{'recipe':<16}{'checkpointing':>14}{'measured':>10}{'estimate':>10}{'ratio':>7}{'seconds':>9}")
    for name in given.recipes:
        for setting in ("false", "2", "true"):
            command = [sys.executable, __file__, "--rows", str(given.rows), "--one", name, setting]
            done = subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | FREED_AT_ONCE
            )
            measured, estimate, seconds = map(float, done.stdout.split())
            sizes = f"{measured / 1e6:>7.0f} MB{estimate / 1e6:>7.0f} MB{estimate / measured:>7.2f}"
            print(f"{name:<16}{setting:>14}{sizes}{seconds:>9.2f}", flush=True)


if __name__ == "__main__":
    main()
