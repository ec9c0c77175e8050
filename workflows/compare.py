"""Compare trained models with Monte Carlo and with exact values; write a table and an HTML report.

Every trained model below --runs is compared with the configurations of --data
at the temperature it was trained at: Kullback-Leibler divergences, observables
with error bars, correlation functions. The row "Monte Carlo" is one half of the
chains against the other, the noise floor of every number in the table.

Example:

  physgen compare --runs runs --data data/square16.h5 --report report.html
"""

import concurrent.futures
import dataclasses
import logging
import math
import multiprocessing
import sys
from pathlib import Path
from typing import Any

import torch
from cyclopts import Parameter

from ising import Run, store
from ising.workers import Here
from physgen import checkpoint, compare, report
from workflows._common import check_options, progress_bar, read_json
from workflows._warnings import show_warnings_as_lines

log = logging.getLogger("physgen.compare")


@Parameter(name="*")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """Options of ``physgen compare``."""

    runs: Path = Path("runs")
    """Folder with one folder per trained model."""
    data: tuple[Path, ...] = (Path("data/ising.h5"),)
    """HDF5 files of `physgen simulate`; each model takes the one with its Hamiltonian and temperature."""
    report: Path = Path("report.html")
    """The page to write."""
    samples: int = 4096
    """Configurations drawn from each model."""
    seed: int = 0
    """Seed of the models' samples."""
    workers: int = 1
    """Processes, each with one thread."""
    quiet: bool = False
    """No progress bar."""

    def __post_init__(self) -> None:
        check_options(self)
        if self.samples < 100:
            raise ValueError(
                f"error bars need at least 100 samples of each model, got --samples {self.samples}"
            )
        if self.report.is_dir():
            raise ValueError(f"--report names the page to write, and {self.report} is a folder")


def main(*, config: Config = Config()) -> None:
    folders = sorted(path.parent for path in config.runs.rglob("config.json"))
    for folder in [folder for folder in folders if checkpoint.latest(folder) is None]:
        log.info("%s is left out: it holds no checkpoint yet", folder)
        folders.remove(folder)
    for folder in [folder for folder in folders if _about(folder)["beta"] is None]:
        log.info("%s is left out: it was not trained at one temperature", folder)
        folders.remove(folder)
    if not folders:
        raise ValueError(f"{config.runs} holds no trained model; train one first, see physgen --help")
    results = all_comparisons(folders, config)
    report.write(config.report, results)
    sys.stdout.write(compare.table(results) + "\n")
    log.info("report: %s", config.report)


def _about(folder: Path) -> dict[str, Any]:
    return read_json(folder / "config.json")


def all_comparisons(folders: list[Path], config: Config) -> dict[str, compare.Comparison]:
    """One comparison per folder, by its path below ``config.runs``."""
    with progress_bar(config.quiet) as bar, pool(config.workers) as workers:
        task, jobs = bar.add_task("compare", total=len(folders), note=""), {}
        for folder in folders:
            job = jobs[str(folder.relative_to(config.runs))] = workers.submit(compare_one, folder, config)
            job.add_done_callback(lambda _, name=folder.name: bar.update(task, advance=1, note=name))
        return {name: job.result() for name, job in jobs.items()}


def compare_one(folder: Path, config: Config) -> compare.Comparison:
    """The model of one folder against the run it was trained on; its density on the chains held out."""
    torch.set_num_threads(1)
    trained = _about(folder)
    model = checkpoint.load_model(folder)
    path, run = matching_run(trained, config.data)
    part = store.Configurations(path, split="train", beta=run.beta)
    seen = set(part.chain[part.run == part.run.min()].tolist())  # of the first run, the one read here
    return compare.against_samples(
        model,
        run,
        samples=config.samples,
        name=model.recipe["name"].upper(),
        held_out=[chain for chain in range(run.chains) if chain not in seen],
        seed=config.seed,
        note="" if trained.get("finished") else "Its training is not finished.",
    )


def matching_run(trained: dict, files: tuple[Path, ...]) -> tuple[Path, Run]:
    """The file and the stored run with the Hamiltonian and the temperature that a model was trained at."""
    for path in files:
        if store.hamiltonian(path) == trained["model"] and any(
            math.isclose(beta, trained["beta"], rel_tol=1e-9) for beta in store.betas(path)
        ):
            return path, next(store.runs(path, beta=trained["beta"]))
    raise ValueError(
        f"none of {', '.join(map(str, files))} holds {trained['model']} at beta = {trained['beta']:.6g}; "
        "name the file the model was trained on with --data"
    )


def pool(workers: int) -> concurrent.futures.Executor:
    """This process for one worker, otherwise spawned ones: torch hangs in those that are forked."""
    if workers == 1:
        return Here()
    context = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(
        workers, mp_context=context, initializer=show_warnings_as_lines
    )
