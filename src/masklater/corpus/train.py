"""Tokenizers trained on a text, all by the `tokenizers` library."""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from masklater.corpus.settings import TokenizerKind
from masklater.corpus.special import BERT_TOKENS, ROBERTA_TOKENS, by_character, cut_inside, finish
from masklater.corpus.split import LONGEST_STRETCH, cut_stretches, gpt2_split, joins_marks, mark_keeping_split
from masklater.errors import UserError
from masklater.folders import disk_errors_for_people

MARKS_ARE_RARE = 0.001
"""The largest share of entries that join a mark to its letter with which the split is still GPT-2's. All programs know
that split, and only with it does transformers 5 put spaces between words given one by one (`add_prefix_space`)."""


Steps = list[normalizers.Normalizer]
NORMALIZERS: dict[str, Callable[[], normalizers.Normalizer]] = {
    "nfc": normalizers.NFC,
    "nfkc": normalizers.NFKC,
    "lower": normalizers.Lowercase,
    "strip-accents": lambda: normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents(), normalizers.NFC()]),
}
KEPT_STEP = 1e-4
SMALLEST: dict[TokenizerKind, int] = {"bpe": 300, "wordpiece": 300, "unigram": 8, "characters": 8}
"""The smallest vocabularies. Byte-level BPE has 256 bytes and five special tokens before any merge."""


def check(kind: TokenizerKind, size: int, normalise: Sequence[str]) -> None:
    """Raise UserError where a vocabulary is too small for its kind, or a normalisation step is unknown."""
    if unknown := [step for step in normalise if step not in NORMALIZERS]:
        raise UserError(f"--normalise {unknown[0]!r} is none of {', '.join(NORMALIZERS)}", "Name one of them.")
    if size < SMALLEST[kind]:
        raise UserError(
            f"--vocab-size {size} is too small for --train-tokenizer {kind}: it begins at {SMALLEST[kind]}",
            "Ask for more, or take --train-tokenizer characters.",
        )


def train(texts: Iterator[str], kind: TokenizerKind, size: int, normalise: Sequence[str] = ()) -> Tokenizer:
    """Train a tokenizer.

    Args:
        texts: The documents, consumed once.
        kind: `bpe` is byte-level BPE with RoBERTa's special tokens: every text survives it exactly. `wordpiece` is
            BERT's, with its special tokens; case and accents are kept. `unigram` is SentencePiece's: any stretch of
            white space becomes a mark before a word. `characters` has one entry a character.
        size: Entries wanted, special ones included. A small corpus may yield fewer.
        normalise: Steps that the tokenizer applies to every text first, in this order.
    """
    names = BERT_TOKENS if kind == "wordpiece" else ROBERTA_TOKENS
    steps = [NORMALIZERS[name]() for name in normalise]
    tokenizer = _TRAINERS[kind](texts, list(names.values()), size, steps)
    finish(tokenizer, names)
    return tokenizer


def _apply(tokenizer: Tokenizer, steps: Steps) -> None:
    if steps:
        tokenizer.normalizer = steps[0] if len(steps) == 1 else normalizers.Sequence(steps)


def _train_bpe(texts: Iterator[str], special: list[str], size: int, steps: Steps) -> Tokenizer:
    """Train byte-level BPE whose words keep their marks; the split is GPT-2's where the text has almost no marks."""
    tokenizer = Tokenizer(models.BPE())
    _apply(tokenizer, steps)
    tokenizer.pre_tokenizer = mark_keeping_split(LONGEST_STRETCH)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    joining = sum(joins_marks(tokenizer.decoder.decode([entry])) for entry in tokenizer.get_vocab())
    tokenizer.pre_tokenizer = mark_keeping_split() if joining > MARKS_ARE_RARE * size else gpt2_split()
    return tokenizer


