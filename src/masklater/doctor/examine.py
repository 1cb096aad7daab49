"""The examination of the machine, and of SHARDS or a RUN where one is named."""

from collections.abc import Callable
from pathlib import Path

from masklater.corpus.index import shards_inside
from masklater.corpus.selection import is_selection
from masklater.corpus.target_table import is_target_table
from masklater.doctor.examination import Examination
from masklater.doctor.machine import look_at_machine
from masklater.doctor.run import look_at_run
from masklater.doctor.shards import look_at_selection, look_at_shards, look_at_targets
from masklater.errors import UserError


def examine(path: Path | None) -> Examination:
    """Examine the machine, and SHARDS, a SELECTION, a TABLE or a RUN where one is named.

    Raises:
        UserError: There is no such folder, or it is of another kind.
    """
    found = Examination()
    look = None if path is None else _kind_of(path)
    look_at_machine(found)
    if look is not None and path is not None:
        look(path, found)
    return found


def _kind_of(path: Path) -> Callable[[Path, Examination], None]:
    if not path.is_dir():
        raise UserError(f"there is no folder {path}", "Name SHARDS or a RUN, or nothing for the machine alone.")
    if is_selection(path):
        return look_at_selection
    if is_target_table(path):
        return look_at_targets
    if (path / "index.json").exists() or any(path.glob("train-*.rows")):
        return look_at_shards
    if any((path / name).exists() for name in ("run.json", "recipe.yaml", "checkpoints")):
        return look_at_run
    if several := shards_inside(path):
        raise UserError(f"{path} holds SHARDS, each in a folder of its own: {', '.join(several)}", "Name one of them.")
    saved = ", but a saved model, which transformers examines" if (path / "config.json").is_file() else ""
    raise UserError(
        f"{path} is neither SHARDS nor a RUN{saved}", "Name a folder that prepare, select or pretrain made."
    )
