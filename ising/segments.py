"""What a simulation yields while it runs: its settings, segments of samples, and the run they join to."""

import math
import platform
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from . import stats, updates
from .equilibrium import NotEquilibrated, centred, halves_z
from .kernels.bits import unpack
from .run import Run

TAU_WINDOW = 2**20  # samples, of all chains, from which an autocorrelation time is measured


@dataclass(frozen=True)
class Settings:
    """Everything that determines the samples, all resolved; plain values, as they are written to files.

    Attributes:
        model: The Hamiltonian, as :meth:`ising.model.Ising.describe` gives it.
        shape: Sites along each axis.
        beta: Inverse temperature.
        update: Name of the update rule, the one that was chosen if ``auto`` was asked for.
        samples: Samples per chain.
        chains: Independent chains.
        start: ``random`` or ``ordered``.
        seed: Seed of all random numbers.
        device: Where the spins live.
        kernel: The form of the update that was taken, by its name in :mod:`ising.kernels`.
        burn_in: Sweeps before the first sample, the pilot included.
        thin: Sweeps between samples.
        tau: Integrated autocorrelation time found by the pilot, in sweeps, the larger of E and |M|; or None.
        drift: Distance between the two parts of the pilot's second half, in standard errors; or None.
        burn_in_asked: The argument ``burn_in``, before the pilot added to it; None if it was left out.
        measured: What ``auto`` measured: for each update its tau in sweeps and its independent samples per
            second, ``{"wolff": [4.1, 130000.0], …}``; None if the update was named.
    """

    model: dict[str, object]
    shape: tuple[int, ...]
    beta: float
    update: str
    samples: int
    chains: int
    start: str
    seed: int
    device: str
    kernel: str
    burn_in: int
    thin: int
    tau: float | None = None
    drift: float | None = None
    burn_in_asked: int | None = None
    measured: dict | None = None


@dataclass(frozen=True, eq=False)
class Segment:
    """Consecutive samples of all chains, and the state of the sampler after them.

    Attributes:
        index: Number of the segment, from 0.
        first: Number of its first sample.
        bits: The configurations packed, uint8, shape ``(chains, n, ceil(N/8))``; see :attr:`spins`.
        energies: Total energies, float64, shape ``(chains, n)``.
        magnetisations: Total magnetisations, float64, shape ``(chains, n)``.
        settings: What determines the samples.
        state: Spins and random number generators after the last sample, and the summed acceptance.
        done: Whether this is the last segment.
    """

    index: int
    first: int
    bits: np.ndarray
    energies: np.ndarray
    magnetisations: np.ndarray
    settings: Settings
    state: dict[str, np.ndarray]
    done: bool

    @property
    def samples(self) -> int:
        """Samples per chain."""
        return self.bits.shape[1]

    @property
    def spins(self) -> np.ndarray:
        """int8, ±1, shape ``(chains, n, N)``; unpacked at each access."""
        return unpack(self.bits, math.prod(self.settings.shape))


def join(segments: Iterable[Segment]) -> Run:
    """One run from all segments of a stream, from the first to the last.

    Warns:
        NotEquilibrated: If the first and the last half of the samples disagree.
    """
    parts = list(segments)
    if not parts or [p.first for p in parts] != np.cumsum([0] + [p.samples for p in parts])[:-1].tolist():
        raise ValueError(
            f"a run needs all its segments in order, got those starting at {[p.first for p in parts]}"
        )
    settings = parts[-1].settings
    bits, energies, magnetisations = (
        np.concatenate([getattr(p, name) for p in parts], axis=1)
        for name in ("bits", "energies", "magnetisations")
    )
    drift = max(abs(halves_z(x)) for x in (energies, np.abs(magnetisations)))
    if drift > 5:
        warnings.warn(
            f"the first and the last half of the samples differ by {drift:.1f} standard errors at beta = "
            f"{settings.beta:g}; raise burn_in, or take a cluster update or another start",
            NotEquilibrated,
            stacklevel=2,
        )
    flipped, sweeps = parts[-1].state["acceptance"]
    provenance: dict[str, str | float | int] = {
        "kernel": settings.kernel,
        "device": settings.device,
        "start": settings.start,
        "acceptance": float(flipped / sweeps),
        "drift": drift,
        "tau_stored_samples": _tau(settings.update, energies, magnetisations),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
    }
    if settings.tau is not None:
        provenance |= {"pilot_tau_sweeps": settings.tau, "pilot_drift": float(settings.drift or 0.0)}
    for update, (tau, rate) in (settings.measured or {}).items():
        provenance |= {f"auto_{update}_tau_sweeps": tau, f"auto_{update}_independent_per_second": rate}
    described = {
        name: getattr(settings, name) for name in ("model", "beta", "update", "seed", "burn_in", "thin")
    }
    return Run(
        **described,
        shape=tuple(settings.shape),
        bits=bits,
        energies=energies,
        magnetisations=magnetisations,
        provenance=provenance,
    )


def _tau(update: str, energies: np.ndarray, magnetisations: np.ndarray) -> float:
    """The larger tau_int of E and |M|, in samples, from as many chains as fit into the window."""
    enough = slice(max(1, TAU_WINDOW // energies.shape[1]))
    series = [energies[enough], np.abs(magnetisations[enough])]
    if updates.conserves_magnetisation(update):
        series = [centred(x) for x in series]
    return max(stats.tau_int(x) for x in series)
