"""The benchmarks work and refuse what is wrong. No time is judged: the machine of a test is not quiet."""

import json
import sys
from pathlib import Path

import pytest
import torch

from ising import exact
from physgen import models
from workflows.benchmarks import (
    _common,
    _hosts,
    _loops,
    _peers,
    autoregressive,
    clusters,
    dataset,
    metropolis,
    tempering,
)
from workflows.benchmarks._common import Check, Config, Contestant

SCHEMA = {
    "name": str, "value": float, "unit": str, "baseline": str, "baseline_value": float, "ratio": float,
    "conditions": str,
}  # fmt: skip
BETA_C = exact.critical_beta("square")


class Kept(_hosts.Host):
    """Stays for the next test: a new process takes seconds to import."""

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def ours():
    host = Kept("this package", _hosts.own_hosts(Path())[0].command, {})
    yield host
    _hosts.Host.close(host)


@pytest.fixture(autouse=True)
def _one_process(ours, monkeypatch):
    monkeypatch.setattr(_common, "own_hosts", lambda folder: (ours, _hosts.own_hosts(folder)[1]))


SLOW = [pytest.param(module, marks=pytest.mark.slow) for module in (metropolis, clusters)]


@pytest.mark.parametrize("benchmark", [*SLOW, tempering, dataset])
def test_a_quick_run_writes_its_table(benchmark, tmp_path, capsys):
    path = tmp_path / "table.json"
    benchmark.main(config=Config(quick=True, peers=False, json=path))
    rows = json.loads(path.read_text())
    assert rows
    for row in rows:
        assert {key: type(value) for key, value in row.items()} == SCHEMA
        assert row["value"] > 0
        assert row["ratio"] == pytest.approx(row["value"] / row["baseline_value"])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == len(rows)
    assert all(line.startswith(row["name"]) for line, row in zip(printed, rows, strict=True))


def test_the_benchmark_of_autoregressive_models_writes_its_table(tmp_path, capsys):
    path = tmp_path / "table.json"
    autoregressive.main(config=autoregressive.Config(quick=True, json=path))
    rows = json.loads(path.read_text())
    assert len(rows) == 5
    for row in rows:
        assert {key: type(value) for key, value in row.items()} == SCHEMA
        assert row["value"] > 0
    assert len(capsys.readouterr().out.splitlines()) == len(rows)


def test_the_plain_network_is_normalised():
    torch.manual_seed(0)
    with torch.no_grad():
        assert abs(autoregressive.Plain(8).log_prob(exact.states(8).float()).logsumexp(0)) < 1e-5


def test_a_cache_that_is_wrong_is_not_timed():
    """Negative control: fields of other weights than those of the pass."""
    net = models.build("fvbn", (4, 4))
    right = net.draw
    net.draw = lambda n: (right(n)[0], right(n)[1] + 0.01)
    with pytest.raises(ArithmeticError, match="cached fields differ"):
        autoregressive.sampling("it", net, 10, 1)


def loop(where: _common.Arena, name: str, energy: float) -> Contestant:
    options = {"L": 8, "beta": BETA_C}
    return Contestant(
        name, where.ours, "numba loop", options, energy, Check(500, 400, 20), baselines=("right",)
    )


def test_who_has_a_wrong_energy_is_not_timed(tmp_path, capsys):
    """A check that cannot fail is no check: one of two equal loops is told a value that is too low."""
    right = exact.kaufman_energy(8, 8, BETA_C)
    path = tmp_path / "table.json"
    with (
        pytest.raises(SystemExit, match="wrong energies: wrong"),
        _common.arena(Config(quick=True, peers=False, json=path)) as where,
    ):
        where.contest([loop(where, "right", right), loop(where, "wrong", 1.2 * right)])
    assert [row["name"] for row in json.loads(path.read_text())] == ["right"]
    assert "wrong does not take part: its energy per site is -1." in capsys.readouterr().out


def test_a_contestant_that_breaks_is_named():
    host = _hosts.Host("a peer", [sys.executable, _peers.__file__], {})
    with pytest.raises(RuntimeError, match="the process of a peer ended while it was asked to make"):
        host.ask("it", "make", "no such kind", {})
    host.close()


def test_a_peer_that_cannot_be_installed_is_told_in_one_line(capsys):
    assert _hosts.installed(sys.executable, {"nobody": "./no-such-folder"}) == []
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("nobody cannot be installed, so it does not take part: ")


@pytest.mark.parametrize("kind", [_loops.Checkerboard, _loops.Metropolis, _loops.Wolff])
def test_loops_count_their_work(kind):
    done = kind(8, BETA_C).run(10)
    assert done["updates"] == 10
    assert 10 <= done["sites"] <= 640
    assert (done["sites"] == 640) == (kind is not _loops.Wolff)
