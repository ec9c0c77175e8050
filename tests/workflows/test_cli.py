"""The command line as a user meets it: quick help, errors of one sentence, stops that can be resumed."""

import dataclasses
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from ising import Ising, lattices, store
from ising.segments import Segment
from ising.simulate import stream
from workflows import __main__ as command
from workflows import simulate, train_rbm

SIMULATE = "simulate --L 4 --samples 20 --chains 16 --burn-in 5 --thin 1 --quiet".split()
TRAIN = "train_rbm --hidden 4 --chains 20 --steps 600 --every 100 --batch 16 --quiet".split()


def physgen(*args: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "workflows", *args], capture_output=True, text=True, check=False, **options
    )


def says(monkeypatch, *args: str) -> str:
    """What the command says when it refuses; in this process, because a new one takes seconds to import."""
    with monkeypatch.context() as patched:
        patched.setattr(sys, "argv", ["physgen", *args])
        patched.setattr("warnings.showwarning", None)  # main replaces it; give it back afterwards
        with pytest.raises(SystemExit) as stop:
            command.main()
    return stop.value.code  # a text is printed on stderr, and the exit code is 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set at two temperatures, a damaged copy, foreign files and a finished training."""
    folder = tmp_path_factory.mktemp("cli")
    options = {"L": (4,), "samples": 20, "chains": 16, "burn_in": 5, "thin": 1, "quiet": True}
    simulate.main(config=simulate.Config(**options, beta=(0.3, 0.5), out=folder / "good.h5"))
    simulate.main(config=simulate.Config(**options | {"L": (6,)}, beta=(0.3,), out=folder / "six.h5"))
    simulate.main(config=simulate.Config(**options | {"chains": 2}, beta=(0.3,), out=folder / "few.h5"))
    whole = (folder / "good.h5").read_bytes()
    (folder / "truncated.h5").write_bytes(whole[: len(whole) // 2])
    (folder / "flipped.h5").write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    (folder / "text.h5").write_text("not HDF5")
    (folder / "empty.h5").write_bytes(b"")
    with h5py.File(folder / "foreign.h5", "w") as file:
        file["spins"] = np.ones((3, 3))
    (folder / "directory.h5").mkdir()
    return folder


# What is wrong, the command, and what the sentence must name.
WRONG = {
    "missing file": ("train_rbm --data {f}/none.h5 --out {o}", "none.h5"),
    "truncated file": ("info {f}/truncated.h5", "truncated.h5"),
    "flipped bit": ("info {f}/flipped.h5", "flipped.h5"),
    "text file": ("info {f}/text.h5", "text.h5"),
    "empty file": ("info {f}/empty.h5", "empty.h5"),
    "foreign HDF5": ("train_vae --data {f}/foreign.h5 --out {o}", "foreign.h5"),
    "directory": ("info {f}/directory.h5", "directory.h5"),
    "L = 0": ("simulate --L 0 --beta 0.4 --out {o}.h5", "got 0"),
    "L = 2 periodic": ("simulate --L 2 --beta 0.4 --out {o}.h5", "or an open boundary"),
    "two sides for a square": ("simulate --L 4 6 --beta 0.4 --out {o}.h5", "square"),
    "odd brick wall": ("simulate --lattice honeycomb --L 5 --beta 0.4 --out {o}.h5", "even L"),
    "unknown lattice": ("simulate --lattice kagome --beta 0.4 --out {o}.h5", "kagome"),
    "unknown update": ("simulate --update magic --beta 0.4 --out {o}.h5", "magic"),
    "negative temperature": ("simulate --temperature -1 --out {o}.h5", "-1"),
    "zero temperature": ("simulate --temperature 0 --out {o}.h5", "> 0"),
    "NaN temperature": ("simulate --temperature nan --out {o}.h5", "nan"),
    "NaN coupling": ("simulate --J nan --beta 0.4 --out {o}.h5", "J must be finite"),
    "beta and temperature": ("simulate --beta 0.4 --temperature 2 --out {o}.h5", "--beta"),
    "no temperature": ("simulate --out {o}.h5", "--temperature"),
    "no samples": ("simulate --samples 0 --beta 0.4 --out {o}.h5", "samples"),
    "the same run again": (" ".join(SIMULATE) + " --beta 0.3 0.5 --out {f}/good.h5", "--seed"),
    "the same seed, longer": (
        " ".join(SIMULATE).replace("20", "40") + " --beta 0.3 --out {f}/good.h5",
        "--seed",
    ),
    "another Hamiltonian": (" ".join(SIMULATE) + " --h 0.1 --beta 0.3 --out {f}/good.h5", "Hamiltonian"),
    "no temperature chosen": ("train_rbm --data {f}/good.h5 --out {o}", "0.3, 0.5"),
    "temperature not in file": ("train_rbm --data {f}/good.h5 --beta 0.4 --out {o}", "0.3, 0.5"),
    "too few chains": ("train_rbm --data {f}/few.h5 --out {o}", "chain"),
    "batch above the data": ("train_rbm --data {f}/good.h5 --beta 0.3 --batch 9999 --out {o}", "9999"),
    "wrong shape": ("train_gan --data {f}/six.h5 --batch 16 --out {o}", "6"),
    "unknown model": ("train_autoregressive --model pixelrnn --out {o}", "pixelrnn"),
    "unknown command": ("trian_rbm", "trian_rbm"),
    "unknown option": ("simulate --betta 0.4", "--betta"),
    "not a number": ("simulate --beta warm", "warm"),
    "a fraction of a site": (
        "simulate --L 16.5 --beta 0.4 --out {o}.h5",
        "--L: '16.5' is not a whole number",
    ),
    "a half sample": ("simulate --samples 2.5 --beta 0.4 --out {o}.h5", "'2.5' is not a whole number"),
    "a whole number as 1e3": ("train_rbm --data {f}/good.h5 --steps 1e3 --out {o}", "--steps: '1e3' is not"),
    "half a side": ("simulate --lattice rectangular --L 4 6.0 --beta 0.4 --out {o}.h5", "'6.0' is not"),
    "no steps": ("train_rbm --data {f}/good.h5 --beta 0.3 --steps 0 --out {o}", "--steps"),
    "no records": ("train_rbm --data {f}/good.h5 --beta 0.3 --every 0 --out {o}", "--every"),
    "negative width": ("train_vae --data {f}/good.h5 --beta 0.3 --hidden -3 --out {o}", "--hidden"),
    "negative rate": ("train_vae --data {f}/good.h5 --beta 0.3 --lr -1 --out {o}", "--lr"),
    "a rate beyond reason": (
        "train_rbm --data {f}/good.h5 --beta 0.3 --lr 1e9 --out {o}",
        "--lr must be a number > 0 and <= 1, got 1e+09",
    ),
    "NaN rate": ("train_gan --data {f}/good.h5 --beta 0.3 --critic-lr nan --out {o}", "--critic-lr"),
    "average above 1": ("train_rbm --data {f}/good.h5 --beta 0.3 --average 3 --out {o}", "--average"),
    "no critic steps": ("train_gan --data {f}/good.h5 --beta 0.3 --critic-steps 0 --out {o}", "--critic"),
    "no step of the generator": (
        "train_gan --data {f}/good.h5 --beta 0.3 --steps 4 --critic-steps 5 --out {o}",
        "so never in --steps 4; lower --critic-steps",
    ),
    "hidden units not named": (
        "train_boltzmann --data {f}/good.h5 --beta 0.3 --out {o} --hidden",
        "got nothing",
    ),
    "nothing to couple": (
        "train_boltzmann --data {f}/good.h5 --hidden 0 --lateral --out {o}",
        "--lateral couples",
    ),
    "layers coupled inside": ("train_boltzmann --hidden 4 3 --lateral --out {o}", "--lateral couples"),
    "chains that nobody runs": (
        "train_rbm --trainer exact --chains 9 --out {o}",
        "--chains has no effect with",
    ),
    "levels of one temperature": (
        "train_rbm --levels 4 --out {o}",
        "--levels has no effect with --trainer pcd",
    ),
    "no sum over so many": (
        "train_rbm --data {f}/six.h5 --batch 16 --trainer exact --hidden 21 --out {o}",
        "lower --hidden, or take pcd",
    ),
    "nothing to resume": ("train_rbm --data {f}/good.h5 --beta 0.3 --batch 16 --resume --out {o}", "resume"),
    "lattice beyond memory": ("simulate --L 300000 --beta 0.4 --out {o}.h5", "GB"),
    "samples beyond the disk": ("simulate --beta 0.4 --samples 10000000000 --out {o}.h5", "GB of disk"),
    "chains beyond memory": ("simulate --L 16 --chains 1000000000 --beta 0.4 --out {o}.h5", "GB"),
    "model beyond memory": (
        "train_rbm --data {f}/good.h5 --beta 0.3 --hidden 100000000000 --out {o}",
        "memory",
    ),
    "no chains": ("simulate --beta 0.4 --chains 0 --out {o}.h5", "--chains"),
    "no workers": ("compare --workers 0 --data {f}/good.h5", "--workers"),
    "one sample": ("compare --samples 1 --data {f}/good.h5", "--samples"),
    "a file for a folder": ("train_rbm --data {f}/good.h5 --beta 0.3 --out {f}/text.h5", "text.h5"),
    "no models": ("compare --runs {o} --data {f}/good.h5 --report {o}.html", "no trained model"),
    "sweep: no temperature": ("sweep --L 4 --out {o}", "--temperature"),
    "sweep: glass without disorder": ("sweep --glass bimodal --beta 0.4 --out {o}", "--disorder"),
    "sweep: two places": ("sweep --beta 0.4 --workers 1 --slurm 2 --out {o}", "--slurm"),
    "sweep: a file for a folder": ("sweep --L 4 --beta 0.4 --out {f}/text.h5", "--out names a folder"),
    "sweep: no port": ("sweep --L 4 --beta 0.4 --scheduler foo --out {o}", "--scheduler foo cannot be used"),
    "glass: one sample": ("spin_glass --samples 1 --out {o}", "--samples must be at least 2"),
    "glass: negative disorder": ("spin_glass --disorder 0 -1 --out {o}", "--disorder takes whole numbers"),
    "glass: beyond memory": ("spin_glass --lattice cubic --L 300 --out {o}", "GB; take a smaller --L"),
    "sweep: negative seed": ("sweep --beta 0.4 --seeds -1 --out {o}", "--seeds"),
    "sweep: beyond memory": ("sweep --L 300000 --beta 0.4 --workers 1 --out {o}", "GB"),
    "two sizes": ("phase_diagram --L 8 16 --out {o}", "three sizes"),
    "one temperature": ("phase_diagram --points 1 --out {o}", "--points"),
    "a phase diagram of a chain": ("phase_diagram --lattice chain --out {o}", "chain"),
    "down to T = 0": ("phase_diagram --L 8 12 16 --width 9 --out {o}", "--width"),
    "a table that is there": ("density_of_states --L 4 --out {f}/text.h5", "text.h5 exists"),
    "a picture as a table": ("density_of_states --L 4 --out {o}.png", "names a table"),
    "too few draws": ("torlai_melko --drawn 1 --out {o}", "--drawn must be at least 100"),
    "one chain to test": ("gaussian_rbm --chains 9 --out {o}", "--chains must be at least 10"),
    "a density beyond a sum": (
        "gaussian_rbm --mixture-hidden 21 --out {o}",
        "--mixture-hidden is at most 20",
    ),
    "fewer fields than a batch": (
        "gaussian_rbm --chains 10 --samples 1 --batch 9 --out {o}",
        "8 fields to train",
    ),
    "ground states that are not there": (
        "density_of_states --L 4 --walkers 8 --sweeps 999 --ln-f 0.01 --ground-states 7 --quiet --out {o}",
        "normalised by all 2^N states",
    ),
    "no walkers": ("density_of_states --L 4 --walkers 0 --out {o}.csv", "--walkers"),
    "levels of an unknown lattice": ("density_of_states --lattice kagome --out {o}.csv", "kagome"),
    "diagnose: missing file": ("diagnose {f}/none.h5 --out {o}.png", "none.h5"),
    "diagnose: temperature not in file": ("diagnose {f}/good.h5 --beta 0.4 --out {o}.png", "0.4"),
    "diagnose: flipped bit": ("diagnose {f}/flipped.h5 --out {o}.png", "flipped.h5"),
    "a missing text": ("characters {f}/none.txt --out {o}", "none.txt: No such file or directory; check"),
    "no GPU": ("simulate --beta 0.4 --device cuda --out {o}.h5", "CUDA"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_input_is_one_sentence_and_changes_nothing(case, folder, tmp_path, monkeypatch, capfd):
    if case == "no GPU" and command_has_cuda():
        pytest.skip("this machine has a CUDA device")
    line, named = WRONG[case]
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    said = says(monkeypatch, *(word.format(f=folder, o=tmp_path / "out") for word in line.split()))
    assert isinstance(said, str)
    assert said.startswith("physgen: ")
    assert named in said
    assert "\n" not in said
    assert capfd.readouterr().out == ""
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before
    assert not list(tmp_path.rglob("*.h5"))


def command_has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def test_help_imports_nothing_heavy():
    """What makes a command slow to answer is what it imports; seconds would depend on the machine."""
    done = physgen("--help")
    assert done.returncode == 0
    assert "simulate" in done.stdout
    script = (
        "import sys, workflows.__main__ as m; m.build_app(); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'numba', 'matplotlib', 'scipy', 'h5py')))"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
    heavy = script.replace("m.build_app();", "m.build_app(); import h5py;")  # negative control
    assert subprocess.run([sys.executable, "-c", heavy], check=False).returncode == 1


def test_a_full_disk_is_a_sentence_and_loses_nothing(folder, tmp_path, monkeypatch):
    """A limit on the size of files stands in for the full disk; the file before stays as it was."""
    path = tmp_path / "data.h5"
    shutil.copy(folder / "good.h5", path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # Python ignores SIGXFSZ: write() fails
    try:
        said = says(monkeypatch, *SIMULATE, "--beta", "0.4", "--samples", "4000", "--out", str(path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert said.startswith("physgen: ")
    assert "\n" not in said
    assert path.read_bytes() == before


def _interrupted(args: list[str], ready: Path, pattern: str) -> subprocess.CompletedProcess:
    """Sends Ctrl-C to a command once a file that matches is there."""
    process = subprocess.Popen(
        [sys.executable, "-m", "workflows", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells ignore it in the background
    )
    deadline = time.monotonic() + 120
    while not list(ready.glob(pattern)) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(args, process.returncode, out, err)


def test_simulate_continues_after_ctrl_c_with_the_same_content(tmp_path):
    config = simulate.Config(
        L=(32,), beta=(0.44,), samples=200, chains=64, update="wolff", burn_in=50, thin=20, quiet=True
    )
    options = [f"--{name}={getattr(config, name)}" for name in ("samples", "chains", "update", "thin")]
    args = ["simulate", "--L=32", "--beta=0.44", "--burn-in=50", "--quiet", *options]
    stopped = _interrupted([*args, "--out", str(tmp_path / "a.h5")], tmp_path, "a.h5.parts/*-000001.segment")
    assert stopped.returncode == 130
    assert "the same command continues" in stopped.stderr
    assert f"--out {tmp_path}/a.h5" in stopped.stderr
    assert not (tmp_path / "a.h5").exists()
    assert list(tmp_path.glob("a.h5.parts/*.segment"))
    for name in ("a.h5", "b.h5"):
        simulate.main(config=dataclasses.replace(config, out=tmp_path / name))
    assert store.digest(tmp_path / "a.h5") == store.digest(tmp_path / "b.h5")


def test_training_continues_after_ctrl_c_bit_for_bit(folder, tmp_path, monkeypatch):
    config = train_rbm.Config(
        data=folder / "good.h5", beta=0.3, hidden=4, chains=20, steps=600, every=100, batch=16, quiet=True
    )
    args = [*TRAIN, "--data", str(folder / "good.h5"), "--beta", "0.3", "--out", str(tmp_path / "a")]
    stopped = _interrupted(args, tmp_path, "a/checkpoints/00000100*")
    assert stopped.returncode == 130
    assert stopped.stderr.rstrip().endswith("--resume")
    assert says(monkeypatch, *args).count("--resume") == 1  # refuses to start over
    assert "lr" in says(monkeypatch, *args, "--lr", "1", "--resume")
    manifest = tmp_path / "a" / "config.json"
    older = json.loads(manifest.read_text())
    del older["options"]["sparsity"]  # as if written before there was such an option
    manifest.write_text("{")
    assert "config.json is damaged" in says(monkeypatch, *args, "--resume")
    manifest.write_text(json.dumps(older))
    assert "sparsity = None" in says(monkeypatch, *args, "--sparsity", "0.2", "--resume")
    monkeypatch.setattr(train_rbm, "draw", lambda *_: None)  # figures: see test_workflows.py
    for name in "ab":
        train_rbm.main(config=dataclasses.replace(config, out=tmp_path / name, resume=name == "a"))
    a, b = ([*(tmp_path / x / "checkpoints").glob("*/weights.safetensors")] for x in "ab")
    assert a[0].read_bytes() == b[0].read_bytes()
    files = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in "ab"]
    a, b = ([json.loads(line) | {"seconds": 0} for line in lines] for lines in files)
    assert a == b
    assert [record["step"] for record in a] == [100, 200, 300, 400, 500, 600]
    assert os.environ.get("PHYSGEN_TRACEBACK") is None


def test_auto_goes_on_with_its_choice_and_naming_it_gives_the_same_content(tmp_path, monkeypatch, caplog):
    options = {"L": (8,), "beta": (0.44,), "samples": 30, "chains": 16, "quiet": True}
    auto = simulate.Config(**options, update="auto", out=tmp_path / "a.h5")
    write = store.Journal.write

    def stopped(journal: store.Journal, key: str, part: Segment, **more: float) -> None:
        write(journal, key, part, **more)
        if part.index == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(store.Journal, "write", stopped)
        with pytest.raises(KeyboardInterrupt, match="the same command continues"):
            simulate.main(config=auto)
    with caplog.at_level("INFO"):
        simulate.main(config=auto)
    [run] = store.runs(tmp_path / "a.h5")
    assert f"{run.update} " in caplog.text.partition("independent samples/s: ")[2].partition(",")[0]
    rates = {
        name: value for name, value in run.provenance.items() if name.endswith("_independent_per_second")
    }
    assert max(rates, key=rates.get) == f"auto_{run.update}_independent_per_second"
    simulate.main(config=simulate.Config(**options, update=run.update, out=tmp_path / "b.h5"))
    assert store.digest(tmp_path / "a.h5") == store.digest(tmp_path / "b.h5")


def test_the_progress_line_follows_a_bounded_stretch_of_a_few_chains():
    """White noise is 2 sweeps apart at tau = 1/2; all configurations count, also those before a resume."""
    model, rng = Ising(lattices.chain(8)), np.random.default_rng(0)
    [part] = stream(model, beta=0.5, samples=1, burn_in=0, thin=4, chains=100)
    progress = simulate.Progress()
    for k in range(1, 13):
        energies = rng.normal(size=(100, 1000))
        part = dataclasses.replace(part, first=1000 * k, bits=np.empty((100, 1000, 1)), energies=energies)
        line = progress.after(part)
    assert sum(row.size for row in progress.rows) < simulate.Progress.WINDOW + 16_000
    found = re.fullmatch(r"[\d.]+[kMG]? samples/s  tau (\S+) sweeps  ESS (\S+)M", line)
    assert float(found[1]) == pytest.approx(2.0, abs=0.1)
    assert float(found[2]) == pytest.approx(1.3, abs=0.07)
    assert [simulate._short(x) for x in (0.5, 999, 131_072, 2.5e9)] == ["0.5", "999", "131k", "2.5G"]
