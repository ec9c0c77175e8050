"""Grids of simulations: lattices, fields, disorder, temperatures and seeds, on one machine or on many.

A task is one Hamiltonian at one temperature with one seed. It keeps its samples in the segments of a
:class:`~ising.store.Journal`, from where it goes on after anything that stops it; so a grid is continued by
running it again, and what is there already is not made again. The process that called :func:`run` gathers
the finished tasks of each Hamiltonian into its file. The samples are a function of the task alone: they are
the same on one core, on many, and on a cluster, whatever was killed on the way.
"""

import math
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from queue import Empty, SimpleQueue

import torch

from .model import Ising, restore
from .simulate import AUTO, segment_length, stream
from .store.archive import entries
from .store.journal import Journal
from .store.layout import Head
from .store.sealed import StoreError
from .workers import Cores, Here, usable_cores

SEGMENTS = 10  # of a task, at least, where it has that many samples
FAILURES = ValueError, OSError, MemoryError, RuntimeError, ArithmeticError  # of one task, not of the program
PATIENCE = 60  # seconds until a file that another machine wrote is seen here, for network file systems


@dataclass(frozen=True, eq=False)
class Task:
    """One simulation on its way into a file.

    Attributes:
        path: The file, absolute: workers may stand in other folders.
        model: The Hamiltonian, as :meth:`ising.model.Ising.describe` gives it.
        shape: Sites along each axis.
        beta: Inverse temperature.
        options: All other arguments of :func:`ising.simulate.stream` that determine the samples.
    """

    path: Path
    model: dict[str, object]
    shape: tuple[int, ...]
    beta: float
    options: dict[str, object]

    @cached_property
    def key(self) -> str:
        """The key of the journal, that of ``physgen simulate`` with the same settings."""
        return Journal.key(model=self.model, beta=self.beta, **self.options)

    @property
    def journal(self) -> Journal:
        """The segments on their way into the file of the task."""
        return Journal(self.path)

    @property
    def kept(self) -> int:
        """Segments that are on the disk as far as this machine sees it."""
        return len(list(self.journal.folder.glob(f"{self.key}-*.segment")))

    @property
    def size(self) -> int:
        """Spins to be stored."""
        return self.options["chains"] * self.options["samples"] * math.prod(self.shape)

    @property
    def segment(self) -> int:
        """Samples per chain in a segment."""
        longest = segment_length(self.options["chains"], math.prod(self.shape))
        return max(1, min(self.options["samples"] // SEGMENTS, longest))

    def __str__(self) -> str:
        return f"{self.path.stem} beta={self.beta:.6g} seed={self.options['seed']}"


@dataclass(frozen=True)
class Failure:
    """A task that could not be finished, and why in one sentence."""

    task: Task
    reason: str

    def __str__(self) -> str:
        return f"{self.task}: {self.reason}"


@dataclass(frozen=True)
class Progress:
    """Where a grid stands.

    Attributes:
        tasks: All tasks of the grid.
        finished: Those whose samples are complete.
        fraction: Of the spins to be stored, the part that is on the disk.
        failures: The tasks that failed so far.
    """

    tasks: int
    finished: int
    fraction: float
    failures: tuple[Failure, ...]


def grid(
    models: Mapping[str | Path, Ising],
    betas: Sequence[float],
    seeds: Sequence[int] = (0,),
    *,
    update: str = "metropolis",
    samples: int = 1000,
    chains: int = 64,
    burn_in: int | None = None,
    thin: int | None = None,
    start: str = "random",
    device: str = "cpu",
) -> list[Task]:
    """The tasks of all models at all temperatures with all seeds, model by model.

    Arguments:
        models: The Hamiltonian of each file.
        betas: Inverse temperatures.
        seeds: Seeds of the random numbers; runs that differ in any argument are independent of each other.

    The other arguments are those of :func:`ising.simulate.simulate`. What that would refuse is refused here.

    Example:
        >>> from ising import lattices
        >>> models = {f"square{L}.h5": Ising(lattices.square(L)) for L in (4, 8)}
        >>> [str(task) for task in grid(models, betas=[0.3, 0.4])][:3]
        ['square4 beta=0.3 seed=0', 'square4 beta=0.4 seed=0', 'square8 beta=0.3 seed=0']
    """
    if update == AUTO:
        raise ValueError(
            "update='auto' measures speed, so its samples differ from machine to machine; name an update, "
            "such as the one that ising.simulate.choose_update takes"
        )
    tasks: dict[tuple[Path, str], Task] = {}
    for path, model in models.items():
        described = model.describe()
        for beta in betas:
            for seed in seeds:
                options = {"update": update, "samples": samples, "chains": chains, "burn_in": burn_in}
                options |= {"thin": thin, "start": start, "seed": seed, "device": device}
                stream(model, beta=beta, **options)  # starts nothing, but refuses what cannot be simulated
                task = Task(Path(path).absolute(), described, model.lattice.shape, float(beta), options)
                tasks.setdefault((task.path, task.key), task)
    return list(tasks.values())


def run(
    tasks: Sequence[Task],
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    provenance: Mapping[str, str | float | int] | None = None,
    every: float = 1.0,
) -> Iterator[Progress]:
    """Does what is missing of a grid, and tells how it goes whenever a task ends or ``every`` seconds.

    A task that fails is named in the progress and does not stop the others. One whose worker dies is
    submitted again, after all others and alone unless it had left new segments; when its worker dies again
    without any, it is named. Whoever stops iterating stops the sweep; the segments stay.

    Arguments:
        tasks: From :func:`grid`.
        workers: Processes of this machine, by default one per core; 0 runs the tasks in this process.
        executor: Where to run instead, see :mod:`ising.workers`.
        provenance: Joined to what is written next to each run.
        every: Seconds.

    Raises:
        StoreError: If a file holds another Hamiltonian, is damaged or cannot be written.
        ValueError: If workers is negative, or a file holds a run at the same temperature with the same seed
            but other settings.

    Example:
        >>> import tempfile
        >>> from ising import Ising, lattices, store
        >>> path = tempfile.mkdtemp() + "/ring.h5"
        >>> tasks = grid({path: Ising(lattices.chain(8))}, [0.3, 0.5], samples=20, burn_in=10, thin=2)
        >>> [progress.finished for progress in run(tasks, workers=0)], store.betas(path)
        ([0, 1, 2], [0.3, 0.5])
        >>> [progress.finished for progress in run(tasks, workers=0)]
        [2]
    """
    if workers is not None and workers < 0:
        raise ValueError(f"workers must be a number of processes, or 0 for none but this one, got {workers}")
    grid = _Grid(tasks, _published(tasks), dict(provenance or {}))
    yield grid.progress()
    count = min(usable_cores() if workers is None else workers, len(grid.waiting))
    with ExitStack() as stack:
        if executor is not None:
            count = len(tasks)
        elif grid.waiting:
            executor = Cores(count) if count else Here()
            stack.callback(executor.shutdown, cancel_futures=True)
        stack.callback(grid.cancel)
        while grid.submit(executor, max(count, 1)):
            grid.wait(every)
            yield grid.progress()


class _Grid:
    """The tasks of one :func:`run`: waiting, running, suspected of killing their workers, ended."""

    def __init__(self, tasks: Sequence[Task], published: set[Task], provenance: dict) -> None:
        self.tasks, self.finished, self.provenance = tasks, set(published), provenance
        missing = [task for task in tasks if task not in published]
        self.waiting = deque(sorted(missing, key=lambda task: -task.size))  # no long one shall come last
        self.alone: deque[Task] = deque()
        self.suspected: set[Task] = set()
        self.running: dict[Future, tuple[Task, int]] = {}
        self.ended: SimpleQueue[Future] = SimpleQueue()
        self.unended = Counter(task.path for task in missing)
        self.failures: list[Failure] = []

    def progress(self) -> Progress:
        """What is done so far, with the segments on the disk of tasks that run."""
        kept: Counter[tuple[Path, str]] = Counter()
        for folder in {task.journal.folder for task, _ in self.running.values()}:
            kept.update((folder, path.name.partition("-")[0]) for path in folder.glob("*.segment"))
        done = float(sum(task.size for task in self.finished))
        for task, _ in self.running.values():
            samples = kept[task.journal.folder, task.key] * task.segment
            done += task.size * min(1.0, samples / task.options["samples"])
        total = sum(task.size for task in self.tasks)
        return Progress(len(self.tasks), len(self.finished), done / max(1, total), tuple(self.failures))

    def submit(self, executor: Executor | None, at_once: int) -> bool:
        """Starts what may run now; False if all has ended."""
        while self.waiting and len(self.running) < at_once:
            self._start(executor, self.waiting.popleft())
        if self.alone and not self.running:
            self._start(executor, self.alone.popleft())
        return bool(self.running)

    def wait(self, timeout: float) -> None:
        """Until a task ends, but no longer than ``timeout`` seconds; takes in all that have ended."""
        try:
            self._end(self.ended.get(timeout=timeout))
            while True:
                self._end(self.ended.get_nowait())
        except Empty:
            return

    def cancel(self) -> None:
        """Takes back what has not started yet."""
        for future in list(self.running):
            future.cancel()

    def _start(self, executor: Executor, task: Task) -> None:
        kept = task.kept
        future = executor.submit(work, task, versions())
        self.running[future] = task, kept
        future.add_done_callback(self.ended.put)

    def _end(self, future: Future) -> None:
        task, kept = self.running.pop(future)
        if future.cancelled():
            raise ConnectionError(
                "the scheduler has dropped the tasks; finished segments are safe, run the sweep again"
            )
        if error := future.exception():  # of the worker: work() returns those of the task
            if task.kept > kept:
                self.waiting.append(task)
                return
            if task not in self.suspected:
                self.suspected.add(task)
                self.alone.append(task)
                return
            reason = str(error)
        else:
            segments, reason = future.result()
            if not (reason or _arrived(task, segments)):
                reason = (
                    f"its segments are not in {task.journal.folder} of this machine; workers must share it"
                )
        if reason:
            self.failures.append(Failure(task, " ".join(reason.split())))
        else:
            self.finished.add(task)
        self.unended[task.path] -= 1
        if not self.unended[task.path]:
            keys = [other.key for other in self.tasks if other.path == task.path and other in self.finished]
            task.journal.publish(keys, provenance=self.provenance)


def work(task: Task, expected: dict[str, str]) -> tuple[int, str]:
    """What a worker does: the number of segments of the finished task, or a sentence on what went wrong.

    One thread, for sums over many numbers depend on how they are split among threads. What a task may run
    into is named, and the others go on; a mistake in the program, such as a wrong type, would meet all of
    them alike and is not caught.

    Arguments:
        task: What to simulate, from where its journal stands.
        expected: The :func:`versions` on the machine that gathers the results.
    """
    torch.set_num_threads(1)
    if different := [f"{name} {found}" for name, found in versions().items() if found != expected[name]]:
        wanted = ", ".join(f"{name} {found}" for name, found in expected.items())
        return 0, f"its worker has {', '.join(different)}; give all workers {wanted}"
    try:
        return _simulate(task), ""
    except FAILURES as error:
        return 0, _sentence(error)


def versions() -> dict[str, str]:
    """Of all that the samples may depend on."""
    return {name: version(name) for name in ("physgen", "numba", "numpy", "torch")}


def _simulate(task: Task) -> int:
    journal = task.journal
    last = journal.last(task.key)
    if last is None or not last.done:
        began = time.perf_counter()
        model = restore(**task.model)
        for part in stream(model, beta=task.beta, **task.options, segment=task.segment, resume=last):
            journal.write(task.key, part, seconds=time.perf_counter() - began)
            began, last = time.perf_counter(), part
    return last.index + 1


def _sentence(error: Exception) -> str:
    """What the user can mend speaks for itself; anything else is told with its place."""
    if isinstance(error, ValueError | OSError):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}, line {frame.lineno})"


