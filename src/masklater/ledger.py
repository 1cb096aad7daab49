"""The compute, time and energy a run has spent so far. Checkpoints store it, so that a resumed run goes on counting."""

from dataclasses import dataclass


@dataclass
class Spending:
    """What one training step spends, apart from time."""

    rows: int
    tokens: int  # positions of the rows, dropped ones included
    tokens_seen: int  # positions that the encoder reads
    tokens_predicted: int  # target slots
    flops: float  # executed, LM head included; what activation checkpointing recomputes is not counted
    flops_head: float  # of the LM head alone
    flops_vanilla: float  # what vanilla MLM would have executed on the same rows with the same encoder
    flops_optimizer: float = 0.0  # matrix products of the update (Muon's), not in `flops`


@dataclass
class Ledger:
    """Totals since step 0."""

    steps: int = 0
    skipped_steps: int = 0  # steps that changed nothing: loss or gradient was not finite
    overflowed_steps: int = 0  # part of `skipped_steps`: the scaled loss gave a gradient too large for float16
    skipped_in_a_row: int = 0  # other skipped steps, those in a row up to now
    compiled_steps: int = 0  # steps made with compiled layers, where dropout draws other numbers
    rows: int = 0
    tokens: int = 0
    tokens_seen: int = 0
    tokens_predicted: int = 0
    flops: float = 0.0
    flops_head: float = 0.0
    flops_vanilla: float = 0.0
    flops_optimizer: float = 0.0
    flops_selection: float = 0.0  # of scoring the rows or targets to choose from; not in `flops`
    flops_selection_runs: float = 0.0  # training of the runs that scored them; not in `flops` either
    seconds: float = 0.0  # wall time of training steps
    data_seconds: float = 0.0  # part of `seconds`: waiting for data
    evaluation_seconds: float = 0.0  # this and the next are not part of `seconds`
    checkpoint_seconds: float = 0.0
    peak_memory_bytes: int = 0  # of the accelerator, or without one of the process
    energy_joules: float | None = None  # of GPU or CPU package during the run; None: not readable
    energy_source: str | None = None  # the source of that reading
    attention_kernels: str | None = None  # those that a GPU chose from; None: not a GPU
    peak_flops_per_second: float | None = None  # of the device; None: not known or measured

    @property
    def total_flops(self) -> float:
        """FLOPs of the training, of the optimizer and of choosing what to train on."""
        return self.flops + self.flops_optimizer + self.flops_choosing

    @property
    def flops_choosing(self) -> float:
        """FLOPs of choosing rows or targets, including the training of the runs that scored them."""
        return self.flops_selection + self.flops_selection_runs

    @property
    def hours(self) -> float:
        """Wall time of training steps in hours."""
        return self.seconds / 3600

    @property
    def compute_seconds(self) -> float:
        """Wall time of training steps, without the wait for data."""
        return self.seconds - self.data_seconds

    def utilisation(self, flops: float) -> float | None:
        """Return a number of FLOPs in these steps as a share of the device's peak rate; None where that is unknown."""
        if not self.peak_flops_per_second or not self.seconds:
            return None
        return flops / self.seconds / self.peak_flops_per_second

    def add_step(self, spending: Spending, seconds: float, data_seconds: float) -> None:
        """Add one training step; a skipped step costs as much as any other."""
        self.steps += 1
        for name, amount in vars(spending).items():
            setattr(self, name, getattr(self, name) + amount)
        self.seconds += seconds
        self.data_seconds += data_seconds

    def count_skipped(self, skipped: bool, overflowed: bool = False, empty: bool = False) -> None:
        """Record whether the last step was skipped, which may be known later than its spending.

        Args:
            skipped: Loss or gradient was not finite.
            overflowed: The step was skipped while float16's loss scale was being found; this says nothing about the
                data.
            empty: The step was skipped because it had nothing to predict; this says nothing about the run.
        """
        self.skipped_steps += skipped
        self.overflowed_steps += overflowed
        if not (overflowed or empty):
            self.skipped_in_a_row = self.skipped_in_a_row + 1 if skipped else 0
