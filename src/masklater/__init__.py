"""masklater: pre-train a text encoder of your own by Mask More and Mask Later (3ML, arXiv 2211.04898).

The command `masklater` is the usual way in. From Python, `MaskLaterConfig` and `MaskLaterForMaskedLM` are
ordinary transformers classes. With `import masklater`, transformers' Auto classes and pipelines know them.
"""

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from masklater.registration import after_import

if TYPE_CHECKING:
    from masklater.model.config import MaskLaterConfig
    from masklater.model.masked_lm import MaskLaterForMaskedLM

__all__ = ["MaskLaterConfig", "MaskLaterForMaskedLM", "__version__"]
__version__ = "0.2.0"


def __getattr__(name: str) -> Any:
    """Import the model classes on first use, so that `masklater --help` does not wait for torch."""
    if name in {"MaskLaterConfig", "MaskLaterForMaskedLM"}:
        return getattr(_model_classes(), name)
    raise AttributeError(f"module 'masklater' has no attribute {name!r}")


def _model_classes() -> ModuleType:
    """Import the module of the model classes, which registers them with transformers, and teach them to open RUNs."""
    from masklater.model import masked_lm

    if masked_lm.MaskLaterForMaskedLM.open_run is None:
        masked_lm.MaskLaterForMaskedLM.open_run = _open_run
    return masked_lm


def _open_run(path: Path) -> "MaskLaterForMaskedLM | None":
    """Open the model of a RUN's newest sound checkpoint; None where a folder is no RUN."""
    from masklater.run.folder import RunFolder
    from masklater.run.identity import is_run

    return RunFolder(path).load_model()[0] if is_run(path) else None


def _register() -> None:
    """Import the model classes, unless one of their modules is importing transformers and will import them itself."""
    if "masklater.model" not in sys.modules:
        _model_classes()


after_import("transformers.models.auto.modeling_auto", _register)
