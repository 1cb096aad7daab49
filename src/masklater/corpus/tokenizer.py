"""Tokenizers, all from the `tokenizers` library: loaded, completed, saved as a Hugging Face folder."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from masklater.corpus.portable import make_portable, write_config
from masklater.corpus.special import (
    BERT_TOKENS,
    ESM_TOKENS,
    ROBERTA_TOKENS,
    cut_inside,
    esm,
    finish,
    mask_takes_space,
    wrap_texts,
)
from masklater.corpus.split import gpt2_split
from masklater.corpus.vocabulary import ROLES, Vocabulary, find_shared, num_ids
from masklater.errors import DamagedDataError, UserError, first_line
from masklater.extras import import_extra

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

SPACES = "▁Ġ"
"""The characters by which SentencePiece and byte-level BPE write the space that is part of a word."""


def load(folder: Path) -> "PreTrainedTokenizerFast":
    """Load a tokenizer folder: a saved Hugging Face one, a SHARDS or RUN that contains one, or GPT-2's two files.

    GPT-2's are `vocab.json` and `merges.txt`.

    With fairseq's `dict.txt` beside GPT-2's files the ids are RoBERTa's: `<s> <pad> </s> <unk>`, the lines of the
    dictionary in order, `<mask>` last (50,265 entries). Without it, the same four come first, then GPT-2's own entries.

    Raises:
        UserError: The folder is missing or holds no tokenizer, or the tokenizer lacks a special token that is needed.
    """
    if not folder.is_dir():
        raise UserError(f"there is no tokenizer folder {folder}", "Name a folder, or train one with --train-tokenizer.")
    if (folder / "tokenizer.json").exists() or (folder / "tokenizer_config.json").exists():
        tokenizer = _load_saved(folder)
    elif (vocab := _only(folder, "*vocab.json")) and (merges := _only(folder, "*merges.txt")):
        tokenizer = wrap(_load_gpt2(vocab, merges, _only(folder, "*dict.txt")))
    elif (folder / "tokenizer").is_dir():  # SHARDS or RUN
        return load(folder / "tokenizer")
    elif vocab := next((path for pattern in ("vocab.txt", "*.model") for path in sorted(folder.glob(pattern))), None):
        raise UserError(
            f"{folder} holds {vocab.name} and no tokenizer_config.json, which says how it is read",
            "Write one, in a folder that has the encoder too: AutoTokenizer.from_pretrained(FOLDER).save_pretrained("
            "FOLDER), with do_lower_case=False in the first where a vocab.txt has capitals.",
        )
    else:
        raise UserError(
            f"{folder} holds no tokenizer",
            "Expected: tokenizer.json with tokenizer_config.json as Hugging Face saves them, SHARDS, RUN, or GPT-2's "
            "vocab.json and merges.txt (with fairseq's dict.txt beside them for RoBERTa's ids).",
        )
    vocabulary(tokenizer)
    return tokenizer


def wrap(tokenizer: Tokenizer) -> "PreTrainedTokenizerFast":
    """Return a tokenizer of the tokenizers library as transformers' class, ready to be saved."""
    names = ROBERTA_TOKENS if tokenizer.token_to_id("<mask>") is not None else BERT_TOKENS
    return named(tokenizer, names)


