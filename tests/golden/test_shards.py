"""The bytes of SHARDS made of the kinds of input that were read first: no later reader may change them."""

import gzip
import hashlib
import json
from pathlib import Path

import pytest

from masklater.corpus.prepare import prepare
from masklater.corpus.settings import PrepareSettings
from tests.conftest import REPOSITORY, make_text

GOLDEN = json.loads((REPOSITORY / "tests" / "golden" / "shards.json").read_text())
CASES = {
    "documents": {},
    "continuous lines": {"documents": "line", "pack": "continuous"},
    "between blank lines": {"documents": "blank-line"},
}


def write_inputs(folder: Path) -> list[Path]:
    """A folder of plain and gzipped files, a BOM, a long document, odd bytes; and a file beside it."""
    folder.mkdir()
    for number in range(8):
        text = "\n".join(make_text(10 * number + line, 15 + 5 * line) for line in range(6))
        (folder / f"{number}.txt").write_text(text.replace("\n", "\n\n", 2))
    (folder / "8.txt").write_bytes(b"\xef\xbb\xbfc\xff\0afe\r\n" + make_text(8, 40).encode())
    (folder / "long.TXT").write_text(" ".join(make_text(99, 2000) for _ in range(30)))
    (folder / "9.txt.gz").write_bytes(gzip.compress(make_text(9, 90).encode(), mtime=0))
    lines = [{"text": make_text(200 + number, 3 * number)} for number in range(40)] + [{"text": "a\ud83d\0b"}]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    other = folder.with_name("b.jsonl.gz")
    other.write_bytes(gzip.compress("\n\n".join(map(json.dumps, lines[::-2])).encode(), mtime=0))
    return [other, folder]


def digests(shards: Path) -> dict[str, str]:
    """SHA-256 of each file of rows and of the tokenizer."""
    files = [*sorted(shards.glob("*.rows")), *sorted(shards.glob("*.starts")), shards / "tokenizer" / "tokenizer.json"]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.mark.parametrize("case", CASES)
def test_rows_are_what_they_were(case: str, tmp_path: Path) -> None:
    settings = PrepareSettings(vocab_size=320, row_length=32, valid_fraction=0.1, workers=2, **CASES[case])
    prepare(write_inputs(tmp_path / "a"), tmp_path / "out", settings)
    assert digests(tmp_path / "out") == GOLDEN[case]
