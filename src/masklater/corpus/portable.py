"""A saved tokenizer that transformers 4 and 5 both load, with the same tokens.

transformers 5 names the class of a tokenizer that consists of its tokenizer.json alone in a way that 4 does not know.
It also writes into the config how the tokenizer was loaded, and renames additional special tokens.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

KNOWN_TO_BOTH = ("BertTokenizer", "CamembertTokenizer", "RobertaTokenizer", "XLMRobertaTokenizer")
"""Classes that give the same tokens in 4.57 and 5.23. Any other tokenizer is saved as tokenizer.json alone."""
ONLY_OF_5 = ("backend", "is_local", "local_files_only")
"""Keys that 5 writes and no version needs."""
TEXTS = ("The tree, isn't it?", " two  spaces\n\nand\ttabs ", "déjà vu हिन्दी 中文 3.14", "e\u0301 ﬁ ½ ÉE")


def make_portable(folder: Path, tokenizer: "PreTrainedTokenizerFast") -> None:
    """Rewrite the tokenizer_config.json of the tokenizer saved in this folder.

    `tokenizer_class` becomes the first of these with which the folder gives the same tokens:

    - the tokenizer's own class, if both versions know it;
    - RobertaTokenizer, for a byte-level BPE split as GPT-2's: only this class puts spaces between words that are passed
      one by one;
    - PreTrainedTokenizerFast, which uses tokenizer.json as it is.
    """
    path = folder / "tokenizer_config.json"
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    pipeline: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    config = {key: value for key, value in config.items() if key not in ONLY_OF_5}
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    config["model_input_names"] = list(tokenizer.model_input_names)
    split = pipeline["pre_tokenizer"] or {}
    if "add_prefix_space" in split:  # 4 changes the pipeline to what the config says
        config["add_prefix_space"] = split["add_prefix_space"]
    candidates = [name for name in (config["tokenizer_class"],) if name in KNOWN_TO_BOTH]
    if split.get("type") == "ByteLevel" and split.get("use_regex") and pipeline["model"]["type"] == "BPE":
        candidates.append("RobertaTokenizer")
    for name in (*candidates, "PreTrainedTokenizerFast"):
        config["tokenizer_class"] = name
        write_config(path, config)
        if _is_the_same(name, folder, tokenizer):
            return


def write_config(path: Path, config: dict[str, Any]) -> None:
    """Write a tokenizer_config.json, the same bytes for the same config."""
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def _is_the_same(name: str, folder: Path, tokenizer: "PreTrainedTokenizerFast") -> bool:
    import transformers

    try:
        # AutoTokenizer would import torch.
        loaded = getattr(transformers, name).from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        if loaded.get_vocab() != tokenizer.get_vocab() or loaded.special_tokens_map != tokenizer.special_tokens_map:
            return False
        now, before = loaded.backend_tokenizer, tokenizer.backend_tokenizer
        inputs = [*((text,) for text in TEXTS), (f"a {tokenizer.mask_token} b",), TEXTS[:2]]
        return all(now.encode(*texts).ids == before.encode(*texts).ids for texts in inputs)
    except Exception:  # transformers and tokenizers raise anything
        return False
