"""Simulate a grid of lattices, fields, disorder, temperatures and seeds.

Each combination is one task. Tasks run on the cores of this machine, on a Dask
scheduler (--scheduler), or in Slurm jobs (--slurm); the samples are the same
everywhere, to the last bit. The folder --out gets one HDF5 file for each
Hamiltonian, of the same kind as physgen simulate writes, as soon as its tasks
are done.

Every finished block of every task is safe on disk at once. After Ctrl-C, a
crash or a lost machine the same command continues; with more temperatures or
seeds it makes only what is missing. A worker that is killed costs the block it
was at. A task that fails is named, and the others go on.

Disorder: --glass bimodal draws every bond as +J or -J, --glass gaussian from a
normal law of standard deviation J; each number after --disorder seeds one set
of couplings, with a file of its own. Give at least two --seeds then: overlaps
need two independent runs.

Clusters (pip install 'physgen[cluster]'): all machines must share the folder
--out and have the same version of physgen. Start Dask workers with one thread.

Example:

  physgen sweep --L 8 16 32 --temperature 2.1 2.2 2.269 2.35 --seeds 0 1 \\
    --update wolff --out data/sweep
  physgen sweep --lattice cubic --L 6 8 --glass bimodal --disorder 0 1 2 3 \\
    --beta 0.5 0.8 --seeds 0 1 --burn-in 20000 --thin 100 --out data/glass
  dask scheduler & dask worker --nworkers 8 --nthreads 1 tcp://localhost:8786 &
  physgen sweep --L 64 --beta 0.44 --scheduler tcp://localhost:8786
  physgen sweep --L 64 128 --beta 0.43 0.44 0.45 --seeds 0 1 2 3 --slurm 20 \\
    --slurm-memory 4GB --slurm-time 02:00:00
"""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import Literal

from cyclopts import Parameter

from ising import Ising, glasses, lattices, sweep, updates, workers
from workflows._common import (
    betas_of,
    check_options,
    pick_device,
    progress_bar,
    provenance,
    refuse_beyond_memory,
    sites_of,
)
from workflows._kept import stopped

log = logging.getLogger("physgen.sweep")


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of ``physgen sweep``."""

    lattice: tuple[Literal[tuple(sorted(set(lattices.REGISTRY) - {"rectangular"}))], ...] = ("square",)  # type: ignore[valid-type]
    """Where the spins sit; one or more."""
    L: tuple[int, ...] = (16,)
    """Sides in sites; each is a lattice of its own."""
    boundary: Literal["periodic", "open"] = "periodic"
    """Of all axes."""
    beta: tuple[float, ...] | None = None
    """Inverse temperatures, k_B = 1; E = -J sum ss - h sum s."""
    temperature: tuple[float, ...] | None = None
    """Temperatures, k_B = 1, instead of --beta."""
    J: float = 1.0
    """Coupling, an energy; J > 0 is the ferromagnet; the size of the couplings of a glass."""
    h: tuple[float, ...] = (0.0,)
    """Fields on every site, an energy; one or more."""
    glass: Literal["none", "bimodal", "gaussian"] = "none"
    """Random couplings: +J or -J, or normal of standard deviation J."""
    disorder: tuple[int, ...] | None = None
    """Seeds of the random couplings, with --glass; one or more."""
    seeds: tuple[int, ...] = (0,)
    """Seeds of the simulations; each is a run of its own."""
    update: Literal[tuple(updates.names())] = "metropolis"  # type: ignore[valid-type]
    """How the spins move."""
    samples: int = 1000
    """Configurations stored per chain and task."""
    chains: int = 64
    """Independent chains per task; multiples of 512 are fastest."""
    burn_in: int | None = None
    """Sweeps discarded at the start; measured if not given."""
    thin: int | None = None
    """Sweeps between stored configurations; 2 tau_int if not given."""
    start: Literal["random", "ordered"] = "random"
    """Initial configuration."""
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    """Where the sweeps run."""
    out: Path = Path("data/sweep")
    """Folder of the HDF5 files."""
    workers: int | None = None
    """Processes on this machine; one per core if not given."""
    scheduler: str | None = None
    """Address of a Dask scheduler, such as tcp://host:8786."""
    slurm: int | None = None
    """Slurm jobs to submit; what else a site needs: ~/.config/dask/jobqueue.yaml."""
    slurm_cores: int = 1
    """Cores of each job; every core is one worker."""
    slurm_memory: str = "4GB"
    """Memory of each job."""
    slurm_time: str = "01:00:00"
    """Walltime of each job; tasks continue in the next one."""
    slurm_queue: str | None = None
    """Partition."""
    slurm_account: str | None = None
    """Account."""
    slurm_interface: str | None = None
    """Network interface by which jobs reach this machine, such as ib0."""
    quiet: bool = False
    """No progress bar."""

    SMOKE = {
        "L": (4,),
        "beta": (0.3, 0.4),
        "samples": 20,
        "chains": 8,
        "burn_in": 5,
        "thin": 1,
        "workers": 1,
        "quiet": True,
    }

    def __post_init__(self) -> None:
        check_options(self, folder=True)
        if sum(place is not None for place in (self.workers, self.scheduler, self.slurm)) > 1:
            raise ValueError("the tasks run at one place: give one of --workers, --scheduler and --slurm")
        if (self.glass == "none") != (self.disorder is None):
            raise ValueError(
                "random couplings need both: --glass bimodal or gaussian, and seeds by --disorder"
            )
        for name in ("lattice", "L", "h", "disorder", "seeds"):
            if getattr(self, name) == ():
                raise ValueError(f"--{name} needs at least one value")
        if min(self.seeds + (self.disorder or ())) < 0:
            raise ValueError("--seeds and --disorder are whole numbers >= 0")


