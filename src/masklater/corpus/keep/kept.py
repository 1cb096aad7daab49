"""The documents that are kept: chosen in a reading of the corpus of its own, the same in every reading after it."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from masklater.corpus.keep.contamination import EvaluationRuns
from masklater.corpus.keep.duplicates import ExactDuplicates, NearDuplicates, RepeatedLines, without_lines
from masklater.corpus.keep.languages import Languages
from masklater.corpus.keep.quality import why_not
from masklater.corpus.keep.settings import KeepSettings
from masklater.corpus.keep.tokens import hash_of
from masklater.corpus.read import Document
from masklater.folders import write_file

REASONS = (
    "", "repeated lines only", "short", "long", "few letters", "repetitive", "other language", "evaluation text",
    "exact duplicate", "near duplicate", "another slice",
)  # fmt: skip
"""Why documents are left out, the first that holds; nothing at number 0: it is kept."""
REPEATED_LINE = "repeated line"
SAMPLES, SAMPLE_CHARACTERS = 20, 500
"""Of each reason, in the file of what is left out."""


class Kept:
    """The documents of a corpus that are kept, by their place in it, and the lines that are taken out of them."""

    def __init__(self, reasons: bytearray | bytes, first_of_source: list[int], lines_N: NDArray[np.uint64]) -> None:
        self.reasons = reasons  # a number of REASONS for each document
        self.lines_N = lines_N
        self.first_of_source = first_of_source
        codes_N = np.frombuffer(reasons, np.uint8)
        ends = [*first_of_source[1:], len(codes_N)]
        self.dropped_of_source = [
            Counter({REASONS[code]: int(number) for code, number in _counted(codes_N[first:end]) if code})
            for first, end in zip(first_of_source, ends, strict=True)
        ]

    @property
    def dropped(self) -> dict[str, int]:
        """The number of documents left out, by reason."""
        return dict(sum(self.dropped_of_source, Counter()))

    def apply(self, documents: Iterator[Document], samples: "Samples | None" = None) -> Iterator[Document]:
        """Yield the documents that are kept.

        Args:
            documents: All, as they were when it was chosen.
            samples: Takes what is left out.
        """
        place = -1
        for document in documents:
            place += document.begins
            if code := self.reasons[place]:
                if samples is not None and document.begins:
                    samples.add(REASONS[code], document.text, document.source)
                continue
            if not len(self.lines_N):
                yield document
                continue
            text, gone = without_lines(document.text, self.lines_N)
            if samples is not None and gone:
                samples.add_lines(document, text, gone)
            if text.strip():
                yield document._replace(text=text.strip())


def choose(documents: Callable[[str], Iterator[Document]], num_sources: int, settings: KeepSettings) -> Kept:
    """Decide what is kept.

    A document that is passed on in parts is judged by the first of them, but for its length and what it shares with
    evaluation sets.

    Args:
        documents: Begins a reading of the corpus, which is called by this name.
        num_sources: Its sources.
        settings: What is to be left out.

    Raises:
        UserError: A library that is needed is not installed, or an evaluation set cannot be read.
    """
    judge = _Judge(settings)
    lines_N = np.empty(0, np.uint64)
    if "lines" in settings.dedup:
        lines_N = _repeated_lines(documents("Counting lines"), settings.line_documents)
    reasons = bytearray()
    first_of_source: list[int] = []
    characters = 0
    for document in documents("Choosing documents"):
        if document.begins:
            first_of_source += [len(reasons)] * (document.source + 1 - len(first_of_source))
            reasons.append(0)
            characters = 0
        characters += len(document.text)
        if not reasons[-1]:
            text = without_lines(document.text, lines_N)[0].strip() if len(lines_N) else document.text
            reasons[-1] = REASONS.index(judge.reason(document, text, characters, len(reasons) - 1))
    first_of_source += [len(reasons)] * (num_sources - len(first_of_source))  # sources may hold nothing
    for place in judge.exact.later_ones() if judge.exact is not None else ():
        if REASONS[reasons[place]] in ("", "near duplicate"):  # what is the same is nearly the same too
            reasons[place] = REASONS.index("exact duplicate")
    return Kept(reasons, first_of_source, lines_N)


class _Judge:
    """The reasons to leave a document out, in the order of REASONS; it remembers those before."""

    def __init__(self, settings: KeepSettings) -> None:
        self.settings = settings
        self.begins_at, self.ends_at = (int(share * 2**64) for share in settings.of_documents)
        self.languages = Languages(settings.languages) if settings.languages else None
        self.evaluation = EvaluationRuns(settings.without) if settings.without else None
        self.near = NearDuplicates(settings.near_threshold) if "near" in settings.dedup else None
        self.exact = ExactDuplicates() if "exact" in settings.dedup else None

    def reason(self, document: Document, text: str, characters: int, place: int) -> str:
        """Return why a document is left out; nothing where it is kept, as far as is known before all have been read.

        Args:
            document: It, or a part of it.
            text: Of this, without repeated lines.
            characters: Of the document so far.
            place: Of the document in the corpus.
        """
        if not self.begins_at <= document.key < self.ends_at:
            return "another slice"
        most = self.settings.max_characters
        if not document.begins and most is not None and characters > most:
            return "long"
        if document.begins and (reason := self._by_itself(text)):
            return reason
        if self.evaluation is not None and self.evaluation.share_with(text):
            return "evaluation text"
        if document.begins and self.exact is not None:
            self.exact.add(document.key if text == document.text else hash_of(text), place)
        is_later = document.begins and self.near is not None and self.near.is_later(text, place)
        return "near duplicate" if is_later else ""

    def _by_itself(self, text: str) -> str | None:
        if not text:
            return "repeated lines only"
        if (reason := why_not(text, self.settings)) is not None:
            return reason
        return "other language" if self.languages is not None and not self.languages.include(text) else None


def _repeated_lines(documents: Iterator[Document], most: int) -> NDArray[np.uint64]:
    lines, place = RepeatedLines(most), -1
    for document in documents:
        place += document.begins
        lines.add(document.text, place)
    return lines.in_many()


def _counted(codes_N: NDArray[np.uint8]) -> list[tuple[int, int]]:
    return [(code, number) for code, number in enumerate(np.bincount(codes_N, minlength=len(REASONS))) if number]


class Samples:
    """What is left out: a few documents for each reason, and how many lines were taken out of those that are kept."""

    def __init__(self, source_names: list[str]) -> None:
        self.source_names = source_names
        self.lines = 0
        self.taken: Counter[str] = Counter()
        self.lines_taken: set[str] = set()
        self.records: list[dict[str, str]] = []

    def add(self, reason: str, text: str, source: int) -> None:
        """Take a document."""
        if self.taken[reason] < SAMPLES:
            self.taken[reason] += 1
            self.records.append(
                {"reason": reason, "source": self.source_names[source], "text": text[:SAMPLE_CHARACTERS]}
            )

    def add_lines(self, document: Document, rest: str, gone: int) -> None:
        """Take the lines that a document is without."""
        self.lines += gone
        if self.taken[REPEATED_LINE] == SAMPLES:
            return
        kept = set(rest.splitlines())
        for line in document.text.splitlines():
            if line not in kept and (line := line.strip()) and line not in self.lines_taken:
                self.lines_taken.add(line)
                self.add(REPEATED_LINE, line, document.source)

    def take_over(self, records: list[dict[str, str]], lines: int) -> None:
        """Take what the next part of the corpus has left out."""
        self.lines += lines
        before = {record["text"] for record in self.records if record["reason"] == REPEATED_LINE}
        for record in records:
            reason = record["reason"]
            if self.taken[reason] < SAMPLES and not (reason == REPEATED_LINE and record["text"] in before):
                self.taken[reason] += 1
                self.records.append(record)

    def write(self, path: Path) -> None:
        """Write them as JSON lines, reason by reason."""
        ordered = sorted(self.records, key=lambda record: record["reason"])
        write_file(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in ordered))
