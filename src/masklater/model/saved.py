"""The parts of an existing model to start from: its encoder, its LM head and, for a model of ours, its decoder.

Letters: see masking/batch.py; E width of the word embedding (D, except in ELECTRA).
"""

import copy
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging

from masklater import hub
from masklater.errors import UserError, first_line
from masklater.model.check import find_positions
from masklater.model.config import MaskLaterConfig
from masklater.model.head import GELU, LMHead
from masklater.model.positions import decoder_tables, repeat_trained
from masklater.recipe.families import is_rotary
from masklater.recipe.sections import DecoderSettings

DECIDES = ("kind", "enter_layer", "mask_embedding", "positions", "states")
"""The settings that decide what a decoder's weights are for.

Position embeddings that are added at all positions differ from those of dropped positions, and a [MASK] that enters at
layer 1 differs from one that enters at layer 2.
"""

ENCODER = "encoder"
"""Name of the folder with the plain encoder, and with its pooler, inside the folder of a MaskLaterForMaskedLM."""

POSITIONS = "decoder.masks.positions.weight"
"""The decoder's table of learned positions, the one weight whose size depends on the length of rows."""


@dataclass(frozen=True)
class Origin:
    """The parts of an existing model to start from."""

    encoder_config: PretrainedConfig
    encoder: PreTrainedModel | None  # None: only a config is given, weights are random
    head: dict[str, Tensor] | None  # by the names of our LMHead; None: no head that fits
    decoder: dict[str, Tensor] | None  # of a model of ours, by its names there
    mask_token_id: int | None
    pooler: dict[str, Tensor] | None = None  # a trained one, by its names in the encoder; pre-training trains none
    head_left_behind: str | None = None  # why the source's head is not taken; None: it has none, or it is taken
    decoder_settings: DecoderSettings | None = None  # of a model of ours
    decoder_room: int = 0  # the longest row that its decoder has positions for
    head_activation: str = "gelu"  # of the head that is taken

    def copy_config(self) -> PretrainedConfig:
        """Return a copy of the encoder's config, without the labels of a task whose head is left behind."""
        config = copy.deepcopy(self.encoder_config)
        config.id2label, config.problem_type = None, None
        config.num_labels = 2  # as transformers assumes where a config does not name labels
        return config


class FoundHead(NamedTuple):
    """The LM head of a transformers model, or the reason why its head is not taken."""

    weights: dict[str, Tensor] | None  # by the names of our LMHead
    left_behind: str | None
    activation: str = "gelu"


class HeadParts(NamedTuple):
    """The parts of a transformers LM head, whatever names its family has for them."""

    dense: nn.Linear
    norm: nn.LayerNorm
    biases: list[nn.Parameter]  # one for each token; some families hold two, of which one is in use, and some hold none
    others: list[nn.Linear]  # other products, including that with the word embedding


class Carried(NamedTuple):
    """The parts that were taken over besides the encoder."""

    head: bool
    decoder: bool


def open_source(source: PreTrainedModel | PretrainedConfig | hub.Source | str | Path) -> Origin:
    """Read a model, a config, the folder of a saved model, or a name on the hub.

    Raises:
        UserError: The source does not load.
    """
    if isinstance(source, PretrainedConfig):
        ours = isinstance(source, MaskLaterConfig)
        config = source.encoder if ours else source
        return Origin(config, None, None, None, source.mask_token_id if ours else _mask_of(config))
    if isinstance(source, PreTrainedModel):
        return _open_model(source, True, _pooler_of(base_of(source)), _mask_of(source.config))
    if not isinstance(source, hub.Source):
        source = hub.find(str(source), hub.MODEL_FILES, "the source")
    hub.refuse_pickles(source)
    model, has_head, pooler = _load(source)
    mask_token_id = _mask_of(model.config)
    if mask_token_id is None:
        try:
            mask_token_id = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False).mask_token_id
        except Exception:  # no tokenizer, or one that lacks its library; a caller that needs the id says so
            mask_token_id = None
    return _open_model(model, has_head, pooler, mask_token_id)


def load_masked_lm(source: hub.Source) -> PreTrainedModel:
    """Load a masked LM with its head, of any class that AutoModelForMaskedLM knows.

    Raises:
        UserError: The source does not load, or has no LM head.
    """
    hub.refuse_pickles(source)
    model, has_head, _ = _load(source)
    if not has_head:
        raise UserError(
            f"{source.name} has no LM head, or not all of it",
            "Name a masked LM, such as RUN or what `masklater export RUN --with-head` writes.",
        )
    return model


