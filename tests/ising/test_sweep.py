"""Grids of simulations: the same bytes wherever they run and whatever is killed on the way.

Nothing here is left to chance: seeds are fixed and bytes are compared, so the false-alarm rate is zero.
"""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import pytest

from ising import glasses, lattices, simulate, store, sweep, workers
from ising.store.archive import entries
from tests.ising import sweep_faults

MODELS = {  # of real couplings: no kernel has to be compiled in every process
    "cubic": glasses.gaussian(lattices.cubic(4), seed=3, h=0.1),
    "glass": glasses.gaussian(lattices.triangular(6), seed=3),
}
OPTIONS = {"update": "heat_bath", "samples": 40, "chains": 8, "burn_in": 20, "thin": 2}
BETAS, SEEDS = (0.2, 0.3), (0, 1)


def tasks_in(folder: Path, betas=BETAS, **changes) -> list[sweep.Task]:
    models = {folder / f"{name}.h5": model for name, model in MODELS.items()}
    return sweep.grid(models, betas, SEEDS, **OPTIONS | changes)


def contents(folder: Path) -> dict[tuple, str]:
    """The hash of settings and numbers of every run below a folder."""
    found = {}
    for path in folder.glob("*.h5"):
        with entries(path) as runs:
            found |= {(path.name, run.head.beta, run.head.seed): run.content_sha256 for run in runs}
    return found


def finish(tasks: list[sweep.Task], **where) -> sweep.Progress:
    return list(sweep.run(tasks, every=0.05, **where))[-1]


@pytest.fixture(scope="module")
def serial(tmp_path_factory) -> dict[tuple, str]:
    """What the grid comes to, one task after another in this process."""
    folder = tmp_path_factory.mktemp("serial")
    progress = finish(tasks_in(folder), workers=0)
    assert (progress.tasks, progress.finished, progress.fraction, progress.failures) == (8, 8, 1.0, ())
    return contents(folder)


def killing(
    progress: Iterator[sweep.Progress], victims: Callable[[], list[int]]
) -> tuple[sweep.Progress, int]:
    """Kills the first of the victims at its work; returns the last progress and how many were killed."""
    killed = 0
    for last in progress:
        if not killed and 0 < last.fraction < 0.7:
            os.kill(victims()[0], signal.SIGKILL)
            killed += 1
    return last, killed


def test_serial_runs_are_those_of_simulate(serial, tmp_path):
    run = simulate(MODELS["glass"], beta=0.3, seed=1, **OPTIONS)
    store.append(tmp_path / "direct.h5", run)
    assert serial["glass.h5", 0.3, 1] == contents(tmp_path)["direct.h5", 0.3, 1]
    assert len(set(serial.values())) == 8


class Watched(workers.Cores):
    """Counts its dead workers."""

    deaths = 0

    def submit(self, *job: object) -> Future:
        future = super().submit(*job)
        future.add_done_callback(self.note)
        return future

    def note(self, future: Future) -> None:
        self.deaths += future.exception() is not None


def test_local_processes_with_one_killed_make_the_same_bytes(serial, tmp_path):
    with Watched(2) as cores:
        progress = sweep.run(tasks_in(tmp_path), executor=cores, every=0.02)
        last, killed = killing(progress, lambda: [child.pid for child in multiprocessing.active_children()])
        assert (killed, cores.deaths) == (1, 1)
    assert (last.finished, last.failures) == (8, ())
    assert contents(tmp_path) == serial
    assert {path.suffix for path in tmp_path.iterdir()} == {".h5"}
    assert not multiprocessing.active_children()


# Closing a cluster whose worker was killed leaves sockets to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_dask_workers_with_one_killed_make_the_same_bytes(serial, tmp_path):
    distributed = pytest.importorskip("distributed")
    local = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL}
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **local) as cluster,
        distributed.Client(cluster, set_as_default=False, timeout=60) as client,
        workers.dask(cluster.scheduler_address) as executor,
    ):
        before = client.run(os.getpid)
        assert len(set(before.values()) - {os.getpid()}) == 2
        progress = sweep.run(tasks_in(tmp_path), executor=executor, every=0.02)
        last, killed = killing(progress, lambda: list(before.values()))
        client.wait_for_workers(2, timeout=60)
        assert len(set(client.run(os.getpid).values()) - set(before.values())) == killed == 1
    assert (last.finished, last.failures) == (8, ())
    assert contents(tmp_path) == serial


