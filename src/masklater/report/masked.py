"""How a run masks its rows, in words: in short for tables, as sentences for a model card."""

from collections.abc import Callable
from fractions import Fraction

from masklater.recipe.masking import CHOOSERS, MaskingSettings
from masklater.recipe.phases import length_of
from masklater.recipe.recipe import Recipe
from masklater.recipe.timeline import by_phase, in_phase


def rates(masking: MaskingSettings, write: Callable[[float], str], of: str = "run") -> tuple[str, str]:
    """Return the first rate, or the two between which it is drawn; and how it changes, "" where it is constant."""
    schedule, first = masking.schedule, write(masking.rate)
    if schedule.end is not None and schedule.end != masking.rate:
        return first, f"{'falling' if schedule.end < masking.rate else 'rising'} to {write(schedule.end)} over the {of}"
    if schedule.low is not None and schedule.high is not None:
        return f"{write(schedule.low)} to {write(schedule.high)}", "drawn at each step"
    later = [f"{write(rate)} from {percent(share)} of the {of} on" for share, rate in schedule.steps]
    return first, ", ".join(later)


def in_short(recipe: Recipe) -> str:
    """Return one line on the masking of a run; where it changes between phases, on that of each phase that masks."""
    masking = [own.masking for own in by_phase(recipe)]
    causal = ["causal in a phase"] if any(each.causal for each in masking) else []
    return ", ".join([*causal, ", then ".join(dict.fromkeys(_short(each) for each in masking if not each.causal))])


def _short(masking: MaskingSettings) -> str:
    first, later = rates(masking, "{:.4g}".format)
    split = "-".join(f"{100 * part:g}" for part in (masking.mask, masking.random, masking.keep))
    how = ["all [MASK]" if masking.mask == 1 else split]
    how += [later] if later else []
    how += [f"by {masking.choose}"] if masking.choose != "uniform" else []
    return f"rate {first} ({', '.join(how)})"


def as_sentences(recipe: Recipe, phase: int) -> str:
    """Say how a run has masked up to one of its phases, with a clause for each phase."""
    if not recipe.phases:
        return f"{_clause(recipe.masking, 'run')}."
    whole, left, clauses = Fraction(str(recipe.duration.amount)), Fraction(1), []
    for number, settings in enumerate(recipe.phases[: phase + 1]):
        length = length_of(settings, recipe.duration)
        share = left if length is None else length / whole
        left -= share
        clause = _clause(in_phase(recipe, number).masking, "phase" if settings.has_rates else "run")
        clauses.append(f"in phase {number + 1}, {percent(float(share))} of the duration, {clause}")
    text = "; ".join(clauses)
    missing = len(recipe.phases) - len(clauses)
    still = f" Of its {len(recipe.phases)} phases {missing} had not begun." if missing else ""
    return f"{text[0].upper()}{text[1:]}.{still}"


def _clause(masking: MaskingSettings, of: str) -> str:
    if masking.causal:
        predicted = (
            "each next token is" if masking.predict == 1 else f"{percent(masking.predict)} of the next tokens are"
        )
        return f"nothing is masked, positions see those before them, and {predicted} predicted"
    first, later = rates(masking, percent, of)
    chosen = f", chosen as {CHOOSERS[masking.choose]}" if masking.choose != "uniform" else ""
    predicted = f"; {percent(masking.predict)} of those are predicted" if masking.predict < 1 else ""
    return f"{first} of a row's tokens are corrupted{chosen}{', ' if later else ''}{later}{predicted}"


def percent(share: float) -> str:
    """Return a share as a percentage, without meaningless digits."""
    return f"{100 * share:.4g}%"
