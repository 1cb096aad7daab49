"""What a run has spent so far. Part of its checkpoint, so that a resumed run goes on counting."""

from dataclasses import dataclass


@dataclass
class Ledger:
    """Totals since step 0."""

    steps: int = 0
    rows: int = 0
    tokens: int = 0  # positions of the rows, the dropped ones included
    flops: float = 0.0  # executed by training steps, LM head included
    seconds: float = 0.0  # wall time of training steps; evaluation and checkpoints stand outside

    @property
    def hours(self) -> float:
        """Wall time of training steps in hours."""
        return self.seconds / 3600

    def add_step(self, rows: int, tokens: int, flops: float, seconds: float) -> None:
        """Book one training step."""
        self.steps += 1
        self.rows += rows
        self.tokens += tokens
        self.flops += flops
        self.seconds += seconds
