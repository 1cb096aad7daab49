"""Libraries that only some commands need, imported where used; the error for a missing one names its extra."""

from importlib import import_module
from typing import Any

from masklater.errors import UserError


def import_extra(module: str, extra: str, needed_for: str, otherwise: str = "") -> Any:
    """Import a library.

    Args:
        module: The module to import.
        extra: The extra of masklater that installs it.
        needed_for: What cannot be done without it, as the beginning of a sentence.
        otherwise: What else helps, as the end of a sentence.

    Raises:
        UserError: The library is not installed.
    """
    try:
        return import_module(module)
    except ImportError:
        library = ".".join(module.split(".")[:2] if module.startswith("backports.") else module.split(".")[:1])
        raise UserError(
            f"{needed_for} needs {library}, which is not installed",
            f"Install it: pip install 'masklater[{extra}]'{otherwise}.",
        ) from None
