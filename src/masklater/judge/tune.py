"""Which weights of an encoder with a head are trained; the head always is.

`full`: all weights. `head`: no others. `bitfit`: the biases (Ben Zaken et al., arXiv 2106.10199). `lora`: low-rank
additions to the attention's matrices, through peft (Hu et al., arXiv 2106.09685). `pafi`: a fraction of the weights,
those smallest in magnitude; `hiwi`: a bottleneck adapter's additions to biases or weights of the feed-forward (both
Liao, Meng and Monz, ACL 2023, arXiv 2305.16742). After `Tuned.merge` the model is a plain one, as fast as before and
ready to be saved.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from transformers import PreTrainedModel

from masklater.errors import UserError
from masklater.extras import import_extra
from masklater.judge.grid import Tune

QUERY_VALUE = ("query", "value")
LORA_TARGETS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("roberta", "roberta-prelayernorm", "camembert", "xlm-roberta", "bert"), QUERY_VALUE),
    **dict.fromkeys(("electra", "esm"), QUERY_VALUE),
    **dict.fromkeys(("eurobert", "nomic_bert", "gte", "esmc"), ("q_proj", "v_proj")),
    "modernbert": ("Wqkv",),
    "deberta": ("in_proj",),
    "deberta-v2": ("query_proj", "value_proj"),
}
"""For each transformers model type, the attention's matrices of queries and values, or the one that holds both."""

FEED_FORWARD = re.compile(r"\.(intermediate\.dense|(?<!attention\.)output\.dense|mlp\.\w+)$")
"""The feed-forward's linear layers in BERT's kin, and in ModernBERT, EuroBERT, Nomic, GTE, ESM C."""


@dataclass(frozen=True)
class Counts:
    """Numbers of parameters."""

    trained: int  # without the head's
    stored: int  # must be kept for a task besides the encoder and the head
    head: int  # trained and stored as well
    encoder: int  # of the encoder without the head


@dataclass(frozen=True)
class Tuned:
    """A model that is ready to be trained in part."""

    model: PreTrainedModel
    parameters: list[nn.Parameter]  # for the optimizer
    counts: Counts

    def merge(self) -> PreTrainedModel:
        """Add the trained additions to the weights, in place.

        The model is then a plain one, with all weights trainable.
        """
        for name, module in list(self.model.named_modules()):
            if parametrize.is_parametrized(module):
                for weight in list(module.parametrizations):
                    parametrize.remove_parametrizations(module, weight, leave_parametrized=True)
            elif hasattr(module, "lora_A"):
                module.merge()
                self.model.set_submodule(name, module.get_base_layer())
        if hasattr(self.model, "peft_config"):
            del self.model.peft_config
        return self.model.requires_grad_(True)


def select(model: PreTrainedModel, tune: Tune) -> Tuned:
    """Freeze the weights that are not trained, and add new ones; the model's output stays the same.

    Args:
        model: An encoder with a head for rows or tokens; changed in place.
        tune: The way of tuning. Added weights are drawn from torch's generator.

    Raises:
        UserError: The encoder has no such weights, or peft is not installed.
    """
    weights = encoder_weights(model)
    encoder = sum(weight.numel() for weight in weights.values())
    ours = {id(weight) for weight in weights.values()}
    head = [weight for weight in model.parameters() if id(weight) not in ours]
    heads = sum(weight.numel() for weight in head)
    if tune.name == "full":
        return Tuned(model, list(model.parameters()), Counts(encoder, encoder, heads, encoder))
    model.requires_grad_(False)
    ways: dict[str, Callable[[], tuple[list[nn.Parameter], int | None]]] = {
        "head": lambda: ([], None),
        "bitfit": lambda: (_biases(model, weights), None),
        "lora": lambda: (_add_lora(model, int(tune.size or 0)), None),
        "pafi": lambda: (_add_to_smallest(model, weights, float(tune.size or 0)), None),
        "hiwi": lambda: _add_adapters(model, weights, "bias", int(tune.size or 0)),
        "hiwi-weights": lambda: _add_adapters(model, weights, "weight", int(tune.size or 0)),
    }
    added, stored = ways[tune.name]()
    for weight in (*added, *head):
        weight.requires_grad_(True)
    trained = sum(weight.numel() for weight in added)
    return Tuned(model, [*added, *head], Counts(trained, trained if stored is None else stored, heads, encoder))


