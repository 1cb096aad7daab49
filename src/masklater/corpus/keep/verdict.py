"""Documents judged one by one, and the hashes and signatures by which each is compared with all others.

The result is the same in any process and any order.
"""

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
    """What is found out about a document by itself."""

    reason: str  # why it is left out; empty: no reason was found
    source: int
    is_compared: bool = False  # with all others, by the next two; False where there is a reason already
    text_hash: int = 0  # of the text of its first part
    signature: bytes = b""  # likewise, of its runs of words; empty where near duplicates are not looked for


def judge(
    documents: Iterator[Document],
    settings: KeepSettings,
    evaluation: EvaluationRuns | None,
    lines_N: NDArray[np.uint64],
    marked_words: bool = False,
) -> Iterator[Verdict]:
    """Judge documents, each once, by the text that is kept of them.

    A long document, which is passed on in parts, is judged by its first part, nearly all of MAX_DOCUMENT_CHARS. Its
    length and what it shares with evaluation sets are judged over all parts.

    Args:
        documents: The documents, in the order they are read.
        settings: Which documents are left out.
        evaluation: Runs of words that may not be trained on; None: there are none.
        lines_N: Hashes of the lines to remove, in order.
        marked_words: Whether WORD_MARK between words is removed.

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
    """Yield documents and parts of them, each with whether its document ends there."""
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
        """Return a text as it will be tokenised: without the marks of words."""
        return text.replace(WORD_MARK, "") if self.marked_words else text

    def of_beginning(self, document: Document, left: str, is_whole: bool) -> Verdict:
        """Judge a document by its first part, of which `left` remains after repeated lines are removed."""
        text = self.without_marks(left)
        if reason := self._reason(document.key, left, text, is_whole):
            return Verdict(reason, document.source)
        text_hash = document.key if text == document.text else hash_of(text)
        signature = near_signature(text) if "near" in self.settings.dedup else b""
        return Verdict("", document.source, True, text_hash, signature)

    def reason_later(self, left: str, characters: int, is_last: bool) -> str:
        """Return why a later part makes a document left out, given its characters so far; empty where it does not."""
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
    """Return the language model, which is loaded once per process."""
    return Languages(wanted)
