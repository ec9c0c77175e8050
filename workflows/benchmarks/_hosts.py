"""Processes that contestants live in: this package, the same for a plainer processor, and each peer."""

import os
import pickle
import platform
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

from llvmlite.binding import get_host_cpu_name

PEERS = {"mcising": "mcising==1.1.*", "peapods": "peapods==0.2.*"}
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("RAYON", "OMP", "NUMBA", "MKL")}


class Host:
    """A process that contestants live in; it starts when it is asked for the first time."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str]):
        self.name, self.command, self._environment = name, command, environment
        self._process: subprocess.Popen | None = None

    def ask(self, key: str, method: str, *arguments: Any) -> tuple[Any, float]:
        """The result and the CPU seconds that it took.

        Raises:
            RuntimeError: If the process ended instead.
        """
        if self._process is None:
            variables = os.environ | ONE_THREAD | self._environment
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(self.command, stdin=pipe, stdout=pipe, env=variables)
        try:
            pickle.dump((key, method, arguments), self._process.stdin)
            self._process.stdin.flush()
            return pickle.load(self._process.stdout)
        except (EOFError, BrokenPipeError):
            raise RuntimeError(
                f"the process of {self.name} ended while {key} was asked to {method}"
            ) from None

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()


def own_hosts(cache: Path) -> tuple[Host, dict[str, Host]]:
    """This package; and again compiled without intrinsics, for this processor and for one with AVX2 only.

    Arguments:
        cache: Folder for what is compiled for the others.
    """
    command = [sys.executable, "-m", "workflows.benchmarks._ours"]
    plain = {"no intrinsics": get_host_cpu_name()}
    if platform.machine() in ("x86_64", "AMD64"):
        plain["AVX2 only"] = "x86-64-v3"
    hosts = {
        name: Host(
            f"this package, {name}",
            command,
            {
                "NUMBA_CPU_NAME": processor,
                "NUMBA_CPU_FEATURES": "",
                "NUMBA_CACHE_DIR": str(cache / processor),
            },
        )
        for name, processor in plain.items()
    }
    return Host("this package", command, {}), hosts


def peer_hosts(folder: Path, peers: dict[str, str] = PEERS) -> dict[str, Host]:
    """All peers that can be had, from the virtual environment in this folder."""
    python = environment(folder)
    script = str(Path(__file__).with_name("_peers.py"))
    return {name: Host(name, [str(python), script], {}) for name in installed(python, peers)}


def environment(folder: Path) -> Path:
    """The Python of the virtual environment in this folder, which is made if it is missing."""
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    return python


def installed(python: Path, peers: dict[str, str] = PEERS) -> list[str]:
    """The peers that are there or can be installed; one line about each that cannot."""
    there = []
    for name, requirement in peers.items():
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement]
        pip = subprocess.run(command, capture_output=True, text=True, check=False)
        if pip.returncode == 0:
            there.append(name)
        else:
            reason = (pip.stderr.strip() or pip.stdout.strip() or "pip says nothing").splitlines()[-1]
            say(f"{name} cannot be installed, so it does not take part: {reason}")
    return there


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