def _open_model(
    model: PreTrainedModel, has_head: bool, pooler: dict[str, Tensor] | None, mask_token_id: int | None
) -> Origin:
    if isinstance(model.config, MaskLaterConfig):
        return Origin(
            model.config.encoder,
            model.encoder,
            model.head.state_dict(),
            _decoder_of(model),
            mask_token_id,
            pooler,
            decoder_settings=model.config.decoder,
            decoder_room=model.config.row_length,
            head_activation=model.config.head_activation,
        )
    base = base_of(model)
    head = find_head(model, base) if has_head and base is not model else FoundHead(None, None)
    return Origin(
        base.config, base, head.weights, None, mask_token_id, pooler, head.left_behind, head_activation=head.activation
    )


def base_of(model: PreTrainedModel) -> PreTrainedModel:
    """Return the encoder inside a transformers model, which may be the whole model."""
    return getattr(model, model.base_model_prefix, model)


def _pooler_of(encoder: PreTrainedModel) -> dict[str, Tensor] | None:
    pooler = getattr(encoder, "pooler", None)
    if pooler is None:
        return None
    return {f"pooler.{name}": tensor.detach().float() for name, tensor in pooler.state_dict().items()}


def copy_weights(
    origin: Origin, model: PreTrainedModel, rows: dict[int, list[int]] | None = None, trimmed: bool = False
) -> Carried:
    """Copy an origin's weights into a MaskLaterForMaskedLM.

    Args:
        origin: The source. Its vocabulary may be smaller than the model's.
        model: The target.
        rows: For each token that the origin does not know, the origin's ids of the token's parts. Its embedding and
            bias begin as the mean of the parts'.
        trimmed: Whether `rows` has every token, because the origin's ids differ.

    Raises:
        UserError: The origin lacks a weight of the encoder.
    """
    if origin.encoder is None:
        return Carried(head=False, decoder=False)
    theirs, their_words_VE = origin.encoder.state_dict(), origin.encoder.get_input_embeddings().weight
    words_VE = model.get_input_embeddings().weight
    with torch.no_grad():
        for name, ours in model.encoder.state_dict().items():
            if name not in theirs:
                raise UserError(f"the saved encoder has no weight {name}", "Save it again with save_pretrained.")
            if not (trimmed and ours.data_ptr() == words_VE.data_ptr()):
                _copy_rows(theirs[name], ours, name)
        for token_id, parts in (rows or {}).items():
            words_VE[token_id] = their_words_VE[parts].float().mean(dim=0)
        if origin.head is not None:
            for name, ours in model.head.state_dict().items():
                if not (trimmed and name == "bias"):
                    _copy_rows(origin.head[name], ours, name)
            for token_id, parts in (rows or {}).items():
                model.head.bias[token_id] = origin.head["bias"][parts].float().mean()
    has_decoder = _copy_decoder(origin, model)
    return Carried(origin.head is not None, has_decoder)


def _copy_decoder(origin: Origin, model: PreTrainedModel) -> bool:
    """Copy an origin's decoder, if it is the model's kind; return whether it is.

    The model's may have positions for longer rows. These begin as copies of the origin's.
    """
    ours, theirs = _decoder_of(model), origin.decoder or {}
    if not ours or ours.keys() != theirs.keys() or not _mean_the_same(origin.decoder_settings, model.config.decoder):
        return False
    for name, tensor in ours.items():
        there, here = theirs[name].shape, tensor.shape
        if here != there and not (name == POSITIONS and here[1:] == there[1:] and here[0] > there[0]):
            return False
    with torch.no_grad():
        for name, tensor in ours.items():
            _copy_rows(theirs[name], tensor, name)
    repeat_trained(decoder_tables(model), origin.decoder_room)
    return True


