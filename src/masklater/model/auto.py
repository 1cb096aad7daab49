"""What transformers' Auto classes do with a folder of MaskLaterForMaskedLM: load its encoder, or say how to load it."""

import os
from pathlib import Path
from typing import Any

from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from masklater.errors import UserError
from masklater.model.config import MaskLaterConfig

FOR_TASKS = (
    AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoModelForQuestionAnswering,
    AutoModelForMultipleChoice,
)  # fmt: skip


def register(masked_lm: type[PreTrainedModel]) -> None:
    """Register MaskLaterConfig, its masked LM, its encoder and its task models with transformers' Auto classes."""
    AutoConfig.register(MaskLaterConfig.model_type, MaskLaterConfig, exist_ok=True)
    AutoModelForMaskedLM.register(MaskLaterConfig, masked_lm, exist_ok=True)
    AutoModel.register(MaskLaterConfig, EncoderOfMaskLater, exist_ok=True)
    for of_task in FOR_TASKS:
        of_task.register(MaskLaterConfig, TaskModelOfMaskLater, exist_ok=True)


class EncoderOfMaskLater:
    """The class that AutoModel, and so the feature-extraction pipeline, finds for a MaskLaterConfig."""

    config_class = MaskLaterConfig

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> PreTrainedModel | tuple[PreTrainedModel, dict[str, Any]]:
        """Load a MaskLaterForMaskedLM and return its plain encoder, without the decoder and head."""
        loaded = MODEL_FOR_MASKED_LM_MAPPING[MaskLaterConfig].from_pretrained(*args, **kwargs)
        return (loaded[0].encoder, loaded[1]) if isinstance(loaded, tuple) else loaded.encoder

    @classmethod
    def _from_config(cls, config: MaskLaterConfig, **kwargs: Any) -> PreTrainedModel:
        return MODEL_FOR_MASKED_LM_MAPPING[MaskLaterConfig]._from_config(config, **kwargs).encoder


class TaskModelOfMaskLater:
    """The class that the Auto classes in FOR_TASKS find for a MaskLaterConfig: it only raises an error."""

    config_class = MaskLaterConfig

    @classmethod
    def from_pretrained(cls, source: str | os.PathLike[str], *args: Any, **kwargs: Any) -> PreTrainedModel:
        """Raise an error that says which folder to fine-tune instead.

        Raises:
            UserError: Always.
        """
        if (Path(source) / "encoder" / "config.json").is_file():
            remedy = (
                f"Name {Path(source) / 'encoder'}; in Python, from_pretrained({str(source)!r}, subfolder='encoder') "
                "loads it."
            )
        else:
            remedy = (
                "Save it with AutoModel.from_pretrained(...).save_pretrained(ENCODER), or `masklater export` a RUN, "
                "and load that."
            )
        raise UserError(
            f"{source} is a masked LM of masklater, of which a model for a task takes the plain encoder alone", remedy
        )
