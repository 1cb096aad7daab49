"""Encoders of all families to score, random and tiny."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, RobertaConfig, RobertaModel

from masklater.pretrain.loop import pretrain
from tests.conftest import tiny
from tests.judge.folders import make_glue


@pytest.fixture(scope="session")
def glue_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_glue(tmp_path_factory.mktemp("glue"))


@pytest.fixture(scope="session")
def run_folder(shards_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RUN of a few steps."""
    out = tmp_path_factory.mktemp("run") / "run"
    pretrain(tiny("3ml-small", "duration.steps=4"), shards_folder, out)
    return out


@pytest.fixture(scope="session")
def encoder_folder(shards_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ENCODER with random weights and room for 32 tokens, without a pooler."""
    out = tmp_path_factory.mktemp("encoder") / "encoder"
    tokenizer = AutoTokenizer.from_pretrained(shards_folder / "tokenizer")
    torch.manual_seed(0)
    pad = tokenizer.pad_token_id
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=pad + 1 + 32, type_vocab_size=1, pad_token_id=pad, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    RobertaModel(config, add_pooling_layer=False).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return out
