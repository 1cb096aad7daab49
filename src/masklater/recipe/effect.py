"""The settings of a recipe that do nothing beside the others: a run records those that act."""

from masklater.recipe.families import WINDOWED
from masklater.recipe.sections import DecoderSettings, MaskingSettings, ModelSettings


def without_effect(model: ModelSettings, decoder: DecoderSettings, masking: MaskingSettings) -> set[str]:
    """Dotted keys of the settings that change nothing, whatever their value."""
    idle = set()
    if model.family not in WINDOWED:
        idle |= {"model.global_every", "model.window"}
    elif model.global_every == 1:
        idle |= {"model.window"}
    if not decoder.has_layers:
        idle |= {"decoder.num_layers"}
    if not decoder.drops:  # [MASK]s are tokens of the input, with its embedding and its positions
        idle |= {"decoder.mask_embedding", "decoder.positions"}
    if masking.choose != "span":
        idle |= {"masking.span_p", "masking.span_max"}
    if masking.schedule.name != "random":
        idle |= {"masking.schedule.low", "masking.schedule.high"}
    if masking.schedule.name not in {"linear", "random"}:
        idle |= {"masking.schedule.levels"}
    return idle
