"""Muon: momentum, orthogonalised, for the layers' matrices (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon).

It does what `torch.optim.Muon` does, matrices of one shape together, and in float32 where a device has no bfloat16
arithmetic and would emulate it. Letters: N matrices of one shape, R their rows, C their columns.
"""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the Newton-Schulz polynomial: steep at 0, so that few iterations do; singular values end between 0.7 and 1.2."""
ITERATIONS = 5
SMALLEST_NORM = 1e-7
NUMBERS_AT_ONCE = 2**22
"""Most numbers that are stacked: 16 MiB in float32. Larger matrices fill a device one by one."""


class Muon(Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay.

    A matrix that is taller than wide is updated by the root of that ratio more, as in the original.

    Args:
        matrices: The parameters; each has two dimensions.
        lr: Learning rate.
        momentum: Share of the momentum that a step keeps.
        weight_decay: Times the rate, the share of a weight that a step takes off.
        dtype: What matrices are multiplied in.
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], lr: float, momentum: float, weight_decay: float, dtype: torch.dtype
    ) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            momentum, lr = group["momentum"], group["lr"]
            matrices = [parameter for parameter in group["params"] if parameter.grad is not None]
            for together in of_one_shape(matrices):
                gradients = [matrix.grad for matrix in together if matrix.grad is not None]
                buffers = [self._buffer(matrix) for matrix in together]
                torch._foreach_lerp_(buffers, gradients, 1 - momentum)
                updates = torch._foreach_lerp(gradients, buffers, momentum)
                rows, columns = together[0].shape
                torch._foreach_mul_(together, 1 - lr * group["weight_decay"])
                directions = self._orthogonal(updates)
                torch._foreach_add_(together, directions, alpha=-lr * math.sqrt(max(1.0, rows / columns)))

    def _buffer(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        buffer: Tensor = state["momentum_buffer"]
        return buffer

    def _orthogonal(self, updates: tuple[Tensor, ...]) -> list[Tensor]:
        return [part.to(updates[0].dtype) for part in orthogonalise(torch.stack(updates).to(self.dtype)).unbind()]


def orthogonalise(matrices_NRC: Tensor) -> Tensor:
    """Bring the singular values of each matrix near 1, by Newton-Schulz iterations."""
    tall = matrices_NRC.shape[1] > matrices_NRC.shape[2]
    X = matrices_NRC.mT if tall else matrices_NRC  # so that the product with itself is the smaller one
    X = X / torch.linalg.vector_norm(X, dim=(1, 2), keepdim=True).clamp(min=SMALLEST_NORM)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = X @ X.mT
        X = torch.baddbmm(X, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), X, beta=a)
    return X.mT if tall else X


def of_one_shape(matrices: list[Tensor]) -> Iterator[list[Tensor]]:
    """Matrices of one shape, as many together as `NUMBERS_AT_ONCE` allows; those cut up over processes one by one."""
    by_shape: dict[object, list[Tensor]] = {}
    for matrix in matrices:
        key = matrix if isinstance(matrix, DTensor) else (matrix.shape, matrix.device)
        by_shape.setdefault(key, []).append(matrix)
    for alike in by_shape.values():
        at_once = max(1, NUMBERS_AT_ONCE // alike[0].numel())
        yield from (alike[start : start + at_once] for start in range(0, len(alike), at_once))
