"""A forecast as text for a person, and as JSON."""

from dataclasses import asdict
from typing import Any

from masklater.budget.flops import TRAINING_OVER_FORWARD, RowFlops
from masklater.budget.forecast import Forecast, PhaseForecast, seconds_of
from masklater.budget.memory import Memory, micro_rows_that_fit, most_memory
from masklater.budget.parameters import Parameters
from masklater.console import aligned, clock
from masklater.machine.hardware import Hardware
from masklater.recipe.timeline import NOT_BEGUN

PARTS = {
    "embeddings": "embeddings", "encoder_linear": "encoder, linear", "encoder_attention": "encoder, attention",
    "decoder_linear": "decoder, linear", "decoder_attention": "decoder, attention", "head": "LM head",
}  # fmt: skip


def ratios(one: RowFlops, other: RowFlops) -> dict[str, float]:
    """Return the FLOPs of one row divided by those of another, for each way of counting."""
    return {
        "linear layers of encoder and decoder": _linear(one) / _linear(other),
        "with attention": (one.forward - one.head) / (other.forward - other.head),
        "with attention and LM head": one.forward / other.forward,
    }


def as_tree(
    forecast: Forecast, name: str, hardware: Hardware, utilisation: float, watts: float | None
) -> dict[str, Any]:
    """Return all figures of a forecast, for JSON."""
    micro_rows, memory = _memory_on(forecast.phases[0], forecast.parameters, hardware)
    tree: dict[str, Any] = {
        "recipe": name,
        "row_length": forecast.rows.row_length,
        "vocabulary": forecast.shape.vocabulary,
        "seen": forecast.counts.seen,
        "dropped": forecast.counts.dropped,
        "targets": forecast.counts.targets,
        "row_forward_flops": asdict(forecast.row) | {"total": forecast.row.forward},
        "row_training_flops": forecast.row.training,
        "row_forward_flops_as_the_paper_counts": asdict(forecast.paper) | {"total": forecast.paper.forward},
        "states": forecast.recipe.decoder.states,
        "local_layers": forecast.shape.encoder.local_layers,
        "parameters": asdict(forecast.parameters) if forecast.parameters else None,
        "micro_rows": micro_rows,
        "memory_bytes": asdict(memory) | {"total": memory.total} if memory else None,
        "hardware": {**asdict(hardware), "utilisation": utilisation, "watts": watts},
        "total_rows": forecast.total_rows,
        "total_flops": forecast.total_flops,
        "total_head_flops": forecast.total_head_flops,
    }
    if forecast.parameters and hardware.memory_bytes is not None:
        fitting = micro_rows_that_fit(
            forecast.phases[0].recipe, forecast.phases[0].shapes, forecast.parameters, hardware.memory_bytes
        )
        tree["micro_rows_that_fit"] = fitting
    if len(forecast.phases) > 1:
        tree["phases"] = [_phase_tree(phase, forecast.parameters, hardware, utilisation) for phase in forecast.phases]
    if forecast.parameters:
        tree["parameters"] |= {"trained": forecast.parameters.trained, "exported": forecast.parameters.exported}
    if forecast.total_flops is not None:
        seconds = seconds_of(forecast.total_flops, hardware, utilisation)
        tree["seconds"] = seconds
        tree["energy_joules"] = None if watts is None else seconds * watts
    return tree


def _phase_tree(
    phase: PhaseForecast, parameters: Parameters | None, hardware: Hardware, utilisation: float
) -> dict[str, Any]:
    flops, (micro_rows, memory) = phase.total_flops, _memory_on(phase, parameters, hardware)
    return {
        **({"objective": "causal"} if phase.recipe.masking.causal else {}),
        "first_step": None if phase.span.first == NOT_BEGUN else phase.span.first + 1,
        "steps": phase.num_steps,
        "row_length": phase.counts.row_length,
        "seen": phase.counts.seen,
        "targets": phase.counts.targets,
        "rows": phase.total_rows,
        "flops": flops,
        "head_flops": phase.total_head_flops,
        "seconds": None if flops is None else seconds_of(flops, hardware, utilisation),
        "micro_rows": micro_rows,
        "memory_bytes": memory.total if memory else None,
    }


