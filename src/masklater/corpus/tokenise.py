"""Documents to token ids, in order, in threads.

The `tokenizers` library leaves Python's lock while it works, and one batch to a thread is faster than its own
parallelism (docs/log.md, 2026-11-21).
"""

import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from masklater.corpus.index import row_dtype
from masklater.corpus.read import Document
from masklater.errors import UserError

CHUNK_DOCUMENTS, CHUNK_CHARS = 256, 2**18


def tokenise(
    documents: Iterator[Document], tokenizer: Tokenizer, threads: int
) -> Iterator[tuple[Document, NDArray[np.integer]]]:
    """Yield each document, in order, with its ids (no special tokens).

    A text that spells a special token ("</s>") is text like any other: it never becomes the token.

    Raises:
        UserError: A text holds what the tokenizer does not know, and it has no unknown token.
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    dtype = row_dtype(max(tokenizer.get_vocab().values()) + 1)

    def encode(chunk: list[Document]) -> list[NDArray[np.integer]]:
        try:
            encodings = tokenizer.encode_batch_fast([document.text for document in chunk], add_special_tokens=False)
        except Exception as error:  # tokenizers raises plain Exception
            raise UserError(
                f"the tokenizer cannot encode the text: {error}",
                "Has it an unknown token, and is that in its vocabulary? Mend it, or train one with --train-tokenizer.",
            ) from None
        return [np.array(encoding.ids, dtype=dtype) for encoding in encodings]

    waiting: deque[tuple[list[Document], Future[list[NDArray[np.integer]]]]] = deque()
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
    """Switch the tokenizers library's own parallelism off, which it reads from the environment at each call."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
