"""Data sets on disk: independent configurations stored in HDF5 per CPU-second of the whole process.

  python -m workflows.benchmarks.dataset --json dataset.json

These commands are timed from their start to their end, imports and writing
included, as the user and system seconds that the operating system charges to
their processes:

  physgen simulate --L 64 --temperature 2.269185314213022 --update wolff --chains 512
  the same with --update few_clusters
  mcising run -L 64 -T 2.269185314213022 --algorithm wolff --interval K

Configurations are as far apart in all: 2 tau_int, the larger one of E and |M|,
rounded up to whole updates. physgen measures tau itself, within the time
that is counted, and records it in the file; for mcising it is measured
beforehand from one of its own chains and given as K, which costs mcising
nothing.

Every file is read back afterwards: its energy is compared with that of
Kaufman, and the autocorrelation that is left between stored configurations is
told (0.5 is none).
"""

import dataclasses
import json
import math
import os
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np

from ising import exact, store
from ising.stats import Estimate, mean, tau_int
from workflows.benchmarks._common import SIGMAS, Arena, Config, arena, command, processor
from workflows.benchmarks._hosts import ONE_THREAD

T_C = 2.269185314213022
UPDATES, PEER = ("wolff", "few_clusters"), "mcising run"
UNIT = "stored/CPU-s"


@dataclasses.dataclass(frozen=True)
class Stored:
    """What is in a file: configurations, spacing in updates, energy per site, tau of what is stored."""

    count: int
    spacing: int
    energy: Estimate
    tau: float
    bytes: int


def main(*, config: Config = Config(), runs: int = 2) -> None:
    """Times whole commands.

    Parameters
    ----------
    runs
        How often each of them is timed, in turn; the best counts.
    """
    L, chains, samples = (8, 64, 64) if config.quick else (64, 512, 4096)
    with arena(config) as where, tempfile.TemporaryDirectory() as folder:
        refuse_full_disk(Path(folder), 4 * chains * samples * L * L // 8)
        path = Path(folder) / "data.h5"
        jobs = {
            f"physgen simulate, {u}": (physgen(path, L, chains, samples, u), read_physgen)
            for u in (UPDATES[:1] if config.quick else UPDATES)
        }
        if "mcising" in where.peers:
            jobs[PEER] = mcising(where, path, L), read_mcising
        found: dict[str, list[tuple[float, Stored]]] = {name: [] for name in jobs}
        for _ in range(1 if config.quick else runs):
            for name, (arguments, read) in jobs.items():
                seconds, stored = cpu_seconds(arguments), read(path)
                path.unlink()
                off = stored.energy.sigmas_from(exact.kaufman_energy(L, L, 1 / T_C))
                if off > SIGMAS:
                    sys.exit(f"dataset: {name} stored an energy of {stored.energy}, {off:.1f} sigma off")
                found[name].append((seconds, stored))
        for name in jobs:
            where.add(row(name, found))


def physgen(path: Path, L: int, chains: int, samples: int, update: str) -> list[str]:
    options = {
        "L": L,
        "temperature": T_C,
        "update": update,
        "chains": chains,
        "samples": samples,
        "out": path,
    }
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    return [sys.executable, "-m", "workflows", "simulate", *words, "--seed", "1", "--quiet"]


def mcising(where: Arena, path: Path, L: int) -> list[str]:
    """The command with a spacing of 2 tau_int, by the rule of physgen."""
    host, name = where.peers["mcising"], "mcising Wolff"
    host.ask(name, "make", "mcising", {"L": L, "beta": 1 / T_C, "algorithm": "wolff"})
    host.ask(name, "run", 1000)
    series, _ = host.ask(name, "series", 40_000, 1)
    host.ask(name, "drop")
    interval = math.ceil(2 * max(tau_int(series["energy"]), tau_int(series["abs_m"])))
    program = str(Path(host.command[0]).with_name("mcising"))
    words = [program, "run", "-L", L, "-T", T_C, "--algorithm", "wolff", "--seed", 1, "--therm", 1000]
    words += [
        "--interval",
        interval,
        "--sweeps",
        interval * (500 if where.config.quick else 50_000),
        "-o",
        path,
    ]
    return [str(word) for word in words]


def cpu_seconds(arguments: list[str]) -> float:
    """User and system time of a command that must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(arguments, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"dataset: {shlex.join(arguments)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def read_physgen(path: Path) -> Stored:
    (run,) = store.summary(path)["runs"]
    count = run["chains"] * run["samples"]
    return Stored(count, run["thin"], run["energy"], run["abs_m"].tau, path.stat().st_size)


def read_mcising(path: Path) -> Stored:
    with h5py.File(path, "r") as file:
        (group,) = (file[name] for name in file if name.startswith("T="))
        energy, abs_m = group["energy"][()], np.abs(group["magnetization"][()])
        count = len(group["configurations"])
        interval = json.loads(file["metadata"].attrs["config_json"])["measurement_interval"]
    return Stored(count, interval, mean(energy), tau_int(abs_m), path.stat().st_size)


def row(name: str, found: dict[str, list[tuple[float, Stored]]]) -> dict[str, str | float]:
    rates = {job: max(stored.count / seconds for seconds, stored in runs) for job, runs in found.items()}
    rest = sorted(stored.count / seconds for seconds, stored in found[name])
    seconds, stored = min(found[name])
    baseline = PEER if PEER in rates else next(iter(rates))
    conditions = [
        f"best of {len(rest)}: " + ", ".join(f"{rate:.4g}" for rate in rest),
        f"{stored.count} configurations {stored.spacing} updates apart in {seconds:.3g} CPU-s",
        f"tau_int(|m|) of the stored ones {stored.tau:.3g} (independent: 0.5)",
        f"{stored.bytes / stored.count:.0f} bytes each",
        processor(),
    ]
    return {
        "name": name,
        "value": rates[name],
        "unit": UNIT,
        "baseline": baseline,
        "baseline_value": rates[baseline],
        "ratio": rates[name] / rates[baseline],
        "conditions": "; ".join(conditions),
    }


def refuse_full_disk(folder: Path, need: int) -> None:
    have = shutil.disk_usage(folder).free
    if have < need:
        sys.exit(
            f"dataset: it takes {need / 1e9:.2g} GB in {folder}, and {have / 1e9:.2g} GB are free; set TMPDIR"
        )


if __name__ == "__main__":
    command(main)
