"""Folders that `datasets` has saved (`save_to_disk`) or keeps as its cache: Arrow files, and what is no text."""

import re
from collections.abc import Callable, Collection
from pathlib import Path

from masklater.errors import UserError

NO_ROWS = "files about a data set or computed from it"
SPLITS = "dataset_dict.json"
"""The file of a folder in which each split is a folder."""
INFO = "dataset_info.json"
"""The file of a folder that holds the rows of a data set."""
STATE = "state.json"
"""The file beside it of one that was saved, and not only kept as a cache."""
COMPUTED = re.compile(r"cache-[0-9a-f]+(_\d+_of_\d+)?\.arrow")
"""Files of what `map` and `filter` have computed: rows once more, or their numbers."""


def is_saved(folder: Path) -> bool:
    """Tell whether `save_to_disk` made a folder, which `datasets` loads otherwise than others."""
    return (folder / SPLITS).is_file() or ((folder / INFO).is_file() and (folder / STATE).is_file())


def has_no_rows(name: str, is_beside_info: Callable[[], bool]) -> bool:
    """Tell whether a file says something of a data set, or is what `datasets` has computed from it.

    Args:
        name: Of the file.
        is_beside_info: Tells whether its folder holds a dataset_info.json.
    """
    if name in {INFO, SPLITS, "dataset_infos.json"} or COMPUTED.fullmatch(name):
        return True
    return name == STATE and is_beside_info()


def refuse_several_splits(folder: str, splits: Collection[str]) -> None:
    """Raise UserError where a folder holds several splits: text to test on would be trained on."""
    if len(splits) > 1:
        first = "train" if "train" in splits else min(splits)
        raise UserError(
            f"{folder} is a data set of several splits: {', '.join(sorted(splits))}",
            f"Name those to be read, as in {folder}/{first}.",
        )
