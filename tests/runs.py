"""What tests read of a RUN, and a run that is stopped."""

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from masklater.pretrain.loop import train_step
from masklater.run.folder import RunFolder
from masklater.run.metrics import read_metrics


def losses(run: Path) -> list[float]:
    """The loss of every step."""
    return [record["loss"] for record in read_metrics(run / "metrics.jsonl") if "loss" in record]


def weights(run: Path) -> dict[str, Tensor]:
    """The weights of the newest checkpoint, by name."""
    return RunFolder(run).load_model()[0].state_dict()


def stop_at(number: int) -> Callable[..., Any]:
    """A train_step that receives SIGTERM at its so-manieth call."""
    calls = itertools.count(1)

    def step(*arguments: Any) -> Any:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return train_step(*arguments)

    return step
