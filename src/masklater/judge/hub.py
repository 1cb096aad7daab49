"""GLUE through the `datasets` library, where it is installed and the network or its cache can be reached."""

import numpy as np

from masklater.errors import UserError, first_line
from masklater.extras import import_extra
from masklater.judge.data import Split, TaskData, make_task_data
from masklater.judge.tasks import MISMATCHED, Task

HUB_NAME = "nyu-mll/glue"


def read_from_hub(task: Task) -> TaskData:
    """Read one task from the Hugging Face hub.

    Raises:
        UserError: The library is not installed, or the data cannot be loaded.
    """
    datasets = import_extra("datasets", "data", "--data hub", ", or name a folder that holds the tsv files")
    try:
        official = datasets.load_dataset(HUB_NAME, task.key)
    except Exception as error:  # the library raises whatever its network and file layers raise
        raise UserError(
            f"{HUB_NAME}, {task.key}, could not be loaded: {type(error).__name__}: {first_line(error)}",
            "Check the network, or name a folder that holds the tsv files.",
        ) from None
    names = {"train": "train", "dev": "validation"}
    if task.two_dev_splits:
        names |= {"dev": "validation_matched", MISMATCHED: "validation_mismatched"}
    return make_task_data(task, {split: _to_split(official[name], task) for split, name in names.items()})


def _to_split(rows: object, task: Task) -> Split:
    columns: dict[str, list[object]] = rows[:]  # type: ignore[index]
    texts = tuple(_column(columns, names) for names in task.texts)
    labels = np.array(_column(columns, ("label",)), dtype=np.float64).round(
        4
    )  # scores are float32 there, such as 1.10000002
    return Split(tuple(list(map(str, text)) for text in texts), labels)


def _column(columns: dict[str, list[object]], names: tuple[str, ...]) -> list[object]:
    name = next((name for name in names if name in columns), None)
    if name is None:
        raise UserError(
            f"{HUB_NAME} has no column {' or '.join(names)}; it has {', '.join(columns)}",
            "Name a folder that holds the tsv files.",
        )
    return columns[name]
