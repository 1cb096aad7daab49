"""Every objective and every encoder family, tiny, with weights large enough to matter: what the invariants run over."""

from typing import Literal

import torch
from torch import Tensor

from masklater import MaskLaterForMaskedLM
from masklater.corpus.shards import Shards
from masklater.masking.batch import IGNORE, MaskedBatch
from masklater.pretrain.batches import make_batches
from masklater.pretrain.start import find_start
from masklater.recipe.families import ONE_STACK
from tests.conftest import tiny

FAMILIES = ("roberta", "roberta-prelayernorm", "bert", "electra", "camembert", "xlm-roberta", "esm", "modernbert")

WINDOWS = "modernbert-windows"
"""ModernBERT with a global layer and one that sees 4 positions to either side, much less than a row."""

SETTINGS_OF: dict[str, tuple[str, ...]] = {
    WINDOWS: ("model.family=modernbert", "model.global_every=2", "model.window=8")
}
"""Overrides by the names below that are no family's."""

OBJECTIVES: dict[str, tuple[str, ...]] = {
    "3ml-self": (),
    "one-layer": ("decoder.num_layers=1",),
    "narrow": ("decoder.hidden_size=16",),
    "word-mask": ("decoder.mask_embedding=word", "decoder.positions=all"),
    "narrow-word-mask": ("decoder.hidden_size=16", "decoder.mask_embedding=word"),
    "3ml-cross": ("decoder.kind=cross",),
    "cross-narrow-all-positions": ("decoder.kind=cross", "decoder.hidden_size=16", "decoder.positions=all"),
    "cross-only": ("decoder.kind=cross-only",),
    "self-skip": ("decoder.embedding_skip=true",),
    "cross-skip": ("decoder.kind=cross", "decoder.embedding_skip=true"),
    "cross-only-skip-narrow": (
        "decoder.kind=cross-only",
        "decoder.embedding_skip=true",
        "decoder.hidden_size=16",
        "decoder.positions=all",
    ),
    "late": ("decoder.kind=late", "decoder.enter_layer=1"),
    "late-from-0": ("decoder.kind=late", "decoder.enter_layer=0"),
    "self-flows": ("decoder.blocked_flows=[masked-to-unmasked, masked-to-masked]",),
    "cross-flows": ("decoder.kind=cross", "decoder.blocked_flows=[unmasked-to-masked]"),
    "late-flows": ("decoder.kind=late", "decoder.enter_layer=1", "decoder.blocked_flows=[masked-to-unmasked]"),
    "vanilla-flows": ("decoder.kind=none", "decoder.blocked_flows=[masked-to-masked, unmasked-to-unmasked]"),
    "vanilla": ("decoder.kind=none",),
    "mae-lm": ("masking.mask=1", "masking.random=0", "masking.keep=0", "masking.rate=0.15", "decoder.num_layers=4"),
    "predict-half": ("masking.predict=0.5", "decoder.kind=cross"),
    "whole-words": ("masking.choose=word",),
    "spans": ("masking.choose=span", "decoder.kind=cross-only"),
}
"""Overrides of 3ml-small by name."""

STATES: dict[str, tuple[str, ...]] = {
    "states": ("masking.mask=1", "masking.random=0", "masking.keep=0", "decoder.states=2"),
    "states-narrow-three": (
        "masking.mask=1", "masking.random=0", "masking.keep=0", "decoder.states=3", "decoder.hidden_size=16",
        "decoder.mask_embedding=word", "decoder.positions=all", "masking.predict=0.5",
    ),
    "states-flows": (
        "masking.mask=1", "masking.random=0", "masking.keep=0", "decoder.states=2",
        "decoder.blocked_flows=[masked-to-unmasked]",
    ),
    "states-skip": (
        "masking.mask=1", "masking.random=0", "masking.keep=0", "decoder.states=2", "decoder.embedding_skip=true",
    ),
}  # fmt: skip
"""Likewise: those whose targets are predicted along a chain, and whose loss is not the cross entropy of the logits."""

OVERRIDES = OBJECTIVES | STATES

STATE_CASES = [
    *((name, "roberta-prelayernorm") for name in STATES),
    ("states", "roberta"),
    ("states", WINDOWS),
]

CASES = [
    *((name, "roberta-prelayernorm") for name in OBJECTIVES),
    *((name, WINDOWS) for name in OBJECTIVES),
    *((name, family) for name in ("3ml-self", "3ml-cross", "cross-skip", "vanilla") for family in FAMILIES),
    *(("late", family) for family in sorted(ONE_STACK)),
]
"""Pairs of objective and family: every objective on one family and on windows, what differs by family on all."""

CASES = list(dict.fromkeys(CASES))

COUNT_TOKENS = ("roberta", "roberta-prelayernorm", "camembert", "xlm-roberta")
"""Families that count positions over the tokens that are not padding, wherever that stands; others count all."""

PaddingSide = Literal["right", "left", "both", "middle"]


def make_model(shards: Shards, objective: str, family: str, *overrides: str) -> MaskLaterForMaskedLM:
    """A model in evaluation mode, whose attention is far from even and whose biases are not 0."""
    of_family = SETTINGS_OF.get(family, (f"model.family={family}",))
    recipe = tiny("3ml-small", "model.dropout=0", *of_family, *OVERRIDES[objective], *overrides)
    torch.manual_seed(0)
    model = MaskLaterForMaskedLM(find_start(recipe, shards).config).eval()
    randomize(model)
    return model


def randomize(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)


def make_batch(shards: Shards, objective: str, *overrides: str, rows: int = 40) -> MaskedBatch:
    """Rows of the training split: padded ones, and ones of several documents, where the shards have them."""
    recipe = tiny("3ml-small", *OVERRIDES[objective], *overrides)
    drop = recipe.decoder.drops
    return make_batches(shards, shards.train, recipe.masking, drop, recipe.batch.attend, 0).of_step(0, rows)


def padded_places(length: int, row_length: int, side: PaddingSide) -> Tensor:
    """Where the tokens of a row stand that is padded on some side, places_N."""
    spare = row_length - length
    before = {"right": 0, "left": spare, "both": (spare + 1) // 2, "middle": 0}[side]
    places_N = torch.arange(before, before + length)
    if side == "middle":
        places_N[length // 2 :] += spare
    return places_N


def rebuild_rows(batch: MaskedBatch, mask_id: int) -> tuple[Tensor, Tensor]:
    """The whole rows as any masked LM takes them, and their labels."""
    B, L = batch.seen_ids_BS.shape[0], batch.row_length
    ids_BL = torch.full((B, L), mask_id).scatter_(1, batch.seen_pos_BS, batch.seen_ids_BS)
    labels_BL = torch.full((B, L), IGNORE).scatter_(1, batch.target_pos_BT, batch.target_ids_BT)
    return ids_BL, labels_BL


def everywhere(batch: MaskedBatch, mask_id: int) -> MaskedBatch:
    """The same batch with a target slot at every position, those that are none not in use: the dense twin."""
    _, labels_BL = rebuild_rows(batch, mask_id)
    pos_BL = torch.arange(batch.row_length).expand_as(labels_BL)
    return MaskedBatch(**{**batch.__dict__, "target_pos_BT": pos_BL, "target_ids_BT": labels_BL})


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    """Gradients by name, and none left behind."""
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found
