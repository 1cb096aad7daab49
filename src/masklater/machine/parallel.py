"""A model over several processes, whole in each (DDP) or cut up (FSDP2), and its tensors as a whole or in parts."""

import warnings
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from masklater.machine.distributed import World
from masklater.machine.precision import Precision


def parallelize(
    model: nn.Module, how: str, precision: Precision, world: World, *, some_unused: bool = False
) -> nn.Module:
    """Make a model train on all processes; call the returned module in its place.

    Args:
        model: The same weights everywhere, on this process's device.
        how: ddp: whole on each process; fsdp: cut up, with the model itself changed in place.
        precision: fsdp gathers weights in this precision; gradients are added up in float32.
        world: The processes.
        some_unused: Whether a step may leave parameters without a gradient, the same ones in all processes. ddp then
            looks for them, and torch warns once at a step that has none; fsdp need not be told.
    """
    if world.size == 1:
        return model
    if how == "ddp":
        # Buffers are constants here (position ids), so that they need not be sent at every forward pass.
        ids = [world.local_rank] if world.device.type == "cuda" else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch 2.13 has another name for broadcast_buffers
            return DistributedDataParallel(
                model,
                ids,
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
                find_unused_parameters=some_unused,
            )
    mesh = init_device_mesh(world.device.type, (world.size,))
    # Autocast decides what is computed in 16 bits, as under ddp: inputs are left as they are.
    gathered = None if precision.name == "float32" else precision.dtype
    policy = MixedPrecisionPolicy(gathered, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for layer in stacked_layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    # The rest, embeddings and head, is gathered together: the head reads the embeddings.
    fully_shard(model, mesh=mesh, mp_policy=policy)
    register_fsdp_forward_method(model, "score_targets")
    return model


def stacked_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers of all stacks of a model; each is compiled and cut up separately.

    Of nested layers, the outermost one is returned: ALBERT's group rather than its layer, MobileBERT's layer rather
    than each of its feed-forwards. `fully_shard` must take inner layers first or not at all, and the graph of an outer
    layer contains the inner ones.
    """
    found: list[nn.Module] = []
    taken: set[nn.Module] = set()  # all modules inside those found
    for module in model.modules():  # outer modules come first
        for layer in module if isinstance(module, nn.ModuleList) else ():
            if layer not in taken and not isinstance(layer, nn.ModuleList):  # a stack of stacks cannot be called
                found.append(layer)
                taken.update(layer.modules())
    return found


def gradient_sync(model: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Return the context of one micro-batch, forward and backward: gradients are exchanged only after the last one."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(last)
    if isinstance(model, DistributedDataParallel) and not last:
        return model.no_sync()
    return nullcontext()


def full_value(tensor: Tensor) -> Tensor:
    """Return the whole value of a tensor that may be spread over processes."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def local_value(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor that may be spread over processes. Writing to it changes the tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def release_gathered(model: nn.Module) -> None:
    """Make a model's own parameters the parts that each process holds, so that they can be written to.

    Under fsdp, parameters outside of layers stay gathered after a forward pass without a backward pass, such as an
    evaluation's. Anything written to the gathered parameters is lost.
    """
    if isinstance(model, FSDPModule):
        model.reshard()


def write_rows(tensor: Tensor, rows_N: Tensor, values_ND: Tensor) -> None:
    """Write rows of a matrix that may be spread over processes, all of which have the values."""
    with torch.no_grad():
        whole = full_value(tensor).clone()
        whole[rows_N] = values_ND
        if isinstance(tensor, DTensor):
            local_value(tensor).copy_(distribute_tensor(whole, tensor.device_mesh, tensor.placements).to_local())
        else:
            tensor.copy_(whole)
