"""The versions of what a result depends on."""

import platform

import masklater


def versions() -> dict[str, str]:
    """Return the versions of masklater, torch, transformers and Python, by name."""
    import torch
    import transformers

    return {
        "masklater": masklater.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
