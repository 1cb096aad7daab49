"""Rows of a causal phase: which next tokens are predicted, how many, and by which draws."""

import pytest
import torch

from masklater.corpus.shards import Shards
from masklater.errors import UserError
from masklater.machine.distributed import World
from masklater.masking.batch import IGNORE, CausalBatch
from masklater.pretrain.batches import BatchMaker, make_batches, make_share
from masklater.recipe.masking import MaskingSettings
from masklater.recipe.sections import BatchSettings


def maker(shards: Shards, predict: float = 1.0, attend: str = "document") -> BatchMaker:
    return make_batches(shards, shards.train, MaskingSettings().as_causal(predict), False, attend, 0)


@pytest.mark.parametrize("attend", ["document", "row"])
@pytest.mark.parametrize("kind", ["shards", "continuous"])
def test_every_ordinary_token_after_one_of_its_document_is_predicted(
    kind: str, attend: str, request: pytest.FixtureRequest
) -> None:
    shards: Shards = request.getfixturevalue(kind)
    batch = maker(shards, attend=attend).of_step(0, 40)
    assert isinstance(batch, CausalBatch)
    L, rows_BL = batch.row_length, batch.seen_ids_BS
    assert torch.equal(batch.seen_pos_BS, torch.arange(L).expand(40, L))
    assert (batch.masked_pos_BM.shape, batch.target_pos_BT.shape) == ((40, 0), (40, L - 2))
    special = {*shards.vocabulary.special}
    for row in range(40):
        documents_L = [0] * L if batch.documents_BL is None else batch.documents_BL[row].tolist()
        ids_L = rows_BL[row].tolist()
        expected = {
            place: ids_L[place + 1]
            for place in range(L - 1)
            if ids_L[place + 1] not in special and documents_L[place] == documents_L[place + 1]
        }
        found = dict(zip(batch.target_pos_BT[row].tolist(), batch.target_ids_BT[row].tolist(), strict=True))
        assert {place: target for place, target in found.items() if target != IGNORE} == expected
    if attend == "document":  # the first token of a document that begins inside a row has nothing to be told from
        assert batch.documents_BL is not None
        inside_BL = batch.documents_BL.diff(dim=1).bool() & (batch.documents_BL[:, 1:] > 0)
        assert inside_BL.any()


@pytest.mark.parametrize("predict", [0.15, 0.5])
def test_a_share_of_them_is_drawn_by_seed_and_step(predict: float, shards: Shards) -> None:
    whole, some = maker(shards), maker(shards, predict)
    batch, all_of_them = some.of_step(3, 8), whole.of_step(3, 8)
    assert batch.target_pos_BT.shape[1] == round(predict * (batch.row_length - 2)) == some.corruption.counts.targets
    for row in range(8):
        mine, every = (
            {
                (place, target)
                for place, target in zip(
                    each.target_pos_BT[row].tolist(), each.target_ids_BT[row].tolist(), strict=True
                )
                if target != IGNORE
            }
            for each in (batch, all_of_them)
        )
        assert mine < every
        assert len(mine) == round(predict * len(every))
    assert torch.equal(some.of_step(3, 8).target_pos_BT, batch.target_pos_BT)
    assert not torch.equal(some.of_step(4, 8).target_pos_BT, batch.target_pos_BT)
    for processes in (2, 4):
        worlds = [World(rank, processes) for rank in range(processes)]
        shares = [make_share(some, 3, BatchSettings(rows=8, micro_rows=1), world) for world in worlds]
        parts = [part for share in shares for part in share.micro_batches]
        assert all(isinstance(part, CausalBatch) for part in parts)
        assert torch.equal(torch.cat([part.target_ids_BT for part in parts]), batch.target_ids_BT)
        assert sum(share.num_targets for share in shares) == int(batch.num_targets)


def test_a_share_that_leaves_no_target_is_refused(shards: Shards) -> None:
    with pytest.raises(UserError, match=r"a causal phase with masking.predict 0.01 leaves no target in rows of 32"):
        maker(shards, 0.01)
