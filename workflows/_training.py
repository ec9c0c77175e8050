"""What the train_* workflows share: options, data, and the body of the loop that records and checkpoints."""

import dataclasses
import json
import logging
import math
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from cyclopts import Parameter
from torch import Tensor, nn

from ising import Ising, store
from ising.lattices import Lattice
from ising.model import restore
from physgen import checkpoint, orders
from physgen.batches import Batches, Stateful
from physgen.nn import diverged
from physgen.train import Step, decay, fit
from workflows._common import (
    beta_of,
    check_options,
    pick_device,
    plain,
    progress_bar,
    provenance,
    read_json,
    write_json,
)

log = logging.getLogger("physgen.train")

WORST = 100  # nats per site: no loss of a sound training is that large, be it a density's or a contrast


class Steps(Protocol):
    """What :func:`train` asks of the options of a command."""

    steps: int
    every: int
    out: Path
    resume: bool
    quiet: bool


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """Options of every training command."""

    data: Path = Path("data/ising.h5")
    """HDF5 file of `physgen simulate`."""
    beta: float | None = None
    """Inverse temperature of the configurations to learn; needed if the file holds several."""
    temperature: float | None = None
    """Temperature instead of --beta."""
    steps: int = 5000
    """Gradient steps."""
    batch: int = 200
    """Configurations per step."""
    lr: float = 1e-3
    """Learning rate at the start; it decays to 2 % as a half cosine."""
    average: float = 0.3
    """Last fraction of the steps over which the weights are averaged (Polyak); 0 turns it off."""
    augment: bool = True
    """Apply random symmetries of the lattice to every batch (periodic lattices only)."""
    every: int = 200
    """Steps between two records and checkpoints."""
    seed: int = 0
    """Seed of the weights, the order of the data and all noise."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""
    out: Path = Path("runs/model")
    """Folder of the results: config.json, metrics.jsonl, checkpoints."""
    resume: bool = False
    """Continue from the last checkpoint in --out."""
    quiet: bool = False
    """No progress bar."""

    def __post_init__(self) -> None:
        check_options(self, shares=("average",), folder=True)


@dataclasses.dataclass(frozen=True)
class Data:
    """Training and validation configurations ``(n, N)`` at one temperature."""

    train: Tensor
    validation: Tensor
    beta: float
    hamiltonian: Ising

    @property
    def shape(self) -> tuple[int, ...]:
        return self.hamiltonian.lattice.shape

    @property
    def even(self) -> bool:
        """Whether s and -s have the same energy."""
        return not self.hamiltonian.site_fields.any()

    def describe(self) -> dict[str, Any]:
        """The source of the configurations, for config.json."""
        return self.hamiltonian.describe()


def load(config: Training) -> Data:
    """The configurations of ``--data`` at the temperature asked for, or at the only one there is."""
    beta = beta_of(config.data, config.beta, config.temperature)
    device = pick_device(config.device)
    parts = [store.Configurations(config.data, split=split, beta=beta) for split in ("train", "validation")]
    train, validation = (torch.as_tensor(part.spins).to(device) for part in parts)
    return Data(train, validation, beta, restore(**store.hamiltonian(config.data)))


def couplings(data: Data) -> Tensor:
    r""":math:`\beta J` of all pairs of sites, ``(N, N)``, as autoregressive models start from."""
    unit = torch.eye(data.hamiltonian.lattice.n_sites)
    field = data.hamiltonian.local_field(unit) - data.hamiltonian.site_fields
    return (data.beta * field).float().to(data.train.device)


def bonds(lattice: Lattice, order: str) -> list[list[int]]:
    """Pairs of sites with a bond, numbered in an order of :mod:`physgen.orders`: what a frontier is told."""
    place = torch.argsort(orders.REGISTRY[order](lattice.shape))
    return place[lattice.edges.cpu()].tolist()


def schedule(config: Training, steps: int | None = None) -> dict[str, Any]:
    """Decay of the learning rate and start of the weight average, as the steps of physgen.train take them.

    Arguments:
        steps: Of the optimiser in question, where it does not make one at each of ``config.steps``.
    """
    steps = steps or config.steps
    factor = decay(steps, final=0.02, warm_up=min(50, steps // 20))
    first = round(steps * (1 - config.average))
    return {"schedule": factor, "average_from": first if config.average else None}


def batches_of(data: Data, config: Training) -> Batches:
    """Shuffled minibatches; with ``augment``, under those symmetries that the Hamiltonian has."""
    uniform = not isinstance(data.hamiltonian.J, Tensor) and not isinstance(data.hamiltonian.h, Tensor)
    symmetries = list(data.hamiltonian.lattice.symmetries) if config.augment and uniform else []
    if config.augment and data.even:
        symmetries.append("flip")
    device = data.train.device
    return Batches(
        data.train, config.batch, seed=config.seed, symmetries=symmetries, shape=data.shape, device=device
    )


def run(
    model: nn.Module,
    step: Step,
    data: Data,
    config: Training,
    validation: Callable[[Tensor], Tensor] | None = None,
    *,
    watch: Callable[[], dict[str, Any]] | None = None,
    batches: Batches | None = None,
    steps: int | None = None,
) -> None:
    """Trains on ``data``; see :func:`train`.

    Arguments:
        model, step, data, config: What is trained, how, on what.
        validation: Mean loss of unseen configurations, recorded next to the training metrics.
        watch: What else a record holds, numbers or lists of them; the progress bar shows the numbers. Its
            method ``resumed``, if any, is called once a checkpoint is restored.
        batches: In place of :func:`batches_of`.
        steps: In place of ``config.steps``, where that counts the steps of one stage of several.
    """

    def measure() -> dict[str, Any]:
        loss = {} if validation is None else {"validation_loss": _mean(validation, data.validation)}
        return loss | (watch() if watch is not None else {})

    batches = batches or batches_of(data, config)
    largest = WORST * data.train.shape[-1]
    resumed = getattr(watch, "resumed", None)
    manifest = _manifest(data, config)
    train(model, step, batches, config, manifest, measure, steps, largest=largest, resumed=resumed)
    log.info("%s: %d steps done; next: physgen compare --help", config.out, steps or config.steps)


def train(
    model: nn.Module,
    step: Step,
    batches: Stateful,
    config: Steps,
    manifest: dict[str, Any],
    measure: Callable[[], dict[str, Any]] = dict,
    steps: int | None = None,
    *,
    largest: float = math.inf,
    resumed: Callable[[], None] | None = None,
) -> None:
    """Trains, one JSON line and one checkpoint every ``config.every`` steps; resumes where asked.

    Arguments:
        batches: An endless iterator of them, with a state.
        manifest: What config.json holds; ``options`` are those of the command.
        measure: Further values to record, numbers or lists of them; the progress bar shows the numbers.
        steps: In place of ``config.steps``.
        largest: Magnitude of a loss from which on training counts as diverged.
        resumed: Called once a checkpoint is restored.
    """
    steps = steps or config.steps
    start = _start(model, step, batches, manifest, config)
    if start and resumed is not None:
        resumed()
    with progress_bar(config.quiet) as bar, (config.out / "metrics.jsonl").open("a") as metrics, safe(config):
        task = bar.add_task(config.out.name, total=steps, completed=start, note="")
        for record in fit(step, batches, steps=steps, every=config.every, start=start):
            for name, value in record.metrics.items():
                if name.endswith("loss") and abs(value) > largest:
                    raise diverged(f"at step {record.step} the {name.replace('_', ' ')} is {value:.3g}")
            values = dict(record.metrics) | measure()
            line = {"step": record.step, "seconds": round(record.seconds, 3)} | values
            metrics.write(json.dumps(line) + "\n")
            metrics.flush()
            checkpoint.save(config.out, model, step, batches, at=record.step)
            numbers = {name: value for name, value in values.items() if not isinstance(value, list)}
            note = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
            bar.update(task, completed=record.step, note=note)
    step.finish()
    checkpoint.save(config.out, model, step, batches, at=steps)
    write_json(config.out / "config.json", manifest | {"finished": True})


@contextmanager
def safe(config: Steps) -> Iterator[None]:
    """Turns Ctrl-C into one that says what is safe and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        again = [word for word in sys.argv[1:] if word != "--resume"]
        saved = checkpoint.latest(config.out) is not None
        state = f"The last checkpoint is safe in {config.out}" if saved else "No checkpoint was made yet"
        raise KeyboardInterrupt(
            f"{state}; continue with:\n  physgen {shlex.join(again + ['--resume'] * saved)}"
        ) from None


