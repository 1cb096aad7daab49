"""The versions of what a result depends on."""

import platform

import torch
import transformers

import masklater


def versions() -> dict[str, str]:
    """Return the versions of masklater, torch, transformers and Python, by name."""
    return {
        "masklater": masklater.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
