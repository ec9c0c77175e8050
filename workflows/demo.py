"""The whole chain on real data: generate, train four models, compare, report.

Square lattices of L = 16 and L = 4 at T = 1.8 (ordered), 2.269 (critical) and
3.0 (disordered); a restricted Boltzmann machine, a variational autoencoder, a
masked autoregressive net and a generative adversarial net at each; then every
model against Monte Carlo and exact values. About seven minutes on two cores. A
second run does only what is missing.

Example:

  physgen demo --out demo
"""

import concurrent.futures
import dataclasses
import importlib
import logging
import time
from pathlib import Path
from typing import Any

import torch
from cyclopts import Parameter

from physgen import checkpoint
from workflows import compare, simulate
from workflows._common import check_options, plain, progress_bar, read_json, write_json

log = logging.getLogger("physgen.demo")

CRITICAL = 2.269

# Options of the trainings; at the critical temperature a large lattice gets twice the steps.
LARGE: dict[str, dict[str, Any]] = {
    "train_autoregressive": {"steps": 7000, "lr": 1e-3},
    "train_rbm": {"tied": True, "hidden": 2, "steps": 500},
    "train_vae": {"steps": 3500, "batch": 128},
    "train_gan": {"steps": 600, "batch": 64},
}
SMALL: dict[str, dict[str, Any]] = {
    "train_autoregressive": {"hidden": 64, "steps": 5000, "lr": 1e-2},
    "train_rbm": {"hidden": 16, "chains": 512, "batch": 512, "k": 3, "steps": 4000, "lr": 4e-2},
    "train_vae": {"latent": 2, "hidden": 128, "steps": 3000, "lr": 3e-3},
    "train_gan": {"steps": 500, "batch": 128, "lr": 2e-3, "critic_lr": 2e-3},
}


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of ``physgen demo``."""

    out: Path = Path("demo")
    """Folder of the data, the models and report.html."""
    workers: int = 2
    """Processes, each with one thread."""
    L: tuple[int, ...] = (16, 4)
    """Sides of the square lattices."""
    temperature: tuple[float, ...] = (1.8, CRITICAL, 3.0)
    """Ordered, critical, disordered."""
    chains: int = 128
    """Independent Monte Carlo chains per temperature."""
    samples: int = 200
    """Configurations per chain."""
    scale: float = 1.0
    """Factor on all gradient steps; below 1 is quicker and worse."""
    quiet: bool = False
    """No progress bars."""

    def __post_init__(self) -> None:
        check_options(self)

    SMOKE = {"L": (4,), "temperature": (CRITICAL,), "samples": 60, "chains": 16, "scale": 0.01, "quiet": True}


def main(*, config: Config = Config()) -> None:
    begin = time.monotonic()
    _claim(config)
    try:
        files = tuple(simulated(L, config) for L in config.L)
        train(config)
        compare.main(
            config=compare.Config(
                runs=config.out / "runs",
                data=files,
                report=config.out / "report.html",
                workers=config.workers,
                quiet=config.quiet,
            )
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"What is done is safe in {config.out}; the same command does the rest."
        ) from None
    log.info("%.0f s in all", time.monotonic() - begin)


def _claim(config: Config) -> None:
    """Notes the options in the folder; a folder of other options is refused, not reused."""
    path, free = config.out / "demo.json", ("out", "workers", "quiet")
    asked = {name: value for name, value in plain(config).items() if name not in free}
    if not path.exists():
        write_json(path, asked)
    elif (before := read_json(path)) != asked:
        raise ValueError(f"{config.out} holds a demo with other options, {before}; choose another --out")


def simulated(L: int, config: Config) -> Path:
    """The data set of one lattice size, simulated where it is missing."""
    path = config.out / f"square{L}.h5"
    if not path.exists():
        simulate.main(
            config=simulate.Config(
                L=(L,),
                temperature=config.temperature,
                samples=config.samples,
                chains=config.chains,
                out=path,
                quiet=config.quiet,
            )
        )
    return path


def train(config: Config) -> None:
    """All trainings that are not finished yet, the long ones first, spread over the workers."""
    jobs = [job for job in trainings(config) if not finished(job[1].out)]
    with progress_bar(config.quiet) as bar, compare.pool(config.workers) as workers:
        task = bar.add_task("train", total=len(jobs), note="")
        running = []
        for name, options in jobs:
            running.append(workers.submit(train_one, name, options))
            running[-1].add_done_callback(lambda _, o=options.out: bar.update(task, advance=1, note=o.name))
        for done in concurrent.futures.as_completed(running):
            done.result()


def trainings(config: Config) -> list[tuple[str, Any]]:
    """Workflow and options of every training."""
    found = []
    for L in config.L:
        for temperature in sorted(config.temperature, key=lambda T: T != CRITICAL):
            for name, settings in (SMALL if L <= 4 else LARGE).items():
                factor = 2 if L > 4 and temperature == CRITICAL else 1
                options = settings | {
                    "steps": max(2, round(factor * config.scale * settings["steps"])),
                    "data": config.out / f"square{L}.h5",
                    "temperature": temperature,
                    "out": config.out / "runs" / f"{name.removeprefix('train_')}-L{L}-T{temperature}",
                    "device": "cpu",
                    "quiet": True,
                }
                found.append((name, importlib.import_module(f"workflows.{name}").Config(**options)))
    return found


def train_one(name: str, options: Any) -> None:
    """Trains one model, with one thread, from its last checkpoint, if there is one."""
    torch.set_num_threads(1)
    resume = checkpoint.latest(options.out) is not None
    module = importlib.import_module(f"workflows.{name}")
    module.main(config=dataclasses.replace(options, resume=resume))


def finished(folder: Path) -> bool:
    """Whether the training in this folder came to its end."""
    path = folder / "config.json"
    return path.exists() and read_json(path).get("finished", False)
