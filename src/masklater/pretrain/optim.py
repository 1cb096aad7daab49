"""Parameter groups, the two optimizers, and the learning-rate schedule."""

import math

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import AdamW, Optimizer

from masklater.errors import UserError
from masklater.ledger import Ledger
from masklater.machine.distributed import ALONE, World
from masklater.machine.precision import choose_precision
from masklater.pretrain.muon import Muon, muon_flops
from masklater.recipe.duration import Duration
from masklater.recipe.sections import OptimizerSettings, ScheduleSettings
from masklater.recipe.timeline import Span


class Optimizers:
    """AdamW for every parameter, or Muon for the layers' matrices and AdamW for the rest, stepped as one."""

    def __init__(
        self,
        model: nn.Module,
        settings: OptimizerSettings,
        world: World = ALONE,
        scaler: GradScaler | None = None,
    ) -> None:
        """Make the optimizers of a model.

        Args:
            model: On its device, and already spread over processes if it is to be.
            settings: The recipe's section.
            world: The processes.
            scaler: The scaler of the loss; None: the loss is not scaled.
        """
        self.scaler = scaler or GradScaler(enabled=False)
        matrices, decayed, undecayed = split_parameters(model)
        self.names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
        self.parts: list[Optimizer] = []
        # FLOPs of the last update, or of the first before there is one.
        self.flops = sum(map(muon_flops, matrices)) if settings.name == "muon" else 0.0
        adamw_lr = settings.lr
        if settings.name == "muon":
            self.parts.append(_muon(matrices, settings, world))
            assert settings.adamw_lr is not None  # the recipe has been validated
            matrices, adamw_lr = [], settings.adamw_lr
        self.parts.append(
            AdamW(
                [
                    {"params": matrices + decayed, "weight_decay": settings.weight_decay},
                    {"params": undecayed, "weight_decay": 0.0},
                ],
                lr=adamw_lr,
                betas=settings.betas,
                eps=settings.eps,
                fused=True,
            )
        )
        self.peaks = [part.param_groups[0]["lr"] for part in self.parts]
        self.begun = False  # whether an update of this process has begun: an update cannot be repeated

    def step(self, multiplier: float, skip: Tensor | None = None) -> None:
        """Make one update at `multiplier` times each part's peak rate, and clear the gradients.

        A parameter without a gradient is neither decayed nor moved, and its state stays. In a causal phase these are
        all parameters that only [MASK]s need.

        Args:
            multiplier: Factor on the learning rates.
            skip: bool scalar on the parameters' device. Where it is True, weights and states stay as they are. It is
                read on the device, so that nothing waits for it.
        """
        self.begun = True
        for part, peak in zip(self.parts, self.peaks, strict=True):
            part.found_inf = None if skip is None else skip.float()  # type: ignore[attr-defined]
            for group in part.param_groups:
                group["lr"] = peak * multiplier
            if isinstance(part, Muon):
                matrices = (matrix for group in part.param_groups for matrix in group["params"])
                self.flops = sum(muon_flops(matrix) for matrix in matrices if matrix.grad is not None)
            part.step()
            part.zero_grad(set_to_none=True)

    def loss_scale(self) -> Tensor | None:
        """Return the factor on the loss of the next step, a scalar on the device; None where the loss is not scaled."""
        device = self.parts[-1].param_groups[0]["params"][0].device
        return self.scaler.scale(torch.ones((), device=device)) if self.scaler.is_enabled() else None

    def unscale(self) -> None:
        """Divide gradients by the factor that the loss was multiplied by."""
        for part in self.parts:
            self.scaler.unscale_(part)

    def scaler_state(self) -> dict[str, float]:
        """Return the loss scale and how long it has held, for a checkpoint; empty where the loss is not scaled."""
        return self.scaler.state_dict()

    def load_scaler(self, state: dict[str, float]) -> None:
        """Continue from a saved loss scale, if the loss is scaled.

        The scale begins at 1 or more: less gains nothing.
        """
        if state:
            self.scaler.load_state_dict({**state, "scale": max(1.0, state["scale"])})

    def states(self) -> dict[str, Tensor]:
        """Return each parameter's state, keyed `parameter.what`. Rates and decay are left out: the recipe has them."""
        return {
            f"{self.names[parameter]}.{what}": tensor
            for part in self.parts
            for parameter, state in part.state.items()
            for what, tensor in state.items()
        }

    def begin(self, names: set[str]) -> None:
        """Create the states of these parameters, for saved states to be read into. The call changes the weights."""
        for parameter, name in self.names.items():
            if name in names:
                parameter.grad = torch.zeros_like(parameter)
        self.step(0.0)
        self.begun = False


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Return weights of linear layers; others that decay (embeddings); and biases, norms and vectors, which do not."""
    linear = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)}
    matrices, decayed, undecayed = [], [], []
    for parameter in model.parameters():
        if id(parameter) in linear:
            matrices.append(parameter)
        elif parameter.ndim > 1:
            decayed.append(parameter)
        else:
            undecayed.append(parameter)
    return matrices, decayed, undecayed


def _muon(matrices: list[nn.Parameter], settings: OptimizerSettings, world: World) -> Optimizer:
    lacks_own = bool(matrices) and choose_precision("auto", matrices[0].device).name != "bfloat16"
    (lacks_bfloat16,) = world.all_max(lacks_own)  # of any process, because processes exchange their results
    return Muon(
        matrices,
        lr=settings.lr,
        momentum=0.95 if settings.momentum is None else settings.momentum,
        weight_decay=settings.weight_decay,
        dtype=torch.float32 if lacks_bfloat16 else torch.bfloat16,
        world=world,
    )


class Schedule:
    """The learning rate in a phase as a multiple of its peak, over the whole run or over the phase alone.

    The schedule uses the unit of the duration, so that a run limited by hours or FLOPs also decays to its end.
    """

    def __init__(
        self,
        settings: ScheduleSettings,
        duration: Duration,
        step: Ledger,
        span: Span | None = None,
        first: "Schedule | None" = None,
    ) -> None:
        """Fix the schedule.

        Args:
            settings: The recipe's section.
            duration: The duration of the run.
            step: What one step spends; its seconds may be 0, unknown.
            span: The phase; None: the run has only one.
            first: The schedule of the first phase, in which the run has warmed up, if this is a later phase.

        Raises:
            UserError: Warm-up takes the whole run.
        """
        self.settings = settings
        self.duration = duration
        self.begins, self.amount, self.name = 0.0, duration.amount, str(duration)
        anew = span is not None and settings.over == "phase"
        if span is not None and anew:
            self.begins, self.amount = span.begins, span.amount
            # Without the whole duration: a phase of the same length in a longer run decays to the same end.
            self.name = f"phase {span.number + 1}, {self.amount:,.6g} {duration.unit_name}"
        self.step_share = duration.spent(step) / self.amount
        warmup, self.warmup = settings.warmup, 0.0
        if first is not None and not anew:
            self.warmup = first.warmup
        elif isinstance(warmup, Duration):
            same_unit = warmup.unit == duration.unit
            in_units = warmup.amount * (1 if same_unit else duration.spent(step) / warmup.spent(step))
            self.warmup = in_units / self.amount
            if self.warmup >= 1:
                raise UserError(
                    f"schedule.warmup ({warmup}) takes the whole duration ({self.name})", "Shorten the warm-up."
                )
        else:
            self.warmup = warmup
        if settings.name == "wsd" and self.warmup + settings.decay_share > 1 + 1e-9:
            raise UserError(
                f"schedule.warmup ({warmup}) and schedule.decay together exceed the whole duration ({self.name})",
                "Shorten one of the two: between them the rate is at its peak.",
            )

    def multiplier(self, ledger: Ledger) -> float:
        """Return the multiple of the peak for the next step.

        Warm-up counts the step itself, so that the first rate is not 0. Decay does not count it, so that the last rate
        is not 0 either. With a duration in hours the time of the first step is unknown, and its rate is 0.
        """
        before = self._before(ledger)
        rising = min(1.0, (before + self.step_share) / self.warmup) if self.warmup else 1.0
        floor = self.settings.floor
        return rising * (floor + (1 - floor) * self._decay(before))

    @property
    def decay(self) -> str | None:
        """The name of the decay that ends the run after a stable rate; None where there is no stable rate."""
        return f"the last {self.settings.decay_share:.6g} of {self.name}" if self.settings.name == "wsd" else None

    def decay_of(self, ledger: Ledger) -> str | None:
        """Return the name of the decay where the next step is part of it, else None."""
        return self.decay if self._decay(self._before(ledger)) < 1 else None

    def _before(self, ledger: Ledger) -> float:
        """Return the share of the run, or of the phase, that has passed."""
        return min(1.0, (self.duration.spent(ledger) - self.begins) / self.amount)

    def _decay(self, before: float) -> float:
        if self.settings.name == "wsd":
            return min(1.0, (1 - before) / self.settings.decay_share)
        left = min(1.0, (1 - before) / (1 - self.warmup))
        return left if self.settings.name == "linear" else 0.5 * (1 + math.cos(math.pi * (1 - left)))
