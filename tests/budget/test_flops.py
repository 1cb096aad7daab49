"""FLOPs: the formulas against torch's own counter, and against the paper's ratios."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

from masklater import MaskLaterForMaskedLM
from masklater.budget.cost import row_flops
from masklater.budget.flops import count_row_flops
from masklater.budget.shape import RowShape
from masklater.budget.sizes import EncoderSizes, encoder_sizes
from masklater.corpus.shards import Shards
from masklater.pretrain.batches import make_batches
from masklater.recipe.sections import DecoderSettings
from tests.conftest import tiny
from tests.reference.cases import CASES, OVERRIDES, STATE_CASES, make_model
from tests.reference.test_against_transformers import tiny_config


@pytest.mark.parametrize(("objective", "family"), [*CASES, *STATE_CASES])
def test_formula_is_what_torch_counts(objective: str, family: str, continuous: Shards) -> None:
    model = make_model(continuous, objective, family)
    recipe = tiny("3ml-small", *OVERRIDES[objective])
    batches = make_batches(continuous, continuous.train, recipe.masking, recipe.decoder.drops, "row", 0)
    batch = batches.of_step(0, 8)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward:
            model.target_logits(batch)
        with FlopCounterMode(display=False) as training:
            model(batch=batch).loss_sum.backward()
    expected = row_flops(encoder_sizes(model.config.encoder), recipe.decoder, batches.corruption.counts)
    assert forward.get_total_flops() / 8 == pytest.approx(expected.forward, rel=0.02)
    assert training.get_total_flops() / 8 == pytest.approx(expected.training, rel=0.02)


@pytest.mark.parametrize("objective", ["3ml-self", "vanilla"])
@pytest.mark.parametrize("kinds", [["c2p", "p2c"], ["c2p"], []])
def test_a_row_of_deberta_is_what_torch_counts(objective: str, kinds: list[str], continuous: Shards) -> None:
    """What it makes of its distance embeddings once a pass falls out of the difference of two passes."""
    recipe = tiny("3ml-small", *OVERRIDES[objective])
    config = tiny_config(
        "deberta-v2", vocab_size=continuous.vocabulary.size, pos_att_type=kinds, position_buckets=8, share_att_key=True
    )
    model = MaskLaterForMaskedLM.from_encoder(
        config, recipe.decoder.model_dump(), mask_token_id=continuous.vocabulary.mask, row_length=32
    )
    batches = make_batches(continuous, continuous.train, recipe.masking, recipe.decoder.drops, "row", 0)
    counted = []
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for rows in (8, 16):
            with FlopCounterMode(display=False) as training:
                model(batch=batches.of_step(0, rows)).loss_sum.backward()
            counted.append(training.get_total_flops())
    expected = row_flops(encoder_sizes(config), recipe.decoder, batches.corruption.counts)
    assert (counted[1] - counted[0]) / 8 == pytest.approx(expected.training, rel=0.02)


OF_OTHERS: dict[str, tuple[str, dict[str, Any]]] = {
    "albert": ("albert", {"embedding_size": 16}),
    "distilbert": ("distilbert", {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64}),
    "esmc": ("esmc", {}),
    "eurobert": ("eurobert", {}),
    "eurobert-few-keys": ("eurobert", {"num_key_value_heads": 2}),
    "eurobert-wide-heads": ("eurobert", {"num_key_value_heads": 1, "head_dim": 16}),
    "gte": ("gte", {}),
    "nomic-bert": ("nomic_bert", {}),
    "rembert": ("rembert", {"input_embedding_size": 16, "output_embedding_size": 24}),
    "squeezebert": ("squeezebert", {"embedding_size": 32, "q_groups": 2, "intermediate_groups": 8}),
}
"""Families that no recipe makes from scratch, by a name of their own: the model type, and sizes that are seldom met."""


@pytest.mark.parametrize("kind", ["self", "none"])
@pytest.mark.parametrize("name", OF_OTHERS)
def test_a_row_of_an_encoder_of_others_is_what_torch_counts(name: str, kind: str, continuous: Shards) -> None:
    """What ALBERT makes of its table of positions once a pass falls out of the difference of two passes."""
    family, sizes = OF_OTHERS[name]
    if family not in CONFIG_MAPPING_NAMES:
        pytest.skip(f"this transformers does not know {family}")
    recipe = tiny("3ml-small", f"decoder.kind={kind}")
    config = tiny_config(family, vocab_size=continuous.vocabulary.size, **sizes)
    model = MaskLaterForMaskedLM.from_encoder(
        config, recipe.decoder.model_dump(), mask_token_id=continuous.vocabulary.mask, row_length=32
    )
    batches = make_batches(continuous, continuous.train, recipe.masking, recipe.decoder.drops, "row", 0)
    forward, training = [], []
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        for rows in (8, 16):
            with FlopCounterMode(display=False) as counted:
                model.target_logits(batches.of_step(0, rows))
            forward.append(counted.get_total_flops())
            with FlopCounterMode(display=False) as counted:
                model(batch=batches.of_step(0, rows)).loss_sum.backward()
            training.append(counted.get_total_flops())
    expected = row_flops(encoder_sizes(config), recipe.decoder, batches.corruption.counts)
    # SqueezeBERT cannot be built without its pooler, one product a row.
    assert (forward[1] - forward[0]) / 8 == pytest.approx(expected.forward, rel=0.003)
    if family != "squeezebert":  # torch counts the gradient of a grouped convolution's weights as if it had no groups
        assert (training[1] - training[0]) / 8 == pytest.approx(expected.training, rel=0.001)


@pytest.mark.parametrize("objective", ["3ml-self", "late", "states"])
@pytest.mark.parametrize("predict", [1.0, 0.5])
def test_a_causal_row_is_what_torch_counts(objective: str, predict: float, continuous: Shards) -> None:
    """Whole rows through the encoder, the head at its targets, and no decoder, whatever the model has."""
    model = make_model(continuous, objective, "modernbert" if objective == "late" else "roberta-prelayernorm")
    masking = tiny().masking.as_causal(predict)
    batches = make_batches(continuous, continuous.train, masking, False, "document", 0)
    batch = batches.of_step(0, 8)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        with FlopCounterMode(display=False) as training:
            model(batch=batch).loss_sum.backward()
    decoder = DecoderSettings(kind="none")
    expected = row_flops(encoder_sizes(model.config.encoder), decoder, batches.corruption.counts)
    assert expected.head == 2 * round(predict * 30) * (32 * 32 + 32 * continuous.vocabulary.size)
    assert training.get_total_flops() / 8 == pytest.approx(expected.training, rel=0.02)


def ratio(width: int, layers: int, head: bool, attention: bool, everywhere: bool = True) -> float:
    """FLOPs of 3ML at 50% over vanilla at 15%, L = 128, V = 50,265, every decoder layer on the whole row."""

    def row(seen: int, targets: int, decoder_layers: int) -> int:
        decoder = DecoderSettings(num_layers=decoder_layers) if decoder_layers else DecoderSettings(kind="none")
        encoder = EncoderSizes(
            "roberta", 50_265, width, 4 * width, layers, embedding_width=None, positions=0, token_types=0
        )
        shape = RowShape(encoder, decoder, seen, 128, targets, last_layer_everywhere=everywhere)
        flops = count_row_flops(shape)
        linear = flops.encoder_linear + flops.decoder_linear
        with_attention = linear + attention * (flops.encoder_attention + flops.decoder_attention)
        return with_attention + head * flops.head

    return row(128 - 50, 63, 2) / row(128, 19, 0)


def test_the_papers_ratios_and_what_they_leave_out() -> None:
    # 78 of 128 seen is 0.609, the paper's arithmetic takes 0.6.
    assert ratio(768, 12, head=False, attention=False) == pytest.approx(0.767, abs=0.011)
    assert ratio(1024, 24, head=False, attention=False) == pytest.approx(0.683, abs=0.011)
    assert ratio(768, 12, head=True, attention=True) == pytest.approx(0.92, abs=0.015)
    assert ratio(1024, 24, head=True, attention=True) == pytest.approx(0.74, abs=0.015)
    # What is executed is less: nothing reads the last decoder layer but at the targets.
    assert ratio(768, 12, head=False, attention=False, everywhere=False) == pytest.approx(0.741, abs=0.002)
    assert ratio(1024, 24, head=False, attention=False, everywhere=False) == pytest.approx(0.675, abs=0.002)
