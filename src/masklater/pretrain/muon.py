"""Muon: momentum, orthogonalised, for the layers' matrices (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

It computes the same as `torch.optim.Muon`, with three differences. Matrices of one shape are updated together, each
process updates its share of them, and the arithmetic is float32 where a device would only emulate bfloat16.

Letters: N matrices of one shape, R their rows, C their columns, W processes, r rows of a matrix that a process holds.
"""

import math
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from masklater.machine.distributed import ALONE, World
from masklater.machine.parallel import local_value

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the Newton-Schulz polynomial.

It is steep at 0, so that few iterations are enough; singular values end between 0.7 and 1.2.
"""
ITERATIONS = 5
SMALLEST_NORM = 1e-7
NUMBERS_AT_ONCE = {"cpu": 2**22, "cuda": 2**27}
"""Most numbers that are stacked. One large matrix fills a CPU; on a GPU each kernel launch costs time."""


def muon_flops(matrix: Tensor) -> float:
    """Return the FLOPs of the products of one update of a matrix: three in each Newton-Schulz iteration."""
    short, long = sorted(matrix.shape)
    return float(ITERATIONS * (2 * 2 * short * short * long + 2 * short**3))


class Muon(Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay.

    For a matrix that is taller than wide, the update is multiplied by the square root of that ratio, as in the
    original. `found_inf` works as in torch's optimizers: where this scalar is set and not 0, the step changes nothing,
    and the host does not wait for its value.

    Args:
        matrices: The parameters. Each has two dimensions, and is whole or, under FSDP, cut up by rows.
        lr: Learning rate.
        momentum: Share of the momentum that a step keeps.
        weight_decay: Times the learning rate, the share of a weight that a step removes.
        dtype: The dtype in which matrices are multiplied.
        world: The processes that share the work. All have the same gradients.
    """

    found_inf: Tensor | None = None

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        lr: float,
        momentum: float,
        weight_decay: float,
        dtype: torch.dtype,
        world: World = ALONE,
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype
        self.world = world

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient, once."""
        for group in self.param_groups:
            matrices = [parameter for parameter in group["params"] if parameter.grad is not None]
            for together in of_one_shape(matrices):
                self._update(together, group["lr"], group["momentum"], group["weight_decay"])

    def _update(self, matrices: list[Tensor], lr: float, momentum: float, weight_decay: float) -> None:
        skip = None if self.found_inf is None else self.found_inf.bool()
        buffers = [local_value(self._buffer(matrix)) for matrix in matrices]
        gradients_NrC = torch.stack([local_value(matrix.grad) for matrix in matrices if matrix.grad is not None])
        momentum_NrC = torch.stack(buffers)
        if skip is not None:  # lerp towards itself leaves the momentum as it is
            gradients_NrC = torch.where(skip, momentum_NrC, gradients_NrC)
        momentum_NrC = momentum_NrC.lerp(gradients_NrC, 1 - momentum)
        torch._foreach_copy_(buffers, list(momentum_NrC.unbind()))
        rows, columns = matrices[0].shape
        directions_NrC = self._directions(gradients_NrC.lerp(momentum_NrC, momentum), rows)
        kept: float | Tensor = 1 - lr * weight_decay
        if skip is not None:
            kept = torch.where(skip, 1.0, kept)
            directions_NrC = directions_NrC.masked_fill(skip, 0)
        weights = [local_value(matrix) for matrix in matrices]
        torch._foreach_mul_(weights, kept)
        alpha = -lr * math.sqrt(max(1.0, rows / columns))
        torch._foreach_add_(weights, list(directions_NrC.to(weights[0].dtype).unbind()), alpha=alpha)

    def _buffer(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        buffer: Tensor = state["momentum_buffer"]
        return buffer

    def _directions(self, updates_NrC: Tensor, rows: int) -> Tensor:
        """Orthogonalise updates: each process computes a share of the matrices and sends it to all others."""
        updates_NrC = updates_NrC.to(self.dtype)
        N, held, C = updates_NrC.shape
        world = self.world
        if world.size == 1:
            return orthogonalise(updates_NrC)
        whole_NRC = updates_NrC
        most = -(-rows // world.size)  # torch.chunk and FSDP cut so: the last processes may hold fewer rows, or none
        if is_cut := held < rows:
            parts_WNrC = world.all_gather(F.pad(updates_NrC, (0, 0, 0, most - held)))
            whole_NRC = parts_WNrC.transpose(0, 1).reshape(N, -1, C)[:, :rows]
        each = -(-N // world.size)
        own_NRC = F.pad(whole_NRC, (0, 0, 0, 0, 0, each * world.size - N))[world.rank * each :][:each]
        directions_NRC = world.all_gather(orthogonalise(own_NRC)).reshape(-1, rows, C)[:N]
        return directions_NRC[:, world.rank * most :][:, :held] if is_cut else directions_NRC


def orthogonalise(matrices_NRC: Tensor) -> Tensor:
    """Bring the singular values of each matrix near 1, by Newton-Schulz iterations."""
    tall = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    X = matrices_NRC.mT if tall else matrices_NRC  # makes the product with its transpose the smaller one
    X = X / torch.linalg.vector_norm(X, dim=(1, 2), keepdim=True).clamp(min=SMALLEST_NORM)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = X @ X.mT
        X = torch.baddbmm(X, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), X, beta=a)
    return X.mT if tall else X


def of_one_shape(matrices: list[Tensor]) -> Iterator[list[Tensor]]:
    """Yield matrices of one shape together, as many as `NUMBERS_AT_ONCE` allows."""
    by_shape: dict[object, list[Tensor]] = {}
    for matrix in matrices:
        by_shape.setdefault((matrix.shape, matrix.device, isinstance(matrix, DTensor)), []).append(matrix)
    for alike in by_shape.values():
        at_once = max(1, NUMBERS_AT_ONCE.get(alike[0].device.type, 2**22) // alike[0].numel())
        yield from (alike[start : start + at_once] for start in range(0, len(alike), at_once))