def named(tokenizer: Tokenizer, names: dict[str, str]) -> "PreTrainedTokenizerFast":
    """Return the same for special tokens of other names, some of which may be missing."""
    from transformers import PreTrainedTokenizerFast

    takes_space = "mask" in names and mask_takes_space(tokenizer, names["mask"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=names.get("bos"),
        cls_token=names.get("bos"),
        eos_token=names.get("eos"),
        sep_token=names.get("eos"),
        unk_token=names.get("unk"),
        pad_token=names.get("pad"),
        mask_token=AddedToken(names["mask"], lstrip=takes_space, special=True) if "mask" in names else None,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def save(tokenizer: "PreTrainedTokenizerFast", folder: Path, row_length: int) -> str:
    """Save a tokenizer as a Hugging Face folder that transformers 4 and 5 load; return its hash."""
    tokenizer.model_max_length = row_length
    tokenizer.save_pretrained(folder)
    make_portable(folder, tokenizer)
    return fingerprint(folder)


def copy(saved: Path, folder: Path, row_length: int) -> None:
    """Copy a tokenizer that `save` has written, for rows of another length; its hash does not change."""
    shutil.copytree(saved, folder)
    path = folder / "tokenizer_config.json"
    write_config(path, {**json.loads(path.read_text(encoding="utf-8")), "model_max_length": row_length})


def complete(tokenizer: "PreTrainedTokenizerFast") -> list[str]:
    """Make a tokenizer treat a text as `prepare` does; return what the user should know of it, in sentences.

    The tokenizer then puts around a text the tokens that begin and end rows, and uses its unknown token for characters
    that it would leave out. Where words include the space before them, the mask token includes it too: a mask stands
    for a word with its space.
    """
    row, backend, notes = vocabulary(tokenizer), tokenizer.backend_tokenizer, []
    backend.no_padding()  # padding would be added to a text too
    backend.no_truncation()
    if backend.encode("").ids != [row.bos, *backend.encode("", add_special_tokens=False).ids, row.eos]:
        bos, eos = tokenizer.convert_ids_to_tokens([row.bos, row.eos])
        wrap_texts(backend, bos, eos)
        notes.append(f"the tokenizer does not add {bos} and {eos} to a text, as rows have them; its copy does")
    model, unknown = backend.model, tokenizer.unk_token
    knows_bytes = getattr(model, "byte_fallback", False) or "ByteLevel" in str(backend.pre_tokenizer)
    has_none = hasattr(model, "unk_token") and (model.unk_token is None or model.token_to_id(model.unk_token) is None)
    if has_none and not knows_bytes:
        if unknown is not None:
            model.unk_token = unknown
            notes.append(f"the tokenizer does not put {unknown} for what it does not know; its copy does")
        elif isinstance(model, models.BPE):  # other models raise an error
            notes.append("the tokenizer has no unknown token: characters that it does not know are left out, uncounted")
    if found := _found_in_texts(tokenizer, row):
        cut = cut_inside(found)
        before = backend.pre_tokenizer
        backend.pre_tokenizer = cut if before is None else pre_tokenizers.Sequence([before, cut])
        notes.append(f"the tokenizer takes a text's own {', '.join(found)} for the token; its copy does not")
    mask = tokenizer.mask_token
    words_take_space = any(len(entry) > 1 and entry[0] in SPACES for entry in tokenizer.get_vocab())
    if words_take_space and backend.encode(f"a {mask}").ids != backend.encode(f"a{mask}").ids:
        token = AddedToken(mask, lstrip=True, special=True, normalized=False)
        tokenizer.add_special_tokens({"mask_token": token})
        backend.add_special_tokens([token])  # the line above alone would not replace the token that is there
        notes.append(f"the tokenizer makes a token of the space before {mask}, as before no word; its copy does not")
    return notes


def _found_in_texts(tokenizer: "PreTrainedTokenizerFast", row: Vocabulary) -> list[str]:
    """Return the special tokens that the model itself, not the added tokens, finds in a text that spells them."""
    backend, found = tokenizer.backend_tokenizer, []
    before = backend.encode_special_tokens
    backend.encode_special_tokens = True  # restored below; a copy with a large vocabulary takes seconds to make
    for token_id in row.all:
        name = str(tokenizer.convert_ids_to_tokens(token_id))
        try:
            ids = backend.encode(name, add_special_tokens=False).ids
        except Exception:  # tokenizers raises plain Exception where an entry and an unknown token are missing
            continue
        if token_id in ids and token_id != tokenizer.unk_token_id:
            found.append(name)
    backend.encode_special_tokens = before
    return found


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 of the saved tokenizer, which every user of its ids checks."""
    try:
        return hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    except OSError as error:
        raise DamagedDataError(
            f"{folder} holds no readable tokenizer.json ({error.strerror})", "Restore it, or prepare the data again."
        ) from None


def token_types(folder: Path) -> int:
    """Return the number of segment ids that a saved tokenizer uses in a pair of texts: 2 for BERT's.

    Raises:
        DamagedDataError: Its tokenizer.json does not load.
    """
    return 1 + max(load_backend(folder).encode("a", "a").type_ids, default=0)


def load_backend(folder: Path) -> Tokenizer:
    """Read the tokenizer.json of a saved tokenizer alone, without transformers.

    Raises:
        DamagedDataError: It does not load.
    """
    file = folder / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises plain Exception
        raise DamagedDataError(f"{file} does not load: {first_line(error)}", "Restore it.") from None


def vocabulary(tokenizer: "PreTrainedTokenizerFast") -> Vocabulary:
    """Return the size and the special ids of a tokenizer.

    Raises:
        UserError: A special token that masked language modelling needs is missing, or is also another one.
    """
    ids = {
        "a first token (bos or cls)": _first(tokenizer.cls_token_id, tokenizer.bos_token_id),
        "a last token (eos or sep)": _first(tokenizer.sep_token_id, tokenizer.eos_token_id),
        "a padding token": tokenizer.pad_token_id,
        "a mask token": tokenizer.mask_token_id,
    }
    missing = [name for name, token_id in ids.items() if token_id is None]
    if missing:
        raise UserError(
            f"the tokenizer lacks {' and '.join(missing)}",
            "Add them to the tokenizer with add_special_tokens and save it, for model.from in a folder that has the "
            "encoder too, or train one with --train-tokenizer.",
        )
    bos, eos, pad, mask = (int(token_id) for token_id in ids.values() if token_id is not None)
    unknown = unknown_id(tokenizer)
    # Where cls and sep exist, bos and eos are not in rows, and may be anything.
    if shared := find_shared({"bos": bos, "eos": eos, "pad": pad, "mask": mask, "unk": unknown}):
        raise _shared(tokenizer, *shared)
    special = {*map(int, tokenizer.all_special_ids), bos, eos, pad, mask, *([] if unknown is None else [unknown])}
    return Vocabulary(bos=bos, eos=eos, pad=pad, mask=mask, all=tuple(sorted(special)), size=num_ids(tokenizer))


def _shared(tokenizer: "PreTrainedTokenizerFast", role: str, other: str) -> UserError:
    token = str(getattr(tokenizer, f"{role}_token"))
    own = next(names[role] for names in (ROBERTA_TOKENS, BERT_TOKENS) if names[role] != token)
    where = f" in {tokenizer.name_or_path}" if tokenizer.name_or_path else ""
    return UserError(
        f"the tokenizer{where} has {token!r} for its {ROLES[role]} and its {ROLES[other]}, which rows could not tell "
        "apart",
        f'Give it one of its own, tokenizer.add_special_tokens({{"{role}_token": "{own}"}}), and save it with '
        "save_pretrained, for model.from in a folder that has the encoder too.",
    )


def unknown_id(tokenizer: "PreTrainedTokenizerFast") -> int | None:
    """Return the id that stands for text the tokenizer does not know; None where it knows every text."""
    if tokenizer.unk_token_id is not None:
        return int(tokenizer.unk_token_id)
    backend = tokenizer.backend_tokenizer
    token = getattr(backend.model, "unk_token", None)
    if token is not None:
        return backend.token_to_id(token)
    return json.loads(backend.to_str())["model"].get("unk_id")  # a Unigram model shows its id only there


def _first(*ids: int | None) -> int | None:
    return next((token_id for token_id in ids if token_id is not None), None)


def read_saved(folder: Path) -> "PreTrainedTokenizerBase":
    """Read a saved tokenizer as transformers does; where that gives another kind of model, as its tokenizer.json says.

    transformers 5 builds most classes anew from the entries it finds. A WordPiece that is called RoBERTa's, as version
    4 could save it, becomes a BPE without merges, which cuts all text into single characters.

    Raises:
        Exception: Any error of the many readers of transformers.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    has_file = (folder / "tokenizer.json").is_file()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        if not has_file or isinstance(error, ImportError) or "trust_remote_code" in str(error):
            raise
    else:
        is_rebuilt = isinstance(tokenizer, PreTrainedTokenizerFast) and type(tokenizer) is not PreTrainedTokenizerFast
        if not (has_file and is_rebuilt):
            return tokenizer
        if type(tokenizer.backend_tokenizer.model) is type(load_backend(folder).model):
            return tokenizer
    return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _load_saved(folder: Path) -> "PreTrainedTokenizerFast":
    from transformers import PreTrainedTokenizerFast

    if not (folder / "tokenizer.json").is_file() and (pieces := sorted(folder.glob("*.model"))):  # as in DeBERTa-v3
        import_extra("sentencepiece.sentencepiece_model_pb2", "spm", f"the tokenizer of {pieces[0]}")
    try:
        tokenizer = read_saved(folder)
    except Exception as error:  # its many readers raise errors of many kinds
        lacks_library = isinstance(error, ImportError)
        raise UserError(
            f"the tokenizer in {folder} does not load: {first_line(error)}",
            "Install what it needs." if lacks_library else "Save it again with save_pretrained.",
        ) from None
    if type(tokenizer).__name__ == "EsmTokenizer" and ESM_TOKENS.items() <= _names(tokenizer).items():
        return named(esm(tokenizer.get_vocab()), ESM_TOKENS)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise UserError(
            f"the tokenizer in {folder} ({type(tokenizer).__name__}) exists in Python alone, and preparation needs one "
            "of the tokenizers library",
            "Convert it to a tokenizer.json, look for a repository of the model that has one, or train one "
            "(--train-tokenizer).",
        )
    return tokenizer


def _names(tokenizer: Any) -> dict[str, str]:
    roles = {"bos": "cls_token", "pad": "pad_token", "eos": "eos_token", "unk": "unk_token", "mask": "mask_token"}
    return {role: str(getattr(tokenizer, name)) for role, name in roles.items()}


def _only(folder: Path, pattern: str) -> Path | None:
    found = sorted(folder.glob(pattern))
    if len(found) > 1:
        raise UserError(
            f"{folder} holds several files {pattern}: {', '.join(path.name for path in found)}", "Keep one of them."
        )
    return found[0] if found else None


def _load_gpt2(vocab_file: Path, merges_file: Path, dict_file: Path | None) -> Tokenizer:
    try:
        entries: dict[str, int] = json.loads(vocab_file.read_text(encoding="utf-8"))
        lines = merges_file.read_text(encoding="utf-8").splitlines()
        merges = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
        entries = _special_tokens_first(entries) if dict_file is None else _roberta_ids(entries, dict_file)
        tokenizer = Tokenizer(models.BPE(vocab=entries, merges=merges))  # type: ignore[arg-type]
    except Exception as error:  # tokenizers raises plain Exception
        raise DamagedDataError(
            f"{vocab_file} and {merges_file} are not GPT-2's vocabulary and merges: {error}", "Fetch them again."
        ) from None
    tokenizer.pre_tokenizer = gpt2_split()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([token for token in ROBERTA_TOKENS.values() if token not in entries])
    finish(tokenizer, ROBERTA_TOKENS)
    return tokenizer


def _special_tokens_first(entries: dict[str, int]) -> dict[str, int]:
    """Put `<s> <pad> </s> <unk>` before GPT-2's entries, unless `<pad>` is there (RoBERTa counts positions from it)."""
    if ROBERTA_TOKENS["pad"] in entries:
        return entries
    first = [token for token in ROBERTA_TOKENS.values() if token != ROBERTA_TOKENS["mask"] and token not in entries]
    moved = {token: token_id + len(first) for token, token_id in entries.items()}
    return {token: token_id for token_id, token in enumerate(first)} | moved


def _roberta_ids(gpt2: dict[str, int], dict_file: Path) -> dict[str, int]:
    """Number RoBERTa's tokens as fairseq does, by its dictionary's lines: a GPT-2 id (or a filler word) and a count."""
    token_of = {str(token_id): token for token, token_id in gpt2.items()}
    order = ["<s>", "<pad>", "</s>", "<unk>"]
    for line in dict_file.read_text(encoding="utf-8").splitlines():
        entry = line.rsplit(" ", 1)[0]
        order.append(token_of.get(entry, entry))
    order.append("<mask>")
    return {token: token_id for token_id, token in enumerate(order)}