def as_text(forecast: Forecast, name: str, hardware: Hardware, utilisation: float, watts: float | None) -> str:
    """Return the forecast of one recipe as text."""
    counts, recipe, several = forecast.counts, forecast.recipe, len(forecast.phases) > 1
    blocks = [
        f"{_whose_row(forecast, name)}: rows of {counts.row_length}, of which the encoder sees {counts.seen} and "
        f"{counts.targets} are predicted; vocabulary {forecast.shape.vocabulary:,}",
        _flops_table(forecast.row),
    ]
    if (states := forecast.shape.decoder.states) > 1:
        blocks.append(
            f"each [MASK] has {states} states: of each row the decoder works on {forecast.shape.decoder_positions:g} "
            f"vectors, the LM head on {forecast.shape.predictions:g}"
        )
    if local := forecast.shape.encoder.local_layers:
        blocks.append(
            f"{local} of {forecast.shape.encoder.layers} encoder layers see a window: their attention is counted in "
            "full, as torch computes all pairs and masks those outside"
        )
    if forecast.parameters:
        blocks.append(_parameters_and_memory(forecast, forecast.parameters, hardware))
    else:
        blocks.append("parameters and memory: not counted for encoders of this family")
    if several:
        blocks.append(_phases_table(forecast, hardware, utilisation))
    blocks.append(_totals(forecast, str(recipe.duration), hardware, utilisation, watts))
    return "\n\n".join(blocks)


def against_text(one: Forecast, other: Forecast, names: tuple[str, str]) -> str:
    """Return the ratio of two recipes' rows (of their first phases), as executed and as the paper counts."""
    executed, paper = ratios(one.row, other.row), ratios(one.paper, other.paper)
    of_whom = " / ".join(map(_whose_row, (one, other), names))
    rows = [(f"{of_whom}, a row", "executed", "paper")]
    rows += [(f"  {what}", f"{executed[what]:.3f}", f"{paper[what]:.3f}") for what in executed]
    lines = [aligned(rows, numbers_from=1)]
    lines.append("executed: what is computed here, from the positions that are seen, dropped and predicted.")
    lines.append("paper: as the paper counts, in shares of the row, with every decoder layer on the whole row.")
    if one.total_flops and other.total_flops:
        ratio = one.total_flops / other.total_flops
        lines.append(f"whole runs: {one.total_flops:.3g} / {other.total_flops:.3g} FLOPs = {ratio:.3f}")
    return "\n".join(lines)


def _linear(flops: RowFlops) -> float:
    return flops.embeddings + flops.encoder_linear + flops.decoder_linear


def _flops_table(row: RowFlops) -> str:
    rows = [("a row", "forward MFLOPs", "training MFLOPs", "share")]
    amounts = {label: getattr(row, part) for part, label in PARTS.items()} | {"total": row.forward}
    for label, forward in amounts.items():
        rows.append(
            (
                f"  {label}",
                f"{forward / 1e6:,.1f}",
                f"{TRAINING_OVER_FORWARD * forward / 1e6:,.1f}",
                f"{forward / row.forward:.1%}",
            )
        )
    return aligned(rows, numbers_from=1)


def _memory_on(phase: PhaseForecast, parameters: Parameters | None, hardware: Hardware) -> tuple[int, Memory | None]:
    """Return the rows of a forward pass (with auto: those that fit), and a step's memory; None: not counted."""
    batch, memory = phase.recipe.batch, phase.memory
    micro_rows = batch.pass_of(batch.rows)
    if batch.micro_rows == "auto" and parameters and hardware.memory_bytes is not None:
        micro_rows = micro_rows_that_fit(phase.recipe, phase.shapes, parameters, hardware.memory_bytes) or 1
        memory = most_memory(phase.recipe, phase.shapes, parameters, micro_rows)
    return micro_rows, memory


def _whose_row(forecast: Forecast, name: str) -> str:
    """Return a recipe's name, with a note that the row is of the first phase where there are several."""
    return f"{name}, phase {_name(forecast.phases[0])}" if len(forecast.phases) > 1 else name


def _name(phase: PhaseForecast) -> str:
    return f"{phase.span.number + 1}{', causal' if phase.recipe.masking.causal else ''}"