@pytest.fixture(scope="module")
def core() -> Iterator[workers.Cores]:
    with workers.Cores(1) as one:
        yield one


def test_workers_that_depend_on_their_process_are_caught(core, tmp_path):
    """A planted bug, random numbers from the process, passes each run and fails the comparison of two."""
    found = []
    for name, executor in (("a", workers.Here()), ("b", core)):
        careless = sweep_faults.Careless(executor)
        assert finish(tasks_in(tmp_path / name, betas=[0.3]), executor=careless).finished == 4
        found.append(contents(tmp_path / name))
    assert found[0].keys() == found[1].keys()
    assert not set(found[0].values()) & set(found[1].values())


def test_a_second_run_does_only_what_is_missing(serial, tmp_path, monkeypatch):
    made = []
    real = sweep._simulate
    monkeypatch.setattr(sweep, "_simulate", lambda task: made.append(str(task)) or real(task))
    finish(tasks_in(tmp_path, betas=[0.3]), workers=0)
    first = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.h5")}
    assert [p.finished for p in sweep.run(tasks_in(tmp_path, betas=[0.3]))] == [4]  # starts no process
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.h5")} == first
    made.clear()
    assert finish(tasks_in(tmp_path), workers=0).finished == 8
    assert sorted(made) == sorted(f"{name} beta=0.2 seed={seed}" for name in MODELS for seed in SEEDS)
    assert contents(tmp_path) == serial


def test_an_interrupted_grid_resumes_from_its_last_segment(serial, tmp_path, monkeypatch):
    written = []
    real = store.Journal.write

    def write(journal: store.Journal, key: str, segment: object, **about: float) -> None:
        real(journal, key, segment, **about)
        written.append((journal.path.name, key, segment.index))
        if len(written) == 25:
            raise KeyboardInterrupt

    monkeypatch.setattr(store.Journal, "write", write)
    with pytest.raises(KeyboardInterrupt):
        finish(tasks_in(tmp_path), workers=0)
    assert 0 < next(sweep.run(tasks_in(tmp_path), workers=0)).fraction < 0.5 or not contents(tmp_path)
    assert finish(tasks_in(tmp_path), workers=0).finished == 8
    assert len(written) == len(set(written)) == 8 * sweep.SEGMENTS
    assert contents(tmp_path) == serial


def test_a_failing_task_is_named_and_the_others_finish(serial, tmp_path):
    tasks = tasks_in(tmp_path)
    broken = tasks[2]
    broken.journal.folder.mkdir()
    segment = broken.journal.folder / f"{broken.key}-000000.segment"
    segment.write_bytes(b"not a segment")
    last = finish(tasks, workers=0)
    [failure] = last.failures
    assert last.finished == 7
    assert str(failure).startswith("cubic beta=0.3 seed=0: ")
    assert segment.name in failure.reason
    found = contents(tmp_path)
    assert len(found) == 7
    assert found.items() < serial.items()
    segment.unlink()
    assert finish(tasks, workers=0).failures == ()
    assert contents(tmp_path) == serial


def test_a_task_that_kills_its_worker_is_named_and_the_others_finish(serial, tmp_path):
    tasks = tasks_in(tmp_path, betas=[0.3])

    class Poisoned(Watched):
        def submit(self, work: Callable, task: sweep.Task, *more: object) -> Future:
            poison = (signal.raise_signal, signal.SIGKILL)
            return super().submit(*(poison if task is tasks[1] else (work, task, *more)))

    with Poisoned(1) as cores:
        last = finish(tasks, executor=cores)
        assert cores.deaths == 2  # once among others, once alone
    [failure] = last.failures
    assert str(failure).startswith("cubic beta=0.3 seed=1: its worker process ended by SIGKILL")
    assert last.finished == 3
    assert contents(tmp_path).items() < serial.items()


def test_a_worker_with_other_versions_is_refused(tmp_path):
    task = tasks_in(tmp_path)[0]
    segments, reason = sweep.work(task, sweep.versions() | {"numpy": "1.0"})
    assert segments == 0
    assert "numpy 1.0" in reason
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_shared_is_named(tmp_path, monkeypatch):
    class Elsewhere(workers.Here):
        def submit(self, work: Callable, task: sweep.Task, *more: object) -> Future:
            return super().submit(work, replace(task, path=tmp_path / "other" / task.path.name), *more)

    monkeypatch.setattr(sweep, "PATIENCE", 0)
    last = finish(tasks_in(tmp_path / "here", betas=[0.3]), executor=Elsewhere())
    assert last.finished == 0
    assert all("workers must share it" in failure.reason for failure in last.failures)


