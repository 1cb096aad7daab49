"""OUT.parts: the folder of finished parts until SHARDS are complete; a `prepare` that was ended leaves it behind."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from masklater.console import say
from masklater.corpus.made_of_text import PARTS
from masklater.corpus.parts.work import RESULT
from masklater.errors import UserError
from masklater.folders import LOCK, disk_errors_for_people, mark_unfinished, remove
from masklater.lock import only_process

LOOKS = "looks"
"""The folder of results about single parts, until the results about the whole corpus follow from them."""
LOOKED_AT = "looked-at.npz"
"""Results about the corpus as a whole, which take readings of the whole corpus."""


@contextmanager
def parts_folder(out: Path, resume: bool, keep: bool) -> Iterator[Path]:
    """Yield the folder of parts next to OUT. It is removed when the block ends well; else finished parts stay.

    Args:
        out: The SHARDS folder to make.
        resume: Whether parts that are there already are reused.
        keep: Whether anything is kept. A corpus of one part leaves nothing to resume.

    Raises:
        UserError: Parts are there and not to be reused, another process works on them, or the place cannot be written
            to.
    """
    real = Path(os.path.realpath(out))
    place = real.with_name(f"{real.name}{PARTS}")
    with disk_errors_for_people(out):
        if place.exists() and (kept := _kept(place)):
            if not resume:
                raise UserError(
                    f"{place} holds what an earlier prepare of {out} has finished: {kept}",
                    "Go on from it with --resume, or remove that folder.",
                )
            if not keep:
                say(f"{place} holds {kept} of another corpus, as this one is of one part: nothing is taken over")
        if not keep:  # named as unfinished, since nobody could resume from it
            place = real.with_name(f"{real.name}.partial-parts-{os.getpid()}")
        is_new = not place.exists()
        place.mkdir(parents=True, exist_ok=True)
    with only_process(place, "parts are being made in {} by"):
        yield from _held(place, out, resume, keep, is_new)


def _held(place: Path, out: Path, resume: bool, keep: bool, is_new: bool) -> Iterator[Path]:
    try:
        with disk_errors_for_people(out):
            if is_new or not _kept(place):
                mark_unfinished(place, True)
            elif resume:
                say(f"going on from {place}")
            _clear(place, everything=not _kept(place))
        yield place
    except BaseException:
        _clear(place)
        if keep and (kept := _kept(place)):
            say(f"kept in {place}: {kept}; the same command with --resume goes on from there")
        else:
            remove(place)
        raise
    else:
        remove(place)
    finally:
        mark_unfinished(place, False)


def _kept(place: Path) -> str:
    """Return what the folder holds that took time to make; empty where it holds nothing."""
    parts, looks = (
        sum(1 for _ in of.glob(f"*/{RESULT}") if ".partial-" not in _.parent.name) for of in (place, place / LOOKS)
    )
    return ", ".join(
        [f"{parts:,} finished part{'s' * (parts != 1)}"] * bool(parts)
        + [f"{looks:,} look{'s' * (looks != 1)} at parts"] * bool(looks)
        + ["what was found out about the whole"] * (place / LOOKED_AT).exists()
    )


def _clear(place: Path, everything: bool = False) -> None:
    """Remove what is unfinished, or everything."""
    for entry in (*place.iterdir(), *(place / LOOKS).glob("*")):
        if entry.name != LOCK and (everything or re.search(r"\.partial-[^/]+$", entry.name)):
            remove(entry)
