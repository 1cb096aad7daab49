"""The beginning of a run's model: random weights, or the weights of an existing model."""

import hashlib
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from transformers import PretrainedConfig

from masklater import hub
from masklater.console import say
from masklater.corpus.grow import Rows, find_rows
from masklater.corpus.shards import Shards
from masklater.corpus.tokenizer import load, token_types
from masklater.errors import UserError
from masklater.model import saved
from masklater.model.config import MaskLaterConfig
from masklater.model.from_scratch import make_encoder_config, set_dropout
from masklater.model.masked_lm import MaskLaterForMaskedLM
from masklater.recipe.families import COUNT_TOKENS, is_rotary
from masklater.recipe.recipe import Recipe
from masklater.run.folder import RunFolder, SavedModel
from masklater.run.identity import is_run


@dataclass(frozen=True)
class Start:
    """The model of a run, before its first step."""

    config: MaskLaterConfig
    origin: saved.Origin | None = None  # the model whose weights it takes over; None: from scratch
    rows: Rows = field(default_factory=lambda: Rows({}))  # rows of the origin's word embedding, where tokens differ
    source: hub.Source | None = None  # where the origin was loaded from
    trained: int = 0  # longest row that the origin's encoder was trained on
    decoder_trained: int = 0  # longest row that its decoder was trained on, where the decoder can be taken over
    longest: int | None = None  # longest row that the origin and its tokenizer take; None: the rows of the data

    @property
    def pooler(self) -> dict[str, Tensor] | None:
        """The origin's trained pooler."""
        return None if self.origin is None else self.origin.pooler

    def fingerprint(self) -> str | None:
        """Return the SHA-256 of the origin's weights, by name; None where it has no weights."""
        if self.origin is None or self.origin.encoder is None:
            return None
        whole = hashlib.sha256()
        for part in (self.origin.encoder.state_dict(), self.origin.head or {}, self.origin.decoder or {}):
            for name, tensor in sorted(part.items()):
                whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
                whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return whole.hexdigest()

    def kept(self) -> SavedModel | None:
        """Return what a RUN keeps of the origin; None where the run starts from scratch."""
        if self.source is None:
            return None
        return SavedModel(self.source, self.fingerprint(), self.pooler, self.longest)

    def copy_weights(self, model: MaskLaterForMaskedLM) -> int:
        """Take over the origin's weights, where there is one, and print which.

        Returns:
            The longest row that the decoder is trained on: 0 where the decoder is new, whatever the encoder is.
        """
        if self.origin is None:
            return 0
        carried = saved.copy_weights(self.origin, model, *self.rows)
        parts = ["encoder", *(["LM head"] if carried.head else []), *(["decoder"] if carried.decoder else [])]
        why = self.origin.head_left_behind
        new = [] if carried.head else ["LM head" + (f" (the source's stays behind: {why})" if why else "")]
        if not carried.decoder and list(model.decoder.parameters()):
            new.append("decoder")
        if self.pooler is not None:
            say("the pooler is kept for the export as it is: pre-training does not train it")
        say(f"taken over from {self.source}: {', '.join(parts)}" + (f"; new: {', '.join(new)}" if new else ""))
        if self.rows.trimmed:
            say(f"{len(self.rows.of_token):,} of its {_num_embeddings(self.origin):,} word embeddings, as trimmed")
        elif self.rows.of_token:
            say(f"{len(self.rows.of_token):,} new tokens begin as the mean of the pieces they were cut into before")
        return self.decoder_trained if carried.decoder else 0


def find_start(recipe: Recipe, shards: Shards, commit: str | None = None) -> Start:
    """Find the start of a recipe's model, for rows of these shards.

    Args:
        recipe: The recipe of the run.
        shards: The data that it trains on; of several SHARDS, those with the longest rows.
        commit: The commit of the hub's repository that the run began from; None: what `model.from` names now.

    Raises:
        UserError: `model.from` does not load, was trained with another tokenizer, or has too few positions.
    """
    if recipe.model.from_ is None:
        return _from_scratch(recipe, shards)
    return _from_saved(recipe, shards, recipe.model.from_, commit)


def _from_scratch(recipe: Recipe, shards: Shards) -> Start:
    row_length = shards.index.row_length
    if (room := recipe.model.max_positions) is not None:
        if room < row_length:
            raise UserError(
                f"model.max_positions is {room}, and {shards.folder} has rows of {row_length}",
                "Raise it, or leave it out: the model then has positions for the longest rows of the run.",
            )
        row_length = room
    encoder = make_encoder_config(
        recipe.model,
        vocabulary=shards.vocabulary,
        row_length=row_length,
        token_types=token_types(shards.folder / "tokenizer"),
    )
    return Start(_model_config(recipe, shards, encoder, row_length))


