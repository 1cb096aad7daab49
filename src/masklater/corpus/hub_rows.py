"""A data set of the hub, or a folder that `datasets` loads, row by row: `hf:OWNER/NAME[:CONFIG][@REVISION][#SPLIT]`."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masklater.corpus.data_set_folder import is_saved
from masklater.corpus.fields import Fields, MissingFieldError, missing_field
from masklater.errors import UserError, first_line
from masklater.extras import import_extra

PREFIX = "hf:"
SPLIT = "train"
"""The split that is read where none is named."""
CONFIGS_SHOWN = 8
NAME = re.compile(r"hf:(?P<name>[^:@#]+)(:(?P<config>[^:@#]+))?(@(?P<revision>[^@#\s]+))?(#(?P<split>[^#\s]+))?")


@dataclass(frozen=True)
class HubRows:
    """One split of one dataset, at one commit."""

    shown: str
    split: str
    commit: str | None  # None: a folder of this machine
    rows: Any  # datasets.IterableDataset
    size: int | None  # bytes, where known

    def records(self, fields: Fields) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield its rows, numbered from 1, with the columns that are needed.

        Raises:
            UserError: A column is missing, or the hub or the data fail.
        """
        names = self.rows.column_names
        try:
            columns = fields.columns(names) if names else None
        except MissingFieldError as missing:
            raise missing_field(self.shown, str(missing), names) from None
        yield from self.select(columns)

    def select(self, columns: Sequence[str] | None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield its rows, numbered from 1, with some columns, or all.

        Raises:
            UserError: The hub or the data fail.
        """
        try:
            yield from enumerate(self.rows if columns is None else self.rows.select_columns([*columns]), start=1)
        except Exception as error:  # datasets raises whatever its readers and the network raise
            raise UserError(
                f"{self.shown} cannot be read: {first_line(error)}",
                "Check the network, the name and who may read it; HF_TOKEN is used where it is set.",
            ) from None


def is_hub(name: str) -> bool:
    """Tell whether a name is a dataset of the hub (a path in one begins with hf:// instead)."""
    return name.startswith(PREFIX) and not name.startswith("hf://")


def find_hub_rows(given: str, folder: Path | None = None) -> HubRows:
    """Find a dataset. Its rows are streamed, from the same commit in every pass.

    Args:
        given: The dataset's name. A folder of that name takes precedence.
        folder: The folder in which to look for folders; None: the working directory.

    Raises:
        UserError: The dataset is not there, has no such configuration or split, or `datasets` is missing.
    """
    parts = NAME.fullmatch(given)
    if parts is None:
        raise UserError(
            f"{given} is no data set of the hub, which is written hf:OWNER/NAME, with :CONFIG, @REVISION and #SPLIT if "
            "need be",
            "Write it as in hf:wikimedia/wikipedia:20231101.en or hf:roneneldan/TinyStories@main#validation.",
        )
    datasets = import_extra("datasets", "data", given)
    name, config, split, commit = parts["name"], parts["config"], parts["split"] or SPLIT, None
    if is_folder := (place := (folder or Path()) / name).is_dir():
        name = str(place)
        _refuse_unused(given, place, config, parts["revision"])
    try:
        if not is_folder:
            commit = _commit(name, parts["revision"])
        if is_folder and is_saved(place):
            splits = _saved_splits(datasets.load_from_disk(name))
        else:
            splits = datasets.load_dataset(name, config, revision=commit, streaming=True)
    except Exception as error:  # each raises whatever its libraries raise
        _refuse_configuration(given, name, config, commit)
        raise UserError(f"{given} cannot be opened: {first_line(error)}", _remedy_for(error, name)) from None
    if split not in splits:
        raise UserError(
            f"{given} has no split {split!r}; it has {', '.join(splits)}",
            "Name one of them behind #, or its files by path: hf://datasets/OWNER/NAME/FOLDER/*.parquet.",
        )
    rows = splits[split]
    return HubRows(given, split, commit, rows, getattr(rows.info, "dataset_size", None))


def _refuse_unused(given: str, folder: Path, config: str | None, revision: str | None) -> None:
    """Refuse a revision of a folder, and a configuration of one that was saved: neither would change what is read."""
    if revision:
        raise UserError(f"{given}: {folder} is a folder, which has no revisions", f"Leave @{revision} out.")
    if config and is_saved(folder):
        raise UserError(
            f"{given}: {folder} was saved by datasets, without configurations", f"Leave :{config} out, or name another."
        )


def _refuse_configuration(given: str, name: str, config: str | None, commit: str | None) -> None:
    """Refuse a configuration that a data set lacks, or none where it has several and no default; name those it has.

    Where they cannot be had, as without a network, nothing is refused: the error before says more.
    """
    import datasets

    try:
        known = datasets.get_dataset_config_names(name, revision=commit)
        default = datasets.get_dataset_default_config_name(name, revision=commit)
    except Exception:  # datasets raises whatever its readers and the network raise
        return
    if not known or (config or default) in known:
        return
    fault = f"has no configuration {config!r}; it has" if config else "has several configurations, and none is named:"
    more = f" and {len(known) - CONFIGS_SHOWN:,} more" if len(known) > CONFIGS_SHOWN else ""
    raise UserError(
        f"{given} {fault} {', '.join(known[:CONFIGS_SHOWN])}{more}",
        f"Name one of them behind a colon: hf:{name}:{known[0]}.",
    )


def _remedy_for(error: Exception, name: str) -> str:
    if "scripts are no longer supported" in str(error):
        return (
            f"Download its files (hf download --repo-type dataset {name}) and name those, or have prepare read them "
            f"where they are: hf://datasets/{name}/FOLDER/*.jsonl.xz."
        )
    return "Check the spelling, the network and HF_TOKEN."


def _saved_splits(saved: Any) -> dict[str, Any]:
    """Return splits by name, of a saved `Dataset`, which may not name its split, or of a `DatasetDict`."""
    each = saved if isinstance(saved, dict) else {str(saved.split or SPLIT): saved}
    return {name: rows.to_iterable_dataset() for name, rows in each.items()}


def _commit(name: str, revision: str | None) -> str:
    from huggingface_hub import HfApi

    sha = HfApi().dataset_info(name, revision=revision).sha
    if sha is None:
        raise ValueError("the hub does not say which commit it is")
    return sha
