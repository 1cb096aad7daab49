"""Count what one training step launches and keeps, without a GPU and without computing anything.

    python benchmarks/launches.py --size base
    python benchmarks/launches.py --size large --rows 256 --optimizer muon

The step runs on fake tensors, which have shapes and no content, as it would on a GPU: products in bfloat16,
memory-efficient attention, gradients clipped all together. Every operator that writes memory counts as one launch. An
operator over a list of tensors also counts as one, which on a GPU is a few. Views and empty buffers count as none.
Compiled steps launch fewer, and are not counted here. `kept` are the bytes that the model's forward pass keeps for the
backward pass, for each position of the rows and each unit of the width.

Letters: B rows, L row length, H heads, S positions, e width of a head.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from arguments import at_least_one, exit_status
from ours import describe, mask_rows, random_rows
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel
from wanted import RECIPES

from masklater.machine.precision import Precision
from masklater.masking.batch import MaskedBatch
from masklater.model import attention, head, implementations
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.pretrain import muon
from masklater.pretrain.batches import StepShare
from masklater.pretrain.loop import train_step
from masklater.pretrain.optim import Optimizers
from masklater.recipe.load import load
from masklater.recipe.recipe import Recipe

EMPTY = ("aten.empty", "aten.new_empty", "aten._unsafe_view", "aten.detach", "aten.lift_fresh")
"""Operators that write nothing, besides views."""


class Launches(TorchDispatchMode):
    """Counts the operators that would be launched."""

    def __init__(self) -> None:
        super().__init__()
        self.by_operator: Counter[str] = Counter()

    def __torch_dispatch__(
        self, operator: Any, types: Any, arguments: tuple[Any, ...] = (), settings: dict[str, Any] | None = None
    ) -> Any:
        name = str(operator)
        returns = operator._schema.returns
        is_view = bool(returns) and all(each.alias_info and not each.alias_info.is_write for each in returns)
        if name.startswith("aten.") and not is_view and not name.startswith(EMPTY):
            self.by_operator[name.removeprefix("aten.").partition(".")[0]] += 1
        return operator(*arguments, **(settings or {}))

    @property
    def number(self) -> int:
        """The number of all launches."""
        return self.by_operator.total()


def efficient_attention(
    query_BHSe: Tensor,
    key_BHSe: Tensor,
    value_BHSe: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Compute `scaled_dot_product_attention` as a GPU's memory-efficient kernel does, with a bool mask as a bias."""
    bias = None
    if attn_mask is not None:
        bias = torch.zeros(attn_mask.shape, dtype=query_BHSe.dtype, device=query_BHSe.device)
        bias = bias.masked_fill_(~attn_mask, -torch.inf).expand(-1, query_BHSe.shape[1], -1, -1)
    mixed: Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(
        query_BHSe, key_BHSe, value_BHSe, bias, True, dropout_p, is_causal, scale=scale
    )[0]
    return mixed


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Compute `F.dropout` by the kernel of a GPU, which keeps a mask of bytes."""
    return torch.native_dropout(input, p, True)[0] if training and p else input


@contextmanager
def as_on_a_gpu() -> Iterator[FakeTensorMode]:
    """Make fake tensors on the CPU take a GPU's way through our code."""

    def unchanged(*parts: Tensor) -> Any:
        return ExitStack(), parts

    with ExitStack() as held:
        held.enter_context(mock.patch.object(F, "scaled_dot_product_attention", efficient_attention))
        for module in (attention, implementations):
            held.enter_context(mock.patch.object(module, "in_float32", unchanged))
        for numbers in (head.LOGITS_AT_ONCE, muon.NUMBERS_AT_ONCE):
            held.enter_context(mock.patch.dict(numbers, cpu=numbers["cuda"]))
        held.enter_context(mock.patch.object(F, "dropout", _dropout))
        # Some of transformers' ways to draw weights read the drawn numbers.
        held.enter_context(mock.patch.object(PreTrainedModel, "init_weights", lambda self: None))
        clipping = torch.nn.utils.clip_grad
        held.enter_context(mock.patch.object(clipping, "_has_foreach_support", lambda tensors, device: True))
        yield held.enter_context(FakeTensorMode(allow_non_fake_inputs=True))


