"""docs/adding.md, a kind of decoder: one without attention, added from outside by three tables and trained with."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForMaskedLM, PreTrainedModel

from masklater import MaskLaterForMaskedLM
from masklater.budget import decoders as costs
from masklater.budget.cost import row_flops
from masklater.budget.decoders import DecoderCost, MultiplyAdds
from masklater.budget.forecast import forecast, rows_of
from masklater.budget.kept import Kept
from masklater.budget.shape import RowShape
from masklater.budget.sizes import encoder_sizes
from masklater.corpus.shards import Shards
from masklater.errors import RecipeError, UserError
from masklater.masking.batch import MaskedBatch
from masklater.model import decoder as decoders
from masklater.model.config import MaskLaterConfig
from masklater.model.decoder import FeedForwardBlock, LightDecoder, gather
from masklater.pretrain.batches import make_batches
from masklater.pretrain.loop import pretrain
from masklater.recipe import sections
from masklater.run.folder import RunFolder
from tests.conftest import tiny
from tests.reference.cases import make_model


class MeanDecoder(LightDecoder):
    """Feed-forward layers on the targets, to each of which the mean of all that the encoder has read is added."""

    def __init__(self, config: MaskLaterConfig) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(FeedForwardBlock(self.sizes) for _ in range(config.decoder.num_layers))

    def forward(self, seen_BSD: Tensor, batch: MaskedBatch, encoder: PreTrainedModel) -> Tensor:
        seen_BSd, row_BLd = self.append(seen_BSD, batch, encoder)
        targets_BTd = gather(row_BLd, batch.target_pos_BT) + seen_BSd.mean(dim=1, keepdim=True)
        for layer in self.layers:
            targets_BTd = layer(targets_BTd)
        return self.widen(self.last_norm(targets_BTd))


def multiply_adds(shape: RowShape) -> MultiplyAdds:
    d, f = shape.decoder_width, shape.decoder_feed_forward
    return MultiplyAdds(linear=shape.decoder.num_layers * 2 * d * f * shape.targets, attention=0)


def parameters(shape: RowShape) -> int:
    d, f = shape.decoder_width, shape.decoder_feed_forward
    return shape.decoder.num_layers * (2 * d * f + f + 3 * d)


def kept(shape: RowShape, kept: Kept) -> float:
    d, f = shape.decoder_width, shape.decoder_feed_forward
    return shape.decoder.num_layers * shape.targets * kept.by_feed_forward(d, f)


@pytest.fixture
def mean_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The three lines."""
    monkeypatch.setitem(decoders.DECODERS, "mean", MeanDecoder)
    monkeypatch.setitem(sections.DECODERS, "mean", "the mean of what the encoder has read, and no attention")
    monkeypatch.setitem(costs.DECODERS, "mean", DecoderCost(multiply_adds, parameters, kept))


def test_a_kind_is_unknown_before_it_is_added() -> None:
    with pytest.raises(RecipeError, match=r"decoder\.kind is 'mean': it must be one of self, cross"):
        tiny("3ml-small", "decoder.kind=mean")
    with pytest.raises(UserError, match=r"decoder\.kind is 'mean': it must be one of self, cross"):
        MaskLaterConfig(decoder={"kind": "mean"})


@pytest.mark.usefixtures("mean_decoder")
@pytest.mark.parametrize("width", ["null", "16"])
def test_a_decoder_is_added_by_three_lines(width: str, continuous: Shards, tmp_path: Path) -> None:
    recipe = tiny("3ml-small", "decoder.kind=mean", f"decoder.hidden_size={width}", "duration.steps=2")
    result = pretrain(recipe, continuous.folder, tmp_path / "run")
    assert result.steps == 2
    model, _ = RunFolder(tmp_path / "run").load_model()
    assert type(model.decoder) is MeanDecoder
    predicted = forecast(recipe, rows_of(continuous.folder))
    assert predicted.parameters is not None
    assert predicted.parameters.decoder == sum(parameter.numel() for parameter in model.decoder.parameters())
    model.save_pretrained(tmp_path / "model")
    again = AutoModelForMaskedLM.from_pretrained(tmp_path / "model")
    assert isinstance(again, MaskLaterForMaskedLM)
    assert again.config.decoder.kind == "mean"
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))


@pytest.mark.usefixtures("mean_decoder")
def test_its_cost_is_what_torch_counts(continuous: Shards) -> None:
    overrides = ("decoder.kind=mean", "decoder.hidden_size=16")
    recipe, model = tiny("3ml-small", *overrides), make_model(continuous, "3ml-self", "roberta", *overrides)
    batches = make_batches(continuous, continuous.train, recipe.masking, True, "row", 0)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.target_logits(batches.of_step(0, 8))
    expected = row_flops(encoder_sizes(model.config.encoder), recipe.decoder, batches.corruption.counts)
    assert expected.decoder_linear > 0
    assert counter.get_total_flops() / 8 == pytest.approx(expected.forward, rel=1e-6)


def test_the_tables_have_the_same_names() -> None:
    assert decoders.DECODERS.keys() == sections.DECODERS.keys()
    assert costs.DECODERS.keys() == sections.DECODERS.keys() - {"late", "none"}
