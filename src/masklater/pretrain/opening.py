"""Before the first step: SHARDS and RUN are opened, the RUN made or gone on with, and all that can be refused is."""

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

from masklater.console import Meter, clock, say
from masklater.corpus.shards import Shards
from masklater.machine.distributed import World
from masklater.model.check import settle
from masklater.pretrain.batches import share_out
from masklater.pretrain.micro_rows import settle_micro_rows, with_micro_rows
from masklater.pretrain.plan import Plan, make_plan
from masklater.pretrain.start import Start, find_start
from masklater.recipe.load import Recipe
from masklater.run.checkpoint import Checkpoint, load_checkpoint
from masklater.run.folder import RunFolder
from masklater.run.identity import is_run
from masklater.run.lock import only_process


def open_run(
    recipe: Recipe, data: Path, out: Path, resume: bool, world: World, held: ExitStack
) -> tuple[Plan, RunFolder, Shards, Start | None]:
    """Open the data and the RUN, made or gone on with, and plan; `held` keeps the RUN's lock. A new RUN has a start."""
    micro_rows_open = recipe.batch.micro_rows == "auto"
    resume = resume or (world.restarts > 0 and is_run(out))
    with world.all_or_none():
        recipe = recipe.model_copy(update={"batch": share_out(recipe.batch, world)})
        shards = Shards(data)
        run: RunFolder | None = None
        start: Start | None = None
        if resume:
            run = RunFolder(out)
            if recipe.batch.micro_rows == "auto" and run.recipe.batch.micro_rows != "auto":  # settled when it began
                settled = with_micro_rows(recipe, run.recipe.batch.micro_rows)
                recipe = settled.model_copy(update={"batch": share_out(settled.batch, world)})
            recipe = _with_levels(recipe, run.recipe.masking.schedule.levels)
            if world.is_main:
                held.enter_context(only_process(out))
                run.check_resumable(recipe, shards)
            config = run.load_config()
            if world.is_main and run.recipe.masking.schedule.levels is None:
                say("the masking rate changes with every step, as when this run began (masking.schedule.levels null)")
        else:
            # What can be refused is refused before there is a RUN, so that a second try finds its name free.
            RunFolder.refuse_existing(out)
            recipe = _with_levels(recipe, recipe.masking.schedule.number)
            start = find_start(recipe, shards)
            config = settle(start.config)
        plan = make_plan(recipe, shards, config)
    plan = replace(settle_micro_rows(plan, world), micro_rows_open=micro_rows_open)
    with world.all_or_none():
        if run is None and world.is_main:
            _verify(shards)
            came_from = (start.source, start.pooler) if start else (None, None)
            run = RunFolder.create(out, plan.recipe, shards, plan.config, *came_from)
            held.enter_context(only_process(out))
    with world.all_or_none():
        run = run or RunFolder(out)
    return plan, run, shards, start


def _with_levels(recipe: Recipe, levels: Literal["auto"] | int | None) -> Recipe:
    """Return the recipe with so many masking rates, where it leaves them open: a run keeps those that it began with."""
    schedule = recipe.masking.schedule
    if schedule.levels != "auto":
        return recipe
    masking = recipe.masking.model_copy(update={"schedule": schedule.model_copy(update={"levels": levels})})
    return recipe.model_copy(update={"masking": masking})


def find_checkpoint(run: RunFolder, decay: str | None, world: World) -> Checkpoint | None:
    """Find what to go on from, the same for all processes: the first one chooses."""
    chosen: Checkpoint | None = None
    with world.all_or_none():
        if world.is_main:
            chosen = run.find_checkpoint(decay)
    path = world.broadcast(str(chosen.path) if chosen else "")
    with world.all_or_none():
        return chosen or (load_checkpoint(Path(path)) if path else None)


def _verify(shards: Shards) -> None:
    with Meter("Verifying shards", shards.bytes) as meter:
        began = time.monotonic()
        shards.verify(meter.advance)
        meter.set(shards.bytes, clock(time.monotonic() - began))
