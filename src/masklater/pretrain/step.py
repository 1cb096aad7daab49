"""The training step: forward and backward passes over a process's rows, then the update."""

import torch
from torch import Tensor, nn

from masklater.machine.distributed import ALONE, World
from masklater.machine.parallel import full_value, gradient_sync
from masklater.machine.precision import Precision
from masklater.pretrain.batches import StepShare
from masklater.pretrain.optim import Optimizers
from masklater.seeds import derive_seed


def train_step(
    model: nn.Module,
    optimizers: Optimizers,
    share: StepShare,
    lr_multiplier: float,
    clip: float | None,
    precision: Precision,
    dropout_seed: int,
    world: World = ALONE,
) -> tuple[Tensor, Tensor]:
    """Make one optimizer step.

    The loss is the sum over all targets of the step divided by their number, however the step is cut into micro-batches
    and over processes. Where the loss or the gradient is not finite, or there is no target, all processes leave weights
    and optimizers as they were.

    Returns:
        loss (of all processes) and gradient norm (before clipping), float32 scalars still on the device.
    """
    loss = torch.zeros((), device=precision.device)
    for number, batch in enumerate(share.micro_batches):
        # Dropout is seeded by the place in the step: a resumed run, or one on fewer processes, draws the same.
        torch.manual_seed(derive_seed(dropout_seed, "micro-batch", share.first + number))
        with gradient_sync(model, last=number + 1 == len(share.micro_batches)):
            with precision.autocast():
                part, _ = model(batch=batch)
            part = part / max(1, share.num_targets)
            # Gradients are averaged over processes, but their sum is needed.
            optimizers.scaler.scale(part * world.size).backward()
        loss += part.detach()
    optimizers.unscale()
    norm = nn.utils.clip_grad_norm_(model.parameters(), float("inf") if clip is None else clip)
    loss, norm = world.all_reduce(loss), full_value(norm)
    optimizers.step(lr_multiplier, skip=~(torch.isfinite(loss) & torch.isfinite(norm)) | (share.num_targets == 0))
    optimizers.scaler.update()
    return loss, norm
