"""Restricted Boltzmann machines on a CPU: configurations learned per CPU-second, and chain updates.

  python -m workflows.benchmarks.rbm --json rbm.json

784 x 500 units of 0 and 1 in float32, batches of 100: one contrastive
divergence (CD-1), persistent chains with one and with ten updates (PCD-1,
PCD-10), and block Gibbs updates of 1000 chains. A training step is the whole
step: gradient and change of the parameters; learning rate 0.01, plain gradient
descent. The matrix products row is what the five (2 k + 3) products of a step
cost in torch alone, without drawing anything.

Peers are rbms 0.6 (its loop with the centred gradient, its default),
scikit-learn's BernoulliRBM (PCD-1 only), and a torch loop as a careful user
writes it. They share the torch of this environment. Before anything is timed
one Gibbs update of everybody is compared with the enumerated one on a machine
of 6 x 4 units: means and products of all units within 5 sigma.
"""

import contextlib
import itertools
import math
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from physgen.distributions import BernoulliRBM
from workflows._common import write_json
from workflows.benchmarks._common import Config, command, processor, shown
from workflows.benchmarks._hosts import Host, environment, say

SIGMAS = 5.0
REQUIREMENTS = {"rbms": "rbms==0.6.*", "scikit-learn": "scikit-learn>=1.7"}
TASKS = {  # updates per step, persistent, method
    "CD-1": (1, False, "train"),
    "PCD-1": (1, True, "train"),
    "PCD-10": (10, True, "train"),
    "Gibbs, 1000 chains": (1, True, "gibbs"),
}


def main(*, config: Config = Config()) -> None:
    visible, hidden = (64, 40) if config.quick else (784, 500)
    with contextlib.ExitStack() as stack:
        hosts = contestants(config, stack)
        fit = [name for name in hosts if name == "products" or right(name, hosts[name])]
        rows = [
            row
            for task in TASKS
            for row in contest(task, {n: hosts[n] for n in fit}, visible, hidden, config)
        ]
    if config.json is not None:
        write_json(config.json, rows)
    if len(fit) < len(hosts):
        sys.exit("wrong updates: " + ", ".join(set(hosts) - set(fit)))


def contestants(config: Config, stack: contextlib.ExitStack) -> dict[str, Host]:
    """The process of each contestant by its kind."""
    ours = Host("this package", [sys.executable, "-m", "workflows.benchmarks._machines"], {})
    stack.callback(ours.close)
    return {"ours": ours, "torch loop": ours, "products": ours} | peers(config, stack)


def peers(config: Config, stack: contextlib.ExitStack, *arguments: str) -> dict[str, Host]:
    """The processes of the peers that can be had, none where none are asked for."""
    if not config.peers:
        return {}
    python = environment(config.environment or Path(stack.enter_context(tempfile.TemporaryDirectory())))
    share(python)
    command = [str(python), str(Path(__file__).with_name("_machines.py")), *arguments]
    hosts = {name: Host(name, command, {}) for name in REQUIREMENTS if installed(python, name)}
    for host in hosts.values():
        stack.callback(host.close)
    return hosts


def share(python: Path) -> None:
    """Lets the environment of the peers see the packages of ours, torch above all."""
    place = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    folder = subprocess.run(place, capture_output=True, text=True, check=True).stdout.strip()
    (Path(folder) / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")


def installed(python: Path, name: str) -> bool:
    """Whether a peer is there or can be had; rbms runs on older versions of Python than it declares."""
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*pip, "--ignore-requires-python", REQUIREMENTS[name]], capture_output=True, text=True, check=False
    )
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "pip says nothing").splitlines()[-1]
        say(f"{name} cannot be installed, so it does not take part: {reason}")
    return done.returncode == 0


def right(name: str, host: Host) -> bool:
    """Whether one update of 40 000 chains has the enumerated means and products."""
    generator = torch.Generator().manual_seed(1)
    plain = [torch.randn(shape, generator=generator) for shape in ((6, 4), (6,), (4,))]
    law = BernoulliRBM(*(x.double() for x in plain))
    v0 = (torch.rand(6, generator=generator) < 0.5).double()
    h = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 4)
    weight, means = law.hidden(v0).log_prob(h).exp(), law.visible(h).mean
    expected = weight @ means
    pairs = torch.einsum("s,si,sj->ij", weight, means, means)
    start = v0.float().expand(40_000, 6).contiguous().numpy()
    options = {"plain": [x.numpy() for x in plain], "data": start[:1200], "k": 1, "persistent": True}
    host.ask(name, "make", name, options)
    found = torch.as_tensor(host.ask(name, "update", start)[0]).double()
    host.ask(name, "drop")
    products = found.T @ found / len(found)
    z = [(found.mean(0) - expected) / (expected * (1 - expected) / len(found)).sqrt()]
    off = ~torch.eye(6, dtype=torch.bool)
    z.append(((products - pairs) / (pairs * (1 - pairs) / len(found)).sqrt())[off])
    worst = float(torch.cat(z).abs().max())
    if worst > SIGMAS:
        say(f"{name} does not take part: its update is off by {worst:.1f} sigma")
    return worst <= SIGMAS


def contest(
    task: str, hosts: dict[str, Host], visible: int, hidden: int, config: Config
) -> list[dict[str, Any]]:
    """Times one task in turns, prints and returns its rows."""
    k, persistent, method = TASKS[task]
    generator = np.random.default_rng(0)
    plain = [generator.normal(0, 0.01, s).astype(np.float32) for s in ((visible, hidden), visible, hidden)]
    data = (generator.random((5000, visible)) < generator.random(visible)).astype(np.float32)
    taking = [n for n in hosts if not (n == "scikit-learn" and (k, persistent) != (1, True))]
    options = {"plain": plain, "data": data, "k": k, "persistent": persistent}
    steps, rates = {}, {name: [] for name in taking}
    for name in taking:
        hosts[name].ask(name, "make", name, options)
        hosts[name].ask(name, method, 1)
        _, spent = hosts[name].ask(name, method, 5)
        steps[name] = max(1, round(5 * config.seconds / max(spent, 1e-4)))
    for _, name in itertools.product(range(config.windows), taking):
        done, spent = hosts[name].ask(name, method, steps[name])
        rates[name].append(done / spent)
    for name in taking:
        hosts[name].ask(name, "drop")
    baseline = next(n for n in ("rbms", "torch loop") if n in taking)
    best = {name: max(found) for name, found in rates.items()}
    size = f"{visible} x {hidden}, batch 100, best of {config.windows} windows of {config.seconds:g} CPU-s"
    rows = []
    for name in taking:
        title = {"ours": "physgen", "products": "matrix products alone"}.get(name, name)
        rows.append(
            {
                "name": f"{task}, {title}",
                "value": best[name],
                "unit": "chain updates/s" if method == "gibbs" else "samples/s",
                "baseline": f"{task}, {baseline}",
                "baseline_value": best[baseline],
                "ratio": best[name] / best[baseline] if best[baseline] else math.nan,
                "conditions": f"{size}, median {np.median(rates[name]):.4g}; {processor()}",
            }
        )
        say("{name:40} {value:>9} {unit:16} x {ratio:<5} {baseline}".format(**shown(rows[-1])))
    return rows


if __name__ == "__main__":
    command(main)
