"""The documents that are kept, the same in every reading of the corpus, and samples of those that are left out."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from masklater.corpus.keep.duplicates import without_lines
from masklater.corpus.read import Document
from masklater.errors import UserError
from masklater.folders import write_file

REASONS = (
    "", "repeated lines only", "short", "long", "few letters", "repetitive", "other language", "evaluation text",
    "exact duplicate", "near duplicate", "another slice",
)  # fmt: skip
"""Why documents are left out; the first reason that holds counts. Number 0, the empty reason: the document is kept."""
REPEATED_LINE = "repeated line"
SAMPLES, SAMPLE_CHARACTERS = 20, 500
"""The number of samples for each reason, and the characters of each, in the file of what is left out."""


class Kept:
    """The documents of a corpus that are kept, by their place in it, and the lines that are removed from them."""

    def __init__(self, reasons: bytearray | bytes, first_of_source: list[int], lines_N: NDArray[np.uint64]) -> None:
        self.reasons = reasons  # for each document an index into REASONS
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
            documents: All documents, in the order in which they were judged.
            samples: Collects what is left out.

        Raises:
            UserError: There are more or fewer documents than were judged, so that it is unknown which to keep.
        """
        place = -1
        for document in documents:
            place += document.begins
            if place == len(self.reasons):
                raise _changed(f"more documents than the {place:,}")
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
        if place + 1 < len(self.reasons):
            raise _changed(f"{place + 1:,} documents, not the {len(self.reasons):,}")


def _changed(found: str) -> UserError:
    return UserError(
        f"the input has changed since it was looked at: it holds {found} of which it was chosen what to keep",
        "Run the command again when nothing writes to the input any more, or prepare a copy of it.",
    )


def _counted(codes_N: NDArray[np.uint8]) -> list[tuple[int, int]]:
    return [(code, number) for code, number in enumerate(np.bincount(codes_N, minlength=len(REASONS))) if number]


class Samples:
    """Samples of what is left out: a few documents for each reason, and the lines removed from kept documents."""

    def __init__(self, source_names: list[str]) -> None:
        self.source_names = source_names
        self.lines = 0
        self.taken: Counter[str] = Counter()
        self.lines_taken: set[str] = set()
        self.records: list[dict[str, str]] = []

    def add(self, reason: str, text: str, source: int) -> None:
        """Add a document."""
        if self.taken[reason] < SAMPLES:
            self.taken[reason] += 1
            self.records.append(
                {"reason": reason, "source": self.source_names[source], "text": text[:SAMPLE_CHARACTERS]}
            )

    def add_lines(self, document: Document, rest: str, gone: int) -> None:
        """Add the lines that were removed from a document."""
        self.lines += gone
        if self.taken[REPEATED_LINE] == SAMPLES:
            return
        kept = set(rest.splitlines())
        for line in document.text.splitlines():
            if line not in kept and (line := line.strip()) and line not in self.lines_taken:
                self.lines_taken.add(line)
                self.add(REPEATED_LINE, line, document.source)

    def take_over(self, records: list[dict[str, str]], lines: int) -> None:
        """Add what the next part of the corpus left out."""
        self.lines += lines
        before = {record["text"] for record in self.records if record["reason"] == REPEATED_LINE}
        for record in records:
            reason = record["reason"]
            if self.taken[reason] < SAMPLES and not (reason == REPEATED_LINE and record["text"] in before):
                self.taken[reason] += 1
                self.records.append(record)

    def write(self, path: Path) -> None:
        """Write the samples as JSON lines, reason by reason."""
        ordered = sorted(self.records, key=lambda record: record["reason"])
        write_file(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in ordered))
