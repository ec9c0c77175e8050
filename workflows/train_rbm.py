"""Train a restricted Boltzmann machine on spin configurations.

The defaults are a recipe that needs no tuning (physgen/recipe.py): centred
parameters, persistent chains, a rate that follows from the size and decays,
averaged weights; small machines with --tied follow natural gradients. Every
record in metrics.jsonl holds

  pseudo_likelihood   mean log p(spin | all others), nats per spin: rises
  log_likelihood      mean log p of unseen data, nats per site, with Z by
                      enumeration where possible, else by annealed importance
                      sampling; left out where that cannot be trusted
  gap                 free energy of unseen minus training data with its
                      error: growing = overfitting
  stuck, distinct     autocorrelation of the chains since the last record, and
                      share of different ones: 1 and small = chains are stuck
  abs_m_chains        mean |m| of the chains; abs_m_data is that of the data

and the loss, which is a contrast of energies and says nothing by itself. At
the end receptive_fields.png, chains.png, spectrum.png and metrics.png are
drawn into --out. The likelihood against the exact law and all observables:
physgen compare.

Which machine? Where every site is the same, --tied --hidden 3 --steps 3000: at
L = 8 and T_c its C and chi are within 1 % of the exact ones.

Which trainer?
  pcd         persistent chains: the default, right for most data
  tempered    exchange with hotter chains: where the data have modes that
              chains cannot cross between; costs --levels times as much
  trajectory  exchange with earlier machines of the same training, likewise
  fast        persistent chains pushed on by fast weights; cheap, less exact
  cd          chains restarted at the data: fast, biased
  exact       no chains: sums over all states of a layer of at most 20 binary
              units

Example:

  physgen train_rbm --data data/square16.h5 --temperature 2.269 --hidden 128
  physgen train_rbm --data data/square16.h5 --temperature 2.269 --tied \\
    --hidden 2 --steps 1000 --out runs/tied
  physgen train_rbm --data data/square4.h5 --temperature 2.27 --hidden 16 \\
    --trainer exact --out runs/exact
  physgen train_rbm --data data/square16.h5 --temperature 1.8 \\
    --trainer tempered --levels 12 --out runs/tempered
"""

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any, Literal

import torch
from matplotlib.figure import Figure
from torch import Tensor

from physgen import ais, machine_plots, models
from physgen.energy import (
    ChainHealth,
    ContrastiveDivergence,
    ExactLikelihood,
    FastPCD,
    Penalised,
    PersistentCD,
    TemperedPCD,
    TrajectoryPCD,
    free_energy_gap,
    pseudo_likelihood,
)
from physgen.models.rbm import RBM
from physgen.nn import private_seed
from physgen.recipe import chains_of, rbm_step
from workflows import _training

ENUMERATED = 2**16  # states of a layer up to which Z is summed at every record
SHOWN = 16  # singular values in a record


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(_training.Training):
    """Options of ``physgen train_rbm``."""

    hidden: int = 64
    """Hidden units; with --tied, hidden units per site."""
    hidden_units: str = "bernoulli"
    """Their kind: bernoulli (0 and 1), spin, softmax:3, binomial:4, gaussian or relu."""
    steps: int = 8000
    """Gradient steps; with --tied 1000 to 3000 do."""
    tied: bool = False
    """Repeat each hidden unit at every site of the torus: a law invariant under translations."""
    trainer: Literal["pcd", "cd", "fast", "tempered", "trajectory", "exact"] = "pcd"
    """Where the gradient comes from; see below."""
    k: int | None = None
    """Gibbs sweeps of the chains per gradient step; default 4; with --tied 16, or 8 for large machines."""
    chains: int | None = None
    """Persistent chains, which start from the data; default 256, with --tied 512."""
    levels: int = 8
    """Temperatures of the tempered trainer; the ladder adapts by itself."""
    batch: int = 256
    """Configurations per step."""
    lr: float | None = None
    """Rate of Adam at the start; default 0.16 / sqrt(N) for N spins; see physgen/recipe.py for --tied."""
    l1: float = 0.0
    """Weight decay towards zeros: this times the sum of |W|, nats."""
    l2: float = 0.0
    """Weight decay: half of this times the sum of W squared, nats."""
    sparsity: float | None = None
    """Wanted mean of hidden units of 0 and 1; default none."""
    largest: float | None = None
    """Largest norm of the weights of a hidden unit; default none."""
    likelihood: bool = True
    """Estimate the likelihood at every record; --no-likelihood saves the time."""
    out: Path = Path("runs/rbm")
    """Folder of the results: config.json, metrics.jsonl, checkpoints, figures."""

    SMOKE = {"hidden": 4, "chains": 20, "steps": 4, "every": 2, "batch": 16, "quiet": True}

    def __post_init__(self) -> None:
        super().__post_init__()
        unused = {"k": self.trainer == "exact", "chains": self.trainer in ("cd", "exact")}
        unused["levels"] = self.trainer != "tempered"
        for name, without in unused.items():
            if without and getattr(self, name) != getattr(Config, name):
                raise ValueError(
                    f"--{name} has no effect with --trainer {self.trainer}; leave one of them out"
                )


