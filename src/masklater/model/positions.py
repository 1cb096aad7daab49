"""Positions of rows longer than those trained so far: tables of learned positions, and the base of rotary ones."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from masklater.errors import UserError
from masklater.model.encoder import GLOBAL


class PositionTable(NamedTuple):
    """A table of learned positions."""

    weight: Tensor
    offset: int  # the number that a row's first position has in the table

    @property
    def room(self) -> int:
        """The longest row that the table has positions for."""
        return len(self.weight) - self.offset

    def repeated(self, trained: int, row_length: int) -> tuple[Tensor, Tensor]:
        """Return the table rows of untrained positions, and the rows to copy them from: p from p modulo `trained`."""
        new_N = torch.arange(trained, row_length, device=self.weight.device)
        return self.offset + new_N, self.offset + new_N % trained


def encoder_tables(model: PreTrainedModel) -> list[PositionTable]:
    """Find the tables of learned positions of a MaskLaterForMaskedLM's encoder; rotary encoders have none."""
    return [
        PositionTable(module.weight, model.config.position_offset or 0)
        for name, module in model.encoder.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
    ]


def decoder_tables(model: PreTrainedModel) -> list[PositionTable]:
    """Find the table of learned positions of the decoder of a MaskLaterForMaskedLM, if it has one."""
    masks = getattr(model.decoder, "masks", None)
    return [] if masks is None or masks.positions is None else [PositionTable(masks.positions.weight, 0)]


def repeat_trained(tables: Iterable[PositionTable], trained: int) -> None:
    """Make the untrained learned positions copies of the trained ones: p is a copy of p modulo their number.

    So a model that is passed on holds no random position vectors, whatever the length of its rows. A run that continues
    with longer rows would begin with the same copies.

    Args:
        tables: The tables of an encoder, or of a decoder, which may have been trained on shorter rows.
        trained: The length of the longest rows that they were trained on.
    """
    for table in tables:
        if table.room > trained:
            new_N, old_N = table.repeated(trained, table.room)
            with torch.no_grad():
                table.weight[new_N] = table.weight[old_N]


def set_rope_base(config: PretrainedConfig, base: float) -> None:
    """Change the rotary base of an encoder's global layers in its config.

    Raises:
        UserError: The encoder has no rotary base, or scales it in another way.
    """
    parameters = getattr(config, "rope_parameters", None)
    of_global = parameters.get(GLOBAL, parameters) if isinstance(parameters, dict) else None
    if of_global is not None and of_global.get("rope_type", "default") == "default" and "rope_theta" in of_global:
        of_global["rope_theta"] = base
    elif of_global is None and hasattr(config, "rope_theta") and config.position_embedding_type == "rotary":  # ESM's
        config.rope_theta = base
    else:
        raise UserError(
            f"rope_base is {base:g}, and encoders of type {config.model_type} have no rotary base to set",
            "Leave rope_base out of the recipe's phases.",
        )


def apply_rope_base(encoder: PreTrainedModel, base: float) -> None:
    """Change the rotary base of an encoder's global layers, in its config and in the encoder itself.

    Raises:
        UserError: As `set_rope_base`.
    """
    set_rope_base(encoder.config, base)
    for name, speeds_h in encoder.named_buffers():
        if name.rpartition(".")[2] in {
            "inv_freq",
            "original_inv_freq",
            f"{GLOBAL}_inv_freq",
            f"{GLOBAL}_original_inv_freq",
        }:
            half = len(speeds_h)
            speeds_h.copy_(1.0 / (base ** (torch.arange(0, 2 * half, 2, dtype=torch.float) / (2 * half))))
