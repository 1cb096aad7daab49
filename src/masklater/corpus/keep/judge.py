"""Documents judged each by itself, and what each is told apart from all others by: in any process, in any order."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from masklater.corpus.keep.contamination import EvaluationRuns, EvaluationSearch
from masklater.corpus.keep.duplicates import near_signature, without_lines
from masklater.corpus.keep.languages import Languages
from masklater.corpus.keep.quality import why_not
from masklater.corpus.keep.settings import KeepSettings
from masklater.corpus.marked import WORD_MARK
from masklater.corpus.read import Document
from masklater.corpus.text_hash import hash_of


class Verdict(NamedTuple):
    """What a document is by itself."""

    reason: str  # to leave it out; nothing: there is none
    source: int
    is_compared: bool = False  # with all others, by the next two; not where there is a reason already
    text_hash: int = 0  # of its beginning
    signature: bytes = b""  # likewise, of its runs of words; nothing where near duplicates are not looked for


def judge(
    documents: Iterator[Document],
    settings: KeepSettings,
    evaluation: EvaluationRuns | None,
    lines_N: NDArray[np.uint64],
    marked_words: bool = False,
) -> Iterator[Verdict]:
    """Judge documents, each once, by the text that is kept of them.

    A document that is passed on in parts is judged by the first of them, which is nearly all of MAX_DOCUMENT_CHARS, but
    for its length and what it shares with evaluation sets.

    Args:
        documents: In order, as they are read.
        settings: What is to be left out.
        evaluation: Runs of words that may not be trained on; None: there are none.
        lines_N: Hashes of the lines that are taken out, in order.
        marked_words: Whether WORD_MARK between words is no text.

    Raises:
        UserError: A library that is needed is not installed.
    """
    one = _Judge(settings, evaluation, marked_words)
    verdict: Verdict | None = None
    characters = 0
    for document, is_last in _with_ends(documents):
        if document.begins:
            verdict, characters = None, 0
        if verdict is None or not verdict.reason:
            left = without_lines(document.text, lines_N)[0].strip() if len(lines_N) else document.text
            characters += len(one.without_marks(left))
            if verdict is None:
                verdict = one.of_beginning(document, left, is_last)
            elif reason := one.reason_later(left, characters, is_last):
                verdict = Verdict(reason, verdict.source)
        if is_last:
            yield verdict


def _with_ends(documents: Iterator[Document]) -> Iterator[tuple[Document, bool]]:
    """Documents and parts of them, each with whether its document ends with it."""
    for document, after in pairwise(chain(documents, [None])):
        if document is not None:
            yield document, after is None or after.begins


def check_libraries(settings: KeepSettings) -> None:
    """Raise UserError where a library that judging needs is not installed, or does not know a language."""
    if settings.languages:
        _languages(settings.languages)
    if "near" in settings.dedup:
        near_signature("")


class _Judge:
    def __init__(self, settings: KeepSettings, evaluation: EvaluationRuns | None, marked_words: bool) -> None:
        self.settings, self.marked_words = settings, marked_words
        self.evaluation = None if evaluation is None else EvaluationSearch(evaluation)
        self.begins_at, self.ends_at = (int(share * 2**64) for share in settings.of_documents)

    def without_marks(self, text: str) -> str:
        """Return a text as it will be tokenised."""
        return text.replace(WORD_MARK, "") if self.marked_words else text

    def of_beginning(self, document: Document, left: str, is_whole: bool) -> Verdict:
        """Judge a document by its beginning, of which so much is left without repeated lines."""
        text = self.without_marks(left)
        if reason := self._reason(document.key, left, text, is_whole):
            return Verdict(reason, document.source)
        text_hash = document.key if text == document.text else hash_of(text)
        signature = near_signature(text) if "near" in self.settings.dedup else b""
        return Verdict("", document.source, True, text_hash, signature)

    def reason_later(self, left: str, characters: int, is_last: bool) -> str:
        """Return why a document is left out for a later part of it, with so many characters so far; mostly nothing."""
        if is_last and characters < self.settings.min_characters:
            return "short"
        if self.settings.max_characters is not None and characters > self.settings.max_characters:
            return "long"
        return "evaluation text" if self._is_for_evaluation(self.without_marks(left), begins=False) else ""

    def _reason(self, key: int, left: str, text: str, is_whole: bool) -> str:
        if not self.begins_at <= key < self.ends_at:
            return "another slice"
        if not left:
            return "repeated lines only"
        if (reason := why_not(text, self.settings, is_whole)) is not None:
            return reason
        if self.settings.languages and not _languages(self.settings.languages).include(text):
            return "other language"
        return "evaluation text" if self._is_for_evaluation(text, begins=True) else ""

    def _is_for_evaluation(self, text: str, begins: bool) -> bool:
        return self.evaluation is not None and self.evaluation.finds_in(text, begins)


@lru_cache(maxsize=1)
def _languages(wanted: tuple[str, ...]) -> Languages:
    """The model, made once in each process."""
    return Languages(wanted)
