"""Writes the tables of ``data/reference``: ``python -m ising.exact.reference data/reference``."""

import argparse
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from .beale import beale_density_of_states
from .infinite import (
    critical_beta,
    critical_temperature,
    onsager_energy,
    onsager_log_z,
    onsager_specific_heat,
    yang_magnetisation,
)
from .kaufman import kaufman_energy, kaufman_log_z, kaufman_specific_heat
from .strip import strip_magnetisation

_T_C = 2 / math.asinh(1)
TEMPERATURES = (1.0, 1.5, 1.8, 2.0, 2.1, 2.2, _T_C, 2.3, 2.4, 2.6, 3.0, 4.0)
_CRITICAL_SOURCES = {
    "square": "2 / log(1 + sqrt(2)); Kramers and Wannier 1941",
    "triangular": "4 / log(3); Wannier 1950",
    "honeycomb": "2 / log(2 + sqrt(3)); Wannier 1950",
    "cubic": "beta_c = 0.221654626(5) by simulation; Ferrenberg Xu and Landau 2018",
}


def write(folder: Path) -> list[Path]:
    """Writes every table into ``folder`` (made if missing) and returns their paths.

    Example:
        >>> import tempfile
        >>> [path.name for path in write(Path(tempfile.mkdtemp()))][:2]
        ['critical_temperatures.csv', 'infinite_square.csv']
    """
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "critical_temperatures": (
            "Critical points of ferromagnets with J = k_B = 1; sources in the last column",
            ("lattice", "temperature", "beta", "source"),
            (
                (name, critical_temperature(name), critical_beta(name), s)
                for name, s in _CRITICAL_SOURCES.items()
            ),
        ),
        "infinite_square": (
            "Infinite square lattice per site: Onsager 1944 and for the magnetisation abs_m Yang 1952",
            ("temperature", "log_z", "energy", "specific_heat", "abs_m"),
            ((T, *(f(1 / T) for f in _INFINITE)) for T in TEMPERATURES if T != _T_C),
        ),
        "square_torus": (
            "L x L torus: Kaufman 1949 and Ferdinand and Fisher 1969; log_z of the whole; else per site",
            ("L", "temperature", "log_z", "energy", "specific_heat"),
            ((L, T, *(f(L, L, 1 / T) for f in _TORUS)) for L in (4, 8, 12, 16, 32, 64) for T in TEMPERATURES),
        ),
        "square_torus_magnetisation": (
            "L x L torus: moments of the magnetisation per site by the transfer matrix of ising.exact.strip",
            ("L", "temperature", "abs_m", "m2", "m4", "chi", "u4"),
            ((L, T, *_moments(L, 1 / T)) for L in (4, 6, 8) for T in TEMPERATURES),
        ),
        "density_of_states": (
            "L x L torus: number of states of each total energy (J = 1); Beale 1996",
            ("L", "energy", "states"),
            ((L, *level) for L in range(4, 9) for level in zip(*beale_density_of_states(L, L), strict=True)),
        ),
    }
    return [_write_csv(folder / f"{name}.csv", *table) for name, table in tables.items()]


_INFINITE = (onsager_log_z, onsager_energy, onsager_specific_heat, yang_magnetisation)
_TORUS = (kaufman_log_z, kaufman_energy, kaufman_specific_heat)


def _moments(L: int, beta: float) -> tuple[float, ...]:
    M, p = strip_magnetisation(L, L, beta)
    m = M / L**2
    abs_m, m2, m4 = (float(x @ p) for x in (np.abs(m), m**2, m**4))
    return abs_m, m2, m4, beta * L**2 * (m2 - abs_m**2), 1 - m4 / (3 * m2**2)


def _write_csv(path: Path, comment: str, names: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    lines = [f"# {comment}", ",".join(names)]
    lines += [",".join(f"{x:.16g}" if isinstance(x, float) else str(x) for x in row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ising.exact.reference", description="Write the reference tables."
    )
    parser.add_argument("folder", type=Path, help="where to write them, e.g. data/reference")
    write(parser.parse_args(arguments).folder)


if __name__ == "__main__":
    main()
