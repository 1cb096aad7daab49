"""Contradictions between the sections of a recipe."""

from collections.abc import Mapping
from typing import Any

from masklater.errors import Fault
from masklater.recipe.duration import Duration
from masklater.recipe.families import ONE_STACK, ROTARY
from masklater.recipe.phases import find_phase_faults
from masklater.recipe.sections import DecoderSettings, ModelSettings


def find_contradictions(sections: Mapping[str, Any]) -> list[Fault]:
    """Return faults between sections that are each valid by themselves."""
    model, decoder, masking, schedule, duration = (
        sections.get(name) for name in ("model", "decoder", "masking", "schedule", "duration")
    )
    faults = []
    if decoder and masking and decoder.drops and masking.mask == 0:
        faults.append(
            Fault(
                "masking.mask",
                masking.mask,
                f"decoder.kind {decoder.kind} appends the [MASK]s that the encoder leaves out, and here there are none",
                "Raise masking.mask, or set decoder.kind=none for vanilla MLM.",
            )
        )
    if decoder and masking and decoder.states > 1 and masking.mask < 1:
        faults.append(
            Fault(
                "decoder.states",
                decoder.states,
                f"[MASK]s have states, and only {masking.mask:g} of the corrupted positions are [MASK]s (masking.mask)",
                "Set masking.mask=1, masking.random=0 and masking.keep=0, or decoder.states=1.",
            )
        )
    if masking and duration and masking.schedule.name in {"linear", "stepwise"} and duration.unit in {"hours", "flops"}:
        faults.append(
            Fault(
                "masking.schedule.name",
                masking.schedule.name,
                f"what a step trains on must follow from its number alone, and a duration in {duration.unit} does not "
                "say how far along a step is",
                "State the duration in steps, rows or tokens.",
            )
        )
    if model and decoder:
        faults += _decoder_faults(model, decoder)
    if schedule and duration and isinstance(schedule.warmup, Duration):
        faults += _warmup_faults(schedule.warmup, duration)
    return faults + find_phase_faults(sections)


def _decoder_faults(model: ModelSettings, decoder: DecoderSettings) -> list[Fault]:
    """Return faults of settings that do not fit the encoder, where the recipe gives the encoder's sizes."""
    faults = []
    if model.num_hidden_layers and (decoder.enter_layer or 0) >= model.num_hidden_layers:
        faults.append(
            Fault(
                "decoder.enter_layer",
                decoder.enter_layer,
                f"[MASK]s must pass through a layer, and the encoder's {model.num_hidden_layers} layers count from 0",
                "Lower decoder.enter_layer.",
            )
        )
    if decoder.kind == "late" and decoder.drops and model.family and model.family not in ONE_STACK:
        faults.append(
            Fault(
                "decoder.kind",
                decoder.kind,
                f"it calls the encoder's layers one by one, which is not known how to do for {model.family}",
                f"Choose self or cross, or model.family among {', '.join(sorted(ONE_STACK))}.",
            )
        )
    if not (model.hidden_size and model.num_attention_heads):
        return faults
    head_size = model.hidden_size // model.num_attention_heads
    if decoder.hidden_size and (decoder.hidden_size > model.hidden_size or decoder.hidden_size % head_size):
        faults.append(
            Fault(
                "decoder.hidden_size",
                decoder.hidden_size,
                f"it must be a multiple of the encoder's head size, {head_size}, and at most its width, "
                f"{model.hidden_size}",
                "Choose another width, or null for the encoder's.",
            )
        )
    if decoder.positions == "rotary" and head_size % 2:
        faults.append(
            Fault(
                "decoder.positions",
                decoder.positions,
                f"pairs of numbers are turned, and heads are {head_size} wide",
                "Choose sizes that make heads an even width, or other positions.",
            )
        )
    if decoder.positions == "rotary" and decoder.kind == "late" and model.family and model.family not in ROTARY:
        faults.append(
            Fault(
                "decoder.positions",
                decoder.positions,
                f"with kind late the [MASK]s enter the encoder's own layers, and those of {model.family} turn nothing",
                "Choose auto, dropped or all.",
            )
        )
    return faults


def _warmup_faults(warmup: Duration, duration: Duration) -> list[Fault]:
    """Return the fault of a warm-up that does not fit the duration."""
    if (warmup.unit == "hours") != (duration.unit == "hours"):
        return [
            Fault(
                "schedule.warmup",
                str(warmup),
                f"hours convert to no other unit, and the duration is {duration}",
                "State both in hours, or neither, or give warm-up as a share of the duration.",
            )
        ]
    if warmup.unit == duration.unit and warmup.amount >= duration.amount:
        return [
            Fault("schedule.warmup", str(warmup), f"it must be shorter than the duration, {duration}", "Shorten it.")
        ]
    return []
