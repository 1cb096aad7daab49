"""Numbers on a command line that mean something."""

import argparse


def at_least_one(text: str) -> int:
    """A whole number from 1 up, for argparse's `type`."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 up")
    return int(text)
