"""The dependency directions that the README draws, checked on the import statements."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("ising", "physgen", "workflows")
ALLOWED = {  # longest matching prefix wins: what that file or folder may import of this repository
    "ising": {"ising"},
    "ising/stats.py": set(),
    "ising/observables.py": {"ising.stats"},
    "ising/lattices.py": set(),
    "ising/model.py": {"ising.lattices"},
    "physgen": {"physgen", "ising.stats"},
    "physgen/nn.py": set(),
    "physgen/distributions": {"physgen.distributions"},
    "physgen/energy": {"physgen.energy", "physgen.distributions", "physgen.nn", "ising.stats"},
    "physgen/compare.py": {"physgen", "ising"},
    "workflows": set(OURS),
}
FILES = sorted(p.relative_to(ROOT) for top in OURS for p in (ROOT / top).rglob("*.py"))


def allowed_for(path: Path) -> set[str]:
    return ALLOWED[max((key for key in ALLOWED if path.as_posix().startswith(key)), key=len)]


def imports_of(source: str, path: Path) -> list[str]:
    """Absolute names of everything of this repository that ``source``, standing at ``path``, imports."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = path.parent.parts[: len(path.parent.parts) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            found += [f"{base}.{alias.name}" for alias in node.names]
    return [name for name in found if name.split(".")[0] in OURS]


def forbidden(source: str, path: Path) -> list[str]:
    allowed = allowed_for(path)
    return [n for n in imports_of(source, path) if not any(f"{n}.".startswith(f"{ok}.") for ok in allowed)]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_follow_the_layers(path):
    assert forbidden((ROOT / path).read_text(), path) == []


def test_every_rule_is_of_something_that_exists():
    assert [key for key in ALLOWED if not (ROOT / key).exists()] == []


def test_a_wrong_import_is_caught():
    assert forbidden("from ..compare import x", Path("ising/updates/wolff.py")) == []
    assert forbidden("from physgen import ais", Path("ising/model.py")) == ["physgen.ais"]
    assert forbidden("from .model import Ising", Path("ising/stats.py")) == ["ising.model.Ising"]
    assert forbidden("import ising.model", Path("physgen/models/made.py")) == ["ising.model"]
    assert forbidden("from ..nn import x", Path("physgen/distributions/spin.py")) == ["physgen.nn.x"]


def test_importing_the_libraries_changes_no_global_state():
    """No output, no seed, no default dtype, no thread count, no validation flag, no log handler.

    Nor an import that every command would wait for.
    """
    script = """
import logging, random, numpy, pyro, pyro.distributions, torch
def state():
    return (torch.get_default_dtype(), torch.get_num_threads(), torch.get_rng_state().tolist(),
            numpy.random.get_state()[1].tolist(), random.getstate(), logging.root.handlers[:],
            torch.distributions.Distribution._validate_args, torch.get_float32_matmul_precision())
before = state()
import importlib, pkgutil
for top in ("ising", "physgen"):
    package = importlib.import_module(top)
    for module in pkgutil.walk_packages(package.__path__, f"{top}."):
        importlib.import_module(module.name)
assert state() == before
import sys
assert "scipy.stats" not in sys.modules, "it takes a second; scipy.special has the functions"
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
