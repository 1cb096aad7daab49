"""The commands of docs/how-to, as they stand there, on a tiny model that a made-up cache of the hub holds."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer

from tests.conftest import REPOSITORY, make_text
from tests.docs.pages import commands
from tests.reference.test_against_transformers import tiny_config
from tests.test_hub import FIRST, put

SMALLER = ["batch.rows=2", "batch.micro_rows=2", "duration.steps=1", "evaluation.rows=2"]
"""What is said of size at the end of a command holds; nothing else of it changes."""


@pytest.fixture
def cache(tmp_path: Path, shards_folder: Path) -> Path:
    """A cache that holds ModernBERT, tiny, with windows of 16 and positions for 512 tokens."""
    AutoTokenizer.from_pretrained(shards_folder / "tokenizer").save_pretrained(tmp_path / "model")
    torch.manual_seed(0)
    layers = {"num_hidden_layers": 4, "global_attn_every_n_layers": 3, "local_attention": 16}
    config = tiny_config("modernbert", vocab_size=320, **{**layers, "max_position_embeddings": 512})
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path / "model")
    put(tmp_path / "cache", tmp_path / "model", FIRST, "main", "answerdotai/ModernBERT-base")
    shutil.rmtree(tmp_path / "model")
    return tmp_path / "cache"


@pytest.mark.longest
def test_continuing_a_published_encoder(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for number in range(6):
        (tmp_path / "texts" / f"{number}.txt").write_text(make_text(number, 2000))
    environment = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    for command in commands(REPOSITORY / "docs" / "how-to" / "continue.md"):
        words = shlex.split(command)
        smaller = SMALLER if words[1] == "pretrain" else []
        done = subprocess.run(
            [sys.executable, "-m", *words, *smaller],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        if words[1] == "pretrain":
            assert (
                f"taken over from answerdotai/ModernBERT-base, commit {FIRST} on the hub: encoder, LM head"
                in done.stderr
            )
            assert "windows: 2 of 4 encoder layers see 8 positions to either side" in done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["source_commit"] == FIRST
    encoder = AutoModel.from_pretrained(tmp_path / "encoder")
    assert (encoder.config.model_type, encoder.config.local_attention) == ("modernbert", 16)
    assert encoder.config.layer_types.count("sliding_attention") == 2