def test_what_a_task_ran_into_is_named_with_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "restore", lambda **_: 1 / 0)
    [failure, *_] = finish(tasks_in(tmp_path), workers=0).failures
    assert failure.reason.startswith("ZeroDivisionError: division by zero (test_sweep.py, line ")


def test_a_mistake_in_the_program_is_not_taken_for_a_failed_task(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "restore", lambda model: model)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        finish(tasks_in(tmp_path), workers=0)


def test_impossible_grids_are_refused_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="name an update"):
        tasks_in(tmp_path, update="auto")
    with pytest.raises(ValueError, match="chains"):
        tasks_in(tmp_path, chains=0)
    with pytest.raises(ValueError, match=r"workers must be a number of processes, .* got -1"):
        finish(tasks_in(tmp_path), workers=-1)
    finish(tasks_in(tmp_path, betas=[0.3]), workers=0)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="choose other seeds"):
        finish(tasks_in(tmp_path, samples=50), workers=0)
    with pytest.raises(store.StoreError, match="another Hamiltonian"):
        finish(sweep.grid({tmp_path / "glass.h5": MODELS["cubic"]}, [0.5], **OPTIONS), workers=0)
    assert contents(tmp_path) == before


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"physgen\[cluster\]"), workers.dask("tcp://127.0.0.1:1"):
        pass


def test_warnings_of_a_worker_are_heard_here(core):
    with pytest.warns(UserWarning, match="from afar"):
        core.submit(sweep_faults.warn, "from afar").result()


GRID = "sweep --lattice cubic --L 6 --glass gaussian --disorder 0 1 --beta 0.3 0.4 --update heat_bath".split()
GRID += "--samples 200 --chains 16 --burn-in 20 --thin 4 --workers 2 --quiet".split()


def physgen(*args: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "workflows", *map(str, args)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.slow
def test_after_ctrl_c_the_same_command_continues(tmp_path):
    """The signal goes to all processes, as a terminal sends it; none of them says more than one sentence."""
    process = physgen(*GRID, "--out", tmp_path / "a")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("a/*.parts/*-000001.segment")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert err.startswith("\nphysgen: stopped. What is done is safe in ")
    assert "Traceback" not in err
    kept = len(list(tmp_path.glob("a/*.parts/*.segment")))
    for name in ("a", "b"):
        process = physgen(*GRID, "--out", tmp_path / name)
        err = process.communicate(timeout=120)[1]
        assert (process.returncode, "4 runs in 2 files" in err) == (0, True), err
    assert kept > 0
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


SBATCH = """#!/bin/sh
setsid sh "$1" > "$0.log.$$" 2>&1 &
echo $! >> "$0.jobs"
echo "Submitted batch job $!"
"""


@pytest.mark.slow
def test_slurm_jobs_that_all_die_are_replaced_and_make_the_same_bytes(serial, tmp_path, monkeypatch):
    """A stand-in for Slurm runs each job as processes of this machine."""
    pytest.importorskip("dask_jobqueue")
    for name, script in (("sbatch", SBATCH), ("scancel", "#!/bin/sh\nkill -9 -$1\n")):
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    with pytest.raises(ValueError, match="sbatch"), workers.slurm(1, memory="1GB"):
        pass
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def jobs() -> list[int]:
        return [int(line) for line in (tmp_path / "sbatch.jobs").read_text().split()]

    killed = []
    deadline = time.monotonic() + 90
    with workers.slurm(2, memory="1GB", interface="lo", logs=tmp_path / "logs") as executor:
        for last in sweep.run(tasks_in(tmp_path), executor=executor, every=0.02):
            assert time.monotonic() < deadline, "the jobs were not replaced"
            if not killed and 0 < last.fraction < 0.7:
                killed = jobs()
                for pid in killed:
                    os.killpg(pid, signal.SIGKILL)
    assert len(killed) in (1, 2)
    assert len(jobs()) > len(killed)
    assert (last.finished, last.failures) == (8, ())
    assert contents(tmp_path) == serial
