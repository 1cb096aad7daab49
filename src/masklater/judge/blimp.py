"""Minimal pairs by pseudo-log-likelihood, without fine-tuning: which of two sentences does the run find likelier?

A sentence's pseudo-log-likelihood is the sum over its tokens of the log-probability of each when it alone is masked
(Salazar et al., ACL 2020, arXiv 1910.14659). The files are those of BLiMP (Warstadt et al., TACL 2020, arXiv
1912.00582): one JSON object a line, `sentence_good` and `sentence_bad`.

Letters: B rows, L their length, V vocabulary.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer

from masklater.console import Meter, aligned, say
from masklater.errors import UserError
from masklater.machine.allocator import keep_large_buffers
from masklater.machine.kernels import refuse_cudnn_attention
from masklater.model.head import LOGITS_AT_ONCE
from masklater.model.likelihood import log_likelihood
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.run.folder import RunFolder

TOKENS_AT_ONCE = 2**13
"""Most tokens of one forward pass: on a CPU more of them leave its cache, and fewer keep it waiting."""

PAIRS_AT_ONCE = 1000
"""Pairs whose masked copies are sorted by length together."""


@dataclass(frozen=True)
class FileScore:
    """Minimal pairs of one file."""

    pairs: int  # that were scored
    right: int  # the good sentence is likelier
    ties: int  # both are equally likely: counted as wrong
    identical: int  # both are the same sentence: not scored
    too_long: int  # more tokens than the run's rows: not scored
    unreadable: list[int] = field(default_factory=list)  # line numbers: not scored

    @property
    def accuracy(self) -> float | None:
        """Share of pairs that are right, in percent; None where there are none."""
        return 100 * self.right / self.pairs if self.pairs else None


@dataclass(frozen=True)
class BlimpResult:
    """The score of a run on minimal pairs."""

    run: str
    step: int
    accuracy: float  # over all pairs of all files, percent
    pairs: int
    files: dict[str, dict[str, object]]  # FileScore with its accuracy, by file name
    left_out: int  # identical, too long or unreadable
    seconds: float
    device: str


@dataclass(frozen=True)
class _Pairs:
    good: list[str]
    bad: list[str]
    identical: int
    unreadable: list[int]


def score_pairs(run: Path, data: Path) -> BlimpResult:
    """Score the newest checkpoint of a run.

    Args:
        run: A RUN.
        data: A .jsonl file, or a folder of them.

    Raises:
        UserError: There is no run, no file, or no pair that can be scored.
    """
    began = time.monotonic()
    files = _find_files(data)
    pairs = {file.name: _read_pairs(file) for file in files}
    total = sum(len(each.good) for each in pairs.values())
    if not total:
        raise UserError(
            f"{data} holds no minimal pair", "Each line is a JSON object with sentence_good and sentence_bad."
        )
    folder = RunFolder(run)
    model, step = folder.load_model()
    keep_large_buffers()
    refuse_cudnn_attention()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scorer = SentenceScorer(model.to(device), folder.tokenizer)
    scores: dict[str, FileScore] = {}
    with Meter("Scoring pairs", total) as meter:
        for name, each in pairs.items():
            scores[name] = _score_file(scorer, each, meter)
            meter.advance(0, name)
    scored, right = (sum(getattr(score, part) for score in scores.values()) for part in ("pairs", "right"))
    if not scored:
        raise UserError(f"every pair of {data} is longer than the run's rows", "Score a run with longer rows.")
    return BlimpResult(
        run=str(run),
        step=step,
        accuracy=100 * right / scored,
        pairs=scored,
        files={name: {"accuracy": score.accuracy, **vars(score)} for name, score in scores.items()},
        left_out=sum(score.identical + score.too_long + len(score.unreadable) for score in scores.values()),
        seconds=time.monotonic() - began,
        device=device.type,
    )


class SentenceScorer:
    """Pseudo-log-likelihoods of sentences under a run's encoder, decoder and head, in float32."""

    def __init__(self, model: MaskLaterForMaskedLM, tokenizer_folder: Path) -> None:
        self.model = model.eval()
        self.device = next(model.parameters()).device
        self.tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, local_files_only=True, trust_remote_code=False)
        self.special = set(self.tokenizer.all_special_ids)
        self.row_length = model.config.row_length

    def tokenise(self, sentences: Sequence[str]) -> list[list[int]]:
        """Ids of each sentence, first and last token included."""
        encoded: list[list[int]] = self.tokenizer(list(sentences), verbose=False)["input_ids"] if sentences else []
        return encoded

    def score(self, rows: Sequence[list[int]]) -> NDArray[np.float64]:
        """The pseudo-log-likelihood of each row of ids, in nats; special tokens are read, but not scored."""
        copies = [  # (row, position), one masked copy each
            (row, position)
            for row, ids in enumerate(rows)
            for position, token in enumerate(ids)
            if token not in self.special
        ]
        copies.sort(key=lambda copy: len(rows[copy[0]]))
        total = np.zeros(len(rows))
        for batch in self._batches(copies, rows):
            log_likelihood_B = self._score_copies(batch, rows)
            np.add.at(total, [row for row, _ in batch], log_likelihood_B)
        return total

    def _batches(self, copies: list[tuple[int, int]], rows: Sequence[list[int]]) -> Iterator[list[tuple[int, int]]]:
        """Copies of one length together: no padding, so that a sentence's score depends on no other's."""
        start = 0
        while start < len(copies):
            length = len(rows[copies[start][0]])
            most = max(1, min(TOKENS_AT_ONCE // length, LOGITS_AT_ONCE["cpu"] // self.model.config.encoder.vocab_size))
            stop = start
            while stop < len(copies) and stop - start < most and len(rows[copies[stop][0]]) == length:
                stop += 1
            yield copies[start:stop]
            start = stop

    @torch.no_grad()
    def _score_copies(self, copies: list[tuple[int, int]], rows: Sequence[list[int]]) -> NDArray[np.float64]:
        ids_BL = torch.tensor([rows[row] for row, _ in copies], device=self.device)
        position_B = torch.tensor([position for _, position in copies], device=self.device)
        return log_likelihood(self.model, ids_BL, position_B).double().cpu().numpy()


def _score_file(scorer: SentenceScorer, pairs: _Pairs, meter: Meter) -> FileScore:
    right = ties = too_long = scored = 0
    for start in range(0, len(pairs.good), PAIRS_AT_ONCE):
        good = scorer.tokenise(pairs.good[start : start + PAIRS_AT_ONCE])
        bad = scorer.tokenise(pairs.bad[start : start + PAIRS_AT_ONCE])
        fits = [max(len(one), len(other)) <= scorer.row_length for one, other in zip(good, bad, strict=True)]
        good, bad = ([ids for ids, fit in zip(side, fits, strict=True) if fit] for side in (good, bad))
        scores = scorer.score([*good, *bad])
        better = scores[: len(good)] - scores[len(good) :]
        right += int((better > 0).sum())
        ties += int((better == 0).sum())
        scored += len(good)
        too_long += len(fits) - len(good)
        meter.advance(len(fits))
    return FileScore(scored, right, ties, pairs.identical, too_long, pairs.unreadable)


def _find_files(data: Path) -> list[Path]:
    """A file by whatever name, a pipe too; or the .jsonl files of a folder, and what else it holds is said."""
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
    return _Pairs(good, bad, identical, unreadable)


def as_text(result: BlimpResult) -> str:
    """The table for a terminal."""
    rows = [("file", "pairs", "accuracy", "left out")]
    remarks = []
    for name, score in result.files.items():
        unreadable = score["unreadable"]
        assert isinstance(unreadable, list)
        reasons = {
            "ties, counted as wrong": score["ties"],
            "identical pairs": score["identical"],
            "pairs longer than the run's rows": score["too_long"],
            f"unreadable lines (the first is line {unreadable[0]})" if unreadable else "": len(unreadable),
        }
        remarks += [f"{name}: {count:,} {reason}" for reason, count in reasons.items() if count]
        left_out = len(unreadable) + sum(int(str(score[part])) for part in ("identical", "too_long"))
        accuracy = "" if score["accuracy"] is None else f"{score['accuracy']:.2f}%"
        rows.append((name, f"{score['pairs']:,}", accuracy, f"{left_out:,}"))
    rows.append(("all", f"{result.pairs:,}", f"{result.accuracy:.2f}%", f"{result.left_out:,}"))
    return "\n".join([aligned(rows, numbers_from=1), *remarks])
