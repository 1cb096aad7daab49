"""Shared parts of the benchmarks' command lines."""

import argparse
import sys
from collections.abc import Callable

from masklater.errors import UserError


def at_least_one(text: str) -> int:
    """Return a whole number from 1 up, for argparse's `type`."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 up")
    return int(text)


def exit_status(work: Callable[[], None]) -> int:
    """Do the work; return 0, 2 after a mistake of the user's (printed in a sentence), or 130 after Ctrl-C."""
    try:
        work()
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0
