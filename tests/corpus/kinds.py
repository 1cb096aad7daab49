"""Saved tokenizers of every kind, small, made without a network."""

import json
from collections.abc import Callable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import BertTokenizer, CamembertTokenizer, PreTrainedTokenizerFast, XLMRobertaTokenizer

from masklater.corpus.tokenizer import wrap
from masklater.corpus.train import train
from tests.corpus.test_split import HINDI

TEXTS = [
    *(f"The tree by the river, number {i}: isn't it the oldest tree of {i} towns?" for i in range(12)),
    "ACDEFGHIKLMNPQRSTVWY",
]
ROBERTAS = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}


def _bpe() -> PreTrainedTokenizerFast:
    return wrap(train(iter(TEXTS), "bpe", 320))


def _bpe_with_marks() -> PreTrainedTokenizerFast:
    return wrap(train(iter([*TEXTS, *[HINDI] * 3]), "bpe", 400))


def _bpe_with_prefix_space() -> PreTrainedTokenizerFast:
    tokenizer = train(iter(TEXTS), "bpe", 320)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return wrap(tokenizer)


def _wordpiece() -> PreTrainedTokenizerFast:
    return wrap(train(iter(TEXTS), "wordpiece", 300))


def _bert() -> PreTrainedTokenizerFast:
    characters = sorted({character for text in TEXTS for character in text.lower() if not character.isspace()})
    words = ["the", "tree", "##er"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    entries = dict.fromkeys([*special, *words, *characters, *(f"##{character}" for character in characters)])
    return BertTokenizer(vocab={entry: place for place, entry in enumerate(entries)}, do_lower_case=True)


def _unigram_model() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=list(ROBERTAS.values()), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    ids = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ids
    )
    return tokenizer


def _unigram() -> PreTrainedTokenizerFast:
    names = {f"{part}_token": token for part, token in ROBERTAS.items()}
    return PreTrainedTokenizerFast(
        tokenizer_object=_unigram_model(),
        additional_special_tokens=["<extra>"],
        **names,  # type: ignore[arg-type]
    )


def _unigram_pieces() -> list[tuple[str, float]]:
    return [(piece, score) for piece, score in json.loads(_unigram_model().to_str())["model"]["vocab"]]


def _xlm_roberta() -> PreTrainedTokenizerFast:
    return XLMRobertaTokenizer(vocab=_unigram_pieces())


def _camembert() -> PreTrainedTokenizerFast:
    return CamembertTokenizer(vocab=_unigram_pieces())


def _characters() -> PreTrainedTokenizerFast:
    """As ESM's: one token a character."""
    special = ["<cls>", "<pad>", "<eos>", "<unk>", "<mask>"]
    characters = sorted({character for text in TEXTS for character in text})
    entries = {entry: place for place, entry in enumerate([*special, *characters])}
    tokenizer = Tokenizer(models.WordLevel(entries, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<cls> $A <eos>", pair="<cls> $A <eos> $B <eos>", special_tokens=[("<cls>", 0), ("<eos>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="<cls>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>",
        mask_token="<mask>",
    )  # fmt: skip


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "bpe": _bpe,
    "bpe with marks": _bpe_with_marks,
    "bpe with a prefix space": _bpe_with_prefix_space,
    "wordpiece": _wordpiece,
    "bert": _bert,
    "unigram": _unigram,
    "xlm-roberta": _xlm_roberta,
    "camembert": _camembert,
    "characters": _characters,
}


def save_kind(kind: str, folder: Path, ends: bool = True) -> Path:
    """Save a tokenizer of a kind as people save them, with or without a post-processor that adds the special tokens."""
    tokenizer = KINDS[kind]()
    if not ends:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="$A", pair="$A $B", special_tokens=[]
        )
    tokenizer.save_pretrained(folder)
    if not ends:  # transformers' own class would bring its post-processor back
        config = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, "tokenizer_class": "TokenizersBackend"}))
    return folder
