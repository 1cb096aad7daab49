"""`masklater compare`: RUN folders in, one REPORT folder out."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from masklater.console import Meter, say
from masklater.folders import complete_folder, refuse_existing
from masklater.report.caveats import caveats, of_pairs
from masklater.report.comparison import Comparison, check_comparable, choose_baseline
from masklater.report.curves import Picture, curve, glue_average, glue_tasks
from masklater.report.document import Document, as_markdown, compose
from masklater.report.figures import figures
from masklater.report.page import as_html
from masklater.report.runs import UNITS, Unit, distinct_names, read_run
from masklater.report.scaling_plots import law_plot, multiplier_plot
from masklater.report.whose import find_pairs, find_scores

PLOTS = "plots"


def compare(
    paths: Sequence[Path],
    out: Path,
    unit: Unit = "flops",
    baseline: Path | None = None,
    scores: Sequence[Path] = (),
    hash_of: Callable[[Path], str] | None = None,
) -> tuple[Document, dict[str, Any]]:
    """Write a REPORT on some runs: index.html, report.md, report.json and plots.

    Args:
        paths: RUN folders, one or more.
        out: The REPORT folder to make.
        unit: The x axis of the first plots.
        baseline: The run the others are compared with; None: the first.
        scores: SCORES folders besides RUN/scores.
        hash_of: Returns the hash that SCORES would have of an encoder's folder; None: such folders are not read.

    Returns:
        the report, and its figures as in report.json.

    Raises:
        UserError: A folder is of the wrong kind, the runs cannot be compared, or `out` exists already.
    """
    refuse_existing(out)
    names = distinct_names(list(paths))
    runs = []
    with Meter("Reading runs", len(paths)) as meter:
        for path, name in zip(paths, names, strict=True):
            runs.append(read_run(path, name))
            meter.advance(1, name)
    check_comparable(runs)
    chosen = choose_baseline(runs, baseline)
    found, left_out = find_scores(runs, scores, hash_of)
    pairs, left_out_pairs = find_pairs(runs)
    notes = (*caveats(runs, chosen, found), *of_pairs(runs, pairs), *left_out, *left_out_pairs)
    comparison = Comparison(tuple(runs), chosen, unit, found, notes, pairs)

    drawings = _drawings(comparison)
    pictures: dict[str, Picture] = {}
    with Meter("Drawing", len(drawings)) as meter:
        for draw in drawings:
            picture = draw()
            pictures[picture.name] = picture
            meter.advance(1, picture.name)
    if boxes := sorted({character for picture in pictures.values() for character in picture.without_glyph}):
        say(
            f"the plots as .png have boxes for {''.join(boxes)}, which matplotlib's font lacks; index.html and the "
            "plots as .svg show them. A font that has them is named as font.family in matplotlibrc."
        )
    document, tree = compose(comparison, pictures), figures(comparison)
    with complete_folder(out) as partial:
        (partial / PLOTS).mkdir()
        for picture in pictures.values():
            (partial / PLOTS / f"{picture.name}.png").write_bytes(picture.png)
            (partial / PLOTS / f"{picture.name}.svg").write_text(picture.svg, encoding="utf-8")
        (partial / "report.md").write_text(as_markdown(document, PLOTS), encoding="utf-8")
        (partial / "report.json").write_text(json.dumps(tree, indent=1, allow_nan=False), encoding="utf-8")
        (partial / "index.html").write_text(as_html(document), encoding="utf-8")
    return document, tree


def _drawings(comparison: Comparison) -> list[Callable[[], Picture]]:
    """Return a function for every plot that has something to show, over each unit."""
    drawings: list[Callable[[], Picture]] = []
    if comparison.scaling is not None:
        for quality, laws in comparison.scaling.laws.items():
            if laws:
                drawings.append(partial(law_plot, comparison, quality))
            if comparison.scaling.baseline is not None and comparison.scaling.costs(quality):
                drawings.append(partial(multiplier_plot, comparison, quality))
    for unit in UNITS:
        if any(run.evaluations for run in comparison.runs):
            drawings.append(partial(curve, comparison, unit, "loss"))
            drawings.append(partial(curve, comparison, unit, "accuracy"))
        if any(scores.average for scores in comparison.scores.values()):
            drawings.append(partial(glue_average, comparison, unit))
        if any(scores.tasks for scores in comparison.scores.values()):
            drawings.append(partial(glue_tasks, comparison, unit))
    return drawings
