"""What leaves a run as a masked LM is the run: in its logits, in transformers' own classes, and as the next source."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PretrainedConfig,
    pipeline,
)

from masklater import MaskLaterForMaskedLM
from masklater.cli import main
from masklater.cli.export import check_license
from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.model import saved
from masklater.model.export import export_encoder, export_masked_lm
from masklater.model.plain import plain_masked_lm
from masklater.pretrain.loop import pretrain
from masklater.run.folder import RunFolder
from tests.conftest import tiny
from tests.pretrain.test_start import continue_from, save_masked_lm
from tests.reference.cases import FAMILIES, make_model, randomize
from tests.reference.test_against_transformers import masked_lm, tiny_config

CLASSES = {
    "roberta": "RobertaForMaskedLM",
    "roberta-prelayernorm": "RobertaPreLayerNormForMaskedLM",
    "bert": "BertForMaskedLM",
    "electra": "ElectraForMaskedLM",
    "camembert": "CamembertForMaskedLM",
    "xlm-roberta": "XLMRobertaForMaskedLM",
    "esm": "EsmForMaskedLM",
    "modernbert": "ModernBertForMaskedLM",
}


def some_rows(shards: Shards, masked: bool = True) -> torch.Tensor:
    torch.manual_seed(1)
    ids_BL = torch.randint(10, shards.vocabulary.size, (3, 20))
    if masked:
        ids_BL[:, 3::5] = shards.vocabulary.mask
    return ids_BL


@pytest.mark.parametrize("family", FAMILIES)
def test_a_vanilla_run_leaves_as_the_familys_masked_lm(family: str, shards: Shards, tmp_path: Path) -> None:
    """Whose logits are the run's, and whose encoder and head the next run takes over whole."""
    model, ids_BL = make_model(shards, "vanilla", family), some_rows(shards)
    kind, parameters = export_masked_lm(model, shards.folder / "tokenizer", tmp_path / "out")
    assert kind == CLASSES[family]
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path / "out").eval()
    assert type(loaded).__name__ == kind
    assert type(loaded).__module__.startswith("transformers.models.")
    assert parameters == sum(parameter.numel() for parameter in loaded.parameters())
    with torch.no_grad():
        expected, logits = model(input_ids=ids_BL).logits, loaded(input_ids=ids_BL).logits
        torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
        again = MaskLaterForMaskedLM.from_encoder(tmp_path / "out", {"kind": "none"}).eval()
        torch.testing.assert_close(again(input_ids=ids_BL).logits, expected, rtol=1e-5, atol=1e-5)
    assert saved.open_source(tmp_path / "out").head is not None
    answers = pipeline("fill-mask", model=str(tmp_path / "out"))("kan <mask> lot", top_k=2)
    assert len(answers) == 2


@pytest.mark.parametrize("family", ["bert", "roberta-prelayernorm", "modernbert"])
def test_late_entry_leaves_as_the_familys_masked_lm(family: str, shards: Shards, tmp_path: Path) -> None:
    """On rows without [MASK] it is the run; on others its [MASK]s pass through layers that never saw one."""
    model = make_model(shards, "late", family)
    kind, _ = export_masked_lm(model, shards.folder / "tokenizer", tmp_path / "out")
    assert kind == CLASSES[family]
    loaded = AutoModelForMaskedLM.from_pretrained(tmp_path / "out").eval()
    ids_BL = some_rows(shards, masked=False)
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(input_ids=ids_BL).logits, model(input_ids=ids_BL).logits, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_3ml_run_leaves_as_a_masked_lm_of_ours(family: str, shards: Shards, tmp_path: Path) -> None:
    model, ids_BL, out = make_model(shards, "3ml-self", family), some_rows(shards), tmp_path / "out"
    kind, parameters = export_masked_lm(model, shards.folder / "tokenizer", out)
    assert (kind, parameters) == ("MaskLaterForMaskedLM", model.num_parameters())
    assert "auto_map" not in json.loads((out / "config.json").read_text())
    with torch.no_grad():
        expected = model(input_ids=ids_BL).logits
        assert torch.equal(AutoModelForMaskedLM.from_pretrained(out).eval()(input_ids=ids_BL).logits, expected)
    for encoder in (AutoModel.from_pretrained(out / "encoder"), AutoModel.from_pretrained(out)):
        assert type(encoder) is type(model.encoder)
        for name, tensor in model.encoder.state_dict().items():
            assert torch.equal(encoder.state_dict()[name], tensor), name
    assert AutoTokenizer.from_pretrained(out / "encoder").mask_token_id == shards.vocabulary.mask