def _arrived(task: Task, segments: int) -> bool:
    """Whether the segments that a worker wrote are seen from here, at the latest after a while."""
    deadline = time.monotonic() + PATIENCE
    while task.kept < segments:
        if time.monotonic() > deadline:
            return task.journal.published(task.key)  # by another sweep of the same grid
        time.sleep(0.1)
    return True


def _published(tasks: Sequence[Task]) -> set[Task]:
    """The tasks whose runs are in their files already, after checking that the others may go there."""
    files: dict[Path, list[Task]] = {}
    for task in tasks:
        files.setdefault(task.path, []).append(task)
    return {task for path, members in files.items() for task in _published_in(path, members)}


def _published_in(path: Path, tasks: list[Task]) -> list[Task]:
    heads: list[Head] = []
    if path.exists():
        with entries(path) as found:
            heads = [entry.head for entry in found]
    if any(other.model != tasks[0].model for other in [*tasks, *heads[:1]]):
        raise StoreError(f"{path} holds another Hamiltonian than this grid has for it; choose another file")
    claimed: dict[tuple[float, object], set[str]] = {}
    for head in heads:
        claimed.setdefault((head.beta, head.seed), set()).add(head.key)
    for task in tasks:
        if task.key not in claimed.setdefault((task.beta, task.options["seed"]), {task.key}):
            raise ValueError(
                f"{path} has a run at beta = {task.beta:.6g} with seed {task.options['seed']} and other "
                "settings, which would repeat its samples; choose other seeds or another file"
            )
    keys = {head.key for head in heads}
    published = [task for task in tasks if task.key in keys]
    if published:
        published[0].journal.publish([task.key for task in published])  # clears up what a kill has left
    return published
