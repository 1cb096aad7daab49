"""The files that identify folders made of text (SHARDS, RUNs and the like): their json, md and txt are no corpus."""

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
"""For each kind of folder, the files that it holds, all of them."""
UNFINISHED = re.compile(r"\.partial-(parts-)?\d+$")
"""The end of the name of a folder whose writer was killed."""
PARTS = ".parts"
"""The end of the name of a folder that holds finished parts of a corpus; a lock file in it confirms this."""


def is_made_of_text(name: str, holds: Callable[[str], bool]) -> bool:
    """Tell whether one of the commands, or transformers, made this folder or began to.

    Args:
        name: The folder's name.
        holds: Tells whether a file of a given name is in the folder.
    """
    if UNFINISHED.search(name) or (name.endswith(PARTS) and holds(LOCK)):
        return True
    return any(all(map(holds, names)) for names in SIGNS)
