"""The settings of a recipe that have no effect, given the others. A run records only those that have one."""

from masklater.recipe.families import WINDOWED
from masklater.recipe.recipe import Recipe


def without_effect(recipe: Recipe) -> set[str]:
    """Return the dotted keys of settings that change nothing, at any value or at the one they have."""
    model, decoder, masking = recipe.model, recipe.decoder, recipe.masking
    idle = set()
    if model.family not in WINDOWED:
        idle |= {"model.global_every", "model.window"}
    elif model.global_every == 1:
        idle |= {"model.window"}
    if model.max_positions is None:
        idle |= {"model.max_positions"}
    if not decoder.has_layers:
        idle |= {"decoder.num_layers"}
    if not decoder.drops:  # [MASK]s are tokens of the encoder's input, with its embedding and positions
        idle |= {"decoder.mask_embedding", "decoder.positions"}
    if not decoder.embedding_skip:
        idle |= {"decoder.embedding_skip"}
    if decoder.states == 1:
        idle |= {"decoder.states"}
    if "span" not in {masking.choose, *(phase.masking.choose for phase in recipe.phases)}:
        idle |= {"masking.span_p", "masking.span_max"}
    if masking.predict_by is None:
        idle |= {"masking.predict_by"}
    if masking.schedule.name != "random":
        idle |= {"masking.schedule.low", "masking.schedule.high"}
    if masking.schedule.name not in {"linear", "random"}:
        idle |= {"masking.schedule.levels"}
    if not recipe.phases:
        idle |= {"phases", "schedule.over"}
    idle |= {name for name in ("data", "max_epochs") if not getattr(recipe, name)}
    return idle
