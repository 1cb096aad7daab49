"""The results of benchmarks/gpu.py as Markdown, for docs/performance.md. Missing results are listed as not measured."""

import json
from pathlib import Path

from gpu_cells import Done, Size

NOT_MEASURED = "not measured"


def table(out: Path, size: Size) -> str:
    """Return all tables of a folder, finished or not."""
    done = {part.name: _read(out / f"{part.name}.json") for part in size.parts}
    missing = [name for name, result in done.items() if result is None]
    parts = [
        _machine(done.get("machine")),
        _tests(done.get("tests")),
        _steps(out, size),
        _stock(done.get("stock"), out, size),
        _head(done.get("head")),
        _kernels(out, size),
        _growth(done.get("growth")),
        _runs(done.get("quickstart"), done.get("pretrain")),
        f"Not finished: {', '.join(missing)}." if missing else "",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _read(path: Path) -> Done | None:
    return json.loads(path.read_text()) if path.exists() else None


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, tuple("---" for _ in header), *rows)]
    return "\n".join(lines)


def _machine(done: Done | None) -> str:
    if done is None:
        return ""
    return (
        f"{done['device']}, at best {done['peak_flops_per_second'] / 1e12:.3g} TFLOP/s ({done['peak_source']}); "
        f"{done['precision']}; torch {done['torch']} (CUDA {done['cuda']}), transformers {done['transformers']}; "
        f"attention kernels: {done['attention_kernels'] or 'those of a CPU'}."
    )


def _tests(done: Done | None) -> str:
    if done is None:
        return ""
    failed = "".join(f"\n- {name}" for name in done["failed"])
    return f"`tests/gpu`: {done['summary']}{failed}"


def _steps(out: Path, size: Size) -> str:
    header = (
        "recipe", "rows x L", "layers", "rows/s", "M tokens/s", "share of peak", "step, ms", "kernels, ms",
        "forecast at 40%, ms", "memory, GB", "forecast, GB", "first step, s",
    )  # fmt: skip
    rows = []
    for part in size.parts:
        for cell in part.cells:
            point = _read(out / "points" / f"{cell}.json")
            mask = "" if cell.attend == "document" else ", no mask"
            name = (cell.recipe, f"{cell.rows} x {cell.row_length}", ("compiled" if cell.compiled else "eager") + mask)
            if point is None or "failed" in point:
                rows.append((*name, NOT_MEASURED if point is None else point["failed"], *("" for _ in header[4:])))
                continue
            rows.append((
                *name, f"{point['rows_per_second']:,.1f}",
                f"{point['rows_per_second'] * cell.row_length / 1e6:.3f}", f"{point['utilisation']:.1%}",
                f"{point['step_seconds'] * 1e3:,.1f}", f"{point['device_seconds'] * 1e3:,.1f}",
                f"{point['forecast_step_seconds'] * 1e3:,.1f}",
                f"{point['bytes'] / 1e9:.2f}", f"{point['forecast_bytes'] / 1e9:.2f}",
                f"{point['first_step_seconds']:.1f}",
            ))  # fmt: skip
    return _table(header, rows) + _ratios(out, size)


def _ratios(out: Path, size: Size) -> str:
    """Return 3ML's time over vanilla's, at the shapes where both were measured."""
    lines = []
    for part in size.parts:
        for ours, usual in zip(part.cells, part.cells[1:], strict=False):
            same = (ours.rows, ours.row_length, ours.compiled, ours.attend) == (
                usual.rows, usual.row_length, usual.compiled, usual.attend
            )  # fmt: skip
            one, other = (_read(out / "points" / f"{cell}.json") for cell in (ours, usual))
            if same and ours.recipe.startswith("3ml") and one and other and "failed" not in {**one, **other}:
                ratio = one["step_seconds"] / other["step_seconds"]
                shape = f"{ours.rows} x {ours.row_length}, {'compiled' if ours.compiled else 'eager'}"
                lines.append(f"- {ours.recipe} over {usual.recipe}, {shape}: {ratio:.3f} of the time of a row")
    return "\n\n" + "\n".join(lines) if lines else ""


def _stock(done: Done | None, out: Path, size: Size) -> str:
    if done is None:
        return ""
    rows = []
    for point in done["points"]:
        shape = (point["rows"], point["row_length"])
        ours = [
            found["rows_per_second"]
            for part in size.parts
            for cell in part.cells
            if point["size"] in cell.recipe and cell.recipe.startswith("3ml") and (cell.rows, cell.row_length) == shape
            and (found := _read(out / "points" / f"{cell}.json")) and "rows_per_second" in found
        ]  # fmt: skip
        ratio = f"{max(ours) / point['rows_per_second']:.2f}" if ours else NOT_MEASURED
        way = "compiled" if point["compiled"] else "eager"
        rows.append((
            point["size"], f"{shape[0]} x {shape[1]}", way, f"{point['rows_per_second']:,.1f}",
            f"{point['bytes'] / 1e9:.2f}", ratio,
        ))  # fmt: skip
    header = ("Trainer, bfloat16", "rows x L", "layers", "rows/s", "memory, GB", "3ML's rows/s over it")
    return _table(header, rows)


def _head(done: Done | None) -> str:
    if done is None:
        return ""
    rows = [
        (f"{point['vocabulary']:,}", "compiled" if point["compiled"] else "eager", f"{point['targets']:,}",
         f"{point['seconds'] * 1e3:.2f}")
        for point in done["points"]
    ]  # fmt: skip
    return _table(("LM head alone, V", "loss", "targets", "ms, forward and backward"), rows)


def _kernels(out: Path, size: Size) -> str:
    """Return where the time of the fastest step goes."""
    cells = [str(cell) for part in size.parts for cell in part.cells]
    points = [point for cell in cells if (point := _read(out / "points" / f"{cell}.json")) and "utilisation" in point]
    if not points:
        return ""
    best = max(points, key=lambda point: point["utilisation"])
    rows = [
        (f"`{name}`", f"{seconds / best['device_seconds']:.1%}", str(calls))
        for name, seconds, calls in best["longest_kernels"][:15]
    ]
    title = f"A step of {best['cell']}, {best['launches']:,} launches:"
    return f"{title}\n\n" + _table(("kernel", "share of their time", "calls"), rows)


def _growth(done: Done | None) -> str:
    return "" if done is None else f"Growth with the length of rows:\n\n```\n{done['text'].strip()}\n```"


def _runs(quick: Done | None, medium: Done | None) -> str:
    lines = []
    if quick is not None:
        lines.append(
            f"`quickstart`: {quick['steps']:,} steps, {quick['rows_per_second']:,.0f} rows/s, held out "
            f"{quick['valid_loss']:.3f} nats where guessing by frequency has {quick['unigram_loss']:.3f}."
        )
    if medium is not None:
        lines.append(
            f"A run of {medium['seconds']:,.0f} s at a medium size: {medium['steps']:,} steps, "
            f"{medium['tokens'] / 1e6:,.1f} M tokens, {medium['rows_per_second']:,.0f} rows/s, "
            f"{medium['utilisation']:.1%} of the peak, held out {medium['valid_loss']:.3f} nats, at 15% [MASK] "
            f"{medium['valid_loss_15']:.3f} nats and {medium['valid_accuracy_15']:.1%} right."
        )
    return "\n".join(lines)
