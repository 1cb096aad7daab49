"""Parameter groups, both optimizers, and the schedule in every unit."""

import copy
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from masklater.errors import UserError
from masklater.ledger import Ledger, Spending
from masklater.pretrain.optim import Optimizers, Schedule, split_parameters
from masklater.recipe.duration import Duration
from masklater.recipe.sections import OptimizerSettings, ScheduleSettings

SPENDING = Spending(
    rows=32,
    tokens=32 * 128,
    tokens_seen=32 * 78,
    tokens_predicted=32 * 63,
    flops=1e9,
    flops_head=2e8,
    flops_vanilla=1e9,
)
STEP = Ledger()
STEP.add_step(SPENDING, seconds=0.0, data_seconds=0.0)


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.linear = nn.Linear(6, 4)
        self.norm = nn.LayerNorm(4)
        self.vector = nn.Parameter(torch.ones(6))


def test_what_decays() -> None:
    model = Small()
    matrices, decayed, undecayed = split_parameters(model)
    assert [id(p) for p in matrices] == [id(model.linear.weight)]
    assert [id(p) for p in decayed] == [id(model.embedding.weight)]
    assert {id(p) for p in undecayed} == {id(p) for p in (model.linear.bias, *model.norm.parameters(), model.vector)}


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_parameter_is_stepped_once_and_state_round_trips(name: str) -> None:
    settings = OptimizerSettings(name=name, lr=0.01, adamw_lr=0.001 if name == "muon" else None, weight_decay=0)  # type: ignore[arg-type]

    def make() -> tuple[Small, Optimizers]:
        torch.manual_seed(0)
        model = Small()
        return model, Optimizers(model, settings)

    def step(model: Small, optimizers: Optimizers, seed: int) -> None:
        torch.manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn_like(parameter)
        optimizers.step(0.5)

    model, optimizers = make()
    before = [parameter.clone() for parameter in model.parameters()]
    step(model, optimizers, 1)
    assert all((a != b).any() for a, b in zip(before, model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())
    saved, weights = copy.deepcopy(optimizers.states()), copy.deepcopy(model.state_dict())
    step(model, optimizers, 2)

    other, other_optimizers = make()
    other_optimizers.begin({name.rpartition(".")[0] for name in saved})
    other.load_state_dict(weights)
    states = other_optimizers.states()
    assert states.keys() == saved.keys()
    for what, tensor in states.items():
        tensor.copy_(saved[what])
    step(other, other_optimizers, 2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def run(settings: ScheduleSettings, duration: Duration, steps: int, seconds: float = 0.0) -> list[float]:
    schedule, ledger, multipliers = Schedule(settings, duration, STEP), Ledger(), []
    for _ in range(steps):
        multipliers.append(schedule.multiplier(ledger))
        ledger.add_step(SPENDING, seconds, data_seconds=0.0)
    assert duration.reached(ledger)
    return multipliers


def test_linear() -> None:
    got = run(ScheduleSettings(warmup=0.2), Duration(steps=10), 10)
    assert got == pytest.approx([0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_wsd_cosine_and_floor() -> None:
    got = run(ScheduleSettings(name="wsd", warmup=0.2, decay=0.4), Duration(steps=10), 10)
    assert got == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])
    got = run(ScheduleSettings(name="cosine", warmup=0.0, floor=0.1), Duration(steps=4), 4)
    assert got == pytest.approx([1, 0.1 + 0.9 * 0.8535534, 0.1 + 0.9 * 0.5, 0.1 + 0.9 * 0.1464466])


@pytest.mark.parametrize(
    "duration", [Duration(steps=10), Duration(rows=320), Duration(tokens=320 * 128), Duration(flops=1e10)]
)
@pytest.mark.parametrize("warmup", [0.2, Duration(steps=2), Duration(rows=64), Duration(flops=2e9)])
def test_units_agree(duration: Duration, warmup: float | Duration) -> None:
    expected = run(ScheduleSettings(warmup=0.2), Duration(steps=10), 10)
    assert run(ScheduleSettings(warmup=warmup), duration, 10) == pytest.approx(expected)


def test_hours_decay_to_their_end() -> None:
    got = run(ScheduleSettings(warmup=Duration(hours=0.2)), Duration(hours=1), 10, seconds=360)
    assert got == pytest.approx([0, 0.5, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])


def test_warm_up_of_another_unit_that_takes_the_whole_run() -> None:
    with pytest.raises(UserError, match="takes the whole duration"):
        Schedule(ScheduleSettings(warmup=Duration(rows=320)), Duration(steps=10), STEP)
    for steps, fits in ((8, True), (9, False)):  # and 2 of 10 decay
        wsd = ScheduleSettings(name="wsd", warmup=Duration(steps=steps))
        with nullcontext() if fits else pytest.raises(UserError, match=r"warmup \(9 steps\) and .* together exceed"):
            Schedule(wsd, Duration(steps=10), STEP)
