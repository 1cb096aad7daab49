"""masklater: pre-train a text encoder of your own by Mask More and Mask Later (3ML, arXiv 2211.04898).

The command `masklater` is the usual way in. From Python, `MaskLaterConfig` and `MaskLaterForMaskedLM` are
ordinary transformers classes; importing them registers them with `AutoConfig` and `AutoModelForMaskedLM`.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from masklater.model.config import MaskLaterConfig
    from masklater.model.masked_lm import MaskLaterForMaskedLM

__all__ = ["MaskLaterConfig", "MaskLaterForMaskedLM", "__version__"]
__version__ = version("masklater")


def __getattr__(name: str) -> Any:
    """Import the model classes on first use, so that `masklater --help` does not wait for torch."""
    if name in {"MaskLaterConfig", "MaskLaterForMaskedLM"}:
        from masklater.model import masked_lm

        return getattr(masked_lm, name)
    raise AttributeError(f"module 'masklater' has no attribute {name!r}")