def encoder_weights(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """Return the weights of the encoder itself by their names there, whatever the head.

    The pooler counts as part of the head: encoders come with one or without, and a head for tokens has none.
    """
    return {name: weight for name, weight in model.base_model.named_parameters() if not name.startswith("pooler.")}


def smallest(weights: Mapping[str, Tensor], fraction: float) -> dict[str, Tensor]:
    """Return the weights smallest in magnitude over all tensors: by name, their places_K (int64) in the flat tensor.

    The threshold is the k-th smallest magnitude of all; k is the fraction of their number, rounded, at least 1. Of the
    weights equal to the threshold, the first ones are taken until there are k. Tensors without any are left out.
    """
    magnitudes_N = torch.cat([weight.detach().flatten().abs().float().cpu() for weight in weights.values()])
    count = max(1, round(fraction * len(magnitudes_N)))
    threshold = magnitudes_N.kthvalue(count).values
    chosen_N = magnitudes_N < threshold
    ties = (magnitudes_N == threshold).nonzero()[:, 0]
    chosen_N[ties[: count - int(chosen_N.sum())]] = True
    parts = chosen_N.split([weight.numel() for weight in weights.values()])
    places = {name: part.nonzero()[:, 0] for name, part in zip(weights, parts, strict=True)}
    return {name: places_K for name, places_K in places.items() if len(places_K)}


class AtPlaces(nn.Module):
    """Adds trained numbers to a tensor at given places. Nothing else in it can change, not even by weight decay."""

    def __init__(self, places_K: Tensor, like: Tensor) -> None:
        super().__init__()
        self.register_buffer("places_K", places_K.to(like.device), persistent=False)
        self.added_K = nn.Parameter(torch.zeros(len(places_K), device=like.device, dtype=like.dtype))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the tensor with the numbers added, in the same shape."""
        return weight.flatten().index_add(0, self.get_buffer("places_K"), self.added_K).view_as(weight)


class Bottleneck(nn.Module):
    """Adds an adapter's output to a bias, or to each row of a matrix; at first the output is 0."""

    def __init__(self, width: int, like: Tensor) -> None:
        super().__init__()
        self.down = nn.Linear(like.shape[-1], width, device=like.device)
        self.up = nn.Linear(width, like.shape[-1], device=like.device)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the changed tensor, in the same shape, in float32 whatever the arithmetic around it."""
        with torch.autocast(weight.device.type, enabled=False):
            return weight + self.up(F.gelu(self.down(weight)))


def _biases(model: PreTrainedModel, weights: Mapping[str, nn.Parameter]) -> list[nn.Parameter]:
    biases = [weight for name, weight in weights.items() if name.endswith("bias")]
    if not biases:
        raise _lacks(model, "bitfit", "biases", "Choose another way, lora for one.")
    return biases


def _add_to_smallest(
    model: PreTrainedModel, weights: Mapping[str, nn.Parameter], fraction: float
) -> list[nn.Parameter]:
    added = []
    for name, places_K in smallest(weights, fraction).items():
        addition = AtPlaces(places_K, weights[name])
        _parametrize(model, name, addition)
        added.append(addition.added_K)
    return added


def _add_adapters(
    model: PreTrainedModel, weights: Mapping[str, nn.Parameter], what: str, width: int
) -> tuple[list[nn.Parameter], int]:
    """Give each feed-forward bias or matrix an adapter; return the adapters' weights, and how many they change."""
    changed = {
        name: weight
        for name, weight in weights.items()
        if name.endswith(f".{what}") and FEED_FORWARD.search(name.removesuffix(f".{what}"))
    }
    if not changed:
        remedy = "Choose --tune hiwi-weights, or another way." if what == "bias" else "Choose another way."
        raise _lacks(model, "hiwi", f"feed-forward {'biases' if what == 'bias' else 'weights'} that are known", remedy)
    added: list[nn.Parameter] = []
    for name, weight in changed.items():
        adapter = Bottleneck(width, weight)
        _parametrize(model, name, adapter)
        added += adapter.parameters()
    return added, sum(weight.numel() for weight in changed.values())


def _parametrize(model: PreTrainedModel, name: str, addition: nn.Module) -> None:
    place, _, weight = name.rpartition(".")
    parametrize.register_parametrization(model.base_model.get_submodule(place), weight, addition, unsafe=True)


def _add_lora(model: PreTrainedModel, rank: int) -> list[nn.Parameter]:
    """Add pairs of matrices of this rank, scaled by 2 (alpha = 2 * rank), without dropout."""
    peft = import_extra("peft", "tune", "--tune lora")
    family = model.config.model_type
    if family not in LORA_TARGETS:
        raise _lacks(model, "lora", f"attention matrices that are known for its type {family}", "Choose another way.")
    config = peft.LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules=list(LORA_TARGETS[family]))
    peft.inject_adapter_in_model(config, model)
    return [weight for name, weight in model.named_parameters() if ".lora_" in name]


def _lacks(model: PreTrainedModel, way: str, what: str, remedy: str) -> UserError:
    return UserError(f"--tune {way}: the encoder ({type(model).__name__}) has no {what}", remedy)