def test_what_finds_the_encoder_of_a_masked_lm_of_ours(shards: Shards, tmp_path: Path) -> None:
    model, out = make_model(shards, "3ml-self", "bert"), tmp_path / "out"
    export_masked_lm(model, shards.folder / "tokenizer", out)
    (features,) = pipeline("feature-extraction", model=str(out))("kan lot")
    assert len(features[0]) == 32
    for of_task in (AutoModelForSequenceClassification, AutoModelForTokenClassification):
        with pytest.raises(UserError, match=r"takes the plain encoder alone\n.*subfolder='encoder'\) loads it"):
            of_task.from_pretrained(out, num_labels=3)
        assert of_task.from_pretrained(out, subfolder="encoder", num_labels=3).config.num_labels == 3
    model.save_pretrained(tmp_path / "saved")
    with pytest.raises(UserError, match=r"AutoModel\.from_pretrained\(\.\.\.\)\.save_pretrained\(ENCODER\)"):
        AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")


def test_importing_masklater_is_enough(shards: Shards, tmp_path: Path) -> None:
    """Before transformers or after it, and without waiting for torch."""
    export_masked_lm(make_model(shards, "3ml-self", "bert"), shards.folder / "tokenizer", tmp_path / "out")
    load = f"print(type(AutoModelForMaskedLM.from_pretrained({str(tmp_path / 'out')!r})).__name__)"
    first = "import sys, masklater\nassert 'torch' not in sys.modules\n"
    # A class by itself, whose module imports the Auto classes half way through.
    first += "from transformers import RobertaForCausalLM, AutoModelForMaskedLM\n"
    after = "from transformers import AutoModelForMaskedLM\nimport masklater\n"
    for imports in (first, after):
        run = subprocess.run(
            [sys.executable, "-c", imports + load], check=False, capture_output=True, text=True, timeout=300
        )
        assert run.stdout == "MaskLaterForMaskedLM\n", run.stderr


@pytest.mark.parametrize(
    ("source", "decoder", "reason"),
    [
        (
            "bert",
            {"kind": "none", "blocked_flows": ["masked-to-masked"]},
            "decoder.blocked_flows switches attention off",
        ),
        ("bert", {"kind": "self"}, r"its encoder has never seen a \[MASK\]"),
        ("relu", {"kind": "none"}, r"its head computes something else .* hidden_act is relu"),
        ("eurobert", {"kind": "none"}, "its head is not one dense layer"),
    ],
)
def test_runs_that_a_familys_masked_lm_cannot_hold(source: str, decoder: dict[str, object], reason: str) -> None:
    config: PretrainedConfig
    config = tiny_config("bert", hidden_act="relu") if source == "relu" else tiny_config(source)
    model = MaskLaterForMaskedLM.from_encoder(config, decoder, mask_token_id=4)
    randomize(model)
    with pytest.raises(
        UserError, match=rf"(?s)masked LM of type \w+ cannot hold this run: {reason}.*from_pretrained\(RUN\)"
    ):
        plain_masked_lm(model)


