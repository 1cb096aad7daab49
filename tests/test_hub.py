"""Models by their names on the hub: through huggingface_hub's own cache, here a made-up one, and never the network."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForMaskedLM

from masklater import MaskLaterForMaskedLM, hub
from masklater.budget.forecast import forecast, rows_of
from masklater.corpus.shards import Shards
from masklater.errors import DamagedDataError, UserError
from masklater.judge.data import numbered_lines
from masklater.judge.encoder import open_encoder
from masklater.pretrain.loop import pretrain
from masklater.pretrain.start import find_start
from masklater.run.folder import RunFolder
from tests.conftest import make_shards
from tests.pretrain.test_start import continue_from, first_loss, save_masked_lm

FIRST, SECOND = "1" * 40, "2" * 40
NAME = "someone/tiny-encoder"
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 438017232\n"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def put(cache: Path, model: Path, commit: str, revision: str, name: str = NAME) -> Path:
    """Lay a folder into the cache as a commit, to which a branch or tag points."""
    repository = cache / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / revision).write_text(commit)
    return Path(shutil.copytree(model, repository / "snapshots" / commit, dirs_exist_ok=True))


def test_a_name_is_the_commit_that_its_revision_points_to(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    first, second = put(cache, tmp_path / "model", FIRST, "main"), put(cache, tmp_path / "model", SECOND, "v2")
    assert hub.find(NAME, hub.MODEL_FILES, "x") == hub.Source(NAME, first, FIRST)
    assert hub.find(f"{NAME}@v2", hub.MODEL_FILES, "x") == hub.Source(f"{NAME}@v2", second, SECOND)
    assert hub.find(f"{NAME}@{SECOND}", hub.MODEL_FILES, "x").folder == second
    assert hub.find(NAME, hub.MODEL_FILES, "x", commit=SECOND).folder == second
    assert str(hub.find(f"{NAME}@v2", (), "x")) == f"{NAME}@v2, commit {SECOND} on the hub"


def test_a_folder_of_that_name_comes_first(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / NAME).mkdir(parents=True)
    put(cache, tmp_path / NAME, FIRST, "main")
    monkeypatch.chdir(tmp_path)
    assert hub.find(NAME, hub.MODEL_FILES, "x") == hub.Source(NAME, Path(NAME), None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "nobody/nothing",
            r"model\.from is nobody/nothing; there is no such folder, and the cache of the hub, .*cache, ",
        ),
        (
            f"{NAME}@v3",
            rf"model\.from is {NAME}@v3; .* does not hold revision v3 of such a model \(HF_HUB_OFFLINE is set",
        ),
        ("a/b/c", r"model\.from is a/b/c, and there is no such folder"),
        ("./nowhere", r"model\.from is \./nowhere, and there is no such folder"),
        ("../etc@x", r"and there is no such folder"),
        (f"{NAME}@a@b", r"and there is no such folder"),
    ],
)
def test_what_is_not_found(name: str, said: str, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    put(cache, tmp_path / "model", FIRST, "main")
    with pytest.raises(UserError, match=said):
        hub.find(name, hub.MODEL_FILES, "model.from")


def test_a_run_begins_from_a_name_and_records_its_commit(
    cache: Path, continuous: Shards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_masked_lm("bert", continuous, tmp_path / "model")
    put(cache, tmp_path / "model", FIRST, "main")
    recipes = [continue_from(Path(where), "duration.steps=1") for where in (NAME, str(tmp_path / "model"))]
    for recipe, out in zip(recipes, ("named", "folder"), strict=True):
        pretrain(recipe, continuous.folder, tmp_path / out)
    assert f"taken over from {NAME}, commit {FIRST} on the hub: encoder, LM head" in capsys.readouterr().err
    assert first_loss(tmp_path / "named") == first_loss(tmp_path / "folder")
    assert RunFolder(tmp_path / "named").identity.source_commit == FIRST
    assert RunFolder(tmp_path / "named").recipe.model.from_ == NAME
    assert RunFolder(tmp_path / "folder").identity.source_commit is None
    costs = [forecast(recipe, rows_of(continuous.folder)) for recipe in recipes]
    assert costs[0].row == costs[1].row


def test_a_run_begun_before_run_json_had_a_commit_is_read(continuous: Shards, tmp_path: Path) -> None:
    save_masked_lm("bert", continuous, tmp_path / "model")
    pretrain(continue_from(tmp_path / "model", "duration.steps=1"), continuous.folder, tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "source_commit"}))
    assert RunFolder(tmp_path / "run").identity.source_commit is None


def test_a_run_without_a_checkpoint_begins_again_from_the_same_commit(
    cache: Path, continuous: Shards, tmp_path: Path
) -> None:
    reference = save_masked_lm("bert", continuous, tmp_path / "model")
    put(cache, tmp_path / "model", FIRST, "main")
    recipe = continue_from(Path(NAME), "duration.steps=1")
    pretrain(recipe, continuous.folder, tmp_path / "run")
    began = first_loss(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "checkpoints").mkdir()
    with torch.no_grad():
        reference.bert.embeddings.word_embeddings.weight.mul_(2)
    reference.save_pretrained(tmp_path / "model")
    put(cache, tmp_path / "model", SECOND, "main")
    pretrain(recipe, continuous.folder, tmp_path / "run", resume=True)
    assert first_loss(tmp_path / "run") == began
    pretrain(recipe, continuous.folder, tmp_path / "new")
    assert first_loss(tmp_path / "new") != began


def test_data_is_prepared_with_a_tokenizer_by_its_name(
    cache: Path, continuous: Shards, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = continuous.folder / "tokenizer"
    put(cache, tokenizer, FIRST, "v1")
    named = Shards(make_shards(corpus, tmp_path / "named", tokenizer=Path(f"{NAME}@v1")))
    folder = Shards(make_shards(corpus, tmp_path / "folder", tokenizer=tokenizer))
    assert named.fingerprint == folder.fingerprint
    assert f"tokenizer: {NAME}@v1, commit {FIRST} on the hub" in capsys.readouterr().err


def test_pickles_alone_are_refused_by_name(cache: Path, continuous: Shards, tmp_path: Path) -> None:
    model = save_masked_lm("bert", continuous, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    put(cache, tmp_path / "model", SECOND, "bare")
    torch.save(model.state_dict(), tmp_path / "model" / "pytorch_model.bin")
    put(cache, tmp_path / "model", FIRST, "main")
    for name in (NAME, str(tmp_path / "model")):
        with pytest.raises(UserError, match=rf"{name} does not load .* only pickles \(pytorch_model\.bin\)"):
            find_start(continue_from(Path(name)), continuous)
    with pytest.raises(UserError, match=r"tiny-encoder@bare does not load .* there are none as safetensors"):
        MaskLaterForMaskedLM.from_encoder(f"{NAME}@bare")


def test_weights_that_were_not_fetched_are_no_pickles(cache: Path, continuous: Shards) -> None:
    """Where `prepare` was run with a network, and `pretrain` without: what is in the cache is the tokenizer."""
    put(cache, continuous.folder / "tokenizer", FIRST, "v1")
    with pytest.raises(UserError, match=rf"in the cache of the hub, .*\n  Run `hf download {NAME} --revision v1`"):
        find_start(continue_from(Path(f"{NAME}@v1")), continuous)


def test_a_model_of_transformers_is_made_from_a_name(cache: Path, continuous: Shards, tmp_path: Path) -> None:
    save_masked_lm("bert", continuous, tmp_path / "model")
    put(cache, tmp_path / "model", FIRST, "main")
    model = MaskLaterForMaskedLM.from_encoder(NAME, {"kind": "none"}).eval()
    reference = AutoModelForMaskedLM.from_pretrained(NAME).eval()
    ids_BL = torch.randint(5, 300, (2, 16))
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids_BL).logits, reference(input_ids=ids_BL).logits)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_clone_without_its_large_files_is_told_by_name(name: str, continuous: Shards, tmp_path: Path) -> None:
    """Git LFS leaves a few lines in place of each, which read as anything but what they stand for."""
    folder = tmp_path / "clone"
    save_masked_lm("bert", continuous, folder)
    (folder / name).write_bytes(LFS_POINTER)
    find = [lambda: find_start(continue_from(folder), continuous), lambda: open_encoder(str(folder), tmp_path / "s")]
    if name == "tokenizer.json":
        find.append(lambda: make_shards(tmp_path, tmp_path / "shards", tokenizer=folder))
    (tmp_path / "text.txt").write_text("clouds")
    for look in find:
        with pytest.raises(UserError, match=rf"is .*clone, where {name} is a pointer of Git LFS, no file"):
            look()


@pytest.mark.parametrize("ending", ["txt", "jsonl", "parquet", "txt.gz"])
def test_a_pointer_is_no_text(ending: str, tmp_path: Path) -> None:
    (tmp_path / f"text.{ending}").write_bytes(LFS_POINTER)
    with pytest.raises(DamagedDataError, match=rf"text\.{ending} is a pointer of Git LFS in place of the file"):
        make_shards(tmp_path / f"text.{ending}", tmp_path / "shards")
    with pytest.raises(DamagedDataError, match="is a pointer of Git LFS in place of the file"):
        list(numbered_lines(tmp_path / f"text.{ending}"))
