"""The model against its plain twin: the same loss, and the same gradient of every weight."""

import pytest
import torch

from masklater.corpus.shards import Shards
from tests.reference.cases import gradients, make_batch, make_model, rebuild_rows
from tests.reference.plain import Shape, loss_of_row


@pytest.mark.parametrize("objective", ["3ml-self", "3ml-cross", "self-skip", "cross-skip"])
def test_the_method_is_what_its_plain_twin_computes(objective: str, continuous: Shards) -> None:
    model = make_model(continuous, objective, "roberta").double()
    batch = make_batch(continuous, objective, "batch.attend=row", rows=6)
    assert batch.documents_BL is None
    assert batch.masked_pos_BM.shape[1] > 2
    loss, _ = model(batch=batch)
    loss.backward()
    found = gradients(model)

    encoder, config = model.config.encoder, model.config
    shape = Shape(
        encoder_layers=encoder.num_hidden_layers,
        decoder_layers=config.decoder.num_layers,
        heads=encoder.num_attention_heads,
        eps=encoder.layer_norm_eps,
        position_offset=config.position_offset or 0,
    )
    weights = {name: weight.detach().clone().requires_grad_() for name, weight in model.named_parameters()}
    ids_BL, _ = rebuild_rows(batch, config.mask_token_id)
    dropped_BL = torch.zeros_like(ids_BL, dtype=torch.bool).scatter_(1, batch.masked_pos_BM, True)
    rows = zip(ids_BL, dropped_BL, batch.target_pos_BT, batch.target_ids_BT, strict=True)
    expected = sum(loss_of_row(weights, *row, config.decoder.kind, shape) for row in rows)
    assert isinstance(expected, torch.Tensor)
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=0)  # summed in float32
    expected.backward()
    read = {name: weight.grad for name, weight in weights.items() if weight.grad is not None}
    assert read.keys() == found.keys()
    for name, gradient in read.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-5, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")
