"""Minimal pairs from held-out text: a sentence, and the same with one fault, for `masklater blimp`.

    python benchmarks/pairs.py --text wikipedia_en.jsonl novels --valid-fraction 0.01 --out pairs

`order.jsonl`: two neighbouring words are swapped. `agreement.jsonl`: is and are, was and were, has and have, or does
and do are swapped; half of the right sentences are plural. Only documents that `prepare` holds out at that fraction are
used. Unlike BLiMP's, these pairs are made by rule from ordinary sentences, so that a few of the faulty ones are right;
all models get the same ones.
"""

import argparse
import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from arguments import exit_status

from masklater.corpus.files import find_files
from masklater.corpus.read import ReadCounts, Source, read_documents
from masklater.errors import UserError
from masklater.folders import complete_folder, refuse_existing

SENTENCE = re.compile(r"(?<=[.!?]) +(?=[A-Z])|\n+")
WORDS = re.compile(r"[A-Z][a-z]*(?:,? [A-Za-z]+){7,19}\.")
FLIPS = {"is": "are", "was": "were", "has": "have", "does": "do"}
PLURAL = re.compile(rf"\b(?:{'|'.join(FLIPS.values())})\b")
FLIPS |= {plural: singular for singular, plural in FLIPS.items()}


def held_out_sentences(inputs: list[Path], valid_fraction: float) -> Iterator[str]:
    """Yield plain sentences of 8 to 20 words from documents whose hash is below the fraction, as in `prepare`."""
    for document in read_documents(Source(find_files(inputs)), ReadCounts()):
        if document.key < valid_fraction * 2**64:
            yield from (text for text in SENTENCE.split(document.text) if WORDS.fullmatch(text))


def swap(sentence: str, draw: random.Random) -> str | None:
    """Swap two neighbouring words inside a sentence; None where they are the same or a comma is between them."""
    words = sentence.removesuffix(".").split()
    place = draw.randrange(1, len(words) - 1)
    one, other = words[place], words[place + 1]
    if one.lower() == other.lower() or "," in one + other:
        return None
    words[place : place + 2] = [other, one]
    return " ".join(words) + "."


def flip(sentence: str) -> str | None:
    """Change the number of the one verb of FLIPS; None where there is none, or more than one."""
    words = re.split(r"\b", sentence)
    places = [place for place, word in enumerate(words) if word in FLIPS]
    if len(places) != 1:
        return None
    words[places[0]] = FLIPS[words[places[0]]]
    return "".join(words)


def make_pairs(inputs: list[Path], valid_fraction: float, number: int, out: Path) -> None:
    """Write both files, with at most `number` pairs each.

    Raises:
        UserError: The folder exists already, or there is no text, or no held-out sentence in it.
    """
    refuse_existing(out)
    sentences = sorted(set(held_out_sentences(inputs, valid_fraction)))
    draw = random.Random(0)
    draw.shuffle(sentences)
    flipped = [(good, bad) for good in sentences if (bad := flip(good))]
    # Equally many of both numbers, so that preferring the commoner form gains nothing.
    plural = [PLURAL.search(good) is not None for good, _ in flipped]
    halves = [[pair for pair, is_plural in zip(flipped, plural, strict=True) if is_plural == which] for which in (0, 1)]
    half = min(number // 2, *map(len, halves))
    found = {
        "order": [(good, bad) for good in sentences if (bad := swap(good, draw))][:number],
        "agreement": halves[0][:half] + halves[1][:half],
    }
    if not all(found.values()):
        raise UserError("too few sentences are held out to make pairs of", "Give more text, or a larger fraction.")
    with complete_folder(out) as folder:
        for name, pairs in found.items():
            lines = [json.dumps({"sentence_good": good, "sentence_bad": bad}) for good, bad in pairs]
            (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


def main() -> int:
    """Make the pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", required=True, help="what `prepare` was given")
    parser.add_argument("--valid-fraction", type=float, default=0.005, help="and the share it held out")
    parser.add_argument("--number", type=int, default=500, help="pairs of a kind, at most")
    parser.add_argument("--out", type=Path, required=True, help="the folder to make")
    given = parser.parse_args()
    return exit_status(lambda: make_pairs(given.text, given.valid_fraction, given.number, given.out))


if __name__ == "__main__":
    sys.exit(main())
