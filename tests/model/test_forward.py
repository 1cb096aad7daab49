"""What MaskLaterForMaskedLM makes of the arguments that masked LMs of transformers take."""

import re
from typing import Any

import pytest
import torch
from transformers.modeling_outputs import MaskedLMOutput

from masklater.corpus.shards import Shards
from masklater.model.masked_lm import REFUSED, MaskLaterForMaskedLM
from tests.reference.cases import make_model


@pytest.fixture(scope="module")
def model(continuous: Shards) -> MaskLaterForMaskedLM:
    return make_model(continuous, "3ml-self", "roberta").eval()


@pytest.fixture
def inputs(model: MaskLaterForMaskedLM) -> dict[str, Any]:
    ids_BL = torch.randint(10, 60, (2, 12), generator=torch.Generator().manual_seed(0))
    ids_BL[:, 3] = model.config.mask_token_id
    return {"input_ids": ids_BL, "labels": torch.where(ids_BL == model.config.mask_token_id, 11, -100)}


@torch.no_grad()
def test_a_tuple_holds_the_parts_of_the_output(model: MaskLaterForMaskedLM, inputs: dict[str, Any]) -> None:
    output = model(**inputs)
    assert isinstance(output, MaskedLMOutput)
    loss, logits_BLV = model(**inputs, return_dict=False)
    assert torch.equal(loss, output.loss) and torch.equal(logits_BLV, output.logits)
    (alone_BLV,) = model(inputs["input_ids"], return_dict=False)
    assert torch.equal(alone_BLV, logits_BLV)
    model.config.return_dict = False
    try:
        assert isinstance(model(**inputs), tuple) and isinstance(model(**inputs, return_dict=True), MaskedLMOutput)
    finally:
        model.config.return_dict = True


@torch.no_grad()
def test_what_this_model_does_not_have_is_refused(model: MaskLaterForMaskedLM, inputs: dict[str, Any]) -> None:
    usual = model(**inputs).logits
    for name, reason in REFUSED.items():
        value = True if name.startswith("output") else torch.zeros(2, 12)
        with pytest.raises(ValueError, match=re.escape(f"{name}: {reason}")):
            model(**inputs, **{name: value})
        assert torch.equal(model(**inputs, **{name: None}).logits, usual)
    assert torch.equal(model(**inputs, output_hidden_states=False).logits, usual)
    with pytest.raises(TypeError, match="takes no head_mask"):
        model(**inputs, head_mask=None)
    model.config.output_hidden_states = True
    try:
        with pytest.raises(ValueError, match=r"of the config"):
            model(**inputs)
        assert torch.equal(model(**inputs, output_hidden_states=False).logits, usual)
    finally:
        model.config.output_hidden_states = False
