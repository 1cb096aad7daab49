"""Packing: rows of exactly L, nothing lost, nothing invented, documents told apart."""

import random
from itertools import pairwise

import numpy as np
import pytest

from masklater.corpus import pack
from masklater.corpus.pack import Row, make_packer
from masklater.corpus.vocabulary import Vocabulary

SPECIAL = Vocabulary(bos=0, eos=2, pad=1, mask=4, all=(0, 1, 2, 3, 4), size=2**16)


def run(packing: str, documents: list[list[int]], row_length: int) -> tuple[list[Row], int]:
    packer = make_packer(packing, row_length, SPECIAL, np.uint16)  # type: ignore[arg-type]
    rows = [row for document in documents for row in packer.add(np.array(document, dtype=np.uint16))]
    return [*rows, *packer.flush()], packer.left_out


def made_up(seed: int, count: int, longest: int) -> list[list[int]]:
    rng = random.Random(seed)
    tokens = iter(range(10, 60_000))
    return [[next(tokens) for _ in range(rng.randint(1, longest))] for _ in range(count)]


def pieces(row: Row) -> list[list[int]]:
    """The row's documents, read back through its starts."""
    content = row.ids.tolist()
    end = len(content) - 1 - next(i for i, token in enumerate(reversed(content)) if token == SPECIAL.eos)
    found = [content[a:b] for a, b in pairwise([*row.starts, end + 1])]
    assert all(piece[-1] == SPECIAL.eos for piece in found)
    # The last token before a start is the separator; one more where a row had exactly one place left over.
    return [[token for token in piece if token != SPECIAL.eos] for piece in found]


@pytest.mark.parametrize("seed", range(20))
def test_continuous_fills_every_row_and_keeps_the_order(seed: int) -> None:
    documents = made_up(seed, 60, 40)
    rows, left_out = run("continuous", documents, 16)
    stream = [token for document in documents for token in document]
    packed = [token for row in rows for piece in pieces(row) for token in piece]
    assert packed == stream[: len(packed)]
    assert len(stream) - len(packed) == left_out < 14
    for row in rows:
        assert len(row.ids) == 16
        assert (row.ids[0], row.ids[-1]) == (SPECIAL.bos, SPECIAL.eos)
        assert SPECIAL.pad not in row.ids
        assert row.tokens == sum(map(len, pieces(row)))


@pytest.mark.parametrize("seed", range(20))
def test_documents_stay_whole_unless_longer_than_a_row(seed: int) -> None:
    documents = made_up(seed, 60, 40)
    rows, left_out = run("documents", documents, 16)
    expected = sorted(document[i : i + 14] for document in documents for i in range(0, len(document), 14))
    assert sorted(piece for row in rows for piece in pieces(row)) == expected
    assert left_out == 0
    for row in rows:
        used = 1 + sum(len(piece) + 1 for piece in pieces(row))
        assert used <= 16
        assert (row.ids[used:] == SPECIAL.pad).all()


def test_best_fit_takes_the_fullest_row_that_has_room() -> None:
    # Of 14 places: 8 leaves room for 5 more (and a separator), 5 then 4 would too, but 5 fits the first row exactly.
    rows, _ = run("documents", [[10] * 8, [11] * 5, [12] * 9, [13] * 4], 16)
    assert sorted(sorted(map(len, pieces(row))) for row in rows) == [[4, 9], [5, 8]]


def test_best_fit_beats_a_row_each() -> None:
    documents = made_up(1, 500, 13)
    rows, _ = run("documents", documents, 16)
    real = sum(map(len, documents)) / (16 * len(rows))
    assert real > 0.75  # a row each would be 0.44


def test_few_rows_stay_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "MAX_OPEN_ROWS", 3)
    documents = made_up(2, 100, 9)
    rows, _ = run("documents", documents, 16)
    assert sorted(piece for row in rows for piece in pieces(row)) == sorted(documents)


def test_open_rows_hold_no_more_than_stands_in_them() -> None:
    packer = make_packer("documents", 16, SPECIAL, np.uint16)
    whole = [np.arange(10, 10 + length, dtype=np.uint16) for length in (5, 14 * 1000 + 3, 14 * 50, 14 * 20 + 9)]
    for ids in whole:
        for row in packer.add(ids):
            assert not any(np.shares_memory(row.ids, each) for each in whole)
    assert isinstance(packer, pack.DocumentPacker) and packer.num_open == 2
    pieces_held = [piece for rows in packer.open_rows for row in rows for piece in row]
    held = [piece if piece.base is None else piece.base for piece in pieces_held]
    assert sum(map(np.size, held)) == sum(map(len, pieces_held)) == 5 + 3 + 9


def test_a_split_smaller_than_a_row_keeps_its_one_padded_row() -> None:
    rows, left_out = run("continuous", [[10, 11], [12]], 16)
    assert len(rows) == 1
    assert left_out == 0
    assert rows[0].ids.tolist() == [0, 10, 11, 2, 12, 2] + [1] * 10
    assert rows[0].starts == [1, 4]
