"""Which weights are trained: what moves and what does not, what merging gives, what is counted, recorded and refused."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, PreTrainedModel, RobertaConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from masklater.cli import main
from masklater.errors import UserError
from masklater.judge.encoder import load_classifier, open_encoder
from masklater.judge.grid import DEFAULT_SIZES, TUNE_RATES, Grid, SweepSettings, Tune, make_grid, make_tune
from masklater.judge.records import RunLog
from masklater.judge.sweep import sweep
from masklater.judge.tasks import TASKS
from masklater.judge.tune import LORA_TARGETS, Tuned, encoder_weights, select, smallest
from masklater.recipe import families

CPU = torch.device("cpu")
WAYS = ["full", "head", "bitfit", pytest.param("lora:2", id="lora"), "pafi:0.05", "hiwi:3", "hiwi-weights:3"]
"""With sizes that suit a tiny model."""


def with_head(folder: Path, outputs: int = 2, tagging: bool = False) -> PreTrainedModel:
    torch.manual_seed(7)
    return load_classifier(open_encoder(str(folder), folder), outputs, CPU, tagging).eval()


def selected(model: PreTrainedModel, way: str) -> Tuned:
    if way.startswith("lora"):
        pytest.importorskip("peft", reason="the extra `tune` is not installed")
    return select(model, make_tune(way))


def answer(model: nn.Module) -> Tensor:
    ids_BL = torch.arange(5, 45).view(4, 10)
    with torch.no_grad():
        return model.eval()(input_ids=ids_BL, attention_mask=torch.ones_like(ids_BL)).logits


def train(tuned: Tuned, steps: int = 3) -> None:
    """A few large steps with weight decay, as finetune takes them."""
    optimizer = torch.optim.AdamW(tuned.parameters, lr=1e-2, weight_decay=0.1)
    ids_BL = torch.arange(5, 45).view(4, 10)
    tuned.model.train()
    for _ in range(steps):
        tuned.model(input_ids=ids_BL, labels=torch.tensor([0, 1, 0, 1])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture
def biased(encoder_folder: Path, tmp_path: Path) -> Path:
    """The encoder with weights as after training: no bias and no gain is what it began as."""
    folder = tmp_path / "biased"
    shutil.copytree(encoder_folder, folder)
    model = AutoModel.from_pretrained(folder, add_pooling_layer=False)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_at_first_the_model_is_the_base_and_merged_it_is_what_was_trained(
    way: str, biased: Path, tmp_path: Path
) -> None:
    base = answer(with_head(biased))
    tuned = selected(with_head(biased), way)
    assert torch.equal(answer(tuned.model), base)
    assert sum(weight.numel() for weight in tuned.parameters) == tuned.counts.trained + tuned.counts.head
    train(tuned)
    assert all(weight.grad is None for weight in tuned.model.parameters())
    trained = answer(tuned.model)
    assert not torch.allclose(trained, base, atol=1e-3)
    merged = tuned.merge()
    assert torch.allclose(answer(merged), trained, atol=1e-5 if way.startswith("lora") else 0, rtol=0)
    plain = with_head(biased)
    assert sorted(merged.state_dict()) == sorted(plain.state_dict())
    assert [type(module) for module in merged.modules()] == [type(module) for module in plain.modules()]
    merged.save_pretrained(tmp_path / "saved")
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved", attn_implementation="eager")
    assert torch.equal(answer(again), answer(merged))
    _, loading = AutoModel.from_pretrained(tmp_path / "saved", add_pooling_layer=False, output_loading_info=True)
    assert not loading["missing_keys"]


MOVES: dict[str, Callable[[str], bool]] = {
    "head": lambda name: False,
    "bitfit": lambda name: name.endswith("bias"),
    "lora:2": lambda name: name.endswith(("query.weight", "value.weight")),
    "hiwi:3": lambda name: name.endswith(("intermediate.dense.bias", "output.dense.bias")) and "attention" not in name,
    "hiwi-weights:3": lambda name: (
        name.endswith(("intermediate.dense.weight", "output.dense.weight")) and "attention" not in name
    ),
}


@pytest.mark.parametrize("way", MOVES)
def test_what_was_not_selected_is_bit_equal_after_training(way: str, biased: Path) -> None:
    before = {name: weight.detach().clone() for name, weight in encoder_weights(with_head(biased)).items()}
    tuned = selected(with_head(biased), way)
    train(tuned)
    after = encoder_weights(tuned.merge())
    moved = {name for name, weight in after.items() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if MOVES[way](name)}


def test_pafi_moves_the_smallest_weights_and_no_others(biased: Path) -> None:
    before = torch.cat([weight.detach().flatten().clone() for weight in encoder_weights(with_head(biased)).values()])
    tuned = selected(with_head(biased), "pafi:0.05")
    count = round(0.05 * len(before))
    assert tuned.counts.trained == tuned.counts.stored == count and tuned.counts.encoder == len(before)
    train(tuned)
    after = torch.cat([weight.detach().flatten() for weight in encoder_weights(tuned.merge()).values()])
    moved = after != before
    chosen = torch.zeros(len(before), dtype=torch.bool)
    chosen[before.abs().argsort(stable=True)[:count]] = True  # the slow twin
    assert not (moved & ~chosen).any()
    assert moved.sum() > 0.3 * count  # the others are words and positions that the rows do not have


def test_the_smallest_are_exactly_as_many_whatever_ties() -> None:
    weights = {"a": torch.tensor([[0.5, -0.1], [0.0, 2.0]]), "b": torch.tensor([3.0]), "c": torch.tensor([0.1, -0.1])}
    assert {name: places.tolist() for name, places in smallest(weights, 3 / 7).items()} == {"a": [1, 2], "c": [0]}
    assert {name: places.tolist() for name, places in smallest(weights, 1e-9).items()} == {"a": [2]}
    assert sum(map(len, smallest(weights, 1.0).values())) == 7


def test_the_mask_is_the_same_whatever_the_task(biased: Path) -> None:
    masks = []
    for outputs, tagging in ((2, False), (1, False), (9, True)):
        places = smallest(encoder_weights(with_head(biased, outputs, tagging)), 0.01)
        masks.append({name: places_K.tolist() for name, places_K in places.items()})
    assert masks[0] == masks[1] == masks[2]
    bert = of_family("bert", "meta")  # its head for rows has a pooler, that for tokens has none
    assert bert.base_model.pooler is not None and not any("pooler" in name for name in encoder_weights(bert))


def of_family(family: str, device: str = "cpu") -> PreTrainedModel:
    config = AutoConfig.for_model(
        family, vocab_size=60, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        intermediate_size=64, max_position_embeddings=40, pad_token_id=1, bos_token_id=0, eos_token_id=2,
        cls_token_id=0, sep_token_id=2, mask_token_id=4,
    )  # fmt: skip
    with torch.device(device):
        return AutoModelForSequenceClassification.from_config(config)


FAMILIES = sorted(families.PRE_NORM | families.GATED | families.ONE_STACK | families.DEBERTA)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_weights_for_lora_and_hiwi(family: str) -> None:
    if family not in CONFIG_MAPPING_NAMES:
        pytest.skip(f"this transformers does not know {family}")
    layers = 2
    assert selected(of_family(family, "meta"), "hiwi-weights:4").counts.stored == (
        layers * 32 * 64 * (3 if family in families.GATED else 2)
    )
    if family == "gte":  # of its three matrices the last has one
        assert selected(of_family(family, "meta"), "hiwi:4").counts.stored == layers * 32
    elif family in families.GATED:
        with pytest.raises(UserError, match="has no feed-forward biases that are known"):
            selected(of_family(family, "meta"), "hiwi:4")
    else:
        assert selected(of_family(family, "meta"), "hiwi:4").counts.stored == layers * (32 + 64)
    tuned = selected(of_family(family), "lora:4")
    targets = LORA_TARGETS[family]
    found = {name for name, module in tuned.model.named_modules() if hasattr(module, "lora_A")}
    assert len(found) == layers * len(targets) and all(name.endswith(targets) for name in found)
    assert tuned.counts.trained == layers * 4 * sum(32 + (32 if len(targets) == 2 else 96) for _ in targets)


def test_a_family_without_known_weights_is_refused() -> None:
    with pytest.raises(UserError, match=r"the encoder .* has no biases"):
        selected(of_family("modernbert", "meta"), "bitfit")
    with pytest.raises(UserError, match="no attention matrices that are known for its type xlm-roberta-xl"):
        selected(of_family("xlm-roberta-xl", "meta"), "lora")


def test_what_roberta_large_trains_and_stores() -> None:
    config = RobertaConfig(
        vocab_size=50265, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
        max_position_embeddings=514, type_vocab_size=1,
    )  # fmt: skip

    def counts(way: str) -> tuple[int, int, int]:
        with torch.device("meta"):
            found = selected(AutoModelForSequenceClassification.from_config(config), way).counts
        assert found.encoder == 354_310_144 and found.head == 1024 * 1024 + 1024 + 2 * 1024 + 2
        return found.trained, found.stored, round(1e6 * found.stored / found.encoder)

    assert counts("full")[:2] == (354_310_144, 354_310_144)
    assert counts("head")[:2] == (0, 0)
    trained = 24 * sum(2 * 16 * size + 16 + size for size in (1024, 4096))
    assert counts("hiwi") == (trained, 24 * (1024 + 4096), 347)  # 0.03%, as the paper has it
    assert counts("bitfit") == (24 * (7 * 1024 + 4096) + 1024, 24 * (7 * 1024 + 4096) + 1024, 766)


def test_names_and_sizes() -> None:
    assert make_tune("full") == Tune() and str(make_tune("full")) == "full"
    assert make_tune("pafi") == Tune("pafi", 0.005) and str(make_tune("pafi:0.01234567")) == "pafi:0.01234567"
    assert make_tune("lora:16").record == {"name": "lora", "bottleneck": 16}
    assert make_tune("pafi").record == {"name": "pafi", "fraction": 0.005} and DEFAULT_SIZES["hiwi"] == 16
    for wrong, said in (
        ("adapter", "there is no 'adapter'"), ("", "there is no ''"), ("head:3", "head has no size"),
        ("pafi:0", "'0' is no fraction"), ("pafi:nan", "'nan' is no fraction"), ("pafi:", "'' is no fraction"),
        ("lora:1.5", "'1.5' is not a positive whole number"), ("hiwi:0", "'0' is not a positive whole number"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=f"--tune {wrong}: {said}"):
            make_tune(wrong)


def test_each_way_has_rates_of_its_own() -> None:
    assert make_grid("paper", None, None, None, "pafi").lr == TUNE_RATES["pafi"]
    assert make_grid("quick", None, None, None, "lora") == Grid((4e-4,), (32,), 3)
    assert make_grid("quick", "1e-5", None, None, "lora").lr == (1e-5,)
    assert make_grid("quick", None, None, None, "full").lr == (2e-5,)


ONE = Grid((1e-2,), (8,), 1)


@pytest.mark.parametrize("way", ["head", "pafi:0.05", "hiwi:3"])
def test_a_sweep_records_the_way_and_refuses_another(
    way: str, encoder_folder: Path, glue_folder: Path, tmp_path: Path
) -> None:
    settings = SweepSettings(ONE, seeds=1, tune=make_tune(way))
    found = sweep(str(encoder_folder), str(glue_folder), tmp_path / "out", [TASKS["rte"]], settings)
    (record,) = RunLog(tmp_path / "out" / "runs.jsonl").records
    assert record["tune"] == make_tune(way).record
    assert found.scores["settings"]["tune"] == way
    usual = sweep(str(encoder_folder), str(glue_folder), tmp_path / "full", [TASKS["rte"]], SweepSettings(ONE, seeds=1))
    assert usual.log.records[0]["scores"][0]["loss"] != record["scores"][0]["loss"]
    counts = record["parameters"]
    assert found.scores["cost"]["rte"] == {"trained": counts["trained"] + counts["head"], "seconds": record["seconds"]}
    markdown = (tmp_path / "out" / "scores.md").read_text()
    assert f"trained: {way}," in markdown and f"| {counts['trained'] + counts['head']:,} |" in markdown
    with pytest.raises(UserError, match=f"a resumed sweep cannot change tune was {way}, is full"):
        sweep(
            str(encoder_folder), str(glue_folder), tmp_path / "out", [TASKS["rte"]], SweepSettings(ONE, seeds=1), True
        )


def test_a_sweep_from_before_there_was_a_choice_goes_on_as_full(
    encoder_folder: Path, glue_folder: Path, tmp_path: Path
) -> None:
    arguments = (str(encoder_folder), str(glue_folder), tmp_path / "out", [TASKS["rte"]])
    sweep(*arguments, SweepSettings(ONE, seeds=1))
    identity, runs = tmp_path / "out" / "sweep.json", tmp_path / "out" / "runs.jsonl"
    old = json.loads(identity.read_text())
    assert old.pop("tune") == "full"
    identity.write_text(json.dumps(old))
    record = json.loads(runs.read_text())
    assert record.pop("tune") == {"name": "full"} and record.pop("parameters")["trained"] > 0
    runs.write_text(json.dumps(record) + "\n")
    assert sweep(*arguments, SweepSettings(ONE, seeds=2), True).scores["cost"]["rte"]["trained"] is None


def test_a_way_that_cannot_be_leaves_nothing_behind(
    encoder_folder: Path, glue_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, "peft", None)
    command = ["masklater", "glue", str(encoder_folder), "--data", str(glue_folder), "--out", str(tmp_path / "out")]
    for way, said in (("lora", "masklater[tune]"), ("adapter", "there is no 'adapter'")):
        monkeypatch.setattr(sys, "argv", [*command, "--tune", way])
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 2 and said in capsys.readouterr().err
        assert not (tmp_path / "out").exists()