def _phases_table(forecast: Forecast, hardware: Hardware, utilisation: float) -> str:
    """Return a table of what each phase takes."""
    rows: list[tuple[str, ...]] = [
        ("phase", "steps", "rows a step", "of", "seen", "predicted", "FLOPs", "time", "memory")
    ]
    for phase in forecast.phases:
        flops, counts = phase.total_flops, phase.counts
        held = _memory_on(phase, forecast.parameters, hardware)[1]
        memory = f"{held.total / 1e9:,.1f} GB" if held else "–"
        share, steps, time = "–", "–", clock(3600 * phase.span.amount)  # a phase that ends by the clock
        if flops is not None:
            share = f"{flops:.3g} ({flops / (forecast.total_flops or 1):.0%})"
            steps, time = f"{phase.num_steps:,}", clock(seconds_of(flops, hardware, utilisation))
        numbers = (phase.recipe.batch.rows, counts.row_length, counts.seen, counts.targets)
        rows.append((_name(phase), steps, *(f"{number:,}" for number in numbers), share, time, memory))
    return aligned(rows, numbers_from=1)


def _parameters_and_memory(forecast: Forecast, parameters: Parameters, hardware: Hardware) -> str:
    micro_rows, memory = _memory_on(forecast.phases[0], parameters, hardware)
    assert memory is not None  # both are counted, or neither
    lines = [
        f"parameters      {parameters.trained / 1e6:,.1f} M trained, {parameters.exported / 1e6:,.1f} M exported",
        f"memory          {memory.total / 1e9:,.1f} GB with {micro_rows:,} rows a forward pass (an estimate):",
    ]
    for part, number in vars(memory).items():
        lines.append(f"  {part:<14}{number / 1e9:,.2f} GB")
    if hardware.memory_bytes is not None:
        lines.append(_fit(forecast, parameters, hardware, hardware.memory_bytes))
    return "\n".join(lines)


def _fit(forecast: Forecast, parameters: Parameters, hardware: Hardware, room: float) -> str:
    """Say whether a step fits a device, and which micro_rows would. Of several phases the largest step counts."""

    def taken(phase: PhaseForecast) -> int:
        memory = _memory_on(phase, parameters, hardware)[1]
        assert memory is not None
        return memory.total

    phase = max(forecast.phases, key=taken)
    recipe, shapes, total = phase.recipe, phase.shapes, taken(phase)
    device = f"{hardware.name} with its {room / 1e9:,.0f} GB, of which a tenth should stay free"
    setting = "batch.micro_rows"
    if len(forecast.phases) > 1:
        device += f" (phase {phase.span.number + 1}, which takes most: {total / 1e9:,.1f} GB)"
        setting = f"phases.{phase.span.number}.{setting}"
    fitting = micro_rows_that_fit(recipe, shapes, parameters, room)
    if recipe.batch.micro_rows == "auto" and fitting is not None:
        return f"  fits            {device}: {setting} auto begins with {fitting:,}"
    if fitting == recipe.batch.pass_of(recipe.batch.rows):
        return f"  fits            {device}"
    verdict = "DOES NOT FIT" if total > room else "HARDLY FITS"
    if fitting is not None:
        remedy = f"{setting}={fitting} fits; what is trained on stays the same"
    else:
        one_row = most_memory(recipe, shapes, parameters, 1)
        standing = one_row.weights + one_row.gradients + one_row.optimizer
        remedy = (
            f"no {setting} fits: one row needs {one_row.total / 1e9:,.1f} GB, {standing / 1e9:,.1f} GB of it "
            "for weights, gradients and optimizer states, which distributed=fsdp cuts up over several GPUs"
        )
    return f"  {verdict:<14}  {device}:\n                  {remedy}"


def _totals(forecast: Forecast, duration: str, hardware: Hardware, utilisation: float, watts: float | None) -> str:
    lines = []
    if forecast.total_flops is None or forecast.total_rows is None or forecast.total_head_flops is None:
        lines.append(f"the whole run   lasts {duration}; how much it computes in that time is up to the machine")
    else:
        seconds = seconds_of(forecast.total_flops, hardware, utilisation)
        lines.append(
            f"the whole run   {duration}: {forecast.total_rows:,.0f} rows, {forecast.total_flops:.3g} FLOPs, "
            f"{forecast.total_flops - forecast.total_head_flops:.3g} without the LM head"
        )
        lines.append(f"time            {clock(seconds)} ({seconds / 3600:,.1f} hours)")
        if watts is not None:
            lines.append(f"energy          {seconds * watts / 3.6e6:,.1f} kWh")
    power = "power not known" if watts is None else f"{watts:,.0f} W"
    best = f"{hardware.peak_flops_per_second / 1e12:,.3g} TFLOP/s"
    lines.append(
        f"assumed         {utilisation:.0%} of the {best} that the device does at best ({hardware.name}; "
        f"{hardware.source}), {power}"
    )
    return "\n".join(lines)
