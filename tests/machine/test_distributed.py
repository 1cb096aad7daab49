"""Joining and leaving other processes."""

import time

import pytest
import torch
import torch.distributed as dist
from torch import nn
from transformers import AlbertConfig, AlbertModel

from masklater.machine.distributed import ALONE, World
from masklater.machine.parallel import stacked_layers
from masklater.machine.precision import PRECISIONS, Precision
from tests.invariance.ranks import CONTEXT, take_place

LEAVINGS = 12
"""Without the mend one of the first six hangs, in 5 of 5 tries."""


def test_leaving_never_hangs() -> None:
    """A model that outlives its group of processes does not wait, with Python's lock held, for a thread that wants it."""
    stores = [dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) for _ in range(LEAVINGS)]
    left = CONTEXT.Array("i", 2)
    ranks = [CONTEXT.Process(target=_leave, args=(i, [s.port for s in stores], left), daemon=True) for i in range(2)]
    for rank in ranks:
        rank.start()
    seen, deadline = 0, time.monotonic() + 300  # to import torch, beside other work
    while any(rank.is_alive() for rank in ranks) and time.monotonic() < deadline:
        if sum(left) > seen:
            seen, deadline = sum(left), time.monotonic() + 60
        time.sleep(0.05)
    codes = [rank.exitcode for rank in ranks]
    for rank in ranks:
        rank.kill()
    assert codes == [0, 0], f"left {list(left)} of {LEAVINGS} times"


def _leave(rank: int, ports: list[int], left: "list[int]") -> None:
    from masklater.machine.distributed import join
    from masklater.machine.parallel import parallelize
    from masklater.machine.precision import choose_precision

    for port in ports:
        take_place(rank, 2, port)
        with join() as world:
            model = parallelize(nn.Linear(8, 8), "ddp", choose_precision("float32", world.device), world)
            model(torch.randn(2, 8)).sum().backward()
            world.all_reduce(torch.ones(4))
        del model
        left[rank] += 1


@pytest.mark.parametrize(
    ("names", "common"),
    [
        (("bfloat16", "bfloat16"), "bfloat16"),
        (("bfloat16", "float16"), "float16"),  # an A100 beside a T4
        (("float32", "bfloat16"), "float32"),  # processors of two ages
    ],
)
def test_processes_compute_in_what_all_devices_can(names: tuple[str, str], common: str) -> None:
    class Both(World):
        def all_max(self, *values: float) -> list[float]:
            return [max(*values, *map(PRECISIONS.index, names))]

    for name in names:
        own = Precision(name, "it can", torch.device("cpu"))
        assert ALONE.common_precision(own) is own
        settled = Both(size=2).common_precision(own)
        assert settled.name == common
        assert settled.reason == (
            "it can" if name == common else f"the device of another process does not compute in {name}"
        )


def test_no_stacked_layer_is_inside_of_another() -> None:
    """ALBERT's groups hold layers, a stack may hold stacks, and a layer may stand in a stack several times."""

    def group(layers: int) -> nn.Module:
        whole = nn.Module()
        whole.layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(layers))
        return whole

    model, shared = nn.Module(), nn.Linear(2, 2)
    model.groups = nn.ModuleList([group(1), group(2)])
    model.blocks = nn.ModuleList([nn.ModuleList([shared, nn.Linear(2, 2)]), nn.ModuleList([shared])])
    assert stacked_layers(model) == [*model.groups, shared, model.blocks[0][1]]


def test_the_stacked_layers_of_albert_are_its_groups() -> None:
    config = AlbertConfig(
        vocab_size=60, embedding_size=8, hidden_size=16, num_attention_heads=2, intermediate_size=16,
        num_hidden_layers=4, num_hidden_groups=2, inner_group_num=2,
    )  # fmt: skip
    with torch.device("meta"):
        model = AlbertModel(config)
    assert stacked_layers(model) == list(model.encoder.albert_layer_groups)
