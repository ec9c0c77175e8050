"""Runs as labelled arrays for xarray and ArviZ, whose InferenceData is an xarray DataTree by now.

Needs the extra ``stats``: ``pip install 'physgen[stats]'``.
"""

import json
import math
from typing import TYPE_CHECKING

import numpy as np

from .run import Run

if TYPE_CHECKING:
    import xarray


def inference_data(run: Run, *, spins: bool = True) -> "xarray.DataTree":
    """A run as ArviZ takes it, group ``posterior`` with dimensions (chain, draw) first.

    =================  ================================  =============================================
    variable           dimensions                        meaning
    =================  ================================  =============================================
    ``energy``         chain, draw                       total energy E, each bond once, units of J
    ``magnetisation``  chain, draw                       total magnetisation M
    ``e, m, abs_m``    chain, draw                       E, M and the absolute value of M per site
    ``spins``          chain, draw, one per axis: x, y   int8, -1 or +1
    =================  ================================  =============================================

    Coordinates: ``chain`` and ``draw`` from 0, ``sweep`` along draw (since the start, burn-in included), and
    sites along x, y, z. Attributes: the Hamiltonian and the provenance as JSON, beta, update, seed,
    burn_in, thin. ``to_netcdf(path, engine="h5netcdf")`` writes what ``arviz.from_netcdf`` reads.

    Arguments:
        run: Of :func:`ising.simulate.simulate` or :mod:`ising.store`.
        spins: Whether to include the configurations, N bytes each.

    Example:
        >>> from ising import Ising, lattices, simulate
        >>> run = simulate(Ising(lattices.square(4)), beta=0.4, samples=5, burn_in=9, thin=2)
        >>> dict(inference_data(run)["posterior"].sizes)
        {'chain': 64, 'draw': 5, 'x': 4, 'y': 4}
    """
    xr = _xarray()
    n_sites, axes = math.prod(run.shape), _axis_names(len(run.shape))
    chains, samples = run.energies.shape
    units = {"energy": "J", "magnetisation": "1", "e": "J", "m": "1", "abs_m": "1"}
    about = {
        "energy": ("total energy, each bond once", run.energies),
        "magnetisation": ("total magnetisation", run.magnetisations),
        "e": ("energy per site", run.energies / n_sites),
        "m": ("magnetisation per site", run.magnetisations / n_sites),
        "abs_m": ("absolute magnetisation per site", np.abs(run.magnetisations) / n_sites),
    }
    variables = {
        name: (("chain", "draw"), values, {"units": units[name], "long_name": text})
        for name, (text, values) in about.items()
    }
    coords = {
        "chain": np.arange(chains),
        "draw": np.arange(samples),
        "sweep": (
            "draw",
            run.burn_in + run.thin * np.arange(1, samples + 1),
            {"long_name": "sweeps since the start"},
        ),
    }
    if spins:
        shaped = run.spins.reshape(chains, samples, *run.shape)
        variables["spins"] = (
            ("chain", "draw", *axes),
            shaped,
            {"units": "1", "long_name": "spins, -1 or +1"},
        )
        coords |= {axis: np.arange(side) for axis, side in zip(axes, run.shape, strict=True)}
    attributes = {
        "inference_library": "physgen",
        "model": json.dumps(run.model),
        "provenance": json.dumps(run.provenance),
        "shape": list(run.shape),
        "seed": str(run.seed),  # may exceed 64 bits
        **{name: getattr(run, name) for name in ("beta", "update", "burn_in", "thin")},
    }
    dataset = xr.Dataset(variables, coords, attributes)
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs=attributes), "/posterior": dataset})


def _axis_names(n_axes: int) -> tuple[str, ...]:
    return ("x", "y", "z")[:n_axes] if n_axes <= 3 else tuple(f"x{k}" for k in range(n_axes))


def _xarray():
    try:
        import xarray
    except ModuleNotFoundError as error:
        raise ImportError(
            "export to xarray and ArviZ needs the extra: pip install 'physgen[stats]'"
        ) from error
    return xarray
