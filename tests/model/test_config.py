"""MaskLaterConfig: the decoder's section as a recipe has it, and the flat names of version 0.1."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForMaskedLM

from masklater import MaskLaterConfig, MaskLaterForMaskedLM
from masklater.errors import UserError
from masklater.pretrain.loop import pretrain
from masklater.recipe.sections import DecoderSettings
from masklater.run.folder import RunFolder
from tests.conftest import tiny
from tests.reference.test_against_transformers import tiny_config

ENCODER = {
    "model_type": "bert", "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 40,
}  # fmt: skip
CROSS = {"kind": "cross", "num_layers": 1, "hidden_size": 16, "positions": "all", "mask_embedding": "word"}
OF_0_1 = {
    "decoder_kind": "self", "num_decoder_layers": 2, "decoder_width": None, "enter_layer": None,
    "mask_embedding": "own", "decoder_positions": "dropped", "blocked_flows": [],
}  # fmt: skip
"""As version 0.1 wrote them into every config.json."""


@pytest.mark.parametrize("decoder", [None, CROSS, DecoderSettings(kind="late", enter_layer=1)])
def test_a_config_is_the_same_after_a_round_trip(decoder: Any, tmp_path: Path) -> None:
    config = MaskLaterConfig(ENCODER, decoder, row_length=24)
    assert config.decoder == DecoderSettings.model_validate(decoder or {})
    assert json.loads(config.to_json_string())["decoder"] == config.decoder.model_dump(mode="json")
    assert MaskLaterConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert again.decoder == config.decoder
    assert again == AutoConfig.from_pretrained(tmp_path)
    assert again != MaskLaterConfig(ENCODER, {"num_layers": 3}, row_length=24)
    assert config.get_text_config() is config


def test_a_model_is_the_same_after_a_round_trip(tmp_path: Path) -> None:
    model = MaskLaterForMaskedLM(MaskLaterConfig(ENCODER, {**CROSS, "blocked_flows": ["masked-to-masked"]})).eval()
    model.save_pretrained(tmp_path)
    again = AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    assert again.config.decoder == model.config.decoder
    ids_BL = torch.randint(5, 64, (2, 12))
    assert torch.equal(again(input_ids=ids_BL).logits, model(input_ids=ids_BL).logits)


def test_the_decoder_can_be_changed_when_a_config_is_loaded(tmp_path: Path) -> None:
    MaskLaterConfig(ENCODER, CROSS).save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path, decoder={"num_layers": 4}).decoder == DecoderSettings(num_layers=4)
    with pytest.raises(UserError, match=r"decoder\.num_layers is -1: input should be greater than 0"):
        AutoConfig.from_pretrained(tmp_path, decoder={"num_layers": -1})


@pytest.mark.parametrize(
    ("flat", "expected"),
    [
        ({}, DecoderSettings(positions="dropped")),
        (
            {"decoder_kind": "cross", "num_decoder_layers": 3, "decoder_width": 16, "decoder_positions": "all",
             "mask_embedding": "word", "blocked_flows": ["masked-to-masked"]},
            DecoderSettings(kind="cross", num_layers=3, hidden_size=16, positions="all", mask_embedding="word",
                            blocked_flows=("masked-to-masked",)),
        ),
        ({"decoder_kind": "late", "enter_layer": 1}, DecoderSettings(kind="late", enter_layer=1, positions="dropped")),
        # Neither had any effect, and whoever made such a config in Python could write anything there.
        (
            {"decoder_kind": "none", "num_decoder_layers": 0, "decoder_width": 20},
            DecoderSettings(kind="none", positions="dropped"),
        ),
    ],
)  # fmt: skip
def test_a_config_of_version_0_1_loads(flat: dict[str, Any], expected: DecoderSettings, tmp_path: Path) -> None:
    tree = {"model_type": "masklater", "encoder": ENCODER, "row_length": 24, "position_offset": 0, **OF_0_1, **flat}
    (tmp_path / "config.json").write_text(json.dumps(tree))
    config = AutoConfig.from_pretrained(tmp_path)
    assert (config.decoder, config.row_length) == (expected, 24)
    assert not [name for name in OF_0_1 if name in config.to_dict()]


def test_a_run_of_version_0_1_loads_and_goes_on(shards_folder: Path, tmp_path: Path) -> None:
    """Its checkpoint holds the same weights under the same names; config.json alone is another."""
    recipe, run = tiny("3ml-small", "decoder.kind=cross", "duration.steps=1"), tmp_path / "run"
    pretrain(recipe, shards_folder, run)
    before, _ = RunFolder(run).load_model()
    tree = json.loads((run / "config.json").read_text())
    decoder = tree.pop("decoder")
    assert decoder == {**decoder, "kind": "cross", "positions": "dropped"}
    (run / "config.json").write_text(json.dumps(tree | OF_0_1 | {"decoder_kind": "cross"}))
    after, _ = RunFolder(run).load_model()
    assert after.config.decoder == before.config.decoder
    ids_BL = torch.randint(5, 300, (2, 12))
    assert torch.equal(after(input_ids=ids_BL).logits, before(input_ids=ids_BL).logits)
    assert (
        pretrain(tiny("3ml-small", "decoder.kind=cross", "duration.steps=2"), shards_folder, run, resume=True).steps
        == 2
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decoder_kind": "vanilla"}, r"decoder\.kind is 'vanilla': it must be one of self, cross"),
        ({"decoder_kind": "self", "enter_layer": 1}, "enter_layer belongs to kind late, .*; kind is self"),
        (
            {"decoder": {}, "decoder_kind": "cross", "enter_layer": 1},
            "decoder_kind, enter_layer are settings of the decoder, and stand outside its section.* "
            "Write decoder={'kind': ..., 'enter_layer': ...}",
        ),
        ({"kind": "cross"}, "kind is a setting of the decoder, and stands outside its section"),
        ({"decoder": {"layers": 1}}, r"decoder\.layers is 1: the section decoder has no such key.* Known here: kind, "),
        ({"decoder": 2}, r"decoder is 2: .*"),
    ],
)  # fmt: skip
def test_settings_that_are_unknown_or_contradict_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"(?s){message}"):
        MaskLaterConfig(ENCODER, **settings)


def test_from_encoder_takes_the_names_of_0_1() -> None:
    """Scripts that were written for it go on working; any other name is an error, as everywhere."""
    config = tiny_config("bert")
    model = MaskLaterForMaskedLM.from_encoder(config, mask_token_id=4, num_decoder_layers=1, decoder_kind="cross")
    assert (model.config.decoder.kind, model.config.decoder.num_layers) == ("cross", 1)
    with pytest.raises(TypeError, match="takes no num_layers"):
        MaskLaterForMaskedLM.from_encoder(config, mask_token_id=4, num_layers=1)
    with pytest.raises(UserError, match="num_decoder_layers"):
        MaskLaterForMaskedLM.from_encoder(config, {"num_layers": 1}, mask_token_id=4, num_decoder_layers=1)


def test_the_room_of_judging_answers_to_its_former_name() -> None:
    from masklater.glue.encoder import longest_row
    from masklater.judge import encoder

    assert longest_row is encoder.longest_row
