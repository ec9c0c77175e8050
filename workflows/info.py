"""Show what a file of configurations holds: Hamiltonian, runs, error bars, seeds, versions.

The whole file is verified against its SHA-256 first. tau is the integrated
autocorrelation time in samples (1/2 where they are independent), the larger of
e and |m|; the number in brackets is one standard error of the last digits.

Example:

  physgen info data/square16.h5
"""

import dataclasses
import sys
import warnings
from pathlib import Path

from cyclopts import Parameter

from ising import stats, store


@Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class Config:
    """Options of ``physgen info``."""

    file: Path
    """HDF5 file of `physgen simulate`."""


def main(config: Config) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ChainTooShort)  # the table marks these runs itself
        about = store.summary(config.file)
    sys.stdout.write("\n".join(lines(about)) + "\n")


def lines(about: dict) -> list[str]:
    """The summary of :func:`ising.store.summary` as text."""
    model, runs = about["model"], about["runs"]
    count = sum(run["chains"] * run["samples"] for run in runs)
    boundary = " x ".join("periodic" if periodic else "open" for periodic in model["pbc"])
    header = [
        f"{about['path']}: {count:,} configurations, {len(runs)} run(s), {about['bytes'] / 1e6:.3g} MB",
        f"lattice   {model['lattice']} {' x '.join(map(str, about['shape']))}, {boundary}",
        f"couplings J = {_values(model['J'])}, h = {_values(model['h'])}",
        f"format    {about['format']}, verified",
        f"digest    {about['digest']}",
        "",
    ]
    table = [
        ("run", "beta", "T", "update", "chains", "samples", "burn-in", "thin", "tau", "e", "|m|", "seed")
    ]
    table += [_row(run) for run in runs]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    body = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in table]
    if any(row[8].endswith("*") for row in table):
        body.append("* short: fewer than 50 tau in all or 10 tau in a chain, so the error bars are guesses")
    return header + body + ["", *_provenance(runs)]


def _row(run: dict) -> tuple[str, ...]:
    beta, tau = run["beta"], max(run["energy"].tau, run["abs_m"].tau)
    short = run["samples"] < 10 * tau or run["chains"] * run["samples"] < 50 * tau
    return (
        run["name"].rpartition("/")[2],
        f"{beta:.6g}",
        f"{1 / beta:.6g}" if beta else "inf",
        run["update"],
        *(str(run[name]) for name in ("chains", "samples", "burn_in", "thin")),
        f"{tau:.2f}" + "*" * short,
        str(run["energy"]),
        str(run["abs_m"]),
        str(run["seed"]),
    )


def _values(value: float | list[float]) -> str:
    if isinstance(value, list):
        return f"{len(value)} values from {min(value):g} to {max(value):g}"
    return f"{value:g}"


def _provenance(runs: list[dict]) -> list[str]:
    """What all runs share once, and what differs run by run."""
    shared = dict(set.intersection(*({*run["provenance"].items()} for run in runs)))
    lines = [f"all runs  {_pairs(shared)}"] if shared else []
    for run in runs:
        own = {name: value for name, value in run["provenance"].items() if name not in shared}
        if own:
            lines.append(f"{run['name'].rpartition('/')[2]}      {_pairs(own)}")
    return lines


def _pairs(values: dict[str, str | float | int]) -> str:
    texts = {name: f"{v:.4g}" if isinstance(v, float) else str(v) for name, v in sorted(values.items())}
    return ", ".join(f"{name}={text}" for name, text in texts.items())
