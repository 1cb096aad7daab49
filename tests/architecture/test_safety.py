"""Nothing that a stranger made is ever run: what the source calls, and what happens to malicious folders."""

import ast
import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM, RobertaConfig

from masklater.corpus import tokenizer as tokenizers_
from masklater.errors import UserError
from masklater.judge.encoder import Encoder, load_classifier, open_encoder
from masklater.model.saved import open_source
from masklater.pretrain.loop import pretrain
from masklater.recipe.load import load
from masklater.recipe.recipe import Recipe
from tests.architecture.test_imports import FILES, SOURCE
from tests.conftest import TINY


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Every call of a file, by the dotted name that is called."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            found.append((ast.unparse(node.func), node))
    return found


def given(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg == name), None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_call_can_run_what_it_reads(path: Path) -> None:
    imported = {
        alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in (
            *node.names,
            *([ast.alias(node.module)] if isinstance(node, ast.ImportFrom) and node.module else []),
        )
    }
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "tarfile", "zipfile"}
    assert not {name.split(".")[0] for name in imported} & forbidden
    for name, call in calls(path):
        last = name.split(".")[-1]
        assert name not in {"eval", "exec", "compile", "os.system", "os.popen"}, name
        assert last != "unpack_archive" and "extractall" not in last
        if name == "torch.load":
            assert given(call, "weights_only") == "True"
        if last == "from_pretrained" and name.startswith("Auto"):
            assert given(call, "trust_remote_code") == "False", ast.unparse(call)
        assert given(call, "trust_remote_code") in {None, "False"}
        assert given(call, "allow_pickle") in {None, "False"}
        if name in {"yaml.load", "yaml.load_all"}:
            assert ast.unparse(call.args[1]) == "_StrictLoader"  # PyYAML's SafeLoader, only stricter


class RunsACommand:
    """What an attacker pickles."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def test_the_attack_would_work_on_plain_pickle(tmp_path: Path) -> None:
    """Or the tests below would prove nothing."""
    pickle.loads(pickle.dumps(RunsACommand(tmp_path / "marker")))
    assert (tmp_path / "marker").exists()


@pytest.fixture
def saved(tmp_path: Path, shards_folder: Path) -> Path:
    """A saved model with the tokenizer of the shards."""
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    tokenizer = tokenizers_.load(shards_folder / "tokenizer")
    config = RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **sizes)
    AutoModelForMaskedLM.from_config(config).save_pretrained(tmp_path / "saved")
    tokenizer.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def continuing(saved: Path) -> Recipe:
    own = [override for override in TINY if not override.startswith("model.")]
    return load("continue", [*own, f"model.from={saved}", "duration.steps=1"])


def test_a_sound_source_is_taken(saved: Path, shards_folder: Path, tmp_path: Path) -> None:
    assert pretrain(continuing(saved), shards_folder, tmp_path / "run").finished


@pytest.mark.fault
@pytest.mark.parametrize("form", ["torch", "pickle"])
@pytest.mark.parametrize("part", ["whole", "inside"])
def test_malicious_weights_of_a_source_run_nothing(
    form: str, part: str, saved: Path, shards_folder: Path, tmp_path: Path
) -> None:
    weights: Any = AutoModelForMaskedLM.from_pretrained(saved).state_dict()
    (saved / "model.safetensors").unlink()
    evil = RunsACommand(tmp_path / "marker")
    content = evil if part == "whole" else {**weights, "more": evil}
    if form == "torch":
        torch.save(content, saved / "pytorch_model.bin")
    else:
        (saved / "pytorch_model.bin").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match="does not load as a saved model"):
        open_source(saved)
    with pytest.raises(UserError, match="does not load as a saved model"):
        pretrain(continuing(saved), shards_folder, tmp_path / "run")
    with pytest.raises(UserError, match="does not load"):
        load_classifier(open_encoder(str(saved), tmp_path / "scores"), 2, torch.device("cpu"))
    assert not (tmp_path / "marker").exists() and not (tmp_path / "run").exists()


@pytest.mark.fault
def test_code_beside_a_config_is_not_run(saved: Path, shards_folder: Path, tmp_path: Path) -> None:
    """`auto_map` names classes in files of the folder, which transformers would import if it were told to."""
    marker = tmp_path / "marker"
    (saved / "code.py").write_text(
        f"open({str(marker)!r}, 'w')\nfrom transformers import PreTrainedConfig, PreTrainedTokenizerFast\n"
        "class C(PreTrainedConfig):\n    model_type = 'never-seen'\nclass T(PreTrainedTokenizerFast):\n    pass\n"
    )
    path = saved / "config.json"
    auto_map = {"AutoConfig": "code.C", "AutoModel": "code.M", "AutoModelForMaskedLM": "code.M"}
    config = {**json.loads(path.read_text()), "auto_map": auto_map}
    path.write_text(json.dumps({**config, "model_type": "never-seen"}))
    with pytest.raises(UserError, match="does not load"):
        open_source(saved)
    with pytest.raises(UserError, match="does not load"):
        load_classifier(Encoder(str(saved), saved, ""), 2, torch.device("cpu"))
    tokenizer = saved / "tokenizer_config.json"
    given_before = json.loads(tokenizer.read_text())
    tokenizer.write_text(
        json.dumps({**given_before, "tokenizer_class": "T", "auto_map": {"AutoTokenizer": ["code.T", "code.T"]}})
    )
    try:
        tokenizers_.load(saved)
    except UserError as error:
        assert "does not load" in error.problem
    assert not marker.exists()
