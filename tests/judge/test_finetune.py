"""Metrics, batches, the schedule, one fine-tuning run, and the limits of an encoder."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from tokenizers import processors
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from masklater import MaskLaterForMaskedLM
from masklater.errors import UserError
from masklater.judge import finetune as finetune_module
from masklater.judge.data import Split, read_split, read_task
from masklater.judge.encoder import load_classifier, longest_row, open_encoder
from masklater.judge.finetune import (
    Setting,
    finetune,
    lr_multiplier,
    predict,
    predict_dev,
    protocol_record,
    score,
    task_loss,
)
from masklater.judge.metrics import compute_metrics
from masklater.judge.tasks import TASKS
from masklater.judge.tokens import TokenRows, TokenTask, scoring_batches, tokenise, tokenise_texts, training_batches
from masklater.machine.precision import Precision
from tests.conftest import DATA

CPU = Precision("float32", "the test says so", torch.device("cpu"))


def test_metrics_are_those_of_scikit_learn_and_scipy() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth, predicted = rng.integers(0, 2, 50).astype(float), rng.integers(0, 2, 50).astype(float)
        found = compute_metrics(("accuracy", "f1", "matthews"), truth, predicted)
        assert found["accuracy"] == pytest.approx(100 * accuracy_score(truth, predicted), abs=1e-12)
        assert found["f1"] == pytest.approx(100 * f1_score(truth, predicted), abs=1e-12)
        assert found["matthews"] == pytest.approx(100 * matthews_corrcoef(truth, predicted), abs=1e-12)
        truth, predicted = rng.normal(size=50), rng.normal(size=50)
        found = compute_metrics(("pearson", "spearman"), truth, predicted)
        assert found["pearson"] == pytest.approx(100 * pearsonr(truth, predicted)[0], abs=1e-12)
        assert found["spearman"] == pytest.approx(100 * spearmanr(truth, predicted)[0], abs=1e-12)


def test_metrics_against_arithmetic() -> None:
    """By hand: 3 true positives, 1 false positive, 2 false negatives, 4 true negatives."""
    truth = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0.0])
    predicted = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0.0])
    found = compute_metrics(("accuracy", "f1", "matthews"), truth, predicted)
    assert found["accuracy"] == pytest.approx(70) and found["f1"] == pytest.approx(100 * 6 / 9)
    assert found["matthews"] == pytest.approx(100 * (3 * 4 - 1 * 2) / (4 * 5 * 5 * 6) ** 0.5)


def test_a_correlation_with_a_constant_counts_as_nothing() -> None:
    assert compute_metrics(("pearson", "spearman"), np.arange(5.0), np.ones(5)) == {"pearson": 0.0, "spearman": 0.0}
    with pytest.raises(ValueError, match="no metric is called bleu"):
        compute_metrics(("bleu",), np.arange(5.0), np.ones(5))


def test_the_tables_metrics_are_glues() -> None:
    assert {key: task.metrics for key, task in TASKS.items()} == {
        "cola": ("matthews",), "sst2": ("accuracy",), "mrpc": ("accuracy", "f1"), "stsb": ("pearson", "spearman"),
        "qqp": ("accuracy", "f1"), "mnli": ("accuracy",), "qnli": ("accuracy",), "rte": ("accuracy",), "wnli": ("accuracy",),
    }  # fmt: skip
    assert [task.key for task in TASKS.values() if not task.in_average] == ["wnli"]


class Constant(nn.Module):
    """A model that gives every row the same logits."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits_C = nn.Parameter(torch.tensor(logits))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.logits_C.expand(len(input_ids), -1))


@pytest.mark.skipif(not DATA.is_dir(), reason=f"there is no {DATA}")
@pytest.mark.parametrize(
    ("key", "file", "majority", "scores"),
    [
        ("cola", "CoLA/dev.tsv", 1, {"matthews": 0.0}),
        ("sst2", "SST-2/dev.tsv", 1, {"accuracy": 100 * 444 / 872}),  # 50.9
        ("mrpc", "MRPC/dev.tsv", 1, {"accuracy": 100 * 279 / 408, "f1": 100 * 558 / 687}),  # 68.4 and 81.2
        ("qnli", "QNLI/dev.tsv", 1, {"accuracy": 100 * 2761 / 5463}),  # 50.5
        ("rte", "RTE/dev.tsv", 0, {"accuracy": 100 * 146 / 277}),  # 52.7
        ("wnli", "WNLI/dev.tsv", 0, {"accuracy": 100 * 40 / 71}),  # 56.3
        ("mnli", "MNLI/dev_matched.jsonl", 0, {"accuracy": 100 * 3479 / 9815}),  # 35.4
        ("stsb", "STS-B/dev.tsv", 0, {"pearson": 0.0, "spearman": 0.0}),
    ],
)
def test_the_majority_class_scores_what_it_is_known_to(
    key: str, file: str, majority: int, scores: dict[str, float], encoder_folder: Path
) -> None:
    task = TASKS[key]
    dev = read_split(DATA / "glue" / file, task)
    tokens = as_tokens(dev)
    logits = [1.0 if number == majority else 0.0 for number in range(max(1, len(task.classes)))]
    splits = TokenTask({"train": tokens, "dev": tokens}, 1)
    found = score(task, splits, predict_dev(Constant(logits), task, splits, CPU))
    assert found == pytest.approx(scores, abs=1e-10)


