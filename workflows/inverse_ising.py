"""Infer couplings and fields from stored configurations, and compare them with the true ones.

All pairs of sites are candidates. By pseudo-likelihood, pairs whose coupling
cannot be told from zero are dropped and the others estimated again; --select 0
keeps all pairs. The relative error is

  sqrt(sum (J - J0)^2 / sum J0^2)

over all pairs of sites, J0 the couplings of the Hamiltonian in the file.

Example:

  physgen simulate --L 8 --temperature 3 --samples 100 --chains 500 \\
    --out data/square8.h5
  physgen inverse_ising --data data/square8.h5 --out runs/inverse
"""

import dataclasses
import logging
import math
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np
from cyclopts import Parameter
from matplotlib.figure import Figure

from ising import Estimate, Ising, store
from ising.model import restore
from physgen import inverse
from physgen.plots import EXACT, PALETTE
from workflows._common import beta_of, plain, provenance, write_json

log = logging.getLogger("physgen.inverse_ising")


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of ``physgen inverse_ising``."""

    data: Path = Path("data/ising.h5")
    """HDF5 file of `physgen simulate`."""
    beta: float | None = None
    """Inverse temperature of the configurations; needed if the file holds several."""
    temperature: float | None = None
    """Temperature instead of --beta."""
    method: Literal[tuple(inverse.METHODS)] = "pseudo-likelihood"  # type: ignore[valid-type]
    """How to infer; exact is for at most 20 sites."""
    select: float = 0.01
    """Expected share of false pairs among those kept; 0 keeps all pairs."""
    out: Path = Path("runs/inverse")
    """Folder of results.json and inverse_ising.png."""

    def __post_init__(self) -> None:
        if not 0 <= self.select < 1:
            raise ValueError(f"--select is a share from 0 to below 1, got {self.select}")


def main(*, config: Config = Config()) -> None:
    run = next(store.runs(config.data, beta=beta_of(config.data, config.beta, config.temperature)))
    options = {"select": config.select or None} if config.method == "pseudo-likelihood" else {}
    found = inverse.infer(run.spins, config.method, **options).divided(run.beta)
    true = restore(**run.model)
    J = couplings(true)
    results = assess(found, J, true.site_fields.numpy()) | {"configurations": run.chains * run.samples}
    sys.stdout.write("\n".join(f"{name}: {value}" for name, value in results.items()) + "\n")
    i, j = np.triu_indices(len(J), 1)
    pairs = {
        "i": i.tolist(),
        "j": j.tolist(),
        "J": found.J[i, j].tolist(),
        "J_error": known(found.J_error[i, j]),
        "J_true": J[i, j].tolist(),
    }
    fields = {"h": found.h.tolist(), "h_error": known(found.h_error)}
    about = {"config": plain(config), "provenance": provenance(), "model": run.model, "beta": run.beta}
    write_json(config.out / "results.json", about | results | {"pairs": pairs} | fields)
    draw(found, J, results).savefig(config.out / "inverse_ising.png", dpi=150)
    log.info("%s holds results.json and inverse_ising.png", config.out)


def known(values: np.ndarray) -> list[float | None]:
    """Numbers for JSON, None for those that are not known."""
    return [x if math.isfinite(x) else None for x in values.tolist()]


def couplings(model: Ising) -> np.ndarray:
    """True couplings of all pairs, ``(N, N)``."""
    J = np.zeros((model.lattice.n_sites,) * 2)
    i, j = model.lattice.edges.numpy().T
    np.add.at(J, (i, j), model.bond_couplings.numpy())
    return J + J.T


def assess(found: inverse.Couplings, J: np.ndarray, h: np.ndarray) -> dict[str, Any]:
    """How far the inferred couplings are from the true ones."""
    i, j = np.triu_indices(len(J), 1)
    bond, error = J[i, j] != 0, found.J_error[i, j]
    z = (found.J - J)[i, j] / np.where(error > 0, error, np.nan)
    z = z[bond & np.isfinite(z)]
    return {
        "method": found.method,
        "relative_error": found.relative_error(J),
        "bonds": int(bond.sum()),
        "bonds_found": int((found.J[i, j][bond] != 0).sum()),
        "other_pairs_kept": int((found.J[i, j][~bond] != 0).sum()),
        "within_one_error": float((abs(z) < 1).mean()) if len(z) else None,
        "largest_field_difference": float(abs(found.h - h).max()),
    }


def draw(found: inverse.Couplings, J: np.ndarray, results: dict[str, Any]) -> Figure:
    """Inferred against true couplings, and what was inferred where there is no bond."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    i, j = np.triu_indices(len(J), 1)
    bond, values, errors = J[i, j] != 0, found.J[i, j], np.nan_to_num(found.J_error[i, j])
    order = np.argsort(J[i, j][bond], kind="stable")
    true, inferred, error = (x[bond][order] for x in (J[i, j], values, errors))
    each = len(np.unique(true)) > len(true) / 2  # has a coupling of its own
    x = true if each else 1.0 + np.arange(len(true))
    left.errorbar(x, inferred, error, fmt=".", color=PALETTE[0], linewidth=0.7, label="inferred")
    steps = "default" if each else "steps-mid"
    left.plot(x, true, color=EXACT, linewidth=1.5, drawstyle=steps, label="true")
    left.set(xlabel="true coupling of a bond" if each else "number of the bond, by its true coupling")
    left.set(ylabel="coupling of a bond  (J)")
    left.legend(fontsize="small", frameon=False)
    left.set_title(f"relative error {results['relative_error']:.3g} over all pairs", fontsize="medium")
    kept = values[~bond]
    zero = int((kept == 0).sum())
    widest = 1.05 * abs(kept).max(initial=1e-3)
    right.hist(kept, bins=41, range=(-widest, widest), color=PALETTE[1], log=True)
    right.set(xlabel="inferred coupling where there is no bond  (J)", ylabel="pairs", ylim=(0.5, None))
    mean = Estimate(float(kept.mean()), float(kept.std() / max(len(kept), 1) ** 0.5))
    right.set_title(f"{len(kept)} pairs, {zero} of them set to 0; mean {mean}", fontsize="medium")
    return figure
