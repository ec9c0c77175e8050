"""Where the tasks of a sweep run: processes of this machine, a Dask cluster, or Slurm jobs.

Each is a :class:`concurrent.futures.Executor`. The standard library's process pool is one too, but when one
of its workers dies, every task that waits or runs fails, so :class:`Cores` is used instead.
"""

import importlib
import multiprocessing
import os
import shutil
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

RESUBMIT = 10  # seconds between looks at whether all Slurm jobs are there


def usable_cores() -> int:
    """Cores that this process may use, which on a shared machine are not all there are."""
    return len(os.sched_getaffinity(0))


class Here(Executor):
    """Runs each job at once in the calling thread: for debugging, and as the reference of all others."""

    def submit(self, function: Callable, /, *args: object) -> Future:
        threads = torch.get_num_threads()
        future: Future = Future()
        try:
            future.set_result(function(*args))
        finally:
            torch.set_num_threads(threads)
        return future


class Cores(Executor):
    """Worker processes that die one by one: the job of a dead one raises, the others do not notice.

    Each process is spawned at its first job, works through one job at a time, and is killed at shutdown or
    when the process that made it ends, however that comes about. Ctrl-C does not reach it. What a job warns
    of is warned of again here.

    A spawned process imports the main script, which therefore needs ``if __name__ == "__main__":``.

    Arguments:
        workers: Number of processes.

    Example:
        >>> with Cores(1) as cores:
        ...     cores.submit(abs, -3).result()
        3
    """

    def __init__(self, workers: int) -> None:
        self._children: set[_Child] = set()
        self._own = threading.local()
        self._stopped = False
        self._threads = ThreadPoolExecutor(workers, "core", _block_interrupts)

    def submit(self, function: Callable, /, *args: object) -> Future:
        return self._threads.submit(self._call, function, args)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Kills the processes; with ``wait`` only after all jobs, unless those waiting are cancelled."""
        if not cancel_futures:
            self._threads.shutdown(wait=wait)
        self._stopped = True
        for child in list(self._children):
            child.kill()
        self._threads.shutdown(wait=wait, cancel_futures=cancel_futures)

    def _call(self, function: Callable, args: tuple) -> object:
        child: _Child | None = getattr(self._own, "child", None)
        if child is None:
            child = self._own.child = _Child()
            self._children.add(child)
        try:
            if self._stopped:  # the shutdown may have missed this one
                child.kill()
            result, heard = child.call(function, args)
        except BrokenExecutor:
            self._children.discard(child)
            del self._own.child
            raise
        for text, category in heard:
            warnings.warn(text, category, stacklevel=2)
        return result


@contextmanager
def dask(address: str) -> Iterator[Executor]:
    """The workers of a running Dask scheduler. They must see the same folders and run the same physgen.

    Dask runs whatever it is sent: a scheduler belongs behind a firewall, or behind the TLS that Dask offers.

    Arguments:
        address: As ``dask scheduler`` prints it: ``tcp://host:8786``.
    """
    distributed = _import_cluster("distributed")
    distributed.comm.get_address_host_port(address)  # refuses what is no address; the client would hang first
    with distributed.Client(address, set_as_default=False) as client:
        yield client.get_executor(pure=False)


@contextmanager
def slurm(
    jobs: int,
    *,
    memory: str,
    walltime: str = "01:00:00",
    cores: int = 1,
    queue: str | None = None,
    account: str | None = None,
    interface: str | None = None,
    logs: Path | None = None,
) -> Iterator[Executor]:
    """Slurm jobs that work for a Dask scheduler in this process.

    Whatever else a site needs goes into Dask's own file, ``~/.config/dask/jobqueue.yaml``.

    Arguments:
        jobs: Number of jobs to submit; one that reaches its walltime is replaced.
        memory: Of each job, such as ``4GB``.
        walltime: Of each job, ``hours:minutes:seconds``.
        cores: Of each job; each core is one worker process.
        queue: Slurm partition.
        account: Slurm account.
        interface: Network interface by which jobs reach this machine, such as ``ib0``.
        logs: Folder for what the jobs print.
    """
    jobqueue, distributed = _import_cluster("dask_jobqueue"), _import_cluster("distributed")
    if shutil.which("sbatch") is None:
        raise ValueError("there is no Slurm command sbatch here; run this where jobs are submitted")
    options = {"memory": memory, "walltime": walltime, "queue": queue, "account": account}
    options |= {"interface": interface} | ({} if logs is None else {"log_directory": str(logs)})
    site = _import_cluster("dask").config.get("jobqueue.slurm.scheduler-options", {})
    options["scheduler_options"] = {"dashboard_address": ":0"} | site  # two sweeps can share a machine
    with (
        jobqueue.SLURMCluster(cores=cores, processes=cores, **options) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        ended = threading.Event()
        replacing = threading.Thread(target=_keep_scale, args=(cluster, jobs, ended), daemon=True)
        replacing.start()
        try:
            yield client.get_executor(pure=False)
        finally:
            ended.set()
            replacing.join()


def _keep_scale(cluster: Any, jobs: int, ended: threading.Event) -> None:
    """Submits the jobs, and again those that were lost: Dask notices the loss and does nothing about it."""
    while True:
        cluster.scale(jobs=jobs)
        if ended.wait(RESUBMIT):
            return


def _import_cluster(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"this needs {name}, which is not installed; run pip install 'physgen[cluster]'"
        ) from error


class _Child:
    """One worker process and the pipe to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def call(self, function: Callable, args: tuple) -> tuple[object, list[tuple[str, type[Warning]]]]:
        try:
            self._pipe.send((function, args))
            return self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join()
            raise BrokenExecutor(f"its worker process ended {_ending(self._process.exitcode)}") from error

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(pipe: Connection) -> None:
    """The life of a worker process: one job after another, until the pipe is closed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError):
        while True:
            function, args = pipe.recv()
            with warnings.catch_warnings(record=True) as heard:
                result = function(*args)
            pipe.send((result, [(str(w.message), w.category) for w in heard]))


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _block_interrupts() -> None:
    """Ctrl-C reaches all processes of a terminal; those started by this thread inherit that they are deaf.

    The tracker that multiprocessing starts with its first process would undo that, so it is started before.
    """
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _ending(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"with status {exitcode}"
    name = signal.Signals(-exitcode).name
    return f"by {name}{', as when memory runs out' if name == 'SIGKILL' else ''}"
