"""Steps before training: open SHARDS, make or resume the RUN, and refuse whatever can be refused now."""

import copy
import json
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from masklater.console import Meter, clock, say
from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.lock import only_process
from masklater.machine.distributed import World
from masklater.machine.precision import choose_precision
from masklater.masking.schedule import rates_in
from masklater.model.check import check_causal, check_dtype, settle
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.model.positions import set_rope_base
from masklater.pretrain.batches import share_out
from masklater.pretrain.micro_rows import settle_micro_rows
from masklater.pretrain.plan import Plan, make_plan
from masklater.pretrain.sources import Sources, open_sources
from masklater.pretrain.start import Start, check_padding, find_start
from masklater.recipe.load import settings_of
from masklater.recipe.recipe import Recipe
from masklater.recipe.timeline import begins_by_clock, by_phase, find_spans, with_micro_rows
from masklater.run.checkpoint import Checkpoint, list_checkpoints, load_checkpoint, load_newest, step_of
from masklater.run.folder import RunFolder
from masklater.run.identity import is_run
from masklater.run.trackers import refuse_missing


def open_run(
    recipe: Recipe, data: Path, out: Path, resume: bool, world: World, held: ExitStack
) -> tuple[Plan, RunFolder, Sources, Start | None]:
    """Open the data and make or resume the RUN; return plan, RUN and sources, and for a new RUN its start.

    `held` keeps the RUN's lock.
    """
    micro_rows_open = "auto" in _micro_rows(recipe)
    resume = resume or (world.restarts > 0 and is_run(out))
    with world.all_or_none():
        if world.is_main:
            refuse_missing(recipe)
        recipe = _share_out(recipe, world)
        sources = open_sources(recipe, data)
        run: RunFolder | None = None
        start: Start | None = None
        if resume:
            run = RunFolder(out)
            recipe = _settled_when_it_began(recipe, run.recipe, world)
            if world.is_main:
                held.enter_context(only_process(out))
                run.check_resumable(recipe, sources.shards, sources.targets)
            config = run.load_config()
        else:
            # Refusals come before the RUN is made, so that its name is still free for a second try.
            RunFolder.refuse_existing(out)
            recipe = _with_levels(recipe, recipe.masking.schedule.number)
            start = find_start(recipe, sources.longest)
            config = settle(start.config)
            if recipe.model.from_ is not None:
                check_padding(config, sources.longest, recipe.model.from_)
            if any(phase.objective == "causal" for phase in recipe.phases):
                check_causal(config)
        check_dtype(config, world.device, choose_precision(recipe.precision, world.device).dtype)
        plan = make_plan(recipe, sources, config)
        if run is not None and world.is_main:
            _refuse_other_steps(run, plan)
    _refuse_other_than_first(recipe, sources, world)
    plan = replace(settle_micro_rows(plan, world), micro_rows_open=micro_rows_open)
    with world.all_or_none():
        if run is None and world.is_main:
            _refuse_what_cannot_be_built(plan)
        if run is None and world.local_rank == 0:  # each machine may have its own copy
            _verify(list(sources.shards.values()))
    with world.all_or_none():
        if run is None and world.is_main:
            kept = start.kept() if start else None
            run = RunFolder.create(out, plan.recipe, sources.shards, plan.config, sources.targets, kept)
            held.enter_context(only_process(out))
    with world.all_or_none():
        run = run or RunFolder(out)
    return plan, run, sources, start


def find_checkpoint(run: RunFolder, plan: Plan, world: World) -> Checkpoint | None:
    """Find the checkpoint to continue from, the same for all processes: the first process chooses."""
    chosen: Checkpoint | None = None
    with world.all_or_none():
        if world.is_main:
            chosen = run.find_checkpoint({phase.schedule.decay for phase in plan.phases})
    path = world.broadcast(str(chosen.path) if chosen else "")
    with world.all_or_none():
        return chosen or (load_checkpoint(Path(path)) if path else None)


def _refuse_other_than_first(recipe: Recipe, sources: Sources, world: World) -> None:
    """Raise UserError where a process differs from the first in recipe or data, as may happen on another machine.

    Such a process would train on rows in another order and at other rates, and nothing would show it.
    """
    seen: dict[str, object] = {f"data {key}".strip(): shards.fingerprint for key, shards in sources.shards.items()}
    seen |= {"table of masking.predict_by": sources.targets and sources.targets.fingerprint, **settings_of(recipe)}
    own = {name: str(value) for name, value in seen.items()}
    first = json.loads(world.broadcast(json.dumps(own)))
    with world.all_or_none():
        if other := [name for name in own | first if own.get(name) != first.get(name)]:
            raise UserError(
                f"process {world.rank}, on {socket.gethostname()}, has another {', '.join(other[:3])} than the first "
                f"process: {own.get(other[0])} in place of {first.get(other[0])}",
                "Start all with the same recipe and overrides, on the same data.",
            )


def _micro_rows(recipe: Recipe) -> list[Literal["auto"] | int]:
    """Return batch.micro_rows in each phase."""
    return [own.batch.micro_rows for own in by_phase(recipe)]


def _share_out(recipe: Recipe, world: World) -> Recipe:
    """Return the recipe with a micro_rows that divides each process's rows in each phase; auto stays auto."""
    batches = [own.batch for own in by_phase(recipe)]
    shared = [share_out(batch, world) for batch in batches]
    if shared == batches:
        return recipe
    return with_micro_rows(recipe, [batch.micro_rows for batch in shared])


