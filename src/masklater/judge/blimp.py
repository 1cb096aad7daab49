"""Minimal pairs by pseudo-log-likelihood, without fine-tuning: which of two sentences is likelier to a model?

`sentences.py` computes the likelihood of a sentence. The files are BLiMP's (Warstadt et al., TACL 2020, arXiv
1912.00582): one JSON object a line, with `sentence_good` and `sentence_bad`, in any language that the model knows.
Where a line also has a `category`, or BLiMP's `linguistics_term`, there is a separate mean for each category.
"""

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from masklater import hub
from masklater.console import Meter, aligned, say
from masklater.errors import UserError
from masklater.judge.sentences import SentenceScorer
from masklater.machine.kernels import set_up_process
from masklater.model.saved import load_masked_lm
from masklater.run.folder import RunFolder
from masklater.run.identity import is_run
from masklater.run.metrics import training_sha256

PAIRS_AT_ONCE = 1000
"""Number of pairs whose masked copies are sorted by length together."""
MUCH_UNKNOWN = 0.01
"""From this share of unknown tokens on, the output has a remark."""

CATEGORIES = ("category", "linguistics_term")
"""The fields that name the topic of a pair; the first one present is read."""


@dataclass(frozen=True)
class Tally:
    """Pairs that were scored."""

    pairs: int = 0
    right: int = 0  # the good sentence is likelier
    ties: int = 0  # both are equally likely

    def __add__(self, other: "Tally") -> "Tally":
        """Add the counts of both."""
        return Tally(self.pairs + other.pairs, self.right + other.right, self.ties + other.ties)

    @property
    def accuracy(self) -> float | None:
        """Percentage of pairs that are right, with a tie counted as wrong; None where there are no pairs."""
        return 100 * self.right / self.pairs if self.pairs else None

    @property
    def accuracy_ties_half(self) -> float | None:
        """The same with a tie counted as half right, which is the score of guessing."""
        return 100 * (self.right + self.ties / 2) / self.pairs if self.pairs else None

    def record(self) -> dict[str, object]:
        """Return counts and shares."""
        return {"accuracy": self.accuracy, "accuracy_ties_half": self.accuracy_ties_half, **vars(self)}


@dataclass(frozen=True)
class FileScore:
    """Minimal pairs of one file."""

    tally: Tally
    identical: int  # pairs of two identical sentences: not scored
    too_long: int  # more tokens than the model's rows: not scored
    unreadable: list[int] = field(default_factory=list)  # line numbers: not scored
    categories: dict[str, Tally] = field(default_factory=dict)
    tokens: int = 0  # in the pairs that were scored
    unknown: int = 0  # those among them that stand for text unknown to the tokenizer

    def record(self) -> dict[str, object]:
        """Return everything except the categories, which files share."""
        left_out = {"identical": self.identical, "too_long": self.too_long, "unreadable": self.unreadable}
        return {**self.tally.record(), **left_out}


@dataclass(frozen=True)
class BlimpResult:
    """The score of a model on minimal pairs."""

    run: str  # or the masked LM
    step: int | None  # of the run's checkpoint
    accuracy: float  # over all pairs of all files, percent, a tie counts as wrong
    accuracy_ties_half: float  # a tie being half right
    pairs: int
    files: dict[str, dict[str, object]]  # `FileScore.record`, by file name
    categories: dict[str, dict[str, object]]  # `Tally.record`, over all files; empty where no pair has one
    left_out: int  # identical, too long or unreadable
    unknown_share: float  # share of the scored tokens that the tokenizer does not know
    seconds: float
    device: str
    pairs_sha256: str  # of the sentences
    training_sha256: str | None = None  # of the run's log of its steps so far


@dataclass(frozen=True)
class _Pairs:
    good: list[str]
    bad: list[str]
    category: list[str | None]
    identical: int
    unreadable: list[int]


