"""The parts of a report in order, whatever format it is written in; and its Markdown."""

from dataclasses import dataclass

from masklater.report import glue_tables, scaling_tables, tables
from masklater.report.comparison import Comparison, different_settings
from masklater.report.curves import Picture
from masklater.report.quantities import WHAT
from masklater.report.runs import UNITS
from masklater.report.table import Table, markdown


@dataclass(frozen=True)
class Plots:
    """Plots that belong together."""

    title: str
    pictures: list[Picture]
    folded: bool = False  # a page shows only the title until it is opened


@dataclass(frozen=True)
class Document:
    """A report."""

    title: str
    findings: list[str]  # a sentence, then one for each run
    notes: list[str]
    blocks: list[Table | Plots]


def compose(comparison: Comparison, pictures: dict[str, Picture]) -> Document:
    """Compose the report of a comparison from its plots by name. Plots over the chosen unit come first."""
    baseline, unit = comparison.baseline_arm, comparison.unit

    def over(some_unit: str, *names: str) -> list[Picture]:
        return [pictures[key] for name in names if (key := f"{name}-{some_unit}") in pictures]

    scaling = comparison.scaling
    blocks: list[Table | Plots] = [tables.identities(comparison), *_scaling(comparison, pictures)]
    if any(run.final for run in baseline.runs) and not comparison.over_budgets:
        blocks.append(tables.reach(comparison))
    blocks.append(Plots(f"Held-out loss and accuracy over {WHAT[unit]}", over(unit, "loss", "accuracy")))
    blocks.append(tables.ends(comparison))
    if (by_source := tables.by_source(comparison)) is not None:
        blocks.append(by_source)
    if comparison.arm_scores:
        blocks.append(Plots(f"{comparison.benchmark} over {WHAT[unit]}", over(unit, "glue-average", "glue-tasks")))
        blocks.append(glue_tables.scores(comparison))
        if baseline.name in comparison.arm_scores and len(comparison.arm_scores) > 1:
            blocks.append(glue_tables.differences(comparison))
    if different_settings(comparison):
        blocks.append(tables.settings(comparison))
    for other in UNITS:
        if other != unit:
            group = over(other, "loss", "accuracy", "glue-average", "glue-tasks")
            blocks.append(Plots(f"The same over {WHAT[other]}", group, folded=True))
    return Document(
        title=_title(comparison),
        findings=scaling_tables.findings(scaling) if scaling and scaling.baseline else tables.findings(comparison),
        notes=list(comparison.notes),
        blocks=[block for block in blocks if isinstance(block, Table) or block.pictures],
    )


def _scaling(comparison: Comparison, pictures: dict[str, Picture]) -> list[Table | Plots]:
    """Compose the part about arms over several budgets."""
    scaling = comparison.scaling
    if scaling is None:
        return []
    blocks: list[Table | Plots] = []
    if scaling.baseline is not None:
        blocks.append(scaling_tables.record(comparison, scaling))
    for quality, title in (("loss", "Loss over budgets"), ("pairs", "BLiMP over budgets")):
        names = (f"law-{quality}", f"multiplier-{quality}")
        blocks.append(Plots(title, [pictures[name] for name in names if name in pictures]))
    blocks.append(scaling_tables.laws(scaling))
    for each in scaling.laws if scaling.baseline is not None else ():
        if scaling.costs(each):
            blocks.append(scaling_tables.multipliers(scaling, each))
    return blocks


def _title(comparison: Comparison) -> str:
    name, runs, arms = comparison.baseline_arm.name, len(comparison.runs), len(comparison.arms)
    if runs == 1:
        return f"The run {name}"
    if arms == 1:
        return f"{runs} seeds of {name}"
    return f"{runs} runs" + (f" in {arms} arms" if arms < runs else "") + f" compared, baseline {name}"


def as_markdown(document: Document, folder: str) -> str:
    """Return the report as Markdown, with plots as PNG files in a folder next to it."""
    parts = [f"# {document.title}", *document.findings[:1]]
    parts.append("\n".join(f"- {finding}" for finding in document.findings[1:]))
    if document.notes:
        parts += ["## To mind", "\n".join(f"- {note}" for note in document.notes)]
    for block in document.blocks:
        parts.append(f"## {block.title}")
        if isinstance(block, Table):
            parts += [markdown(block), block.caption, "\n".join(f"- {remark}" for remark in block.remarks)]
        else:
            parts += [f"![{picture.title}]({folder}/{picture.name}.png)" for picture in block.pictures]
    return "\n\n".join(part for part in parts if part) + "\n"


def as_text(document: Document) -> str:
    """Return a report as text for a terminal: its findings, its notes, and the tables."""
    parts = ["\n  ".join(document.findings)]
    parts += [f"Mind: {note}" for note in document.notes]
    parts += [f"{block.title}\n{markdown(block)}" for block in document.blocks if isinstance(block, Table)]
    return "\n\n".join(part for part in parts if part)
