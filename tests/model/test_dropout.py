"""`model.dropout` decides all dropout of an encoder, one that exists included."""

import pytest
import torch
from torch import nn
from transformers import AutoConfig

from masklater.model.encoder import build_encoder
from masklater.model.from_scratch import set_dropout
from tests.reference.cases import FAMILIES


@pytest.mark.parametrize("family", [*FAMILIES, "distilbert"])
def test_none_is_left_and_all_is_changed(family: str) -> None:
    names = {
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "attention_dropout",
        "dropout",
        "mlp_dropout",
        "embedding_dropout",
    }
    plain = AutoConfig.for_model(family)
    present = [name for name in names if hasattr(plain, name)]
    sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64} if family == "distilbert" else {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}  # fmt: skip
    config = AutoConfig.for_model(family, **sizes, vocab_size=90, pad_token_id=1, **dict.fromkeys(present, 0.3))
    ids_BL = torch.randint(5, 90, (2, 9))
    for dropout, alike in ((0.0, True), (0.4, False)):
        set_dropout(config, dropout)
        encoder = build_encoder(config).train()
        used = {module.p for module in encoder.modules() if isinstance(module, nn.Dropout)}
        assert used <= {dropout}
        one, other = (encoder(input_ids=ids_BL).last_hidden_state for _ in range(2))
        assert torch.equal(one, other) == alike