def score_pairs(run: Path | str, data: Path) -> BlimpResult:
    """Score the newest checkpoint of a run, or a masked LM.

    Args:
        run: A RUN, or the folder or the name on the hub of a model that AutoModelForMaskedLM loads.
        data: A .jsonl file, or a folder of them.

    Raises:
        UserError: There is no such model, no file, or no pair that can be scored, or a likelihood is not finite.
    """
    began = time.monotonic()
    files = _find_files(data)
    pairs = {file.name: _read_pairs(file) for file in files}
    total = sum(len(each.good) for each in pairs.values())
    if not total:
        raise UserError(
            f"{data} holds no minimal pair", "Each line is a JSON object with sentence_good and sentence_bad."
        )
    model, tokenizer, step = _load(str(run))
    set_up_process()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scorer = SentenceScorer(model.to(device), tokenizer)
    scores: dict[str, FileScore] = {}
    with Meter("Scoring pairs", total) as meter:
        for name, each in pairs.items():
            scores[name] = _score_file(scorer, each, meter, str(run))
            meter.advance(0, name)
    whole = sum((score.tally for score in scores.values()), Tally())
    if whole.accuracy is None or whole.accuracy_ties_half is None:
        raise UserError(f"every pair of {data} is longer than the run's rows", "Score a run with longer rows.")
    categories: dict[str, Tally] = {}
    for score in scores.values():
        for name, tally in score.categories.items():
            categories[name] = categories.get(name, Tally()) + tally
    return BlimpResult(
        run=str(run),
        step=step,
        accuracy=whole.accuracy,
        accuracy_ties_half=whole.accuracy_ties_half,
        pairs=whole.pairs,
        files={name: score.record() for name, score in scores.items()},
        categories={name: categories[name].record() for name in sorted(categories)},
        left_out=sum(score.identical + score.too_long + len(score.unreadable) for score in scores.values()),
        unknown_share=sum(each.unknown for each in scores.values())
        / max(1, sum(each.tokens for each in scores.values())),
        seconds=time.monotonic() - began,
        device=device.type,
        pairs_sha256=_fingerprint(pairs.values()),
        training_sha256=None if step is None else training_sha256(Path(run), step),
    )


def _load(name: str) -> tuple[PreTrainedModel, Path, int | None]:
    """Return the model, the folder of its tokenizer, and the step of a run."""
    path = Path(name)
    is_model = (path / "config.json").is_file() or (not path.exists() and hub.REPOSITORY.fullmatch(name))
    if is_run(path) or not is_model:
        folder = RunFolder(path)
        model, step = folder.load_model()
        return model, folder.tokenizer, step
    source = hub.find(name, hub.MODEL_FILES, "the masked LM")
    return load_masked_lm(source), source.folder, None


def _score_file(scorer: SentenceScorer, pairs: _Pairs, meter: Meter, model: str) -> FileScore:
    """Score the pairs of a file; `model` is the name for messages.

    Raises:
        UserError: A likelihood is not finite, so that neither sentence would be the likelier one.
    """
    tally, too_long, tokens, unknown = Tally(), 0, 0, 0
    unknown_id = scorer.tokenizer.unk_token_id
    categories: dict[str, Tally] = {}
    for start in range(0, len(pairs.good), PAIRS_AT_ONCE):
        good = scorer.tokenise(pairs.good[start : start + PAIRS_AT_ONCE])
        bad = scorer.tokenise(pairs.bad[start : start + PAIRS_AT_ONCE])
        fits = [max(len(one), len(other)) <= scorer.row_length for one, other in zip(good, bad, strict=True)]
        good, bad = ([ids for ids, fit in zip(side, fits, strict=True) if fit] for side in (good, bad))
        scored = [token for ids in (*good, *bad) for token in ids if token not in scorer.special]
        tokens, unknown = tokens + len(scored), unknown + scored.count(unknown_id)
        scores = scorer.score([*good, *bad])
        if not np.isfinite(scores).all():
            raise UserError(f"{model} gives likelihoods that are not finite", "Its weights are damaged, or diverged.")
        better = scores[: len(good)] - scores[len(good) :]
        about = [each for each, fit in zip(pairs.category[start : start + PAIRS_AT_ONCE], fits, strict=True) if fit]
        for difference, category in zip(better.tolist(), about, strict=True):
            one = Tally(1, int(difference > 0), int(difference == 0))
            tally += one
            if category is not None:
                categories[category] = categories.get(category, Tally()) + one
        too_long += len(fits) - len(good)
        meter.advance(len(fits))
    return FileScore(tally, pairs.identical, too_long, pairs.unreadable, categories, tokens, unknown)


