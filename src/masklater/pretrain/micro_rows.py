"""How many rows a forward pass takes where the recipe leaves it open: as many as the device is estimated to hold."""

import torch

from masklater.budget.memory import micro_rows_that_fit
from masklater.budget.parameters import count_parameters
from masklater.budget.shape import row_shape
from masklater.console import say
from masklater.machine.distributed import World
from masklater.masking.schedule import rates_of
from masklater.model.encoder import layer_sizes
from masklater.pretrain.plan import Phase, Plan


def settle_micro_rows(plan: Plan, world: World) -> Plan:
    """Return a plan in which batch.micro_rows is a number, and print which and why; processes use the smallest."""
    if all(phase.recipe.batch.micro_rows != "auto" for phase in plan.phases):
        return plan
    numbers: list[int] = []
    for phase in plan.phases:
        batch, where = phase.recipe.batch, _where(plan, phase)
        if batch.micro_rows != "auto":
            numbers.append(batch.micro_rows)
            continue
        number, reason = phase.micro_rows(world.size), "what is fast on a CPU"
        if world.device.type == "cuda":
            memory = torch.cuda.get_device_properties(world.device).total_memory
            number, reason = _on_a_gpu(plan, phase, world, memory)
        numbers.append(round(-world.all_max(-number)[0]))
        say(f"batch.micro_rows auto{where}: {numbers[-1]} rows a forward pass, {reason}{_about_dropout(plan)}")
    return plan.with_micro_rows(numbers)


def lower(plan: Plan, world: World, step: int = 0) -> Plan | None:
    """Return a plan with the next smaller forward passes, after one that did not fit; None where there is none.

    A message says so. None also where the recipe gives the number, and with several processes: others may be waiting in
    the middle of the step.
    """
    phase = plan.phase(step)
    smaller = phase.recipe.batch.passes_of(phase.recipe.batch.rows)[1:]
    if not smaller or not plan.micro_rows_open or world.size > 1:
        return None
    say(
        f"out of memory with {phase.recipe.batch.micro_rows} rows a forward pass: batch.micro_rows is {smaller[0]} "
        f"from here on{_where(plan, phase)}, and no step was lost{_about_dropout(plan)}"
    )
    numbers = [each.micro_rows(1) for each in plan.phases]
    numbers[phase.span.number] = smaller[0]
    return plan.with_micro_rows(numbers)


def _where(plan: Plan, phase: Phase) -> str:
    return f" in phase {phase.span.number + 1}" if len(plan.phases) > 1 else ""


def _on_a_gpu(plan: Plan, phase: Phase, world: World, memory: float) -> tuple[int, str]:
    """Return the rows of a forward pass of a phase on a GPU with `memory` bytes, and the reason."""
    recipe, corruption, room = phase.recipe, phase.batches.corruption, plan.config.row_length
    parameters = count_parameters(row_shape(plan.encoder, plan.recipe.decoder, corruption.counts, room))
    if parameters is None:
        return phase.micro_rows(world.size), f"as the memory of {plan.encoder.family} is not estimated"
    rates = rates_of(recipe.masking)
    shapes = [row_shape(plan.encoder, recipe.decoder, corruption.at_rate(rate).counts, room) for rate in rates]
    fitting = micro_rows_that_fit(recipe, shapes, parameters, memory, world.size)
    if fitting is None:
        return 1, f"though by the estimate not even one fits the GPU's {memory / 1e9:,.0f} GB"
    return fitting, f"the most that are thought to fit the GPU's {memory / 1e9:,.0f} GB"


def _about_dropout(plan: Plan) -> str:
    """Say what dropout's draws depend on, where there is dropout."""
    if not layer_sizes(plan.config.encoder, plan.config.encoder.hidden_size).dropout:
        return "; what is trained on does not depend on it"
    return "; rows and masks do not depend on it, what dropout draws does"