def test_a_run_is_opened_by_from_pretrained(continuous: Shards, tmp_path: Path) -> None:
    pretrain(tiny("3ml-small", "duration.steps=1"), continuous.folder, tmp_path / "run")
    expected, _ = RunFolder(tmp_path / "run").load_model()
    ids_BL = some_rows(continuous)
    for model in (
        MaskLaterForMaskedLM.from_pretrained(tmp_path / "run"),
        AutoModelForMaskedLM.from_pretrained(tmp_path / "run"),
        MaskLaterForMaskedLM.from_pretrained(str(tmp_path / "run"), attn_implementation="eager"),
    ):
        assert not model.training
        torch.testing.assert_close(model(input_ids=ids_BL).logits, expected(input_ids=ids_BL).logits)
    assert model.encoder.config._attn_implementation == "eager"
    with pytest.raises(OSError, match="no-such-folder"):
        MaskLaterForMaskedLM.from_pretrained(tmp_path / "no-such-folder")


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_trained_pooler_travels_to_the_export(family: str, continuous: Shards, tmp_path: Path) -> None:
    """Through a run, one that starts from it, and one from its masked LM; into the encoder and beside the masked LM."""
    config = save_masked_lm(family, continuous, tmp_path / "model").config
    source = AutoModel.from_config(config)
    source.save_pretrained(tmp_path / "model")
    pretrain(
        continue_from(tmp_path / "model", "decoder.kind=none", "duration.steps=1"), continuous.folder, tmp_path / "a"
    )
    pretrain(continue_from(tmp_path / "a", "duration.steps=1"), continuous.folder, tmp_path / "b")
    for name in ("a", "b", "c"):
        if name == "c":  # a masked LM of ours has its pooler in the encoder's folder
            b = tmp_path / "b-masked-lm"
            pretrain(continue_from(b, "duration.steps=1"), continuous.folder, tmp_path / "c")
        run = RunFolder(tmp_path / name)
        model, _ = run.load_model()
        export_encoder(model, run.tokenizer, tmp_path / f"{name}-encoder", run.load_pooler())
        export_masked_lm(model, run.tokenizer, tmp_path / f"{name}-masked-lm", run.load_pooler())
        inside = "" if name == "a" else "encoder"
        for out in (tmp_path / f"{name}-encoder", tmp_path / f"{name}-masked-lm" / inside):
            loaded, report = AutoModel.from_pretrained(out, output_loading_info=True)
            assert not report["missing_keys"]
            for part, tensor in source.pooler.state_dict().items():
                assert torch.equal(loaded.pooler.state_dict()[part], tensor), part
    assert AutoModelForMaskedLM.from_pretrained(tmp_path / "a-masked-lm").config.model_type == family


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("decoder.kind=none",), ["RobertaPreLayerNormForMaskedLM", "AutoModel its encoder"]),
        (("decoder.kind=late", "decoder.enter_layer=1"), ["trained from layer 1 on", "worse than the run itself"]),
        ((), ["MaskLaterForMaskedLM", "after `import masklater`", "out/encoder"]),
    ],
)
def test_export_says_what_was_written(
    overrides: tuple[str, ...], said: list[str], continuous: Shards, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(tiny("3ml-small", "duration.steps=1", *overrides), continuous.folder, tmp_path / "run")
    for arguments in (["--with-head", "--out", "out"], ["--license", "mit", "--out", "encoder"]):
        arguments[-1] = str(tmp_path / arguments[-1])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["masklater", "export", str(tmp_path / "run"), *arguments])
            with pytest.raises(SystemExit) as leave:
                main()
            assert not leave.value.code
    text = capsys.readouterr().out
    assert all(part in text for part in said), text
    assert "It has no LM head: fill-mask with it guesses at random, and needs `export --with-head`" in text
    for name, license_ in (("out", None), ("encoder", "mit")):
        card = ModelCard.load(tmp_path / name / "README.md")
        assert card.data.to_dict().get("license") == license_
        assert f"# {name}\n" in card.text
        assert "corpus.jsonl` |       120 |" in card.text
        assert "At step 1, over" in card.text


def test_a_licence_that_is_no_identifier() -> None:
    with pytest.raises(UserError, match=r"--license 'My own' is none of the hub's identifiers"):
        check_license("My own")


def test_the_head_of_a_masked_lm_without_norm_bias_holds_ours() -> None:
    """ModernBERT's norms have no bias: what ours adds to all hidden states stands in the tokens' bias."""
    model = MaskLaterForMaskedLM.from_encoder(masked_lm("modernbert"), {"kind": "none"}, mask_token_id=4).eval()
    randomize(model)
    plain, ids_BL = plain_masked_lm(model), torch.randint(5, 320, (2, 12))
    assert plain.head.norm.bias is None
    assert model.head.norm.bias.abs().max() > 0.1
    torch.testing.assert_close(plain(input_ids=ids_BL).logits, model(input_ids=ids_BL).logits, rtol=1e-5, atol=1e-5)
