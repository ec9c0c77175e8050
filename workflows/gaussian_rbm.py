"""Boltzmann machines of real numbers: a mixture of Gaussians, and the phi^4 field.

A machine of Gaussian visible units of learned width and hidden units of 0 and 1
is a mixture of exponentially many Gaussians. It is trained on points of a
mixture in the plane and on fields from hybrid Monte Carlo, then compared with
its data: density, histogram of phi, two-point function, moments, likelihood on
unseen data, exact by a sum over hidden states or annealed. For the free field
the most likely machine of Gaussian units on both sides is known in closed form;
with enough hidden units it must find the propagator.

The action S of a field is the sum over sites of half the squared differences to
the next sites, m^2 phi^2 / 2 and the coupling times phi^4; fields have the
density exp(-S) / Z. The table gives S / N, the action per site.

Example:

  physgen gaussian_rbm --out runs/gaussian
  physgen gaussian_rbm --L 6 --hidden 36 --steps 10000 --out runs/phi6
"""

import dataclasses
import logging
import math
import sys
from pathlib import Path
from typing import Any

import torch
from cyclopts import Parameter
from matplotlib.figure import Figure
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from ising import Estimate
from physgen import ais, gaussian_machine, models, plots
from physgen.energy import PersistentCD
from physgen.models.rbm import RBM
from physgen.nn import private_seed
from physgen.phi4 import Phi4, hybrid_monte_carlo, two_point
from physgen.rows import Rows
from physgen.train import decay, fit, gradient_step
from workflows._common import check_options, plain, progress_bar, provenance, write_json

log = logging.getLogger("physgen.gaussian_rbm")

