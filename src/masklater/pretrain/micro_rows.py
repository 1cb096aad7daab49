"""How many rows a forward pass takes where the recipe leaves it open: as many as the device is thought to hold."""

from dataclasses import replace

import torch

from masklater.budget.cost import row_shape
from masklater.budget.forecast import FAMILIES_COUNTED
from masklater.budget.memory import micro_rows_that_fit
from masklater.budget.parameters import count_parameters
from masklater.console import say
from masklater.machine.distributed import World
from masklater.model.encoder import layer_sizes
from masklater.pretrain.plan import Plan
from masklater.recipe.load import Recipe


def settle_micro_rows(plan: Plan, world: World) -> Plan:
    """Return a plan in which batch.micro_rows is a number, and say which and why; of all processes' the smallest."""
    if plan.recipe.batch.micro_rows != "auto":
        return plan
    rows = plan.recipe.batch.rows // world.size
    number, reason = plan.recipe.batch.pass_of(rows), "what is fast on a CPU"
    if world.device.type == "cuda":
        memory = torch.cuda.get_device_properties(world.device).total_memory
        number, reason = _on_a_gpu(plan, world, memory)
    number = round(-world.all_max(-number)[0])
    say(f"batch.micro_rows auto: {number} rows a forward pass, {reason}{_about_dropout(plan)}")
    return replace(plan, recipe=with_micro_rows(plan.recipe, number))


def with_micro_rows(recipe: Recipe, number: int) -> Recipe:
    """Return the recipe with that many rows a forward pass."""
    return recipe.model_copy(update={"batch": recipe.batch.model_copy(update={"micro_rows": number})})


def lower(plan: Plan, world: World) -> Plan | None:
    """Return a plan with the next smaller forward passes, after one that did not fit, aloud; None where none is left.

    Nor where the recipe gives the number, nor among several processes: others may be waiting in the middle of the step.
    """
    smaller = plan.recipe.batch.passes_of(plan.recipe.batch.rows)[1:]
    if not smaller or not plan.micro_rows_open or world.size > 1:
        return None
    say(
        f"out of memory with {plan.recipe.batch.micro_rows} rows a forward pass: batch.micro_rows is {smaller[0]} from "
        f"here on, and no step was lost{_about_dropout(plan)}"
    )
    return replace(plan, recipe=with_micro_rows(plan.recipe, smaller[0]))


def _on_a_gpu(plan: Plan, world: World, memory: float) -> tuple[int, str]:
    recipe, counts = plan.recipe, plan.batches.corruption.counts
    if plan.encoder.family not in FAMILIES_COUNTED:
        rows = recipe.batch.rows // world.size
        return recipe.batch.pass_of(rows), f"as the memory of {plan.encoder.family} is not estimated"
    shape = row_shape(plan.encoder, recipe.decoder, counts)
    parameters = count_parameters(shape, plan.encoder.family, plan.encoder.positions, plan.encoder.token_types)
    number = micro_rows_that_fit(recipe, shape, parameters, memory, world.size)
    if number is None:
        return 1, f"though by the estimate not even one fits the GPU's {memory / 1e9:,.0f} GB"
    return number, f"the most that are thought to fit the GPU's {memory / 1e9:,.0f} GB"


def _about_dropout(plan: Plan) -> str:
    """Say on what dropout's draws depend, where there is any."""
    if not layer_sizes(plan.config.encoder, plan.config.encoder.hidden_size).dropout:
        return "; what is trained on does not depend on it"
    return "; rows and masks do not depend on it, what dropout draws does"
