"""SHARDS of several sources and row lengths with one tokenizer."""

import json
from pathlib import Path

import pytest

from tests.conftest import make_shards, make_text


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources, `general` and `code`, each in rows of 64, 128 and 256."""
    folder = tmp_path_factory.mktemp("corpora")
    for name, first in (("general", 0), ("code", 500)):
        texts = [json.dumps({"text": make_text(first + i, 40 + 10 * (i % 30))}) for i in range(90)]
        (folder / f"{name}.jsonl").write_text("\n".join(texts))
    tokenizer: dict[str, Path] = {}
    for name in ("general", "code"):
        for length in (64, 128, 256):
            out = folder / name / f"rows-{length}"
            make_shards(folder / f"{name}.jsonl", out, row_length=length, pack="continuous", **tokenizer)
            tokenizer = {"tokenizer": folder / "general" / "rows-64" / "tokenizer"}
    return folder
