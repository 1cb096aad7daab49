"""One training step of every family and objective against float64 on a CPU."""

import copy
import math
import time

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from masklater.corpus.shards import Shards
from masklater.machine.device import HostCopy
from masklater.machine.precision import Precision
from masklater.masking.batch import IGNORE, MaskedBatch
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain.batches import StepShare
from masklater.pretrain.loop import train_step
from masklater.pretrain.optim import Optimizers
from tests.conftest import tiny
from tests.reference.cases import CASES, gradients, make_batch, make_model

pytestmark = pytest.mark.gpu
ROWS = 8


def exact(model: MaskLaterForMaskedLM, batch: MaskedBatch) -> tuple[float, dict[str, Tensor]]:
    """Mean loss and its gradients in float64, every logit at once."""
    model = copy.deepcopy(model).double()
    logits_NV, target_ids_N = model.target_logits(batch), batch.target_ids_BT.flatten()
    loss = F.cross_entropy(logits_NV, target_ids_N, ignore_index=IGNORE)
    loss.backward()
    return float(loss.detach()), gradients(model)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("rows", ["documents", "continuous"])
@pytest.mark.parametrize(("objective", "family"), CASES)
def test_loss_and_gradients(
    objective: str, family: str, rows: str, precision: str, device: torch.device, request: pytest.FixtureRequest
) -> None:
    shards: Shards = request.getfixturevalue("shards" if rows == "documents" else "continuous")
    model, batch = make_model(shards, objective, family), make_batch(shards, objective, rows=ROWS)
    expected_loss, expected = exact(model, batch)
    model, there = model.to(device), batch.to(device)
    with Precision(precision, "the test says so", device).autocast():
        loss_sum, count = model(batch=there)
    (loss_sum / count).backward()
    found = gradients(model)
    assert float(loss_sum.detach() / count) == pytest.approx(
        expected_loss, rel=1e-5 if precision == "float32" else 0.01
    )
    assert found.keys() == expected.keys()
    # Gradients that cancel (of keys' biases, say) are compared with what their kind is like.
    far = {
        name: float((found[name].cpu().double() - expected[name]).norm() / expected[name].norm().clamp(min=1e-3))
        for name in expected
    }
    assert max(far.values()) < (1e-3 if precision == "float32" else 0.15), max(far, key=far.__getitem__)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("family", ["roberta-prelayernorm", "modernbert"])
def test_a_whole_step(family: str, optimizer: str, continuous: Shards, device: torch.device) -> None:
    """The step that training makes: its loss, its gradient's norm, and weights as a CPU leaves them."""
    more = ("optimizer.name=muon", "optimizer.adamw_lr=1e-3", "optimizer.lr=0.02") if optimizer == "muon" else ()
    model, batch = make_model(continuous, "3ml-self", family), make_batch(continuous, "3ml-self", rows=ROWS)
    expected_loss, expected = exact(model, batch)
    expected_norm = math.sqrt(sum(float(gradient.norm()) ** 2 for gradient in expected.values()))
    after = {}
    for where in (torch.device("cpu"), device):
        here = copy.deepcopy(model).to(where)
        optimizers = Optimizers(here, tiny("3ml-small", *more).optimizer)
        share = StepShare([batch.to(where)], 0, int(batch.num_targets))
        for _ in range(2):
            loss, norm = train_step(here, optimizers, share, 1.0, 1.0, Precision("float32", "", where), 0)
            if where == device and _ == 0:
                assert float(loss) == pytest.approx(expected_loss, rel=1e-5)
                assert float(norm) == pytest.approx(expected_norm, rel=1e-4)
        after[where.type] = here.state_dict()
    # Two steps of AdamW move a weight by 2e-3 at most, whatever its gradient; Muon multiplies in bfloat16 on a GPU.
    loose = 0.01 if optimizer == "muon" else 1e-3
    for name, tensor in after["cpu"].items():
        if tensor.is_floating_point():
            assert float((after[device.type][name].cpu() - tensor).norm() / tensor.norm().clamp(min=1)) < loose, name


def test_a_step_that_is_not_finite_changes_nothing(continuous: Shards, device: torch.device) -> None:
    """Decided on the device, which nothing waits for."""
    batch = make_batch(continuous, "3ml-self", rows=ROWS).to(device)
    model = make_model(continuous, "3ml-self", "roberta-prelayernorm").to(device)
    optimizers = Optimizers(model, tiny("3ml-small").optimizer)
    share = StepShare([batch], 0, int(batch.num_targets))
    precision = Precision("float32", "", device)
    train_step(model, optimizers, share, 1.0, 1.0, precision, 0)
    with torch.no_grad():
        model.head.bias[7] = torch.nan
    before = {name: tensor.clone() for name, tensor in {**model.state_dict(), **optimizers.states()}.items()}
    loss, _ = train_step(model, optimizers, share, 1.0, 1.0, precision, 0)
    assert not bool(torch.isfinite(loss))
    for name, tensor in {**model.state_dict(), **optimizers.states()}.items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, equal_nan=True, msg=name)


def test_numbers_are_read_without_waiting_for_what_was_launched_after_them(device: torch.device) -> None:
    numbers = torch.tensor([1.5, float("nan")], device=device)
    HostCopy(*numbers).values()  # what is first of its kind takes its time
    copied = HostCopy(*numbers)
    if device.type == "cuda":
        torch.cuda._sleep(4 * 10**9)  # cycles: 2 s
    began = time.perf_counter()
    assert str(copied.values()) == "[1.5, nan]"
    assert time.perf_counter() - began < 0.5
    if device.type == "cuda":
        torch.cuda.synchronize()
        assert time.perf_counter() - began > 0.5