def main(*, config: Config = Config()) -> None:
    betas = betas_of(config.beta, config.temperature)
    _refuse_beyond_memory(config)
    tasks = sweep.grid(
        hamiltonians(config),
        betas,
        config.seeds,
        update=config.update,
        samples=config.samples,
        chains=config.chains,
        burn_in=config.burn_in,
        thin=config.thin,
        start=config.start,
        device=str(pick_device(config.device)),
    )
    try:
        with place(config) as executor:
            failures = watch(tasks, config, executor)
    except KeyboardInterrupt:
        raise stopped(config.out) from None
    if failures:
        raise ValueError(
            f"{len(failures)} of {len(tasks)} tasks failed, the others are in {config.out}; the first was "
            f"{failures[0]}"
        )
    files = len({task.path for task in tasks})
    log.info(
        "%d run%s in %d file%s of %s; look at one with: physgen info FILE",
        *(len(tasks), "" if len(tasks) == 1 else "s", files, "" if files == 1 else "s", config.out),
    )


def hamiltonians(config: Config) -> dict[Path, Ising]:
    """Every Hamiltonian of the grid by its file; what differs from the default is in the name."""
    found = {}
    for name in config.lattice:
        for L in config.L:
            lattice = lattices.build(name, L, pbc=config.boundary == "periodic")
            stem = f"{name}-L{L}" + ("" if config.boundary == "periodic" else "-open")
            stem += "" if config.J == 1 else f"-J{config.J!r}"
            for h in config.h:
                in_field = stem + (f"-h{h!r}" if h else "")
                for seed in config.disorder or (None,):
                    drawn = "" if seed is None else f"-{config.glass}{seed}"
                    found[config.out / f"{in_field}{drawn}.h5"] = hamiltonian(config, lattice, h, seed)
    return found


def hamiltonian(config: Config, lattice: lattices.Lattice, h: float, seed: int | None) -> Ising:
    """With the disorder of one seed, or uniform."""
    match config.glass:
        case "bimodal":
            return glasses.bimodal(lattice, seed, J=config.J, h=h)
        case "gaussian":
            return glasses.gaussian(lattice, seed, width=config.J, h=h)
    return Ising(lattice, J=config.J, h=h)


@contextlib.contextmanager
def place(config: Config) -> Iterator[Executor | None]:
    """Where the tasks run; None stands for the cores of this machine."""
    if config.scheduler is not None:
        with contextlib.ExitStack() as stack:
            try:
                executor = stack.enter_context(workers.dask(config.scheduler))
            except (ValueError, OSError) as error:
                raise ValueError(
                    f"--scheduler {config.scheduler} cannot be used ({error}); give the address that a "
                    "running dask scheduler prints, such as tcp://host:8786"
                ) from error
            yield executor
    elif config.slurm is not None:
        options = ("cores", "memory", "queue", "account", "interface")
        with workers.slurm(
            config.slurm,
            walltime=config.slurm_time,
            logs=config.out / "slurm",
            **{name: getattr(config, f"slurm_{name}") for name in options},
        ) as executor:
            yield executor
    else:
        yield None


def watch(tasks: list[sweep.Task], config: Config, executor: Executor | None) -> tuple[sweep.Failure, ...]:
    """Runs the grid and shows how much of it is on the disk, in percent; returns what failed."""
    known = 0
    with progress_bar(config.quiet) as bar:
        shown = bar.add_task("sweep", total=100, note="")
        for progress in sweep.run(tasks, workers=config.workers, executor=executor, provenance=provenance()):
            for failure in progress.failures[known:]:
                log.error("failed: %s", failure)
            known = len(progress.failures)
            note = f"{progress.finished} of {progress.tasks} runs" + (f", {known} failed" if known else "")
            bar.update(shown, completed=100 * progress.fraction, note=note)
    return progress.failures


def _refuse_beyond_memory(config: Config) -> None:
    """Before anything is built: tables of the largest lattice and its chains, in every process."""
    if min(config.L) < 4:
        return  # the lattice itself refuses these, in better words
    sites = max(sites_of(name, (max(config.L),)) for name in config.lattice)
    local = config.scheduler is None and config.slurm is None
    need = sites * (300 + 10 * config.chains) * (config.workers or workers.usable_cores() if local else 1)
    what = f"{config.chains} chains of {sites} sites in every process"
    refuse_beyond_memory(need, what, "a smaller --L, fewer --chains or fewer --workers")
