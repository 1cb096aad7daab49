"""The config of an encoder from scratch, made from a recipe's sizes and a tokenizer's ids."""

from typing import Any

from transformers import AutoConfig, PretrainedConfig

from masklater.corpus.vocabulary import Vocabulary
from masklater.recipe.families import position_embeddings
from masklater.recipe.sections import ModelSettings


def make_encoder_config(
    settings: ModelSettings,
    *,
    vocabulary: Vocabulary,
    row_length: int,
    token_types: int,
) -> PretrainedConfig:
    """Make the transformers config of an encoder from scratch.

    Args:
        settings: The recipe's `model` section.
        vocabulary: The tokenizer's vocabulary.
        row_length: L; the encoder has positions for rows of up to this length.
        token_types: The number of segment kinds that the tokenizer distinguishes in a pair of texts.
    """
    assert settings.family is not None
    global_every, window = settings.windows(row_length)
    of_family: dict[str, dict[str, Any]] = {
        "esm": {"position_embedding_type": "rotary", "emb_layer_norm_before": False, "mask_token_id": vocabulary.mask},
        "modernbert": {
            "global_attn_every_n_layers": global_every,
            "local_attention": window,
            "classifier_pooling": "mean",  # as in the published ModernBERT configs: nothing trains <s> as a summary
            "norm_eps": 1e-5,
            "cls_token_id": vocabulary.bos,
            "sep_token_id": vocabulary.eos,
        },
        "electra": {"embedding_size": settings.hidden_size},
    }
    if settings.family == "modernbert":
        dropout = {"mlp_dropout": settings.dropout, "embedding_dropout": settings.dropout}
        dropout["attention_dropout"] = settings.dropout
    else:
        dropout = {"hidden_dropout_prob": settings.dropout, "attention_probs_dropout_prob": settings.dropout}
        dropout |= {"layer_norm_eps": 1e-5}
    return AutoConfig.for_model(
        settings.family,
        vocab_size=vocabulary.size,
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.num_hidden_layers,
        num_attention_heads=settings.num_attention_heads,
        intermediate_size=settings.intermediate_size,
        max_position_embeddings=position_embeddings(settings.family, row_length, vocabulary.pad) or row_length,
        type_vocab_size=token_types,
        pad_token_id=vocabulary.pad,
        bos_token_id=vocabulary.bos,
        eos_token_id=vocabulary.eos,
        **dropout,
        **of_family.get(settings.family, {}),
    )


def set_dropout(config: PretrainedConfig, dropout: float) -> None:
    """Set the dropout of embeddings, hidden states and attention, whatever names a family has for it."""
    of_hidden_states = ("hidden_dropout_prob", "mlp_dropout", "embedding_dropout", "dropout")
    for name in (*of_hidden_states, "attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(config, name):
            setattr(config, name, dropout)
