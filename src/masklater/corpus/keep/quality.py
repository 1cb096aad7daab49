"""Filters of single documents, each off unless asked for. The thresholds of repetition are Gopher's.

Rae et al. 2021, Scaling Language Models (arXiv 2112.11446), table A1.
"""

from collections import Counter
from collections.abc import Iterable
from unicodedata import category

from masklater.corpus.keep.settings import KeepSettings
from masklater.corpus.marked import WORD_MARK

MOST_REPEATED_LINES, MOST_REPEATED_PARAGRAPHS = 0.30, 0.30
"""Largest shares of lines, and of paragraphs, that are repetitions of earlier ones in the document."""
MOST_CHARACTERS_IN_LINES, MOST_CHARACTERS_IN_PARAGRAPHS = 0.20, 0.20
"""Largest shares of the characters that are in such lines, and in such paragraphs."""
MOST_IN_TOP_RUN = {2: 0.20, 3: 0.18, 4: 0.16}
"""By number of words: the largest share of characters in the most frequent run of that many words."""
MOST_IN_REPEATED_RUNS = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
"""By number of words: the largest share of characters in runs of that many words that occur more than once."""


def why_not(text: str, settings: KeepSettings, is_whole: bool = True) -> str | None:
    """Return the reason to leave a document out, judged by itself; None: there is none.

    Args:
        text: The text of the document, or of the first part of a long one, which is never called short.
        settings: Which documents are left out.
        is_whole: Whether the text is the whole document.
    """
    if is_whole and len(text) < settings.min_characters:
        return "short"
    if settings.max_characters is not None and len(text) > settings.max_characters:
        return "long"
    if settings.min_letters and share_of_letters(text) < settings.min_letters:
        return "few letters"
    if settings.drop_repetitive and is_repetitive(text):
        return "repetitive"
    return None


def share_of_letters(text: str) -> float:
    """Return the share of letters, combining marks included, among the characters that are not white space."""
    text = text.replace(WORD_MARK, " ")  # not white space to Unicode
    signs = Counter(category(character)[0] for character in text if not character.isspace())
    return (signs["L"] + signs["M"]) / max(signs.total(), 1)  # without marks, Indic scripts would have too few letters


def is_repetitive(text: str) -> bool:
    """Tell whether a document repeats itself beyond any of Gopher's thresholds."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    paragraphs = [part.strip() for part in text.split("\n\n") if part.strip()]
    if _repeated_share(lines) > MOST_REPEATED_LINES or _repeated_share(paragraphs) > MOST_REPEATED_PARAGRAPHS:
        return True
    if _repeated_characters(lines, text) > MOST_CHARACTERS_IN_LINES:
        return True
    if _repeated_characters(paragraphs, text) > MOST_CHARACTERS_IN_PARAGRAPHS:
        return True
    words = text.split()
    total = sum(map(len, words))
    return any(_top_run(words, n) > most * total for n, most in MOST_IN_TOP_RUN.items()) or any(
        _repeated_runs(words, n) > most * total for n, most in MOST_IN_REPEATED_RUNS.items()
    )


def _repeated_share(parts: list[str]) -> float:
    return 1 - len(set(parts)) / len(parts) if parts else 0.0


def _repeated_characters(parts: list[str], text: str) -> float:
    seen: set[str] = set()
    repeated = 0
    for part in parts:
        repeated += len(part) if part in seen else 0
        seen.add(part)
    return repeated / max(len(text), 1)


def _runs(words: list[str], length: int) -> Iterable[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(length)), strict=False)


def _top_run(words: list[str], length: int) -> int:
    """Return the characters in all occurrences of the most frequent run; of equally frequent runs, of the longest."""
    counted = Counter(_runs(words, length))
    best = max((((number, sum(map(len, run))) for run, number in counted.items())), default=(1, 0))
    return best[0] * best[1] if best[0] > 1 else 0


def _repeated_runs(words: list[str], length: int) -> int:
    """Return the characters of the words that are in a repetition of a run; each word counts once."""
    seen: set[tuple[str, ...]] = set()
    covered = characters = 0
    for start, run in enumerate(_runs(words, length)):
        if run in seen:
            fresh = max(covered, start)
            characters += sum(map(len, words[fresh : start + length]))
            covered = start + length
        seen.add(run)
    return characters
