"""The likelihood of one masked token, its head computed there alone, against the logits of the whole row."""

import pytest
import torch

from masklater.corpus.shards import Shards
from masklater.model.likelihood import log_likelihood
from tests.reference.cases import CASES, make_model


@pytest.mark.parametrize("length", [1, 2, 9])
@pytest.mark.parametrize(("objective", "family"), CASES)
def test_it_is_that_of_the_whole_row(objective: str, family: str, length: int, continuous: Shards) -> None:
    model = make_model(continuous, objective, family)
    mask = continuous.vocabulary.mask
    torch.manual_seed(1)
    ids_BL = torch.randint(5, continuous.vocabulary.size, (4, length))
    position_B = torch.randint(0, length, (4,))
    with torch.no_grad():
        found_B = log_likelihood(model, ids_BL, position_B)
        masked_BL = ids_BL.scatter(1, position_B[:, None], mask)
        logits_BV = torch.stack(
            [model(input_ids=row[None]).logits[0, at] for row, at in zip(masked_BL, position_B, strict=True)]
        )
        every_B = torch.arange(4)
        expected_B = logits_BV.double().log_softmax(dim=1)[every_B, ids_BL[every_B, position_B]]
    assert found_B.dtype == torch.float32
    torch.testing.assert_close(found_B.double(), expected_B, rtol=1e-5, atol=1e-5)


def test_the_head_is_computed_at_the_masked_position_only(continuous: Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(continuous, "3ml-self", "roberta")
    rows: list[int] = []
    predict = type(model.head).forward
    monkeypatch.setattr(
        type(model.head),
        "forward",
        lambda head, hidden, words: (rows.append(len(hidden)), predict(head, hidden, words))[1],
    )
    with torch.no_grad():
        log_likelihood(model, torch.randint(5, 50, (6, 10)), torch.arange(6))
    assert rows == [6]
