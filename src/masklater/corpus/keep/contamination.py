"""Documents that share runs of words with evaluation sets, whose scores would measure memory."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from masklater.corpus.keep.tokens import hashes_of, run_hashes, words_of
from masklater.errors import UserError

RUN, SHORTEST_RUN = 13, 8
"""Words that a document may not share with an evaluation set in a row; a shorter text counts whole, from 8 words on."""
ENDINGS = (".txt", ".tsv", ".csv", ".jsonl", ".json")


class EvaluationRuns:
    """The runs of words in evaluation files, by their hashes.

    Args:
        paths: Files, or folders of them: every text in a JSON record, every cell of a table, every line.

    Raises:
        UserError: A path is not there, or holds nothing that is long enough to be found again.
    """

    def __init__(self, paths: tuple[Path, ...]) -> None:
        found: dict[int, list[NDArray[np.uint64]]] = {}
        for path in paths:
            before = sum(map(len, found.values()))
            for file in _files_of(path):
                for text in _texts_of(file):
                    hashes_W = hashes_of(words_of(text))
                    length = min(RUN, len(hashes_W))
                    if length >= SHORTEST_RUN:
                        found.setdefault(length, []).append(run_hashes(hashes_W, length))
            if sum(map(len, found.values())) == before:
                raise UserError(
                    f"--without {path} holds no text of {SHORTEST_RUN} words or more",
                    "Name files of an evaluation set: .jsonl, .tsv, .csv or .txt.",
                )
        self.by_length = {length: np.unique(np.concatenate(runs)) for length, runs in found.items()}

    def share_with(self, text: str) -> bool:
        """Tell whether a text holds one of the runs."""
        return self.are_in(words_of(text))

    def are_in(self, words: list[str]) -> bool:
        """Tell whether one of the runs is among words in a row."""
        hashes_W = hashes_of(words)
        for length, known_N in self.by_length.items():
            runs_P = run_hashes(hashes_W, length)
            place = np.searchsorted(known_N, runs_P).clip(max=len(known_N) - 1)
            if (known_N[place] == runs_P).any():
                return True
        return False


class EvaluationSearch:
    """The search for these runs in documents that come in parts, over the borders of parts too."""

    def __init__(self, runs: EvaluationRuns) -> None:
        self.runs = runs
        self.last_words: list[str] = []  # of the document so far, as many as a run has

    def finds_in(self, text: str, begins: bool) -> bool:
        """Tell whether a run ends in the next part of a document.

        Args:
            text: The part.
            begins: Whether it is the first one of a document.
        """
        words = words_of(text)
        before = [] if begins else self.last_words
        in_a_row = [*before, *words]
        self.last_words = in_a_row[-RUN:]
        if self.runs.are_in(in_a_row):
            return True
        if not before or not words:
            return False
        cut_word = before[-1] + words[0]  # where a text has no white space for long, the border is inside of a word
        return self.runs.are_in([*before[:-1], cut_word, *words[1:RUN]])


def _files_of(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in ENDINGS and file.is_file())
        if files:
            return files
    elif path.is_file():
        return [path]
    raise UserError(
        f"--without {path}: there is no such file, or a folder without {', '.join(ENDINGS)}", "Check the path."
    )


def _texts_of(file: Path) -> Iterator[str]:
    try:
        content = file.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise UserError(f"--without {file} cannot be read: {error.strerror}", "Check its permissions.") from None
    ending = file.suffix.lower()
    if ending in (".jsonl", ".json"):
        parts = content.splitlines() if ending == ".jsonl" else [content]
        for number, part in enumerate(parts, start=1):
            if part.strip():
                try:
                    yield from _strings_in(json.loads(part))
                except (ValueError, RecursionError):
                    raise UserError(
                        f"--without {file}, line {number}: no JSON", "Mend it, or name the file .txt to take lines."
                    ) from None
    elif ending == ".csv":
        try:
            for row in csv.reader(content.splitlines(keepends=True)):
                yield from row
        except csv.Error as error:
            raise UserError(f"--without {file}: no CSV ({error})", "Mend it, or name it .txt to take lines.") from None
    else:
        for line in content.splitlines():
            yield from line.split("\t")


def _strings_in(tree: Any) -> Iterator[str]:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from _strings_in(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _strings_in(value)
