"""The demands of training on SHARDS: batches in time, and rows at once out of very many."""

import shutil
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from ours import Ours

from masklater.corpus.index import SplitEntry, make_index
from masklater.corpus.shards import SHARD_BYTES, Shards
from masklater.machine.allocator import keep_large_buffers
from masklater.machine.distributed import ALONE
from masklater.machine.precision import choose_precision
from masklater.pretrain.batches import BatchMaker, Prefetcher, make_batches, make_share
from masklater.recipe.load import load
from masklater.recipe.recipe import Recipe

RECIPE = "3ml-small"
FASTER = 10
MEASURED_STEPS, SIMULATED_STEPS = 3, 20
FAR = 10_000_000


class Waiting(NamedTuple):
    """Seconds of steps, and of waiting for data."""

    step: float  # median of the real model
    waited: float  # for data, over all simulated steps
    total: float  # of the simulated steps

    @property
    def share(self) -> float:
        """The share of the steps' time that was spent waiting."""
        return self.waited / self.total


def batches_of(shards: Shards, recipe: Recipe) -> BatchMaker:
    """Make training batches, as `masklater pretrain` does."""
    return make_batches(shards, shards.train, recipe.masking, recipe.decoder.drops, recipe.batch.attend, recipe.seed)


def wait_for_data(folder: Path, rows: int | None) -> Waiting:
    """Measure how long a model ten times as fast as the real one would wait for the loader of `pretrain`.

    The real step is measured first, with its micro-batches. The fast model sleeps for a tenth of that time.

    Args:
        folder: SHARDS.
        rows: Rows of a step; None: as many as the recipe says.
    """
    keep_large_buffers()
    shards = Shards(folder)
    recipe = load(RECIPE, [] if rows is None else [f"batch.rows={rows}", f"batch.micro_rows={min(rows, 32)}"])
    precision = choose_precision(recipe.precision, ALONE.device)
    model = Ours(
        recipe, recipe.batch.pass_of(recipe.batch.rows), shards.index.row_length, shards.vocabulary.size, precision
    )
    batches = batches_of(shards, recipe)
    prefetcher = Prefetcher(lambda step: make_share(batches, step, recipe.batch, ALONE), 0, ALONE)
    try:
        steps = []
        for number in range(MEASURED_STEPS + 1):
            share = prefetcher.take()
            began = time.perf_counter()
            model.train(share, number)
            if ALONE.device.type == "cuda":
                torch.cuda.synchronize()
            steps.append(time.perf_counter() - began)
        step = statistics.median(steps[1:])
        prefetcher.take()  # made while the real model ran; later ones are made while the fast one sleeps
        time.sleep(step / FASTER)
        waited, began = 0.0, time.perf_counter()
        for _ in range(SIMULATED_STEPS):
            asked = time.perf_counter()
            prefetcher.take()
            waited += time.perf_counter() - asked
            time.sleep(step / FASTER)
        return Waiting(step, waited, time.perf_counter() - began)
    finally:
        prefetcher.close()


class Opening(NamedTuple):
    """Seconds, and the size of what was opened."""

    rows: int
    shards: int
    bytes: int
    open: float
    near: float  # a shuffled batch at step 10, the first one read
    far: float  # at step FAR
    batch_rows: int


def write_many(folder: Path, out: Path, rows: int) -> Path:
    """Make SHARDS of at least `rows` rows that take the disk space of one shard: all shards are names of one file.

    The rows of that shard are the rows of `folder`, over and over. Its checksums are zeros: opening does not compare
    them.
    """
    few = Shards(folder)
    index, entry = few.index, few.index.train
    row_bytes = index.row_length * np.dtype(index.dtype).itemsize
    of_shard = min(SHARD_BYTES // row_bytes, rows)
    out.mkdir()
    shutil.copytree(folder / "tokenizer", out / "tokenizer")
    first = entry.shards[0]
    for ending, width in (("rows", row_bytes), ("starts", (index.row_length + 7) // 8)):
        content = (folder / f"{first.name}.{ending}").read_bytes()
        copies, rest = divmod(of_shard, first.rows)
        with (out / f"train-00000.{ending}").open("wb") as file:
            for _ in range(copies):
                file.write(content)
            file.write(content[: rest * width])
    names = [f"train-{number:05d}" for number in range(-(-rows // of_shard))]
    for name in names[1:]:
        for ending in ("rows", "starts"):
            (out / f"{name}.{ending}").hardlink_to(out / f"{names[0]}.{ending}")
    shard = first.model_copy(update={"rows": of_shard, "rows_sha256": "0" * 64, "starts_sha256": "0" * 64})
    shards = [shard.model_copy(update={"name": name}) for name in names]
    total = of_shard * len(shards)
    times = total / entry.rows
    train = SplitEntry(
        rows=total, tokens=round(entry.tokens * times), full_rows=round(entry.full_rows * times),
        full_row_maskable=round(entry.full_row_maskable * times), mixed_rows=round(entry.mixed_rows * times),
        shards=shards,
    )  # fmt: skip
    many = make_index(
        few.vocabulary, index.row_length, index.tokenizer_sha256, index.pack, train,
        SplitEntry(rows=0, tokens=0, full_rows=0, full_row_maskable=0, mixed_rows=0, shards=[]), {"copied": times},
    )  # fmt: skip
    (out / "index.json").write_text(many.model_dump_json(indent=1), encoding="utf-8")
    return out


def open_many(folder: Path) -> Opening:
    """Measure how long it takes to open SHARDS, and to get shuffled batches of them."""
    recipe = load(RECIPE)
    began = time.perf_counter()
    shards = Shards(folder)
    opened = time.perf_counter() - began
    batches = batches_of(shards, recipe)
    seconds = []
    for step in (10, FAR):
        began = time.perf_counter()
        batches.of_step(step, recipe.batch.rows)
        seconds.append(time.perf_counter() - began)
    return Opening(
        shards.train.num_rows, len(shards.train.shards), shards.bytes, opened, seconds[0], seconds[1], recipe.batch.rows
    )