def _decoder_of(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the weights of a decoder of ours, and of the links between states if it has them, by their names."""
    return {name: part for name, part in model.state_dict().items() if name.startswith(("decoder.", "prediction."))}


def _mean_the_same(one: DecoderSettings | None, other: DecoderSettings) -> bool:
    """Return whether weights of one decoder have the same purpose in the other; equal shapes do not prove it."""
    return one is not None and all(getattr(one, name) == getattr(other, name) for name in DECIDES)


def _copy_rows(source: Tensor, target: Tensor, name: str) -> None:
    """Copy a tensor into another. Where the target has more rows (a grown vocabulary), fill its first rows."""
    if source.shape[1:] != target.shape[1:] or source.shape[:1] > target.shape[:1]:
        raise UserError(
            f"the saved model's {name} has shape {list(source.shape)}, which does not fit {list(target.shape)}",
            "Start from a model whose config matches its weights.",
        )
    if source.ndim == 0:
        target.copy_(source)
    else:
        target[: len(source)].copy_(source)


def find_head(model: PreTrainedModel, base: PreTrainedModel) -> FoundHead:
    """Find the LM head of a transformers masked LM, by the names of our LMHead, or say why it is another kind of head.

    All families' heads are dense, GELU, LayerNorm, then the word embedding transposed plus bias. Names differ, and some
    heads have no bias. The parts are found by their shapes and tried out: with them, the logits must equal the model's
    own.
    """
    try:
        parts = head_parts(model, base)
        if parts is None:
            return FoundHead(None, "it is not one dense layer, one LayerNorm and the word embedding")
        return _try_out(parts, model, base)
    except Exception as error:  # a model of another kind may raise anything; settle says what is wrong
        return FoundHead(None, f"it could not be tried out ({first_line(error)})")


def _try_out(parts: HeadParts, model: PreTrainedModel, base: PreTrainedModel) -> FoundHead:
    words_VE = base.get_input_embeddings().weight
    (V, E), D = words_VE.shape, base.config.hidden_size
    head = LMHead(D, E, V, parts.norm.eps)
    with torch.no_grad():
        for name, found in (("dense", parts.dense), ("norm", parts.norm)):
            part = getattr(head, name)
            part.weight.copy_(found.weight)
            part.bias.copy_(torch.zeros_like(part.bias) if found.bias is None else found.bias)
        ids_BL = torch.arange(V - min(V, 16), V, device=words_VE.device)[None]
        was_training = model.training
        try:
            output = model.eval()(input_ids=ids_BL)
            hidden = base(input_ids=ids_BL).last_hidden_state.float()
        finally:
            model.train(was_training)
        expected = output.get("logits", output.get("prediction_logits"))  # the latter with BERT's next sentence
        if expected is None or expected.shape != (*ids_BL.shape, V):
            return FoundHead(None, "it does not predict tokens")
        head.to(hidden.device)
        tolerance = 1e-4 if words_VE.dtype == torch.float32 else 5e-2
        differences = []
        for activation in GELU:
            head.activation = GELU[activation]
            unbiased = head(hidden, words_VE.float())
            # Some families hold two biases, of which one is in use, and some hold none.
            errors = {float((unbiased + bias - expected).abs().max()): bias for bias in (head.bias, *parts.biases)}
            differences.append(min(errors) / float(expected.abs().max()))
            if differences[-1] <= tolerance:
                head.bias.copy_(errors[min(errors)])
                return FoundHead(head.state_dict(), None, activation)
    if any(module.weight.shape == (V, E) and not torch.equal(module.weight, words_VE) for module in parts.others):
        return FoundHead(None, "its output embedding is not the word embedding: they are not tied")
    return FoundHead(
        None,
        f"it computes something else than dense, GELU, LayerNorm and word embedding (logits differ by "
        f"{min(differences):.0e} of the largest; hidden_act is {getattr(base.config, 'hidden_act', 'not set')})",
    )


def head_parts(model: PreTrainedModel, base: PreTrainedModel) -> HeadParts | None:
    """Find the parts of a masked LM's head, outside its encoder, by their shapes; None where it has other parts."""
    (V, E), D = base.get_input_embeddings().weight.shape, base.config.hidden_size
    inside = {id(module) for module in base.modules()}
    outside = [module for module in model.modules() if id(module) not in inside]
    dense = [module for module in outside if isinstance(module, nn.Linear) and module.weight.shape == (E, D)]
    norms = [module for module in outside if isinstance(module, nn.LayerNorm) and module.weight.shape == (E,)]
    if len(dense) != 1 or len(norms) != 1:
        return None
    rest = [module for module in outside if module not in (dense[0], norms[0])]
    biases = [p for module in rest for p in module.parameters(recurse=False) if p.shape == (V,)]
    return HeadParts(dense[0], norms[0], biases, [module for module in rest if isinstance(module, nn.Linear)])


def longest_row(config: PretrainedConfig) -> int:
    """Return the longest row that an encoder has positions for."""
    offset = find_positions(config, 12).offset  # refuses a model that has no rows of text
    return config.max_position_embeddings - offset


def check_row_length(config: PretrainedConfig, row_length: int) -> None:
    """Raise UserError where rows are longer than an encoder has positions for. Rotary encoders take any length."""
    if not is_rotary(config) and row_length > (longest := longest_row(config)):
        raise UserError(
            f"row_length is {row_length}, and the encoder has positions for rows of {longest}",
            f"Give {longest} or less, or leave it out.",
        )


def _load(source: hub.Source) -> tuple[PreTrainedModel, bool, dict[str, Tensor] | None]:
    """Load a saved model, as a masked LM where it has a head; return whether it has one, and its trained pooler."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # missing weights are reported here, in one sentence
    try:
        folder = source.folder
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        has_class = type(config) in MODEL_FOR_MASKED_LM_MAPPING
        model, report = (AutoModelForMaskedLM if has_class else AutoModel).from_pretrained(
            folder,
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=False,
            dtype=torch.float32,  # whatever dtype they were saved in: heads are recognised by their results
            ignore_mismatched_sizes=True,  # _check_weights refuses them by name
        )
        missing, pooler = set(report["missing_keys"]), None
        if not has_class:
            pooler = None if _about_pooler(missing) else _pooler_of(model)
        elif _about_pooler(report["unexpected_keys"]):  # no masked LM has a pooler
            pooler = _read_pooler(folder)
        elif isinstance(config, MaskLaterConfig) and (folder / ENCODER / "config.json").is_file():
            pooler = _read_pooler(folder / ENCODER)
    except Exception as error:  # its many readers raise errors of many kinds
        raise UserError(
            f"{source.name} does not load as a saved model: {first_line(error)}",
            remedy_for(
                source.folder, "Name a folder with config.json and model.safetensors, as save_pretrained writes it."
            ),
        ) from None
    finally:
        logging.set_verbosity(verbosity)
    _check_weights(source, model, missing, report["unexpected_keys"], report["mismatched_keys"])
    return model, has_class and not missing, pooler


def _read_pooler(folder: Path) -> dict[str, Tensor] | None:
    """Return the pooler of a saved encoder; None where transformers would make a fresh one."""
    encoder, report = AutoModel.from_pretrained(
        folder, use_safetensors=True, output_loading_info=True, trust_remote_code=False, dtype=torch.float32
    )
    return None if _about_pooler(report["missing_keys"]) else _pooler_of(encoder)


def _check_weights(
    source: hub.Source,
    model: PreTrainedModel,
    missing: set[str],
    unexpected: Iterable[str],
    mismatched: Collection[tuple[str, torch.Size, torch.Size]],
) -> None:
    """Raise UserError where the encoder that the config describes is not the one whose weights were saved."""
    if mismatched:
        name, saved, ours = min(mismatched)
        raise UserError(
            f"{source.name} has weights of other sizes than its config.json says: {name} is {[*saved]}, and would be "
            f"{[*ours]}",
            remedy_for(source.folder, "Mend its config.json, or save the model again."),
        )
    base = base_of(model)
    inside = "" if base is model else f"{model.base_model_prefix}."
    of_base = {f"{inside}{name}" for name, _ in base.named_parameters() if not _about_pooler([name])}
    if missing & of_base:
        raise UserError(
            f"{source.name} lacks weights of its encoder: {', '.join(sorted(missing & of_base)[:3])} ...",
            remedy_for(source.folder, "Restore the folder, or save the model again."),
        )
    if without_place := layers_without_place(source.name, source.folder, model, unexpected):
        raise UserError(*without_place)


def layers_without_place(
    shown: str, folder: Path, model: PreTrainedModel, unexpected: Iterable[str]
) -> tuple[str, str] | None:
    """Return what is wrong with weights of the encoder's layers that a model has no place for, and what to do; or None.

    Examples are relative positions, which BERT no longer has in transformers 5, layers beyond the config's number, and
    adapters. Other weights in a file, such as other heads, change nothing in the encoder.

    Args:
        shown: The name of the model, for the message.
        folder: The folder of the model.
        model: The model as it was loaded.
        unexpected: The names of the saved weights that it has no place for.
    """
    base = base_of(model)
    inside = "" if base is model else f"{model.base_model_prefix}."
    children = {name for name, _ in base.named_children()}
    parts = {name: name.removeprefix(inside).split(".") for name in unexpected}
    found = sorted(name for name, each in parts.items() if each[0] in children and any(map(str.isdigit, each)))
    if not found:
        return None
    return (
        f"{shown} has weights in its layers that a {type(base).__name__} of this config has no place for, and without "
        f"which it computes something else: {', '.join(found[:3])} ...",
        remedy_for(
            folder,
            "Name another encoder, or mend its config.json. If these weights have no use, load and save it again.",
        ),
    )


def remedy_for(folder: Path, otherwise: str) -> str:
    """Return what to do about a model that does not load whole: `otherwise`, unless its class is code in its folder."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return otherwise
    if not (isinstance(config, dict) and config.get("auto_map")):
        return otherwise
    return (
        "Its own class is code in its repository, which is not run: look for a version of it that transformers reads "
        "without this code, as in a repository whose name ends in -hf, or choose another encoder."
    )


def _about_pooler(names: Iterable[str]) -> bool:
    return any("pooler" in name.split(".") for name in names)


def _mask_of(config: PretrainedConfig) -> int | None:
    return getattr(config, "mask_token_id", None)