def as_tokens(split: Split) -> TokenRows:
    """Three tokens a row, whatever it says."""
    rows = len(split)
    return TokenRows(np.zeros(3 * rows, dtype=np.int32), None, np.arange(0, 3 * rows + 1, 3), split.labels, 0)


def test_batches_hold_every_row_once_and_little_padding() -> None:
    lengths = np.random.default_rng(0).integers(3, 100, 5000)
    batches = list(training_batches(lengths, 16, 0, 0))
    assert sorted(np.concatenate(batches)) == list(range(5000))
    assert {len(batch) for batch in batches} <= {16, 5000 % 16}
    padded = sum(lengths[batch].max() * len(batch) for batch in batches)
    assert lengths.sum() / padded > 0.95
    again, other_epoch, other_seed = (list(training_batches(lengths, 16, *at)) for at in ((0, 0), (0, 1), (1, 0)))
    assert all(map(np.array_equal, batches, again))
    assert not all(map(np.array_equal, batches, other_epoch)) and not all(map(np.array_equal, batches, other_seed))
    assert sorted(np.concatenate(list(scoring_batches(lengths, 128)))) == list(range(5000))


def test_the_rate_rises_for_6_percent_and_falls_to_nothing() -> None:
    rates = [lr_multiplier(step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(1 / 60) and rates[59] == pytest.approx(1.0) and max(rates) == 1.0
    assert rates[530] == pytest.approx(470 / 940) and rates[-1] == pytest.approx(1 / 940)
    assert [lr_multiplier(step, 1) for step in (0, 1)] == [1.0, 0.0]  # a run of a single step is not lost to warm-up


def test_tokens_are_those_of_the_tokenizer(encoder_folder: Path, glue_folder: Path) -> None:
    data = read_task(glue_folder, TASKS["rte"])
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    rows = tokenise(data, tokenizer, 20, 1).splits["train"]
    first, second = data.splits["train"].texts
    numbers = np.array([3, 0, 7])
    expected = tokenizer(
        [first[n] for n in numbers], [second[n] for n in numbers], truncation=True, max_length=20, padding=True,
        return_tensors="pt",
    )  # fmt: skip
    batch = rows.batch(numbers, tokenizer.pad_token_id, torch.device("cpu"))
    assert torch.equal(batch["input_ids"], expected["input_ids"])
    assert torch.equal(batch["attention_mask"], expected["attention_mask"])
    assert "token_type_ids" not in batch
    assert rows.truncated == sum(len(tokenizer(a, b)["input_ids"]) > 20 for a, b in zip(first, second, strict=True)) > 0


def test_segments_reach_encoders_that_tell_them_apart(glue_folder: Path) -> None:
    class TwoSegments:
        pad_token_id = 0

        def __call__(self, *texts: list[str], **settings: object) -> dict[str, list[list[int]]]:
            rows = range(len(texts[0]))
            return {"input_ids": [[5, 6, 7, 8] for _ in rows], "token_type_ids": [[0, 0, 1, 1] for _ in rows]}

    data = read_task(glue_folder, TASKS["rte"])
    two = tokenise(data, TwoSegments(), 20, 2).splits["dev"].batch(np.array([0]), 0, torch.device("cpu"))
    assert two["token_type_ids"].tolist() == [[0, 0, 1, 1]]
    assert tokenise(data, TwoSegments(), 20, 1).splits["dev"].types is None


def score_once(
    folder: Path, glue: Path, key: str, seed: int, epochs: int = 2, lr: float = 1e-3, precision: Precision = CPU
) -> list[dict[str, float]]:
    task = TASKS[key]
    encoder = open_encoder(str(folder), Path())
    tokens = tokenise(read_task(glue, task), encoder.tokenizer(), 32, 1)
    return finetune(encoder, task, tokens, Setting(lr, 8, epochs, seed), precision).epochs


@pytest.mark.parametrize("key", ["rte", "stsb"])
def test_the_same_seed_gives_the_same_scores(encoder_folder: Path, glue_folder: Path, key: str) -> None:
    first = score_once(encoder_folder, glue_folder, key, 0)
    torch.rand(17)  # whatever else draws from the generator in between
    assert score_once(encoder_folder, glue_folder, key, 0) == first
    assert score_once(encoder_folder, glue_folder, key, 1) != first


@pytest.mark.parametrize(
    "other",
    [{"warmup": 0.5}, {"betas": (0.1, 0.2)}, {"eps": 1.0}, {"weight_decay": 10.0}],
    ids=lambda other: next(iter(other)),
)
def test_every_recorded_setting_acts(
    other: dict[str, Any], encoder_folder: Path, glue_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(protocol_record()) == {"warmup", "betas", "eps", "weight_decay"}
    usual = score_once(encoder_folder, glue_folder, "rte", 0)
    monkeypatch.setattr(finetune_module, "PROTOCOL", replace(finetune_module.PROTOCOL, **other))
    assert score_once(encoder_folder, glue_folder, "rte", 0)[-1]["loss"] != usual[-1]["loss"]
    assert protocol_record()[next(iter(other))] == next(iter(other.values()))


def test_mnli_is_scored_on_both_dev_splits(encoder_folder: Path, glue_folder: Path) -> None:
    (scores,) = score_once(encoder_folder, glue_folder, "mnli", 0, epochs=1)
    assert list(scores) == ["accuracy", "accuracy_mismatched", "loss"]


@pytest.mark.parametrize("precision", [CPU, replace(CPU, name="float16")], ids=lambda each: each.name)
def test_a_task_can_be_learned(precision: Precision, encoder_folder: Path, tmp_path: Path) -> None:
    """One word decides: fine-tuning from random weights finds it."""
    for split, count in (("train", 96), ("dev", 32)):
        lines = [f"{'kan lot mir' if i % 2 else 'net sor rer'} {i % 7}\t{i % 2}" for i in range(count)]
        (tmp_path / "SST-2").mkdir(exist_ok=True)
        (tmp_path / f"SST-2/{split}.tsv").write_text("\n".join(["sentence\tlabel", *lines]))
    scores = score_once(encoder_folder, tmp_path, "sst2", 0, epochs=8, precision=precision)
    assert scores[-1]["accuracy"] == 100 and scores[-1]["loss"] < scores[0]["loss"]


def test_a_run_that_diverges_ends_and_says_so(encoder_folder: Path, glue_folder: Path) -> None:
    task = TASKS["rte"]
    encoder = open_encoder(str(encoder_folder), Path())
    tokens = tokenise(read_task(glue_folder, task), encoder.tokenizer(), 32, 1)
    result = finetune(encoder, task, tokens, Setting(1e30, 8, 3, 0), CPU)
    assert result.diverged and result.epochs == [] and result.best_epoch is None


@pytest.mark.parametrize("key", ["rte", "stsb", "cola"])
def test_a_run_whose_last_update_spoils_it_has_diverged(key: str, encoder_folder: Path, glue_folder: Path) -> None:
    """Every loss was finite; predictions are not, and a class is always the first of what is no number."""
    task = TASKS[key]
    encoder = open_encoder(str(encoder_folder), Path())
    tokens = tokenise(read_task(glue_folder, task), encoder.tokenizer(), 32, 1)
    result = finetune(encoder, task, tokens, Setting(1e30, 64, 2, 0), CPU)  # one step an epoch
    assert result.diverged and result.epochs == [] and result.best_epoch is None and result.answers == {}


def test_predictions_do_not_depend_on_their_batch(encoder_folder: Path, glue_folder: Path) -> None:
    task = TASKS["stsb"]
    encoder = open_encoder(str(encoder_folder), Path())
    rows = tokenise(read_task(glue_folder, task), encoder.tokenizer(), 32, 1).splits["dev"]
    model = load_classifier(encoder, 1, CPU.device)
    pad = encoder.tokenizer().pad_token_id
    alone = []
    with torch.no_grad():
        for row in range(len(rows)):
            batch = rows.batch(np.array([row]), pad, torch.device("cpu"))
            alone.append(5 * float(model.eval()(**batch).logits))
    assert predict(model, task, rows, pad, CPU) == pytest.approx(alone, abs=1e-5)


FAMILIES = ["roberta", "roberta-prelayernorm", "bert", "electra", "camembert", "xlm-roberta", "esm", "modernbert"]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_takes_rows_up_to_its_positions(
    family: str, encoder_folder: Path, glue_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / family
    shutil.copytree(encoder_folder, folder)
    (folder / "model.safetensors").unlink()
    old = AutoConfig.from_pretrained(encoder_folder)
    config = AutoConfig.for_model(
        family, vocab_size=old.vocab_size, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=40, pad_token_id=old.pad_token_id, bos_token_id=0, eos_token_id=2,
        cls_token_id=0, sep_token_id=2, mask_token_id=4, position_embedding_type="absolute",
    )  # fmt: skip
    AutoModel.from_config(config).save_pretrained(folder)
    encoder = open_encoder(str(folder), Path())
    model = load_classifier(encoder, 2, CPU.device)
    length = longest_row(model)
    reserved = {"bert", "electra", "modernbert"}
    assert length == (40 if family in reserved else 40 - old.pad_token_id - 1)
    scores = score_once(folder, glue_folder, "rte", 0, epochs=1)
    assert 0 <= scores[0]["accuracy"] <= 100


def test_a_partial_checkpoint_is_refused(encoder_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "part"
    shutil.copytree(encoder_folder, folder)
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 weights of the encoder, .*layer\.1\.output\.dense\.weight"):
        load_classifier(open_encoder(str(folder), Path()), 2, CPU.device)


def test_an_encoder_with_weights_that_its_class_does_not_read_is_refused(encoder_folder: Path, tmp_path: Path) -> None:
    """Relative positions of a BERT, which transformers 5 no longer has: another encoder was scored."""
    folder = tmp_path / "relative"
    shutil.copytree(encoder_folder, folder)
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.attention.self.distance_embedding.weight"] = torch.ones(9, 8)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        UserError, match=r"weights in its layers .* no place for, .*distance_embedding\.weight \.\.\.\n.*Name"
    ):
        load_classifier(open_encoder(str(folder), Path()), 2, CPU.device)


def test_a_masked_lm_of_ours_is_told_what_to_name_in_its_place(encoder_folder: Path, tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    model = MaskLaterForMaskedLM.from_encoder(AutoConfig.from_pretrained(encoder_folder), mask_token_id=4)
    model.save_pretrained(ours)
    shutil.copytree(encoder_folder, ours / "encoder")
    with pytest.raises(UserError, match=rf"takes the plain encoder alone\n  Name {ours}/encoder; in Python"):
        load_classifier(open_encoder(str(ours), tmp_path), 2, CPU.device)


def test_what_is_no_encoder_is_refused(tmp_path: Path, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"the encoder is \./nowhere, and there is no such folder"):
        open_encoder("./nowhere", tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"the encoder is nobody/nothing; there is no such folder, and the cache of the hub"
    ):
        open_encoder("nobody/nothing", tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds no weights"):
        open_encoder(str(tmp_path), tmp_path)
    with pytest.raises(UserError, match=r"no config\.json"):
        open_encoder(str(tmp_path.parent), tmp_path)
    folder = tmp_path / "generator"
    shutil.copytree(encoder_folder, folder)
    (folder / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UserError, match="no sequence-classification class for the type vit"):
        load_classifier(open_encoder(str(folder), tmp_path), 2, CPU.device)


def test_texts_with_half_of_a_pair_and_without_a_token(encoder_folder: Path) -> None:
    """A tweet cut within an emoji; an empty text where no special token is added. No batch is all padding."""
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    cut, whole = (tokenise_texts([text], tokenizer, 32, 0).ids.tolist() for text in ("kan \ud83d", "kan \ufffd"))
    assert cut == whole
    bare = AutoTokenizer.from_pretrained(encoder_folder)
    bare.backend_tokenizer.post_processor = processors.Sequence([])
    rows = tokenise_texts(["", "kan", ""], bare, 32, 0)
    assert rows.lengths_N.tolist() == [0, len(bare.tokenize("kan")), 0]
    model = AutoModel.from_pretrained(encoder_folder).eval()
    for rows_B in (np.array([0, 2]), np.array([0, 1])):
        inputs = rows.batch(rows_B, bare.pad_token_id, torch.device("cpu"))
        assert inputs["input_ids"][0, 0] == bare.pad_token_id and inputs["attention_mask"].any(dim=1).all()
        assert model(**inputs).last_hidden_state.isfinite().all()
    nothing = tokenise_texts([""], bare, 32, 0)
    assert nothing.batch(np.array([0]), bare.pad_token_id, torch.device("cpu"))["input_ids"].shape == (1, 1)


def test_scores_far_from_0_keep_their_differences() -> None:
    """Seconds since 1970: float32 has steps of 128 there."""
    task = replace(TASKS["stsb"], lowest=1.7e9, highest=1.7e9 + 250)
    labels = 1.7e9 + np.array([0.0, 50.0, 250.0])
    tokens = as_tokens(Split((["a"] * 3,), labels))
    logits = torch.tensor([[0.0], [0.2], [1.0]])

    class Model(nn.Module):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
            return SimpleNamespace(logits=logits)

    assert float(task_loss(Model(), task, tokens, np.arange(3), 1, CPU)) == pytest.approx(0, abs=1e-9)
    assert predict(Model(), task, tokens, 1, CPU) == pytest.approx(labels, abs=1e-3)
