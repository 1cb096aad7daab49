"""The masking rate over a run (arXiv 2305.15096: from 30% down to 15%)."""

from masklater.recipe.sections import MaskingSettings


def rate_at(settings: MaskingSettings, progress: float) -> float:
    """Return the masking rate of a step that begins when `progress` of the run, from 0 to 1, has passed."""
    schedule = settings.schedule
    if schedule.name == "linear":
        assert schedule.end is not None  # the recipe has been validated
        return settings.rate + (schedule.end - settings.rate) * min(progress, 1.0)
    passed = [rate for share, rate in schedule.steps if progress >= share]
    return passed[-1] if passed else settings.rate


def rates_of(settings: MaskingSettings) -> list[float]:
    """Return the rates between which a schedule moves."""
    ends = [] if settings.schedule.end is None else [settings.schedule.end]
    return [settings.rate, *ends, *(rate for _, rate in settings.schedule.steps)]
