"""The decision which documents are kept: parts are inspected in parallel, then compared with each other in order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from masklater.console import Meter
from masklater.corpus.keep.buckets import NUMBER
from masklater.corpus.keep.contamination import EvaluationRuns
from masklater.corpus.keep.duplicates import ExactDuplicates, NearDuplicates, in_many
from masklater.corpus.keep.kept import REASONS, Kept
from masklater.corpus.keep.settings import KeepSettings
from masklater.corpus.keep.verdict import check_libraries
from masklater.corpus.parts.cut import Part
from masklater.corpus.parts.engines import make_parts
from masklater.corpus.parts.looks import (
    CODES,
    COMPARED,
    DOCUMENT,
    SIGNATURES,
    CountLines,
    JudgeDocuments,
    LinesResult,
    VerdictsResult,
)
from masklater.corpus.parts.work import tasks_of
from masklater.corpus.settings import PrepareSettings

READ_AT_ONCE = 2**16
KEPT, NEAR, EXACT = map(REASONS.index, ("", "near duplicate", "exact duplicate"))


@dataclass(frozen=True)
class Decision:
    """The decision which documents are kept."""

    kept: Kept
    first_of_part: list[int]  # the place in the corpus of each part's first document
    peak_memory_bytes: int  # of the largest process that has inspected a part


def decide(parts: Sequence[Part], settings: PrepareSettings, place: Path, out: Path, ray: str | None) -> Decision:
    """Decide which documents of a corpus are kept.

    Args:
        parts: All parts.
        settings: Which documents are left out, and how many processes inspect parts.
        place: The folder of results ("looks"). Those of the same parts with the same settings are reused.
        out: The folder that messages about the disk name.
        ray: The address of a Ray cluster that inspects the parts, or `auto`; None: processes of this machine.

    Raises:
        UserError: A library that is needed is not installed, an input is damaged, or an evaluation set cannot be read.
    """
    keep = settings.keep
    check_libraries(keep)
    evaluation = EvaluationRuns(keep.without) if keep.without else None
    lines_N, peak = np.empty(0, np.uint64), 0
    if "lines" in keep.dedup:
        count = CountLines(settings=settings, place=place, out=out)
        tasks = tasks_of(parts, count)
        lines = make_parts(tasks, count, ray)
        lines_N = repeated_lines([(place / task.name) for task in tasks], lines.results, keep.line_documents)
        peak = lines.peak_memory_bytes
    work = JudgeDocuments(settings=settings, place=place, out=out, evaluation=evaluation, lines_N=lines_N)
    tasks = tasks_of(parts, work)
    made = make_parts(tasks, work, ray)
    codes = _without_duplicates([place / task.name for task in tasks], made.results, keep)
    firsts = np.cumsum([0, *(sum(result.documents) for result in made.results)]).tolist()
    kept = Kept(codes, _first_of_source(parts, made.results), lines_N)
    return Decision(kept, firsts[:-1], max(peak, made.peak_memory_bytes))


def repeated_lines(folders: Sequence[Path], looks: Sequence[LinesResult], most: int) -> NDArray[np.uint64]:
    """Return the hashes, in order, of the lines in more documents than allowed; a 64th is in memory at a time.

    Args:
        folders: The folders of the looks.
        looks: The lines of all parts.
        most: The number of documents that may contain a line.
    """
    pairs = [*zip(folders, looks, strict=True)]
    buckets = (np.concatenate([look.bucket(folder, number) for folder, look in pairs]) for number in range(NUMBER))
    return np.concatenate([in_many(counted, most) for counted in buckets])


def _first_of_source(parts: Sequence[Part], looks: Sequence[VerdictsResult]) -> list[int]:
    """Return the place of each source's first document. A source may be empty, or in several parts."""
    numbers = [source.number for part in parts for source in part.sources]
    documents = np.bincount(numbers, [number for look in looks for number in look.documents]).astype(int)
    return np.cumsum([0, *documents[:-1]]).tolist()


def _without_duplicates(folders: Sequence[Path], looks: Sequence[VerdictsResult], settings: KeepSettings) -> bytearray:
    """Return the number of each document's reason, after all documents have been compared in order."""
    near = NearDuplicates(settings.near_threshold) if "near" in settings.dedup else None
    exact = ExactDuplicates() if "exact" in settings.dedup else None
    codes = bytearray()
    with Meter("Comparing documents", sum(look.compared for look in looks)) as meter:
        for folder in folders:
            first = len(codes)
            codes += (folder / CODES).read_bytes()
            for entries, signatures in _compared_in(folder):
                documents_N = entries["document"] + np.uint64(first)
                if exact is not None:
                    exact.add(entries["hash"].copy(), documents_N)
                for document, signature in zip(documents_N.tolist(), signatures, strict=True):
                    if near is not None and near.is_later(signature, document):
                        codes[document] = NEAR
                meter.advance(len(entries))
    for places_N in exact.later_ones() if exact is not None else ():
        for place in places_N.tolist():
            if codes[place] in (KEPT, NEAR):  # an exact duplicate is a near duplicate too
                codes[place] = EXACT
    return codes


def _compared_in(folder: Path) -> Iterator[tuple[NDArray[np.void], list[bytes]]]:
    with (folder / COMPARED).open("rb") as file, (folder / SIGNATURES).open("rb") as signatures:
        while content := file.read(READ_AT_ONCE * DOCUMENT.itemsize):
            entries = np.frombuffer(content, DOCUMENT)
            yield entries, [signatures.read(size) for size in entries["signature_bytes"].tolist()]
