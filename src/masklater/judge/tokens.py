"""A task as token ids: tokenised once and kept in memory; batches of rows of like length.

Letters: B rows of a batch, L the longest of them, N rows of a split, W words, of a batch or of a split.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from masklater.console import Meter
from masklater.corpus.half_pairs import without_half_pairs
from masklater.errors import UserError
from masklater.judge.data import Rows, Split, TaskData, WordSplit
from masklater.seeds import derive_seed

CHUNK = 10_000
"""Rows tokenised at a time."""

POOL = 50
"""Number of batches whose rows are sorted by length together: saves most padding, and keeps the order random."""


@dataclass(frozen=True)
class Words:
    """The places of a split's words in its rows: a word is where its first piece is."""

    starts_N1: NDArray[np.int64]  # row n has the words from starts_N1[n] to starts_N1[n + 1]
    place_W: NDArray[np.int64]  # of the first piece in its row; -1: it has none, or it was cut off

    def of(self, rows_B: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return the words of some rows that have a piece: number in the split, row in the batch, place in the row."""
        counts_B = self.starts_N1[rows_B + 1] - self.starts_N1[rows_B]
        row_W = np.repeat(np.arange(len(rows_B)), counts_B)
        word_W = np.concatenate([np.arange(self.starts_N1[row], self.starts_N1[row + 1]) for row in rows_B])
        place_W = self.place_W[word_W]
        read_W = place_W >= 0
        return word_W[read_W], row_W[read_W], place_W[read_W]


@dataclass(frozen=True)
class TokenRows:
    """A tokenised split. Row n has the ids from starts[n] to starts[n + 1]."""

    ids: NDArray[np.int32]
    types: NDArray[np.int8] | None  # BERT's segment ids; None where all are 0 or the encoder has none
    starts_N1: NDArray[np.int64]
    labels_N: NDArray[np.float64]  # where words have labels, one for each word
    truncated: int  # rows that were longer than the encoder takes
    words: Words | None = None  # None: a row has one label

    def __len__(self) -> int:
        return len(self.starts_N1) - 1

    @property
    def unread(self) -> int:
        """Number of words that have no piece in their row, and so no prediction."""
        return 0 if self.words is None else int((self.words.place_W < 0).sum())

    @property
    def lengths_N(self) -> NDArray[np.int64]:
        """Tokens of each row."""
        return np.diff(self.starts_N1)

    def batch(self, rows_B: NDArray[np.int64], pad: int, device: torch.device) -> dict[str, Tensor]:
        """Return the inputs of a transformers model, padded to the longest of these rows.

        Some tokenizers make a row without any token from an empty text. Such a row is read as one padding token,
        because a model takes no rows of length 0, and a softmax over nothing is not a number.
        """
        lengths_B = self.lengths_N[rows_B]
        place_L = np.arange(max(1, lengths_B.max()))
        real_BL = place_L < lengths_B[:, None]
        places = (self.starts_N1[rows_B, None] + place_L)[real_BL]
        ids_BL = np.full(real_BL.shape, pad)
        ids_BL[real_BL] = self.ids[places]
        inputs = {"input_ids": ids_BL, "attention_mask": place_L < lengths_B.clip(min=1)[:, None]}
        if self.types is not None:
            inputs["token_type_ids"] = np.zeros_like(ids_BL)
            inputs["token_type_ids"][real_BL] = self.types[places]
        return {name: torch.from_numpy(array.astype(np.int64)).to(device) for name, array in inputs.items()}


@dataclass(frozen=True)
class TokenTask:
    """All splits of a task, for one encoder."""

    splits: dict[str, TokenRows]
    pad: int


def tokenise(data: TaskData, tokenizer: PreTrainedTokenizerBase, max_length: int, num_types: int) -> TokenTask:
    """Tokenise a task.

    Args:
        data: The task's rows.
        tokenizer: The encoder's.
        max_length: Most tokens in a row; the longer text of a pair is shortened first.
        num_types: The number of segments that the encoder distinguishes.
    """
    total = sum(map(len, data.splits.values()))
    pad = tokenizer.pad_token_id
    if total <= 2 * CHUNK:
        splits = {name: _tokenise(split, tokenizer, max_length, num_types) for name, split in data.splits.items()}
        return TokenTask(splits, pad)
    with Meter(f"Tokenising {data.task.title}", total) as meter:
        splits = {
            name: _tokenise(split, tokenizer, max_length, num_types, meter) for name, split in data.splits.items()
        }
    return TokenTask(splits, pad)


def tokenise_texts(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int, num_types: int
) -> TokenRows:
    """Tokenise texts that have no labels; the other arguments are those of `tokenise`."""
    return _tokenise_texts(Split((list(texts),), np.zeros(len(texts))), tokenizer, max_length, num_types)


def _tokenise(
    split: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int, num_types: int, meter: Meter | None = None
) -> TokenRows:
    if isinstance(split, WordSplit):
        return _tokenise_words(split, tokenizer, max_length, meter)
    return _tokenise_texts(split, tokenizer, max_length, num_types, meter)


def _tokenise_texts(
    split: Split, tokenizer: PreTrainedTokenizerBase, max_length: int, num_types: int, meter: Meter | None = None
) -> TokenRows:
    ids: list[NDArray[np.int32]] = []
    types: list[NDArray[np.int8]] = []
    truncated = 0
    for start in range(0, len(split), CHUNK):
        texts = [list(map(without_half_pairs, text[start : start + CHUNK])) for text in split.texts]
        encoded = tokenizer(*texts, return_attention_mask=False, return_token_type_ids=True, verbose=False)
        for row, row_ids in enumerate(encoded["input_ids"]):
            row_types = encoded["token_type_ids"][row]
            if len(row_ids) > max_length:
                truncated += 1
                pair = [text[row] for text in texts]
                short = tokenizer(*pair, truncation=True, max_length=max_length, return_token_type_ids=True)
                row_ids, row_types = short["input_ids"], short["token_type_ids"]  # noqa: PLW2901
            ids.append(np.array(row_ids, dtype=np.int32))
            types.append(np.array(row_types, dtype=np.int8))
        if meter:
            meter.advance(len(texts[0]))
    all_types = np.concatenate(types)
    keep_types = num_types > 1 and bool(all_types.any())
    return TokenRows(np.concatenate(ids), all_types if keep_types else None, _starts(ids), split.labels, truncated)


def _tokenise_words(
    split: WordSplit, tokenizer: PreTrainedTokenizerBase, max_length: int, meter: Meter | None
) -> TokenRows:
    """Tokenise words joined by spaces, like the text that the encoder has read; offsets give their first pieces."""
    if not tokenizer.is_fast:
        raise UserError(
            "the encoder's tokenizer does not say where in the text its tokens are, which token tasks rest on",
            "Save a fast tokenizer (tokenizer.json) into the encoder's folder.",
        )
    ids: list[NDArray[np.int32]] = []
    places: list[int] = []
    truncated = 0
    for start in range(0, len(split), CHUNK):
        sentences = [list(map(without_half_pairs, words)) for words in split.words[start : start + CHUNK]]
        texts = [" ".join(words) for words in sentences]
        encoded = tokenizer(texts, return_offsets_mapping=True, verbose=False)
        for words, text, row, offsets in zip(
            sentences, texts, encoded["input_ids"], encoded["offset_mapping"], strict=True
        ):
            if len(row) > max_length:
                truncated += 1
                short = tokenizer(text, truncation=True, max_length=max_length, return_offsets_mapping=True)
                row, offsets = short["input_ids"], short["offset_mapping"]  # noqa: PLW2901
            ids.append(np.array(row, dtype=np.int32))
            places += first_pieces(words, offsets)
        if meter:
            meter.advance(len(sentences))
    where = Words(split.starts_N1, np.array(places, dtype=np.int64))
    return TokenRows(np.concatenate(ids), None, _starts(ids), split.labels_W.astype(np.float64), truncated, where)


def first_pieces(words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Return each word's first token in the text of the words joined by spaces; -1 where a word has none.

    Args:
        words: In order.
        offsets: Of each token, its first character and the one after its last; two equal numbers for special tokens.
    """
    places: list[int] = []
    token = begin = 0
    for word in words:
        end = begin + len(word)
        while token < len(offsets) and offsets[token][1] <= begin:  # tokens that end before the word, and special ones
            token += 1
        is_there = token < len(offsets) and offsets[token][0] < end
        places.append(token if is_there else -1)
        begin = end + 1
    return places


def _starts(ids: list[NDArray[np.int32]]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum([len(row) for row in ids])]).astype(np.int64)


def training_batches(lengths_N: NDArray[np.int64], batch: int, seed: int, epoch: int) -> Iterator[NDArray[np.int64]]:
    """Yield the row numbers of each batch of an epoch, in an order that depends on seed and epoch alone.

    Rows are shuffled, sorted by length within pools of `POOL` batches, cut into batches, and the batches are shuffled.
    """
    rng = np.random.default_rng(derive_seed(seed, "glue-order", epoch))
    order_N = rng.permutation(len(lengths_N))
    batches = []
    for start in range(0, len(order_N), POOL * batch):
        pool = order_N[start : start + POOL * batch]
        pool = pool[np.argsort(lengths_N[pool], kind="stable")]
        batches += [pool[first : first + batch] for first in range(0, len(pool), batch)]
    yield from (batches[number] for number in rng.permutation(len(batches)))


def scoring_batches(lengths_N: NDArray[np.int64], batch: int) -> Iterator[NDArray[np.int64]]:
    """Yield the row numbers of each batch of a dev split, with rows of similar length together."""
    order_N = np.argsort(lengths_N, kind="stable")
    yield from (order_N[start : start + batch] for start in range(0, len(order_N), batch))
