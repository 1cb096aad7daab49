"""Folders that were made of text, by which files they are known: their json, md and txt files are no corpus."""

import re
from collections.abc import Callable

from masklater.folders import LOCK

MADE_OF_TEXT = "folders of rows, a run, a model, a tokenizer, scores or a report, whole or not"
SIGNS = (
    ("index.json", "train-00000.rows"),  # SHARDS
    ("selection.json", "scores.npy"),
    ("targets.json", "excess.npy"),
    ("run.json", "recipe.yaml"),
    ("config.json", "model.safetensors"),
    ("config.json", "model.safetensors.index.json"),
    ("tokenizer.json", "tokenizer_config.json"),
    ("sweep.json", "runs.jsonl"),  # SCORES
    ("report.json", "report.md"),
)
"""The files, all of one line, that such a folder holds."""
UNFINISHED = re.compile(r"\.partial-(parts-)?\d+$")
"""The end of the names of folders that were being written when the process was killed."""
PARTS = ".parts"
"""The end of the name of a folder of finished parts of a corpus, which is known by its lock."""


def is_made_of_text(name: str, holds: Callable[[str], bool]) -> bool:
    """Tell whether a folder holds what one of the commands, or transformers, has made, or has begun to make.

    Args:
        name: Of the folder.
        holds: Tells whether a file of some name is in it.
    """
    if UNFINISHED.search(name) or (name.endswith(PARTS) and holds(LOCK)):
        return True
    return any(all(map(holds, names)) for names in SIGNS)