def _from_saved(recipe: Recipe, shards: Shards, name: str, commit: str | None) -> Start:
    source = hub.find(name, hub.MODEL_FILES, "model.from", commit)
    run = RunFolder(source.folder) if is_run(source.folder) else None
    origin = saved.open_source(run.load_model()[0] if run else source)
    if run is not None:
        origin = replace(origin, pooler=run.load_pooler())
    # Without the source's own tokenizer, nothing would show whether its ids are those of the data.
    before, now = load(run.tokenizer if run else source.folder), load(shards.folder / "tokenizer")
    rows = find_rows(before, now, _num_embeddings(origin), name)
    row_length, positions = shards.index.row_length, saved.longest_row(origin.encoder_config)
    if row_length > positions and not is_rotary(origin.encoder_config):
        raise UserError(
            f"{name} has positions for rows of {positions}, and those of {shards.folder} have {row_length}",
            f"Prepare the data with --row-length {positions} or less. (A run that is to go on with longer rows some "
            "day begins with model.max_positions.)",
        )
    encoder = _take_over_config(recipe, shards, origin, rows, name)
    if row_length > positions:  # there is no table, but other tools cut rows at this number
        say(f"rows of {row_length} are longer than the {positions} that {name} says; its positions are rotary, for any")
        encoder.max_position_embeddings = row_length
    room = max(row_length, origin.decoder_room)  # a decoder of ours keeps its positions for longer rows
    # A model that was saved alone, for anybody, has no position that was never trained.
    trained, decoder_trained = run.longest_trained() if run else (positions, origin.decoder_room)
    longest = max(row_length, min(trained, before.model_max_length))
    config = _model_config(recipe, shards, encoder, room, origin.head_activation)
    return Start(config, origin, rows, source, trained, decoder_trained, longest)


def _take_over_config(recipe: Recipe, shards: Shards, origin: saved.Origin, rows: Rows, name: str) -> PretrainedConfig:
    """Return the config of the encoder that is taken over, with the data's vocabulary and the recipe's dropout."""
    encoder, size = origin.copy_config(), shards.vocabulary.size
    encoder.vocab_size = size if rows.trimmed else max(encoder.vocab_size, size)
    if rows.trimmed:
        renumber_special_tokens(encoder, rows, name)
    if recipe.model.dropout is not None:
        set_dropout(encoder, recipe.model.dropout)
    return encoder


def check_padding(config: MaskLaterConfig, shards: Shards, name: str) -> None:
    """Raise UserError where an encoder counts positions from its padding token, and the data pads with another."""
    theirs, ours = config.encoder.pad_token_id, shards.vocabulary.pad
    if config.position_offset and theirs != ours:
        raise UserError(
            f"{name} counts positions from the id of its padding token on, which its config.json says is {theirs}, and "
            f"its tokenizer pads with {ours}, as {shards.folder} does: a token of id {theirs} would have no position",
            f"Write pad_token_id: {ours} into its config.json, if it was made with {theirs} by mistake.",
        )


def renumber_special_tokens(encoder: PretrainedConfig, rows: Rows, name: str) -> None:
    """Give a config the new ids of its special tokens.

    Raises:
        UserError: The padding token gets another id, in a family that counts positions from that id.
    """
    new_ids = {old[0]: token_id for token_id, old in rows.of_token.items() if len(old) == 1}
    counts_tokens = encoder.model_type in COUNT_TOKENS and not is_rotary(encoder)
    if counts_tokens and new_ids.get(encoder.pad_token_id) != encoder.pad_token_id:
        raise UserError(
            f"{name} counts positions from the id of its padding token on, {encoder.pad_token_id}, and trimming has "
            f"made that {new_ids.get(encoder.pad_token_id)}",
            "Prepare the data without --trim.",
        )
    for key in ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id"):
        if getattr(encoder, key, None) is not None:
            setattr(encoder, key, new_ids.get(getattr(encoder, key)))


def _num_embeddings(origin: saved.Origin) -> int:
    if origin.encoder is None:
        return int(origin.encoder_config.vocab_size)
    return len(origin.encoder.get_input_embeddings().weight)


def _model_config(
    recipe: Recipe, shards: Shards, encoder: PretrainedConfig, row_length: int, head_activation: str = "gelu"
) -> MaskLaterConfig:
    mask = shards.vocabulary.mask
    return MaskLaterConfig(encoder, recipe.decoder, row_length, mask, head_activation=head_activation)
