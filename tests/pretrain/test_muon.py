"""Muon, batched over matrices of one shape, against torch's own, one by one."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from masklater.machine.distributed import ALONE, World
from masklater.machine.precision import Precision, choose_precision
from masklater.pretrain import muon, optim
from masklater.pretrain.muon import Muon, orthogonalise
from masklater.pretrain.optim import Optimizers
from masklater.recipe.sections import OptimizerSettings

SHAPES = [(8, 8), (24, 8), (8, 24), (8, 8), (24, 8), (8, 8), (5, 7)]


def trained(plain: bool, dtype: torch.dtype, steps: int = 5) -> list[torch.Tensor]:
    torch.manual_seed(0)
    matrices = [nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    matrices.append(nn.Parameter(torch.ones(3, 3)))  # without a gradient: left alone
    settings = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}
    optimizer = torch.optim.Muon(matrices, **settings) if plain else Muon(matrices, **settings, dtype=dtype)
    for step in range(steps):
        for matrix in matrices[:-1]:
            matrix.grad = torch.randn_like(matrix) + step
        optimizer.step()
    return [matrix.detach() for matrix in matrices]


@pytest.mark.parametrize("at_once", [1, 2 * 64, 2**22])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_it_is_the_plain_one_to_rounding(dtype: torch.dtype, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(muon.NUMBERS_AT_ONCE, "cpu", at_once)
    if dtype == torch.float32:  # the plain one with its cast to bfloat16 taken out
        monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    found, expected = trained(False, dtype), trained(True, dtype)
    # Five steps of singular values of about 1, each to 8 bits or to 24.
    tolerance = 5 * 0.05 * (2**-5 if dtype == torch.bfloat16 else 1e-5)
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).norm() / other.norm()) < tolerance
    assert torch.equal(found[-1], torch.ones(3, 3))


def updated(drawn: list[torch.Tensor], world: World) -> list[torch.Tensor]:
    matrices = [nn.Parameter(matrix.clone()) for matrix in drawn]
    optimizer = Muon(matrices, lr=0.05, momentum=0.9, weight_decay=0.1, dtype=torch.float32, world=world)
    for step in range(3):
        for matrix, values in zip(matrices, drawn, strict=True):
            matrix.grad = values.flip(0) * (step + 1) + step
        optimizer.step()
    return [matrix.detach() for matrix in matrices]


class Threads(World):
    """Processes as threads, which meet to hand each other what they have."""

    def __init__(self, rank: int, size: int, barrier: threading.Barrier, box: dict[int, torch.Tensor]) -> None:
        super().__init__(rank, size)
        vars(self).update(barrier=barrier, box=box)

    def all_gather(self, tensor: torch.Tensor) -> torch.Tensor:
        barrier, box = vars(self)["barrier"], vars(self)["box"]
        box[self.rank] = tensor
        barrier.wait(60)
        gathered = torch.stack([box[rank] for rank in range(self.size)])
        barrier.wait(60)
        return gathered


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_processes_share_the_matrices(processes: int) -> None:
    """Each orthogonalises its share, padded where they do not divide, and all have all of them afterwards."""
    barrier, box = threading.Barrier(processes), {}
    drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(i)) for i, shape in enumerate(SHAPES)]
    alone = updated(drawn, ALONE)
    with ThreadPoolExecutor(processes) as pool:
        worlds = [Threads(rank, processes, barrier, box) for rank in range(processes)]
        together = list(pool.map(lambda world: updated(drawn, world), worlds))
    for of_one in together:
        for one, other in zip(of_one, alone, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(16, 16), (40, 16), (16, 40)])
def test_singular_values_come_near_1(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    scales = torch.tensor([1e-3, 1.0, 1e3])[:, None, None]
    found = torch.linalg.svdvals(orthogonalise(torch.randn(3, *shape) * scales)[:, :, :])
    assert found.max() < 1.25
    assert found.median() > 0.65
    assert torch.isfinite(orthogonalise(torch.zeros(1, *shape))).all()


def test_products_are_in_what_the_device_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU without bfloat16 arithmetic emulates it, hundreds of times slower than float32."""
    settings = OptimizerSettings(name="muon", lr=0.01, adamw_lr=0.001)
    for capable, expected in ((True, torch.bfloat16), (False, torch.float32)):
        for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
            monkeypatch.setattr(torch.cpu, probe, lambda capable=capable: capable)
        assert choose_precision("auto", torch.device("cpu")).name == str(expected).removeprefix("torch.")
        part = Optimizers(nn.Linear(3, 3), settings).parts[0]
        assert isinstance(part, Muon)
        assert part.dtype == expected


def test_processes_multiply_in_what_all_devices_can(monkeypatch: pytest.MonkeyPatch) -> None:
    """They hand each other what comes of it, which has to be of one size."""

    class WithAnOldOne(World):
        def all_max(self, *values: float) -> list[float]:
            return [1.0]

    monkeypatch.setattr(optim, "choose_precision", lambda *_: Precision("bfloat16", "", torch.device("cpu")))
    settings = OptimizerSettings(name="muon", lr=0.02, adamw_lr=1e-3)
    for world, dtype in ((ALONE, torch.bfloat16), (WithAnOldOne(size=2), torch.float32)):
        of_matrices = Optimizers(nn.Linear(8, 8), settings, world).parts[0]
        assert isinstance(of_matrices, Muon) and of_matrices.dtype == dtype