def _train_wordpiece(texts: Iterator[str], special: list[str], size: int, steps: Steps) -> Tokenizer:
    """Train pieces of words, in two readings of the text.

    The trainer numbers pieces of one character, such as ##a, in the order of a hash map, which differs between
    processes. Among merges of equal count it takes the one with the smaller numbers. So the second reading gets these
    pieces in a fixed order, once the first has found them.
    """
    split = pre_tokenizers.BertPreTokenizer()

    def trained(texts: Iterator[str], size: int, first: list[str]) -> Tokenizer:
        tokenizer = Tokenizer(models.WordPiece(unk_token=BERT_TOKENS["unk"]))
        _apply(tokenizer, [normalizers.BertNormalizer(lowercase=False, strip_accents=False), *steps])
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, cut_stretches(LONGEST_STRETCH)])
        trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=first, show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        return tokenizer

    with tempfile.TemporaryFile("w+", encoding="utf-8") as again:
        single = trained(_kept(texts, again), 0, special).get_vocab()
        again.seek(0)
        inside = sorted(piece for piece in single if len(piece) > 1 and piece not in special)
        first = [*special, *sorted(piece for piece in single if len(piece) == 1), *inside]
        tokenizer = trained(map(json.loads, again), size, first)
    fresh = Tokenizer(models.WordPiece(tokenizer.get_vocab(), unk_token=BERT_TOKENS["unk"]))
    fresh.normalizer, fresh.pre_tokenizer, fresh.decoder = tokenizer.normalizer, split, decoders.WordPiece()
    return fresh


def _kept(texts: Iterator[str], file: TextIO) -> Iterator[str]:
    """Yield the same texts, and write each to a file as a line."""
    for text in texts:
        with disk_errors_for_people(Path(tempfile.gettempdir())):
            file.write(f"{json.dumps(text)}\n")
        yield text


def _train_unigram(texts: Iterator[str], special: list[str], size: int, steps: Steps) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    _apply(tokenizer, steps)
    words = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*words, cut_stretches(LONGEST_STRETCH)])
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=special, unk_token=ROBERTA_TOKENS["unk"], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.model = _in_order(tokenizer, special)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*words, cut_inside(special)])
    return tokenizer


def _in_order(tokenizer: Tokenizer, special: list[str]) -> models.Unigram:
    """Return the model with its entries in a fixed order: its trainer's threads put entries of equal score in any."""
    trained: list[tuple[str, float]] = json.loads(tokenizer.to_str())["model"]["vocab"]
    pieces = [(piece, round(score, 6)) for piece, score in trained if piece not in special]
    pieces.sort(key=lambda one: (-one[1], one[0]))
    last = len(pieces) - 1  # characters that the trainer had to keep come last, at most a step apart, in any order
    while last > 0 and pieces[last - 1][1] - pieces[last][1] < KEPT_STEP * 1.1:
        last -= 1
    kept = sorted(piece for piece, _ in pieces[last:])
    pieces[last:] = list(zip(kept, (score for _, score in pieces[last:]), strict=True))
    return models.Unigram([*((name, 0.0) for name in special), *pieces], unk_id=special.index(ROBERTA_TOKENS["unk"]))


def _train_characters(texts: Iterator[str], special: list[str], size: int, steps: Steps) -> Tokenizer:
    """Make one entry for each of the most frequent characters; all others are unknown."""
    normalizer = normalizers.Sequence(steps)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalizer.normalize_str(text) if steps else text)
    frequent = sorted(counts, key=lambda character: (-counts[character], character))[: size - len(special)]
    entries = {entry: number for number, entry in enumerate([*special, *frequent])}
    tokenizer = by_character(entries, ROBERTA_TOKENS["unk"])
    _apply(tokenizer, steps)
    return tokenizer


_TRAINERS: dict[TokenizerKind, Callable[[Iterator[str], list[str], int, Steps], Tokenizer]] = {
    "bpe": _train_bpe,
    "wordpiece": _train_wordpiece,
    "unigram": _train_unigram,
    "characters": _train_characters,
}
