"""What is kept of documents that stand in memory, as parts, and the slow twin of it: one document after the other."""

import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from masklater.corpus.keep import duplicates
from masklater.corpus.keep.contamination import EvaluationRuns
from masklater.corpus.keep.kept import Kept
from masklater.corpus.keep.quality import why_not
from masklater.corpus.keep.settings import KeepSettings
from masklater.corpus.parts import looks
from masklater.corpus.parts.cut import Part
from masklater.corpus.parts.decide import decide
from masklater.corpus.read import Document, Source
from masklater.corpus.settings import PrepareSettings


def decided(
    parts: Sequence[Sequence[Document]], num_sources: int, settings: KeepSettings, marked_words: bool = False
) -> Kept:
    """What `prepare` keeps of parts that hold these documents."""
    given = [
        Part(number, tuple(Source([], number=source, name=f"{number}") for source in range(num_sources)))
        for number in range(len(parts))
    ]
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patched:
        patched.setattr(looks, "_documents", lambda part, on_progress: iter(parts[part.number]))
        asked = PrepareSettings(keep=settings, marked_words=marked_words, workers=1)
        decision = decide(given, asked, Path(place), Path(place), None)
    begun = [sum(document.begins for document in part) for part in parts]
    assert decision.first_of_part == [sum(begun[:number]) for number in range(len(parts))]
    return decision.kept


def decided_one_by_one(documents: Sequence[Document], settings: KeepSettings) -> tuple[list[str], set[str]]:
    """The reason for each document, and the lines that go: with all texts in memory, and no hash but MinHash's."""
    starts = [place for place, document in enumerate(documents) if document.begins]
    whole = [documents[start:end] for start, end in pairwise([*starts, len(documents)])]
    in_documents = Counter(
        line for pieces in whole for line in {line.strip() for piece in pieces for line in piece.text.splitlines()}
    )
    gone = {
        line
        for line, number in in_documents.items()
        if "lines" in settings.dedup and number > settings.line_documents and len(line) >= duplicates.SHORTEST_LINE
    }
    evaluation = EvaluationRuns(settings.without) if settings.without else None
    near = duplicates.NearDuplicates(settings.near_threshold) if "near" in settings.dedup else None
    seen: set[str] = set()
    reasons = []
    for place, pieces in enumerate(whole):
        texts = [
            "".join(line for line in piece.text.splitlines(keepends=True) if line.strip() not in gone).strip()
            for piece in pieces
        ]
        is_whole = len(pieces) == 1
        reason = why_not(texts[0], settings, is_whole) or "" if texts[0] else "repeated lines only"
        if not reason and evaluation is not None and evaluation.share_with(texts[0]):
            reason = "evaluation text"
        characters = len(texts[0])
        for number, text in enumerate(texts[1:], start=2):
            characters += len(text)
            if not reason and number == len(texts) and characters < settings.min_characters:
                reason = "short"
            if not reason and settings.max_characters is not None and characters > settings.max_characters:
                reason = "long"
            if not reason and evaluation is not None and evaluation.share_with(" ".join(texts[:number])):
                reason = "evaluation text"
        is_again = False
        if not reason:  # what is left out is nothing that others are duplicates of
            is_again = "exact" in settings.dedup and texts[0] in seen
            seen.add(texts[0])
            if near is not None and near.is_later(duplicates.near_signature(texts[0]), place):
                reason = "near duplicate"
        reasons.append("exact duplicate" if is_again and reason in ("", "near duplicate") else reason)
    return reasons, gone