CENTRES = ((-2.0, -1.0), (0.0, 2.0), (2.0, -1.0))  # of the mixture, with equal weights
WIDTH = 0.5  # of each of its Gaussians


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of ``physgen gaussian_rbm``."""

    L: int = 4
    """Side of the periodic square lattice."""
    mass2: float = -1.0
    """m^2 of the field with --coupling."""
    coupling: float = 0.5
    """Coefficient of phi^4."""
    free_mass2: float = 0.5
    """m^2 of the free field, which Gaussian hidden units learn exactly."""
    hidden: int = 16
    """Hidden units of the machine of the field; up to 20 its likelihood is exact."""
    mixture_hidden: int = 6
    """Hidden units of the machine of the mixture, at most 20: its density is exact."""
    chains: int = 500
    """Chains of hybrid Monte Carlo; a fifth of them is kept for the test."""
    samples: int = 20
    """Fields kept per chain."""
    steps: int = 5000
    """Gradient steps of each machine."""
    batch: int = 200
    """Rows per step, and persistent chains."""
    k: int = 5
    """Gibbs updates of the persistent chains per step."""
    lr: float = 5e-3
    """Learning rate at the start; it decays to 2 % as a half cosine."""
    seed: int = 0
    """Seed of everything."""
    out: Path = Path("runs/gaussian_rbm")
    """Folder of results.json and the plots."""
    quiet: bool = False
    """No progress bar."""

    SMOKE = {
        "L": 3,
        "hidden": 3,
        "mixture_hidden": 2,
        "chains": 50,
        "samples": 4,
        "steps": 4,
        "batch": 16,
        "quiet": True,
    }

    def __post_init__(self) -> None:
        check_options(self, folder=True)
        if self.chains < 10:
            raise ValueError(f"--chains must be at least 10, to keep two for the test, got {self.chains}")
        if self.mixture_hidden > 20:
            raise ValueError(
                f"--mixture-hidden is at most 20, so that the density is exact, got {self.mixture_hidden}"
            )
        rows, sites = (self.chains - self.chains // 5) * self.samples, self.L**2
        if rows < max(self.batch, 2 * sites):
            raise ValueError(
                f"{rows} fields to train on are fewer than --batch {self.batch} or two per site of {sites}; "
                "raise --chains or --samples"
            )


def main(*, config: Config = Config()) -> None:
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(private_seed(config.seed, 30))
    field = Phi4((config.L, config.L), config.mass2, config.coupling)
    free = Phi4((config.L, config.L), config.free_mass2)
    config.out.mkdir(parents=True, exist_ok=True)
    with progress_bar(config.quiet) as bar:
        task = bar.add_task("gaussian_rbm", total=3, note="mixture")
        results = {"mixture": mixture(config, generator)}
        bar.update(task, advance=1, note="phi^4")
        results["phi4"] = interacting(config, field, generator)
        bar.update(task, advance=1, note="free field")
        results["free"] = gaussian_gaussian(config, free, generator)
        bar.update(task, advance=1)
    write_json(config.out / "results.json", {"config": plain(config), "provenance": provenance()} | results)
    sys.stdout.write("\n".join(lines(results)) + "\n")
    log.info("%s holds results.json and the plots", config.out)


def trained(config: Config, rows: Tensor, shape: tuple[int, ...], hidden: int) -> RBM:
    """A machine of learned widths, by persistent chains that start at the data."""
    rbm = models.build("rbm", shape, hidden=hidden, visible="gaussian", learn_scale=True)
    rbm.centre(rows)
    loss = PersistentCD(rbm, rows, k=config.k, chains=config.batch, seed=config.seed)
    adam = torch.optim.Adam(rbm.parameters(), config.lr, betas=(0.0, 0.999))
    step = gradient_step(
        loss, adam, schedule=decay(config.steps, final=0.02), average_from=round(0.7 * config.steps)
    )
    fit(step, Rows(rows, config.batch, seed=config.seed), steps=config.steps)
    step.finish()
    return rbm


@torch.no_grad()
def likelihood(rbm: RBM, rows: Tensor, generator: torch.Generator) -> tuple[Estimate, str]:
    """Mean log-likelihood of rows ``(n, D)`` or of chains, nats, its error, and how log Z was found."""
    exactly = rbm.enumerable
    log_z = Estimate(rbm.log_partition(), 0.0) if exactly else ais.log_partition(rbm, generator=generator)
    mean = chain_mean(-rbm.distribution(torch.float64).free_energy(rows.double()))
    found = Estimate(mean.mean - log_z.mean, math.hypot(mean.error, log_z.error))
    return found, "exact" if exactly else "annealed"


def mixture(config: Config, generator: torch.Generator) -> dict[str, Any]:
    """Three Gaussians in the plane; the entropy of their law is the best that a model can do."""
    n = config.chains * config.samples
    train, test = draw(n, generator), draw(n, generator)
    rbm = trained(config, train, (2,), config.mixture_hidden)
    found, how = likelihood(rbm, test, generator)
    log_p = true_log_prob(test)
    best = Estimate(float(log_p.mean()), float(log_p.std() / n**0.5))
    gap = log_p.double() + rbm.distribution(torch.float64).free_energy(test.double()).detach()
    gap = gap + rbm.log_partition()
    draw_mixture(config, rbm, test)
    return {
        "log_likelihood": pair(found),
        "how": how,
        "true_law": pair(best),
        "kl": pair(Estimate(float(gap.mean()), float(gap.std() / n**0.5))),
        "scale": rbm.log_scale.exp().tolist(),
    }


def draw(n: int, generator: torch.Generator) -> Tensor:
    """Points of the mixture, ``(n, 2)``."""
    chosen = torch.randint(len(CENTRES), (n,), generator=generator)
    return torch.tensor(CENTRES)[chosen] + WIDTH * torch.randn(n, 2, generator=generator)


def true_log_prob(points: Tensor) -> Tensor:
    """Log-density of the mixture, ``(n, 2)`` to ``(n,)``."""
    distance = ((points.unsqueeze(1) - torch.tensor(CENTRES)) ** 2).sum(-1) / (2 * WIDTH**2)
    return (-distance).logsumexp(-1) - math.log(len(CENTRES) * 2 * math.pi * WIDTH**2)


def interacting(config: Config, model: Phi4, generator: torch.Generator) -> dict[str, Any]:
    """The field with coupling: a machine beside its data, and beside a Gaussian of the same covariance."""
    fields, accepted = hybrid_monte_carlo(model, config.chains, config.samples, generator)
    kept = config.chains // 5
    train, test = fields[kept:].flatten(0, 1).float(), fields[:kept]
    rbm = trained(config, train, model.shape, config.hidden)
    found, how = likelihood(rbm, test, generator)
    gaussian = MultivariateNormal(train.double().mean(0), train.double().T.cov())
    drawn = rbm.sample(fields[..., 0].numel()).double()
    draw_field(config, model, fields, drawn)
    return {
        "accepted": accepted,
        "log_likelihood": pair(found),
        "how": how,
        "one_gaussian": pair(chain_mean(gaussian.log_prob(test))),
        "observables": {
            name: {"monte_carlo": pair(chain_mean(f(fields))), "machine": pair(chain_mean(f(drawn)))}
            for name, f in observables(model).items()
        },
        "scale": rbm.log_scale.exp().tolist(),
    }


def observables(model: Phi4) -> dict[str, Any]:
    """Of fields ``(*, N)``, each ``(*,)``."""
    return {
        "<phi^2>": lambda x: x.square().mean(-1),
        "<phi^4>": lambda x: (x**4).mean(-1),
        "<|mean phi|>": lambda x: x.mean(-1).abs(),
        "nearest neighbours": lambda x: two_point(x, model.shape)[..., 1],
        "S / N": lambda x: model.action(x.reshape(-1, *model.shape)).reshape(x.shape[:-1]) / x.shape[-1],
    }


def chain_mean(values: Tensor) -> Estimate:
    """Of ``(chains, n)`` with errors between chains, or of ``(n,)`` independent values."""
    means = values.mean(-1) if values.dim() == 2 else values
    return Estimate(float(means.mean()), float(means.std() / len(means) ** 0.5))


def gaussian_gaussian(config: Config, model: Phi4, generator: torch.Generator) -> dict[str, Any]:
    """Gaussian units on both sides: the most likely machine for rising numbers of hidden units.

    With one fewer than sites it holds the covariance of its data; what is left then is the error of
    estimating N (N + 1) / 2 covariances from n independent fields, N (N + 1) / 4n nats on average.
    """
    propagator, n = model.propagator(), config.chains * config.samples
    N = len(propagator)
    rows = torch.randn(n, N, dtype=torch.float64, generator=generator) @ torch.linalg.cholesky(propagator).T
    covariance = rows.T @ rows / n  # the mean is zero by symmetry
    truth = MultivariateNormal(rows.new_zeros(N), propagator)
    sizes = sorted({*(2**i for i in range(N.bit_length()) if 2**i < N), N - 1})
    laws = {H: gaussian_machine.marginal(gaussian_machine.most_likely(covariance, H)) for H in sizes}
    kl = {H: float(kl_divergence(truth, law)) for H, law in laws.items()}
    expected = N * (N + 1) / (4 * n)
    draw_free(config, model, {"data": covariance, **_covariances(laws, N)}, kl, expected)
    return {"kl_from_the_free_field": kl, "expected_kl_of_a_full_covariance": expected}


def _covariances(laws: dict[int, MultivariateNormal], N: int) -> dict[str, Tensor]:
    return {f"{H} hidden units": laws[H].covariance_matrix for H in (1, N - 1)}


def pair(estimate: Estimate) -> list[float]:
    """As results.json holds it: mean and standard error."""
    return [estimate.mean, estimate.error]


def lines(results: dict[str, Any]) -> list[str]:
    """The table on the screen."""
    mixed, field, free = results["mixture"], results["phi4"], results["free"]
    text = [
        "log-likelihood of unseen data, nats",
        f"  mixture    machine {Estimate(*mixed['log_likelihood'])} ({mixed['how']})   "
        f"true law {Estimate(*mixed['true_law'])}   KL {Estimate(*mixed['kl'])}",
        f"  phi^4      machine {Estimate(*field['log_likelihood'])} ({field['how']})   "
        f"one Gaussian {Estimate(*field['one_gaussian'])}",
        "KL of the most likely Gaussian-Gaussian machine from the free field, nats: "
        + ", ".join(f"{H} hidden units {kl:.4g}" for H, kl in free["kl_from_the_free_field"].items())
        + f"; expected of a full covariance {free['expected_kl_of_a_full_covariance']:.4g}",
        "",
        f"{'phi^4':20}  {'Monte Carlo':>14}  {'machine':>14}      z",
    ]
    for name, both in field["observables"].items():
        data, machine = Estimate(*both["monte_carlo"]), Estimate(*both["machine"])
        text.append(f"{name:20}  {data!s:>14}  {machine!s:>14}  {machine.z(data):+5.1f}")
    return text


@torch.no_grad()
def draw_mixture(config: Config, rbm: RBM, points: Tensor) -> None:
    """``mixture.png``: the densities of the machine and of the mixture over points of the test."""
    axis = torch.linspace(-4.5, 4.5, 181, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    log_p = -rbm.distribution(torch.float64).free_energy(grid) - rbm.log_partition()
    figure = Figure(figsize=(5.6, 4.8), layout="constrained")
    ax = figure.subplots()
    shown = points[:1000].numpy()
    ax.plot(*shown.T, ".", color="0.75", markersize=2, label="test points", zorder=1)
    true, found = (x.exp().reshape(181, 181).T for x in (true_log_prob(grid), log_p))
    levels = (0.02, 0.06, 0.10, 0.14, 0.18)
    ax.contour(axis, axis, true, levels, colors="black", linestyles=":", linewidths=1.2, zorder=3)
    drawn = ax.contour(axis, axis, found, levels, cmap="viridis", zorder=2)
    figure.colorbar(drawn, label="density of the machine")
    ax.plot([], [], ":", color="black", label="true, at the same densities")
    ax.set_xlabel("x$_1$")
    ax.set_ylabel("x$_2$")
    ax.set_aspect("equal")
    ax.legend(fontsize="small", frameon=False)
    figure.savefig(config.out / "mixture.png", dpi=130)


def draw_field(config: Config, model: Phi4, fields: Tensor, drawn: Tensor) -> None:
    """``phi4.png``: histogram of phi and two-point function, errors between chains and over draws."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    edges = torch.linspace(float(fields.min()), float(fields.max()), 41, dtype=torch.float64)
    middle, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    distances = range(config.L // 2 + 1)
    looks = (("hybrid Monte Carlo", plots.MONTE_CARLO, "o"), ("machine", plots.PALETTE[0], "s"))
    for (label, colour, marker), x in zip(looks, (fields, drawn), strict=True):
        place = torch.bucketize(x, edges).clamp(1, 40) - 1
        shares = torch.stack([(place == i).double().mean(-1) for i in range(40)], -1)
        style = {"fmt": marker, "color": colour, "markersize": 3.5, "capsize": 2, "label": label}
        values_of = ((left, middle, shares / width), (right, distances, two_point(x, model.shape)))
        for ax, where, values in values_of:
            found = [chain_mean(values[..., i]) for i in range(values.shape[-1])]
            ax.errorbar(where, [e.mean for e in found], [e.error for e in found], **style)
    left.set_xlabel("field φ at a site")
    left.set_ylabel("probability density")
    right.set_xlabel("distance r  (lattice spacings)")
    right.set_ylabel("⟨φ$_0$ φ$_r$⟩")
    right.set_xticks(list(distances))
    left.set_title(f"m² = {model.mass2:g}, λ = {model.coupling:g}", fontsize="medium")
    left.legend(fontsize="small", frameon=False)
    figure.savefig(config.out / "phi4.png", dpi=130)


def draw_free(
    config: Config, model: Phi4, covariances: dict[str, Tensor], kl: dict[int, float], expected: float
) -> None:
    """``free.png``: covariances of all pairs of sites against the propagator; KL against hidden units."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    exactly = model.propagator().flatten()
    left.plot(exactly, exactly, "-", color=plots.EXACT, label="exact")
    looks = (("o", plots.MONTE_CARLO), ("^", plots.PALETTE[1]), (".", plots.PALETTE[0]))
    for (label, covariance), (marker, colour) in zip(covariances.items(), looks, strict=True):
        left.plot(exactly, covariance.flatten(), marker, color=colour, mfc="none", markersize=5, label=label)
    left.set_xlabel("propagator of the free field")
    left.set_ylabel("⟨φ$_x$ φ$_y$⟩")
    left.legend(fontsize="small", frameon=False)
    right.plot(list(kl), list(kl.values()), "o-", color=plots.PALETTE[0])
    right.axhline(expected, color=plots.EXACT, linestyle=":", label="expected of a full covariance")
    right.set_xscale("log", base=2)
    right.set_yscale("log")
    right.set_xticks(list(kl), [str(H) for H in kl])
    right.set_xlabel("Gaussian hidden units")
    right.set_ylabel("KL(free field ‖ machine), nats")
    right.legend(fontsize="small", frameon=False)
    figure.savefig(config.out / "free.png", dpi=130)
