"""Folders that `datasets` has saved (`save_to_disk`) or uses as its cache: Arrow files, and files that hold no text."""

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from masklater.errors import UserError

NO_ROWS = "files about a data set or computed from it"
SPLITS = "dataset_dict.json"
"""The file that marks a folder whose subfolders are splits."""
INFO = "dataset_info.json"
"""The file that marks a folder with the rows of a dataset."""
STATE = "state.json"
"""The file that such a folder has too if it was saved; a folder of the cache has none."""
CARD = "README.md"
OF_CARD = re.compile(
    rb"---\r?\n(?:.*\n)*?(?:configs|dataset_info|task_categories|size_categories|pretty_name|language|license):"
)
"""The header of a dataset's card has one of these; that of a page of documentation has a title or a layout."""
CARD_BYTES = 4096
SPLIT_OF = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Words in names of files, and the splits that `datasets` takes the files for."""
IN_NAME = re.compile(rf"(?<![A-Za-z])({'|'.join(SPLIT_OF)})(?![A-Za-z])")
COMPUTED = re.compile(r"cache-[0-9a-f]+(_\d+_of_\d+)?\.arrow")
"""Names of cache files of `map` and `filter`: copies of rows, or row numbers."""


def is_saved(folder: Path) -> bool:
    """Tell whether `save_to_disk` made a folder; `datasets` loads such a folder in another way."""
    return (folder / SPLITS).is_file() or ((folder / INFO).is_file() and (folder / STATE).is_file())


def has_no_rows(name: str, is_beside_info: Callable[[], bool]) -> bool:
    """Tell whether a file describes a dataset, or is what `datasets` has computed from it.

    Args:
        name: The file's name.
        is_beside_info: Tells whether the file's folder holds a dataset_info.json.
    """
    if name in {INFO, SPLITS, "dataset_infos.json"} or COMPUTED.fullmatch(name):
        return True
    return name == STATE and is_beside_info()


def has_card(folder: Path) -> bool:
    """Tell whether a folder is a copy of a dataset's repository on the hub, by the header of its README.md."""
    try:
        with (folder / CARD).open("rb") as card:
            return OF_CARD.match(card.read(CARD_BYTES)) is not None
    except OSError:
        return False


def refuse_splits_by_name(folder: Path, files: Sequence[Path]) -> None:
    """Raise UserError where the files of such a copy are, by their names, of several splits."""
    named = {SPLIT_OF[match[1]] for file in files for match in IN_NAME.finditer(file.relative_to(folder).as_posix())}
    if len(named) > 1:
        first = "train" if "train" in named else min(named)
        raise UserError(
            f"{folder} is a data set of the hub with several splits: {', '.join(sorted(named))}",
            f"Name one, as in hf:{folder}#{first} (pip install 'masklater[data]'), or files, by a pattern too.",
        )


def refuse_several_splits(folder: str, splits: Collection[str]) -> None:
    """Raise UserError where a folder holds several splits: training would include text to test on."""
    if len(splits) > 1:
        first = "train" if "train" in splits else min(splits)
        raise UserError(
            f"{folder} is a data set of several splits: {', '.join(sorted(splits))}",
            f"Name those to be read, as in {folder}/{first}.",
        )