def _find_files(data: Path) -> list[Path]:
    """Return one file of any name, also a pipe, or the .jsonl files of a folder; print what else the folder holds."""
    if not data.is_dir():
        return [data]
    beside = sorted(data.iterdir())
    files = [path for path in beside if path.name.lower().endswith(".jsonl") and path.is_file()]
    if not files:
        raise UserError(f"there is no .jsonl file in {data}", "Name BLiMP's folder `data`, or one of its files.")
    if others := [path.name for path in beside if path not in files]:
        more = f" and {len(others) - 5:,} more" if len(others) > 5 else ""
        say(f"not read, as no file of JSON lines: {', '.join(others[:5])}{more}")
    return files


def _read_pairs(path: Path) -> _Pairs:
    good: list[str] = []
    bad: list[str] = []
    about: list[str | None] = []
    identical = 0
    unreadable = []
    try:
        lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}", "Make it readable.") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            one, other = record["sentence_good"], record["sentence_bad"]
        except (ValueError, KeyError, TypeError, RecursionError):
            one = other = None
        if not isinstance(one, str) or not isinstance(other, str):
            unreadable.append(number)
        elif one == other:
            identical += 1
        else:
            good.append(one)
            bad.append(other)
            named = (record.get(name) for name in CATEGORIES)
            about.append(next((name for name in named if isinstance(name, str) and name), None))
    return _Pairs(good, bad, about, identical, unreadable)


def _fingerprint(files: Iterable[_Pairs]) -> str:
    """Return the SHA-256 of the sentences: only scores on the same pairs may be compared."""
    whole = hashlib.sha256()
    for pairs in files:
        whole.update(json.dumps([pairs.good, pairs.bad]).encode())
    return whole.hexdigest()


def as_text(result: BlimpResult) -> str:
    """Return the table for a terminal."""
    rows = [("file", "pairs", "accuracy", "left out")]
    remarks = []
    for name, score in result.files.items():
        unreadable = score["unreadable"]
        assert isinstance(unreadable, list)
        reasons = {
            f"ties, counted as wrong; as half right: {score['accuracy_ties_half'] or 0:.2f}%": score["ties"],
            "identical pairs": score["identical"],
            f"pairs longer than the {'model' if result.step is None else 'run'}'s rows": score["too_long"],
            f"unreadable lines (the first is line {unreadable[0]})" if unreadable else "": len(unreadable),
        }
        remarks += [f"{name}: {count:,} {reason}" for reason, count in reasons.items() if count]
        left_out = len(unreadable) + sum(int(str(score[part])) for part in ("identical", "too_long"))
        accuracy = "" if score["accuracy"] is None else f"{score['accuracy']:.2f}%"
        rows.append((name, f"{score['pairs']:,}", accuracy, f"{left_out:,}"))
    rows.append(("all", f"{result.pairs:,}", f"{result.accuracy:.2f}%", f"{result.left_out:,}"))
    if any(score["ties"] for score in result.files.values()):
        remarks.append(f"all: {result.accuracy_ties_half:.2f}% with ties as half right")
    if result.unknown_share >= MUCH_UNKNOWN:
        share = f"{result.unknown_share:.1%} of the tokens stand for text that the tokenizer does not know"
        remarks.append(f"all: {share}: the score is in part one of the tokenizer")
    text = [aligned(rows, numbers_from=1), *remarks]
    if result.categories:
        means = [
            (name, f"{score['pairs']:,}", f"{score['accuracy']:.2f}%") for name, score in result.categories.items()
        ]
        text += ["", aligned([("category", "pairs", "accuracy"), *means], numbers_from=1)]
    return "\n".join(text)