@torch.no_grad()
def _mean(loss: Callable[[Tensor], Tensor], spins: Tensor, rows: int = 1000) -> float:
    """Mean loss over all configurations, some rows at a time so that memory stays bounded."""
    return sum(float(loss(part)) * len(part) for part in spins.split(rows)) / len(spins)


def _manifest(data: Data, config: Training) -> dict[str, Any]:
    """What config.json holds: the options, the Hamiltonian and temperature of the data, versions."""
    return {
        "options": plain(config),
        "beta": data.beta,
        "model": data.describe(),
        "provenance": provenance(),
    }


def _start(model: nn.Module, step: Step, batches: Stateful, manifest: dict[str, Any], config: Steps) -> int:
    """Steps already done: 0 in a new folder, the checkpoint's with --resume; anything else is refused."""
    path = config.out / "config.json"
    done = checkpoint.latest(config.out)
    if done is None and config.resume:
        raise ValueError(f"{config.out} holds no checkpoint to resume; leave out --resume, or check --out")
    if done is None:
        write_json(path, manifest)
        (config.out / "metrics.jsonl").unlink(missing_ok=True)
        return 0
    if not config.resume:
        raise ValueError(
            f"{config.out} already holds the checkpoint {done.name}; add --resume to continue it, or choose "
            "another --out"
        )
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    before = json.loads(json.dumps(defaults, default=str))  # for options that are younger than the run
    before |= read_json(path)["options"]
    for name, value in plain(config).items():
        if name not in ("resume", "quiet", "out", "data") and before[name] != value:
            raise ValueError(
                f"{config.out} was trained with {name} = {before[name]!r}, not {value!r}; resume with the "
                "same options, or choose another --out"
            )
    start = checkpoint.restore(config.out, model, step, batches)
    records = [
        line
        for line in (config.out / "metrics.jsonl").read_text().splitlines(keepends=True)
        if line.endswith("\n") and json.loads(line)["step"] <= start
    ]
    (config.out / "metrics.jsonl").write_text("".join(records))
    return start
