"""One training loop. A *step* turns a batch into metrics; the loop knows nothing else.

A step is also the owner of everything that training carries from one batch to the next (optimiser moments,
persistent chains, averages), so ``state_dict`` of the step and of the batches is all that a resumed run needs
(:mod:`physgen.checkpoint`).
"""

import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, overload

import pyro
import pyro.infer
import torch
from torch import Tensor, nn

from .nn import diverged

Metrics = dict[str, Tensor]
Loss = Callable[[Tensor], Tensor | tuple[Tensor, Metrics]]


class Step(Protocol):
    def __call__(self, batch: Tensor) -> Metrics: ...
    def finish(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Record:
    """Where training stands.

    Attributes:
        step: Steps done, those before a resume included.
        seconds: Wall time since this call of :func:`fit`.
        metrics: Means over the steps since the last record.
    """

    step: int
    seconds: float
    metrics: dict[str, float]


class GradientStep:
    r"""Minimises ``loss(batch)`` by one step of a torch optimiser per batch.

    Arguments:
        loss: Returns a scalar, or a scalar and further metrics. Where it has a state of its own (persistent
            chains), its ``state_dict`` and ``load_state_dict`` are part of this step's.
        optimizer: Any torch optimiser of the parameters to be trained.
        clip: Largest norm of the whole gradient; longer gradients are shortened to it.
        schedule: Factor on the learning rate at step i = 0, 1, … (:func:`decay` makes one).
        average_from: From this step on, keep the running mean of the parameters (Polyak and Juditsky, 1992).
            Training goes on with the raw parameters; :meth:`finish` puts the means in their place.

    Raises:
        FloatingPointError: If the loss or its gradient is not finite. The parameters are untouched then.

    Example:
        >>> x = nn.Parameter(torch.tensor(3.0))
        >>> step = gradient_step(lambda batch: (x - batch).square().mean(), torch.optim.SGD([x], lr=0.5))
        >>> step(torch.ones(4))["loss"].item(), x.item()
        (4.0, 1.0)
    """

    def __init__(
        self,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        *,
        clip: float | None = None,
        schedule: Callable[[int], float] | None = None,
        average_from: int | None = None,
    ):
        self.loss, self.optimizer, self.clip = loss, optimizer, clip
        self.schedule, self.average_from = schedule, average_from
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.done, self.averaged = 0, 0
        self.averages: list[Tensor] = []

    def __call__(self, batch: Tensor) -> Metrics:
        result = self.loss(batch)
        value, metrics = result if isinstance(result, tuple) else (result, {})
        for p in self.parameters:
            p.grad = None
        value.backward()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
        if not (math.isfinite(value.item()) and math.isfinite(norm.item())):
            raise diverged(
                f"at step {self.done + 1} the loss is {value.item():g} with gradient norm {norm.item():g}"
            )
        if self.clip is not None:
            nn.utils.clip_grads_with_norm_(self.parameters, self.clip, norm)
        if self.schedule is not None:
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * self.schedule(self.done)
        self.optimizer.step()
        self.done += 1
        if self.average_from is not None and self.done > self.average_from:
            self._average()
        return {"loss": value.detach(), "grad_norm": norm} | metrics

    @torch.no_grad()
    def _average(self) -> None:
        if not self.averaged:
            self.averages = [p.detach().clone() for p in self.parameters]
        self.averaged += 1
        for mean, p in zip(self.averages, self.parameters, strict=True):
            mean.lerp_(p, 1 / self.averaged)

    @torch.no_grad()
    def finish(self) -> None:
        """Puts the averages, where there are any, in place of the parameters; for the end of training."""
        if self.averages:
            for p, mean in zip(self.parameters, self.averages, strict=True):
                p.copy_(mean)
        self.averaged, self.averages = 0, []

    def state_dict(self) -> dict[str, Any]:
        state = {
            "done": self.done,
            "optimizer": self.optimizer.state_dict(),
            "averaged": self.averaged,
            "averages": self.averages,
        }
        return state | ({"loss": self.loss.state_dict()} if hasattr(self.loss, "state_dict") else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.done, self.averaged = state["done"], state["averaged"]
        self.averages = [m.to(p) for m, p in zip(state["averages"], self.parameters, strict=False)]
        if hasattr(self.loss, "load_state_dict"):
            self.loss.load_state_dict(state["loss"])


gradient_step = GradientStep


def svi_step(
    model: Callable[[Tensor], Any],
    guide: Callable[[Tensor], Any],
    *,
    lr: float,
    elbo: pyro.infer.ELBO | None = None,
    clip: float | None = None,
    schedule: Callable[[int], float] | None = None,
    average_from: int | None = None,
) -> GradientStep:
    r"""Stochastic variational inference: Adam on the negative ELBO, in nats per configuration.

    .. math:: -\mathbb{E}_{q(z|s)} [\log p(s, z) - \log q(z|s)] \ge -\log p(s)

    Arguments:
        model, guide: Pyro programs of a batch ``(n, N)``: ``nn.Module`` objects or methods of one, which hold
            all parameters. The global parameter store is neither read nor written: two models cannot mix.
        lr: Learning rate of Adam.
        elbo: Objective with a ``differentiable_loss``; default ``Trace_ELBO()``.
        clip, schedule, average_from: As in :class:`GradientStep`.

    References:
        | Stochastic Variational Inference (Hoffman, Blei, Wang and Paisley, 2013), https://arxiv.org/abs/1206.7051
    """
    objective = elbo or pyro.infer.Trace_ELBO()
    parameters = list({id(p): p for part in (model, guide) for p in _parameters(part)}.values())
    if not parameters:
        raise ValueError(
            "svi_step found no parameters: model or guide must be a module with some, or a method of one; "
            "call an automatic guide once before"
        )
    known = {id(p) for p in parameters}

    def loss(batch: Tensor) -> Tensor:
        trace = pyro.poutine.trace(param_only=True)
        with warnings.catch_warnings(), pyro.get_param_store().scope(), trace as capture:
            warnings.filterwarnings("ignore", "Encountered NaN")  # the step raises instead
            value = objective.differentiable_loss(model, guide, batch)
            sites = capture.trace.nodes.items()
            foreign = [name for name, site in sites if id(site["value"].unconstrained()) not in known]
        if foreign:
            raise ValueError(
                "svi_step trains the parameters of the modules that model and guide belong to, and "
                f"{foreign[0]!r} is in none; make it a PyroParam of a module; call an automatic guide once"
            )
        return value / len(batch)

    return GradientStep(
        loss, torch.optim.Adam(parameters, lr=lr), clip=clip, schedule=schedule, average_from=average_from
    )


def _parameters(part: Callable[[Tensor], Any]) -> Iterator[nn.Parameter]:
    module = part if isinstance(part, nn.Module) else getattr(part, "__self__", None)
    return module.parameters() if isinstance(module, nn.Module) else iter(())


class AdversarialStep:
    """Trains the critic on every batch and the generator on every ``critic_steps``-th.

    Metrics carry the prefix ``generator_`` or ``critic_``.

    Arguments:
        generator, critic: Steps, each with an optimiser of its own network only.
        critic_steps: Critic steps per generator step.
    """

    def __init__(self, generator: Step, critic: Step, *, critic_steps: int = 1):
        self.generator, self.critic, self.critic_steps = generator, critic, critic_steps
        self.done = 0

    def __call__(self, batch: Tensor) -> Metrics:
        self.done += 1
        metrics = {f"critic_{name}": value for name, value in self.critic(batch).items()}
        if self.done % self.critic_steps == 0:
            metrics |= {f"generator_{name}": value for name, value in self.generator(batch).items()}
        return metrics

    def finish(self) -> None:
        self.generator.finish()
        self.critic.finish()

    def state_dict(self) -> dict[str, Any]:
        return {
            "done": self.done,
            "generator": self.generator.state_dict(),
            "critic": self.critic.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = state["done"]
        self.generator.load_state_dict(state["generator"])
        self.critic.load_state_dict(state["critic"])


adversarial_step = AdversarialStep


def decay(steps: int, *, final: float = 0.0, warm_up: int = 0) -> Callable[[int], float]:
    r"""Half a cosine from 1 down to ``final`` over ``steps``, after a linear rise over ``warm_up`` steps.

    Source: Loshchilov and Hutter (2017), https://arxiv.org/abs/1608.03983, without restarts.

    Example:
        >>> [round(decay(100)(i), 3) for i in (0, 50, 100)]
        [1.0, 0.5, 0.0]
    """

    def factor(i: int) -> float:
        done = min(max(i - warm_up, 0) / max(steps - warm_up, 1), 1.0)
        rise = min((i + 1) / (warm_up + 1), 1.0)
        return rise * (final + (1 - final) * (1 + math.cos(math.pi * done)) / 2)

    return factor


@overload
def fit(
    step: Step, batches: Iterable[Tensor], *, steps: int, every: None = None, start: int = 0
) -> Record: ...
@overload
def fit(
    step: Step, batches: Iterable[Tensor], *, steps: int, every: int, start: int = 0
) -> Iterator[Record]: ...
def fit(
    step: Step, batches: Iterable[Tensor], *, steps: int, every: int | None = None, start: int = 0
) -> Record | Iterator[Record]:
    """Runs ``step`` over ``batches`` until ``steps`` steps are done in all.

    With ``every`` it is an iterator, which trains as it is iterated: saving, logging or stopping early is the
    body of the caller's ``for`` loop. Without, it trains to the end at once and returns one record of the
    last tenth. Metrics stay on the device until a record is made.

    Arguments:
        step: See :func:`gradient_step`, :func:`svi_step`, :func:`adversarial_step`.
        batches: Gone through again and again; :class:`physgen.batches.Batches` never ends.
        steps: Total number of steps, those before ``start`` included.
        every: Steps between records; the last step makes one too.
        start: Steps already done, as returned by :func:`physgen.checkpoint.restore`.

    Example:
        >>> x = nn.Parameter(torch.tensor(3.0))
        >>> step = gradient_step(lambda batch: (x - batch).square().mean(), torch.optim.SGD([x], lr=0.25))
        >>> [record.metrics["loss"] for record in fit(step, [torch.ones(4)], steps=3, every=1)]
        [4.0, 1.0, 0.25]
    """
    if every is not None:
        if every < 1:
            raise ValueError(f"every must be at least 1 step, got {every}")
        return _records(step, batches, steps, every, start)
    if start >= steps:
        raise ValueError(f"nothing to train: {start} of {steps} steps are done; raise steps")
    *_, last = _records(step, batches, steps, max((steps - start) // 10, 1), start)
    return last


def _records(step: Step, batches: Iterable[Tensor], steps: int, every: int, start: int) -> Iterator[Record]:
    begin, source = time.perf_counter(), _again_and_again(batches)
    seen: dict[str, list[Tensor]] = {}
    for i, batch in zip(range(start + 1, steps + 1), source, strict=False):
        for name, value in step(batch).items():
            seen.setdefault(name, []).append(value)
        if i % every == 0 or i == steps:
            metrics = {name: torch.stack(values).mean().item() for name, values in seen.items()}
            yield Record(i, time.perf_counter() - begin, metrics)
            seen = {}


def _again_and_again(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    for _ in itertools.count():
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise ValueError("batches ran out; pass a list, a DataLoader or physgen.batches.Batches")
