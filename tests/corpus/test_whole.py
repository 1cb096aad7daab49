"""A corpus looked at as a whole: what a tokenizer is made for."""

import json
from pathlib import Path

import pytest

from masklater.corpus import whole
from masklater.corpus.keep.settings import KeepSettings
from masklater.corpus.prepare import prepare
from masklater.corpus.settings import PrepareSettings
from masklater.corpus.train import train
from tests.conftest import make_text

SAMPLE = 16 * 2**10


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that a tokenizer is trained on, of which there are about 16 KiB."""
    texts: list[str] = []

    def recording(given, *settings):  # type: ignore[no-untyped-def]
        return train((texts.append(text) or text for text in given), *settings)

    monkeypatch.setattr(whole, "TOKENIZER_SAMPLE_BYTES", SAMPLE)
    monkeypatch.setattr(whole, "train", recording)
    return texts


def settings(**others: object) -> PrepareSettings:
    return PrepareSettings(vocab_size=300, row_length=32, valid_fraction=0.0, workers=1, **others)  # type: ignore[arg-type]


def write(path: Path, records: list[dict[str, str]]) -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records))
    return path


def test_it_is_a_share_of_a_large_corpus_chosen_by_hashes(tmp_path: Path, sampled: list[str]) -> None:
    records = [{"text": make_text(number, 100)} for number in range(200)]
    prepare([write(tmp_path / "a.jsonl", records)], tmp_path / "out", settings())
    once = set(sampled)
    assert 0.7 * SAMPLE < sum(map(len, sampled)) < 1.4 * SAMPLE and len(once) == len(sampled)
    sampled.clear()
    prepare([write(tmp_path / "b.jsonl", records[::-1])], tmp_path / "again", settings())
    assert set(sampled) == once


@pytest.mark.parametrize("way", ["filter", "slice", "other columns", "short documents"])
def test_it_is_a_share_of_what_is_kept(
    way: str, tmp_path: Path, sampled: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Little of a large input is text that is kept: the tokenizer is made for all of that, as far as it is small."""
    records = [{"text": make_text(number, 100), "kind": "ab"[number % 20 == 0], "more": ""} for number in range(400)]
    wanted = {record["text"] for record in records if record["kind"] == "b"}
    ways: dict[str, object] = {}
    if way == "filter":
        ways = {"filters": ("kind=b",)}
    elif way == "slice":
        ways, wanted = {"keep": KeepSettings(of_documents=(0.0, 0.05))}, set()
    elif way == "other columns":
        records = [{**record, "more": "x" * 20_000} for record in records if record["kind"] == "b"]
    else:
        records += [{**record, "text": record["text"][:20]} for record in records if record["kind"] == "a"]
        records = [record for record in records if len(record["text"]) == 20 or record["kind"] == "b"]
        records = [{**record, "more": "x" * 2000} for record in records]
        ways = {"keep": KeepSettings(min_characters=30)}
    result = prepare([write(tmp_path / "a.jsonl", records)], tmp_path / "out", settings(**ways))
    assert "it is read again for the tokenizer" in capsys.readouterr().err
    assert len(sampled) == len(set(sampled)) == result.read.documents - sum(result.dropped.values()) > 5
    assert way == "slice" or set(sampled) == wanted


def test_of_a_few_long_documents_it_takes_pieces(
    tmp_path: Path, sampled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever books there are: their hashes may all be too high, or one of them larger than a sample."""
    monkeypatch.setattr("masklater.corpus.read.MAX_DOCUMENT_CHARS", 500)
    for first in range(5):
        books = [{"text": make_text(first * 10 + number, 4000)} for number in range(3)]
        sampled.clear()
        prepare([write(tmp_path / f"{first}.jsonl", books)], tmp_path / f"out-{first}", settings())
        assert 0.6 * SAMPLE < sum(map(len, sampled)) < 1.5 * SAMPLE
        assert len({next(place for place, book in enumerate(books) if text in book["text"]) for text in sampled}) == 3
