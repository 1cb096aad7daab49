"""Documents to token ids, in order, in threads.

The `tokenizers` library releases Python's lock (GIL) while it works, and one batch per thread is faster than its own
parallelism (docs/log.md, 2026-11-21).
"""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from masklater.corpus.marked import continues, row_dtype, take_out
from masklater.corpus.read import Document
from masklater.corpus.vocabulary import num_ids
from masklater.errors import UserError

CHUNK_DOCUMENTS, CHUNK_CHARS = 256, 2**18


class Tokens(NamedTuple):
    """The tokens of one document, without special ones."""

    ids_T: NDArray[np.unsignedinteger]
    continues_T: NDArray[np.bool_] | None = None  # whether each token continues a word; None: words are not marked


def tokenise(
    documents: Iterator[Document], tokenizer: Tokenizer, threads: int, marked_words: bool = False
) -> Iterator[tuple[Document, Tokens]]:
    """Yield each document, in order, with its tokens.

    A special token that a text spells ("</s>") is ordinary text: it never becomes the token.

    Args:
        documents: The documents.
        tokenizer: The tokenizer.
        threads: The number of threads that tokenise.
        marked_words: Whether the text marks its words; the marks are removed first.

    Raises:
        UserError: A text holds characters that the tokenizer does not know, and there is no unknown token.
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    dtype = row_dtype(num_ids(tokenizer), marked_words)
    encode_batch = tokenizer.encode_batch if marked_words else tokenizer.encode_batch_fast  # gives no offsets

    def encode(chunk: list[Document]) -> list[Tokens]:
        texts = [document.text for document in chunk]
        words: list[NDArray[np.int64]] = []
        if marked_words:
            taken_out = [take_out(text) for text in texts]
            texts, words = [text for text, _ in taken_out], [word_C for _, word_C in taken_out]
        try:
            encodings = encode_batch(texts, add_special_tokens=False)
        except Exception as error:  # tokenizers raises plain Exception
            raise UserError(
                f"the tokenizer cannot encode the text: {error}",
                "Has it an unknown token, and is that in its vocabulary? Mend it, or train one with --train-tokenizer.",
            ) from None
        if not marked_words:
            return [Tokens(np.array(encoding.ids, dtype)) for encoding in encodings]
        return [
            Tokens(
                np.array(encoding.ids, dtype),
                continues(word_C, np.array([first for first, _ in encoding.offsets], np.int64)),
            )
            for encoding, word_C in zip(encodings, words, strict=True)
        ]

    waiting: deque[tuple[list[Document], Future[list[Tokens]]]] = deque()
    with _one_thread_a_batch(), ThreadPoolExecutor(threads) as pool:
        try:
            for chunk in _chunks(documents):
                waiting.append((chunk, pool.submit(encode, chunk)))
                if len(waiting) > threads + 1:
                    done, future = waiting.popleft()
                    yield from zip(done, future.result(), strict=True)
            while waiting:
                done, future = waiting.popleft()
                yield from zip(done, future.result(), strict=True)
        finally:
            for _, future in waiting:
                future.cancel()
            tokenizer.encode_special_tokens = False


def _chunks(documents: Iterator[Document]) -> Iterator[list[Document]]:
    chunk: list[Document] = []
    size = 0
    for document in documents:
        chunk.append(document)
        size += len(document.text)
        if len(chunk) >= CHUNK_DOCUMENTS or size >= CHUNK_CHARS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


@contextmanager
def _one_thread_a_batch() -> Iterator[None]:
    """Switch off the tokenizers library's own parallelism, which it reads from the environment at each call."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