class FakeStep:
    """A training step of a recipe on one batch of random rows; nothing in it holds numbers.

    Args:
        recipe: The recipe.
        rows: Rows of the one forward pass.
        row_length: L.
        vocabulary: V.
    """

    def __init__(self, recipe: Recipe, rows: int, row_length: int, vocabulary: int) -> None:
        self.recipe = recipe
        self.config, corruption = describe(recipe, row_length, vocabulary)  # found by trial, with numbers
        self.batch = mask_rows(random_rows(rows, row_length, vocabulary, 0), corruption, 0)
        name = "float32" if recipe.precision == "float32" else "bfloat16"
        self.precision = Precision(name, "as on a GPU", torch.device("cpu"))

    def launches(self) -> Counter[str]:
        """Count the launches of each operator in the second step; the first step makes the optimizers' states."""
        num_targets = int(self.batch.num_targets)
        with as_on_a_gpu() as mode:
            model = MaskLaterForMaskedLM(self.config).train()
            optimizers = Optimizers(model, self.recipe.optimizer)
            share = StepShare([_fake(self.batch, mode)], 0, num_targets)
            for _ in range(2):
                with Launches() as counted:
                    train_step(model, optimizers, share, 1e-3, 1.0, self.precision, 0)
        return counted.by_operator

    def kept_bytes(self) -> int:
        """Return the bytes kept for the backward pass, including the weights' bfloat16 copies, without the weights."""
        kept: dict[int, int] = {}
        alive = []  # so that no storage takes another's place

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in weights:
                alive.append(tensor)
                kept[storage._cdata] = storage.nbytes()
            return tensor

        with as_on_a_gpu() as mode:
            model = MaskLaterForMaskedLM(self.config).train()
            weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
            batch = _fake(self.batch, mode)
            with self.precision.autocast(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                model.decode(model.encode(batch), batch)
        return sum(kept.values())


def _fake(batch: MaskedBatch, mode: FakeTensorMode) -> MaskedBatch:
    given = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return MaskedBatch(**{name: None if part is None else mode.from_tensor(part) for name, part in given.items()})


def kept_a_position(recipe: Recipe, row_length: int, vocabulary: int) -> float:
    """Return the bytes that one more row keeps, in encoder and decoder, for each of its positions and unit of width."""
    one, two = (FakeStep(recipe, rows, row_length, vocabulary).kept_bytes() for rows in (1, 2))
    return (two - one) / row_length / (recipe.model.hidden_size or 1)


def run(given: argparse.Namespace) -> None:
    """Count and print."""
    settings = {"adamw": (), "muon": ("optimizer.name=muon", "optimizer.adamw_lr=1e-3")}[given.optimizer]
    print(f"{'recipe':<20}{'launches':>10}{'kept, bytes a position and width':>36}   most launched")
    for name in RECIPES[given.size]:
        recipe = load(name, settings)
        by_operator = FakeStep(recipe, given.rows, given.row_length, given.vocabulary).launches()
        most = ", ".join(f"{operator} {number}" for operator, number in by_operator.most_common(given.most))
        kept = kept_a_position(recipe, given.row_length, given.vocabulary)
        print(f"{name:<20}{by_operator.total():>10}{kept:>36.1f}   {most}", flush=True)


def main() -> int:
    """Count; print a line for 3ML and one for vanilla MLM."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=RECIPES, default="base")
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw")
    parser.add_argument("--rows", type=at_least_one, default=256, help="of the one forward pass")
    parser.add_argument("--row-length", type=at_least_one, default=128)
    parser.add_argument("--vocabulary", type=at_least_one, default=50_265)
    parser.add_argument("--most", type=at_least_one, default=8, help="operators that are named")
    given = parser.parse_args()
    return exit_status(lambda: run(given))


if __name__ == "__main__":
    sys.exit(main())