def _settled_when_it_began(recipe: Recipe, began: Recipe, world: World) -> Recipe:
    """Return the recipe with its open settings as they were settled when the RUN began."""
    numbers, settled = _micro_rows(recipe), _micro_rows(began)
    if "auto" in numbers and "auto" not in settled and len(numbers) == len(settled):
        numbers = [then if now == "auto" else now for now, then in zip(numbers, settled, strict=True)]
        recipe = _share_out(with_micro_rows(recipe, numbers), world)
    if world.is_main and began.masking.schedule.levels is None:
        say("the masking rate changes with every step, as when this run began (masking.schedule.levels null)")
    return _with_levels(recipe, began.masking.schedule.levels)


def _with_levels(recipe: Recipe, levels: Literal["auto"] | int | None) -> Recipe:
    """Return the recipe with `levels` masking rates where it leaves them open: a run keeps the rates it began with."""
    schedule = recipe.masking.schedule
    if schedule.levels != "auto":
        return recipe
    masking = recipe.masking.model_copy(update={"schedule": schedule.model_copy(update={"levels": levels})})
    return recipe.model_copy(update={"masking": masking})


def start_again(run: RunFolder, recipe: Recipe, sources: Sources) -> Start:
    """Find the start of a run that was stopped before its first checkpoint.

    Raises:
        UserError: The weights that the run began with have changed since.
    """
    start = find_start(recipe, sources.longest, run.identity.source_commit)
    began = run.identity.source_sha256
    if began is not None and start.fingerprint() != began:
        raise UserError(
            f"{recipe.model.from_} has changed since the run {run.path} began with it, which has no checkpoint yet",
            "Give back what it began with, or start a new run.",
        )
    return start


def _refuse_what_cannot_be_built(plan: Plan) -> None:
    """Raise UserError where the model, or a phase's demands on it, are contradictory; the model takes no memory."""
    with torch.device("meta"):
        model = MaskLaterForMaskedLM(copy.deepcopy(plan.config))
    if plan.recipe.checkpoint_every:
        model.checkpoint_activations(plan.recipe.checkpoint_every)
    for phase in plan.phases:
        if phase.rope_base is not None:
            set_rope_base(copy.deepcopy(plan.config.encoder), phase.rope_base)


def _refuse_other_steps(run: RunFolder, plan: Plan) -> None:
    """Raise UserError where steps already made would differ under the plan that continues the run.

    They would be in another phase, or masked at another rate. With a learning rate that begins anew in each phase, the
    error also covers a phase whose rate would now begin at another hour than the phase did, even at one yet to come.
    """
    newest = list_checkpoints(run.checkpoints)
    if not newest:
        return
    if begins_by_clock(run.recipe) != begins_by_clock(plan.recipe):
        raise UserError(
            f"phases of the run {run.path} begin by a duration of {run.recipe.duration}, and it would be "
            f"{plan.recipe.duration}",
            "Keep the unit.",
        )
    schedule, is_longer = plan.recipe.schedule, run.recipe.duration != plan.recipe.duration
    if is_longer and schedule.name == "wsd" and schedule.warmup and isinstance(schedule.warmup, float):
        say(
            f"warm-up was {schedule.warmup:g} of {run.recipe.duration}: a run that is to equal one that was meant to "
            "be this long from its beginning has schedule.warmup.steps"
        )
    made = step_of(newest[-1])
    spans = [phase.span for phase in plan.phases]
    row_lengths, step_flops = zip(*((span.row_length, plan.spending(span.first).flops) for span in spans), strict=True)
    began = find_spans(run.recipe, row_lengths, step_flops)
    if begins_by_clock(plan.recipe) and schedule.over == "phase" and (checkpoint := load_newest(run.checkpoints)):
        for old, new in list(zip(began, spans, strict=True))[1 : len(checkpoint.progress.begun)]:
            if old.begins != new.begins or new.begins > checkpoint.ledger.hours:
                raise UserError(
                    f"phase {new.number + 1} of the run {run.path} has begun, and with schedule.over phase and "
                    f"{plan.recipe.duration} its learning rate would begin after {new.begins:g} hours, when it did not",
                    "Keep the duration and schedule.over, or start a new run with model.from naming this one.",
                )
    for old, new in zip(began, spans, strict=True):
        if old.first != new.first and min(old.first, new.first) < made:
            raise UserError(
                f"phase {old.number + 1} of the run {run.path} began at step {old.first + 1:,}, and with "
                f"{plan.recipe.duration} it would begin at step {new.first + 1:,}; {made:,} steps have been made",
                "Keep the duration, or give phases durations of their own in a new run.",
            )
        steps = min(made, old.first + (made if old.steps is None else old.steps)) - old.first
        if steps > 0 and rates_in(old).steps_by_rate(steps) != rates_in(new).steps_by_rate(steps):
            raise UserError(
                f"masking rates of the run {run.path} follow its duration of {run.recipe.duration}: over "
                f"{plan.recipe.duration}, the {made:,} steps that have been made would have had others",
                "Keep the duration, or start a new run with model.from naming this one.",
            )


def _verify(every: Sequence[Shards]) -> None:
    size = sum(shards.bytes for shards in every)
    with Meter("Verifying shards", size) as meter:
        began = time.monotonic()
        for shards in every:
            shards.verify(meter.advance)
        meter.set(size, clock(time.monotonic() - began))