def main(*, config: Config = Config()) -> None:
    torch.manual_seed(config.seed)
    data = _training.load(config)
    if config.tied and "translation" not in data.hamiltonian.lattice.symmetries:
        raise ValueError("--tied needs a lattice that is the same at every site; leave it out here")
    symmetric = data.even and config.hidden_units == "bernoulli"
    rbm = models.build(
        "rbm",
        data.shape,
        hidden=config.hidden,
        hidden_units=config.hidden_units,
        tied=config.tied,
        symmetric=symmetric,
    ).to(data.train.device)
    rbm.centre(data.train)  # before the loss, which may keep copies of the machine
    loss = trainer(rbm, data.train, config)
    step = rbm_step(
        rbm, data.train, steps=config.steps, loss=loss, lr=config.lr, average=config.average, seed=config.seed
    )
    _training.run(rbm, step, data, config, watch=Watch(rbm, loss, data, config))
    draw(rbm, loss, data, config.out)


def trainer(rbm: RBM, data: Tensor, config: Config) -> Any:
    """The loss that ``--trainer`` names, with the penalties asked for."""
    persistent = {"start": data, "seed": config.seed, **chains_of(rbm)}
    persistent |= {name: n for name, n in (("k", config.k), ("chains", config.chains)) if n is not None}
    make = {
        "pcd": lambda: PersistentCD(rbm, **persistent),
        "cd": lambda: ContrastiveDivergence(rbm, persistent["k"], seed=config.seed),
        "fast": lambda: FastPCD(rbm, **persistent),
        "tempered": lambda: TemperedPCD(rbm, **persistent, levels=config.levels),
        "trajectory": lambda: TrajectoryPCD(rbm, **persistent),
        "exact": lambda: ExactLikelihood(rbm),
    }
    if config.trainer == "exact" and not rbm.enumerable:
        raise ValueError("--trainer exact sums over at most 20 binary units; lower --hidden, or take pcd")
    loss = make[config.trainer]()
    if not (config.l1 or config.l2 or config.sparsity is not None or config.largest is not None):
        return loss
    penalties = {name: getattr(config, name) for name in ("l1", "l2", "sparsity", "largest")}
    return Penalised(loss, rbm, **penalties)


