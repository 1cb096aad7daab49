"""Tokenizers that are one file: SentencePiece's model, BERT's or ESM's vocab.txt, a bare tokenizer.json."""

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from masklater.console import say
from masklater.corpus.special import BERT_TOKENS, ESM_TOKENS, ROBERTA_TOKENS, cut_inside, esm
from masklater.corpus.tokenizer import named, vocabulary
from masklater.errors import DamagedDataError, UserError, first_line
from masklater.extras import import_extra

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NAMES = (ROBERTA_TOKENS, BERT_TOKENS, ESM_TOKENS)
UNIGRAM, BPE = 1, 2
UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4
"""Kinds of SentencePiece model and of piece, by their numbers in sentencepiece_model.proto."""


def load_bare(file: Path) -> "PreTrainedTokenizerFast":
    """Load a tokenizer from one file; its name says which kind it is.

    Raises:
        UserError: The file is no tokenizer, or lacks a special token that is needed.
    """
    name = file.name.lower()
    if name.endswith(".model"):
        tokenizer = _load_sentencepiece(file)
    elif name.endswith(".txt"):
        tokenizer = _load_vocab(file)
    elif name.endswith(".json"):
        tokenizer = _load_json(file)
    else:
        raise UserError(
            f"--tokenizer {file} is a file, and its name does not say of which kind",
            "Name a folder, or a file that ends in .model (SentencePiece), .txt (a vocab.txt) or .json (a "
            "tokenizer.json).",
        )
    vocabulary(tokenizer)
    return tokenizer


def _roles(there: "dict[str, int]") -> dict[str, str]:
    """Return the name of each special token that the vocabulary has, by role; names of one family where possible."""
    best = max(NAMES, key=lambda names: sum(name in there for name in names.values()))
    families = [best, *(names for names in NAMES if names is not best)]
    roles = {role: [names[role] for names in families if names[role] in there] for role in ROBERTA_TOKENS}
    return {role: names[0] for role, names in roles.items() if names}


def _load_json(file: Path) -> "PreTrainedTokenizerFast":
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises plain Exception
        raise DamagedDataError(
            f"{file} is no tokenizer.json: {first_line(error)}", "Fetch it again, or name the folder it belongs to."
        ) from None
    return named(tokenizer, _roles(tokenizer.get_vocab()))


def _load_vocab(file: Path) -> "PreTrainedTokenizerFast":
    from transformers import BertTokenizer

    try:
        lines = [line.rstrip("\r\n") for line in file.read_text(encoding="utf-8").split("\n")]
    except UnicodeDecodeError:
        raise DamagedDataError(f"{file} is no vocabulary in UTF-8", "Fetch it again.") from None
    entries = {entry: number for number, entry in enumerate(lines) if entry}
    if BERT_TOKENS["unk"] in entries:
        words = [entry for entry in entries if entry not in BERT_TOKENS.values()]
        has_case = any(word != word.upper() for word in words)
        is_lower = has_case and not any(word != word.lower() for word in words)
        # Unless told otherwise, BERT strips accents when it lower-cases, and with them vowel signs; it takes Hangul
        # apart.
        strips = is_lower and all(_without_accents(word) == word for word in words)
        how = "in small letters" + ("" if strips else ", accents kept") if is_lower else "case kept"
        say(f"{file}: BERT's WordPiece, {len(entries):,} entries, {how}")
        return BertTokenizer(vocab=entries, do_lower_case=is_lower, strip_accents=strips)
    if entries.keys() >= {*ESM_TOKENS.values()} and any(len(entry) == 1 for entry in entries):
        say(f"{file}: one entry a character, {len(entries):,} entries")
        return named(esm(entries), ESM_TOKENS)
    raise UserError(
        f"{file} is no vocabulary of BERT or ESM: it has no {BERT_TOKENS['unk']}, nor letters and all of "
        f"{', '.join(ESM_TOKENS.values())}",
        "Name the folder it belongs to, with its tokenizer_config.json.",
    )


def _without_accents(text: str) -> str:
    """Return what BERT's normalizer leaves of a text when it strips accents."""
    return "".join(one for one in unicodedata.normalize("NFD", text) if unicodedata.category(one) != "Mn")


def _load_sentencepiece(file: Path) -> "PreTrainedTokenizerFast":
    """Load SentencePiece's model with its own ids; special tokens that it lacks are added behind them."""
    proto = import_extra("sentencepiece.sentencepiece_model_pb2", "spm", str(file)).ModelProto()
    try:
        proto.ParseFromString(file.read_bytes())
        tokenizer = Tokenizer(_model(proto))
    except Exception as error:  # protobuf and tokenizers raise anything
        if isinstance(error, UserError):
            raise
        raise DamagedDataError(f"{file} is no SentencePiece model: {first_line(error)}", "Fetch it again.") from None
    spec = proto.normalizer_spec
    steps: list[Any] = [normalizers.Precompiled(spec.precompiled_charsmap)] if spec.precompiled_charsmap else []
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    scheme = "always" if spec.add_dummy_prefix else "never"
    spaces = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=proto.trainer_spec.split_by_whitespace)
    never = [piece.piece for piece in proto.pieces if piece.type in {UNKNOWN, CONTROL}]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([spaces, cut_inside(never)])
    if proto.trainer_spec.byte_fallback:
        start = [decoders.Strip(" ", 1, 0)] if spec.add_dummy_prefix else []
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), *start]
        )
    else:
        tokenizer.decoder = decoders.Metaspace(prepend_scheme=scheme)
    control = [piece.piece for piece in proto.pieces if piece.type == CONTROL]
    tokenizer.add_tokens([AddedToken(name, normalized=False, special=True) for name in control])
    roles = _roles(tokenizer.get_vocab()) | {"unk": proto.trainer_spec.unk_piece}
    if added := [name for role, name in ROBERTA_TOKENS.items() if role not in roles]:
        say(f"{file}: {', '.join(added)} are not in it, and come behind its {len(proto.pieces):,} entries")
    return named(tokenizer, ROBERTA_TOKENS | roles)


def _model(proto: Any) -> models.Model:
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    never = {piece.piece for piece in proto.pieces if piece.type in {UNKNOWN, CONTROL}}
    spec = proto.trainer_spec
    if not pieces or spec.treat_whitespace_as_suffix or spec.model_type not in {UNIGRAM, BPE}:
        raise UserError(
            "a SentencePiece model without pieces, of words or characters, or with spaces behind words is not read",
            "Train one of model_type unigram or bpe.",
        )
    if any(piece.type == USER_DEFINED for piece in proto.pieces):
        raise UserError(
            "a SentencePiece model with user_defined_symbols is not read: they would take the spaces around them along",
            "Name the folder of a tokenizer.json that was made of it.",
        )
    if spec.model_type == UNIGRAM:
        return models.Unigram(pieces, unk_id=spec.unk_id, byte_fallback=spec.byte_fallback)
    from transformers.convert_slow_tokenizer import generate_merges

    numbers = {name: number for number, (name, _) in enumerate(pieces)}
    merges = generate_merges(numbers, dict(pieces), skip_tokens=never)
    return models.BPE(numbers, merges, unk_token=spec.unk_piece, fuse_unk=True, byte_fallback=spec.byte_fallback)
