"""Looks: what is found out about the documents of a part before any is left out.

A look holds the part's lines, or the verdict on each document by itself. Any process can make one; a single process
(`decide.py`) decides what follows from all of them.
"""

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from masklater import __version__
from masklater.corpus.counts import ReadCounts
from masklater.corpus.keep.contamination import EvaluationRuns
from masklater.corpus.keep.duplicates import LINE, LineCounts
from masklater.corpus.keep.kept import REASONS
from masklater.corpus.keep.verdict import judge
from masklater.corpus.parts.cut import Part, digest
from masklater.corpus.parts.work import OnProgress, Result, Task, Work, has_sizes
from masklater.corpus.read import Document, read_documents

LINES, CODES, COMPARED, SIGNATURES = "lines", "codes", "compared", "signatures"
"""Files: LINE entries; the number of each document's reason in REASONS; the hashes and signatures to compare by."""
DOCUMENT = np.dtype([("document", np.uint64), ("hash", np.uint64), ("signature_bytes", np.uint16)])
"""A document that is compared with all others, by its place in its part."""


class LinesResult(Result):
    """The lines of a part, bucket after bucket."""

    buckets: list[NonNegativeInt]  # number of entries in each

    def is_whole(self, folder: Path) -> bool:
        """Tell whether all entries are there."""
        return has_sizes(folder, {LINES: sum(self.buckets) * LINE.itemsize})

    def bucket(self, folder: Path, number: int) -> NDArray[np.void]:
        """Return the LINE entries of one bucket, ordered by hash."""
        start = sum(self.buckets[:number])
        return np.fromfile(folder / LINES, LINE, self.buckets[number], offset=start * LINE.itemsize)


@dataclass(frozen=True, kw_only=True)
class CountLines(Work[LinesResult]):
    """Counting, for each line, the documents of a part that contain it."""

    title = "Counting lines"
    done = "looked at"
    result = LinesResult

    def digest(self) -> str:
        """Return a hash of everything that decides the counts, except the part."""
        return digest(__version__, self.title)

    def make(self, task: Task, folder: Path, threads: int, on_progress: OnProgress) -> LinesResult:
        """Write the lines of a part into a folder."""
        lines, place = LineCounts(), -1
        for document in _documents(task.part, on_progress):
            place += document.begins
            lines.add(document.text, place)
        sizes = []
        with (folder / LINES).open("wb") as file:
            for entries in lines.counted():
                file.write(entries.tobytes())
                sizes.append(len(entries))
        return LinesResult(buckets=sizes)


class VerdictsResult(Result):
    """The verdicts on the documents of a part, each judged by itself."""

    documents: list[NonNegativeInt]  # number in each of its sources
    compared: NonNegativeInt  # number compared with all others
    signature_bytes: NonNegativeInt

    def is_whole(self, folder: Path) -> bool:
        """Tell whether there is an entry for each document."""
        compared = self.compared * DOCUMENT.itemsize
        return has_sizes(
            folder, {CODES: sum(self.documents), COMPARED: compared, SIGNATURES: self.signature_bytes}
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class JudgeDocuments(Work[VerdictsResult]):
    """Judging the documents of a part, each by itself, and computing the hashes to compare it by."""

    title = "Choosing documents"
    done = "looked at"
    result = VerdictsResult
    evaluation: EvaluationRuns | None
    lines_N: NDArray[np.uint64]  # hashes of the lines to remove, in order

    def digest(self) -> str:
        """Return a hash of everything that decides the verdicts, except the part."""
        runs = self.evaluation.by_length if self.evaluation else {}
        hashes = {length: hashlib.sha256(runs_P.tobytes()).hexdigest() for length, runs_P in sorted(runs.items())}
        lines = hashlib.sha256(self.lines_N.tobytes()).hexdigest()
        keep, marked_words = self.settings.keep.describe(), self.settings.marked_words
        return digest(__version__, self.title, keep, marked_words, hashes, lines)

    def make(self, task: Task, folder: Path, threads: int, on_progress: OnProgress) -> VerdictsResult:
        """Write the verdicts on a part's documents into a folder."""
        settings, place, compared, signature_bytes = self.settings, -1, 0, 0
        documents = {source.number: 0 for source in task.part.sources}
        with ExitStack() as opened:
            codes, entries, signatures = (
                opened.enter_context((folder / name).open("wb")) for name in (CODES, COMPARED, SIGNATURES)
            )
            read = _documents(task.part, on_progress)
            for verdict in judge(read, settings.keep, self.evaluation, self.lines_N, settings.marked_words):
                place += 1
                documents[verdict.source] += 1
                codes.write(bytes([REASONS.index(verdict.reason)]))
                if verdict.is_compared:
                    compared += 1
                    signature_bytes += len(verdict.signature)
                    entry = np.array((place, verdict.text_hash, len(verdict.signature)), DOCUMENT)
                    entries.write(entry.tobytes())
                    signatures.write(verdict.signature)
        return VerdictsResult(documents=[*documents.values()], compared=compared, signature_bytes=signature_bytes)


def _documents(part: Part, on_progress: OnProgress) -> Iterator[Document]:
    for source in part.sources:
        yield from read_documents(source, ReadCounts(), lambda read: on_progress(read, 0))