class Watch:
    """What a record says about the machine, on top of the metrics of the step."""

    def __init__(self, rbm: RBM, loss: Any, data: _training.Data, config: Config):
        self.rbm, self.loss, self.data, self.config = rbm, getattr(loss, "loss", loss), data, config
        self.health = ChainHealth()

    def resumed(self) -> None:
        """The chains are those of the last record, with which the next one compares its own."""
        if hasattr(self.loss, "chains"):
            self.health(self.loss.chains)

    @torch.no_grad()
    def __call__(self) -> dict[str, Any]:
        law, unseen = self.rbm.distribution(), self.data.validation[:2000].float()
        generator = torch.Generator(unseen.device).manual_seed(private_seed(self.config.seed, 4))
        found = {}
        gap = free_energy_gap(law, self.data.train[: len(unseen)].float(), unseen)
        pseudo = pseudo_likelihood(law, unseen, sites=min(16, self.rbm.n_sites), generator=generator)
        for name, estimate in {"gap": gap, "pseudo_likelihood": pseudo}.items():
            found |= {name: estimate.mean, f"{name}_error": estimate.error}
        if self.config.likelihood:
            found |= self._likelihood(unseen, generator)
        chains = getattr(self.loss, "chains", None)
        if chains is not None:
            found |= self.health(chains)
            found["abs_m_chains"] = float(chains.mean(-1).abs().mean())
            found["abs_m_data"] = float(unseen.mean(-1).abs().mean())
        for name in ("rejection", "copies"):
            if hasattr(self.loss, name):
                value = getattr(self.loss, name)
                found[name] = len(value) if name == "copies" else value.tolist()
        singular = torch.linalg.svdvals(law.weight)[:SHOWN]
        return found | {"singular_values": [round(x, 5) for x in singular.tolist()]}

    def _likelihood(self, unseen: Tensor, generator: torch.Generator) -> dict[str, float]:
        law, N = self.rbm.distribution(torch.float64), self.rbm.n_sites
        free = law.free_energy(unseen.double())
        error = float(free.std()) / len(free) ** 0.5
        if min(law.visible_units.n_states, law.hidden_units.n_states) <= ENUMERATED:
            log_z, of_z = float(law.log_partition()), 0.0
        else:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", ais.UnevenWeights)
                estimate = ais.log_partition(self.rbm, chains=100, temperatures=300, generator=generator)
            if caught:
                return {}
            log_z, of_z = estimate.mean, estimate.error
        return {
            "log_likelihood": (-float(free.mean()) - log_z) / N,
            "log_likelihood_error": (error**2 + of_z**2) ** 0.5 / N,
        }


def draw(rbm: RBM, loss: Any, data: _training.Data, out: Path) -> None:
    """The figures of a finished training, from the machine, its chains and metrics.jsonl."""
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    with torch.no_grad():
        figure = Figure(figsize=(7, 7), dpi=120)
        machine_plots.receptive_fields(figure, rbm.W.detach(), data.shape).savefig(
            out / "receptive_fields.png"
        )
        chains = getattr(getattr(loss, "loss", loss), "chains", None)
        chains = rbm.sample(64) if chains is None else chains
        figure = Figure(figsize=(7, 7), dpi=120)
        machine_plots.chains(figure, chains, data.shape).savefig(out / "chains.png")
    figure = Figure(figsize=(5, 3.5), dpi=120, layout="constrained")
    steps = [record["step"] for record in records]
    values = [record["singular_values"] for record in records]
    machine_plots.spectrum(figure.subplots(), steps, values)
    figure.savefig(out / "spectrum.png")
    metrics(records).savefig(out / "metrics.png")


def metrics(records: list[dict[str, Any]]) -> Figure:
    """All curves that there are, each with its error bars."""
    names = [name for name in machine_plots.LABELS if any(name in record for record in records)]
    figure = Figure(figsize=(9, 2.4 * -(-len(names) // 2)), dpi=120, layout="constrained")
    for ax, name in zip(figure.subplots(-(-len(names) // 2), 2, squeeze=False).flat, names, strict=False):
        there = [record for record in records if name in record]
        errors = [record[f"{name}_error"] for record in there if f"{name}_error" in record]
        machine_plots.curve(ax, [r["step"] for r in there], [r[name] for r in there], name, errors)
        if name == "abs_m_chains":
            ax.axhline(there[-1]["abs_m_data"], color="#888888", ls="--", lw=1, label="data")
            ax.legend(frameon=False, fontsize="small")
    for ax in figure.axes[len(names) :]:
        ax.set_visible(False)
    return figure
