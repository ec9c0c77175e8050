"""What weights tell, against sums over all states. Every |z| < 4.5: false alarm 7e-6, at fixed seeds."""

import numpy as np
import pytest
import torch
from torch import nn

from ising import Ising, exact, lattices
from physgen import compare, report
from physgen.weights import weigh
from tests.physgen.test_compare import Boltzmann, Independent, Only, run_of

Z_MAX = 4.5
TARGET, BETA, N = Ising(lattices.square(3)), 0.5, 9
STATES = exact.states(N).double()
LOG_W = (-BETA * TARGET.energy(STATES)).numpy()
LOG_Z = float(np.logaddexp.reduce(LOG_W))


class Positive(nn.Module):
    """The Boltzmann law of one sign of the magnetisation: all of one mode, of the other next to nothing."""

    def __init__(self, leak=1e-6):
        super().__init__()
        self.leak = leak

    def log_prob(self, spins):
        weight = torch.where(spins.sum(-1) > 0, 1 - self.leak, self.leak)
        return -BETA * TARGET.energy(spins) - LOG_Z + np.log(2) + weight.double().log()

    def sample(self, n):
        p = self.log_prob(STATES).exp()
        return STATES[torch.multinomial(p, n, replacement=True)].float()


def weighed(model, n=20_000, seed=0, log_z=LOG_Z):
    torch.manual_seed(seed)
    spins, p = model.sample(n), Boltzmann(TARGET, BETA).sample(n)
    with torch.no_grad():
        log_q = model.log_prob(spins.double()).numpy()
        reference = (-BETA * TARGET.energy(p.double()) - model.log_prob(p.double())).numpy()
    log_w = (-BETA * TARGET.energy(spins.double())).numpy() - log_q
    energy = TARGET.energy(spins).numpy() / N
    return weigh(log_w, log_q, {"e": energy}, reference.reshape(20, -1), log_z=log_z, n_sites=N)


def test_every_number_is_that_of_the_sum_over_states():
    model = Boltzmann(TARGET, 0.35)
    found = weighed(model)
    with torch.no_grad():
        log_q = model.log_prob(STATES).numpy()
    log_p, q = LOG_W - LOG_Z, np.exp(log_q)
    p, e = np.exp(log_p), TARGET.energy(STATES).numpy() / N
    forward = p @ (log_p - log_q) / N
    expected = {
        "variational": -q @ (LOG_W - log_q) / N,
        "by_weights": -LOG_Z / N,
        "reverse": q @ (log_q - log_p) / N,
        "forward": forward,
        "promised": forward,
        "entropy": -q @ log_q / N,
    }
    for name, value in expected.items():
        assert getattr(found, name).sigmas_from(value) < Z_MAX, name
        assert getattr(found, name).sigmas_from(value + 0.05) > Z_MAX, name  # negative control
    assert found.exact == pytest.approx(-LOG_Z / N)
    assert found.observables["e"][0].sigmas_from(q @ e) < Z_MAX
    assert found.observables["e"][1].sigmas_from(p @ e) < Z_MAX
    assert found.observables["e"][0].sigmas_from(p @ e) > Z_MAX  # negative control: unweighted
    ess = 1 / (p @ np.exp(log_p - log_q))
    assert found.ess == pytest.approx(ess, rel=0.1)
    assert found.ess_monte_carlo == pytest.approx(ess, rel=0.1)


def test_an_estimated_log_z_adds_its_error():
    log_w = 0.3 * np.random.default_rng(0).normal(size=400)
    known, estimated = (weigh(log_w, log_w, {}, log_w[None], log_z=z, n_sites=4) for z in (0.0, None))
    for name in ("reverse", "forward"):
        alone, joined = (getattr(x, name).error for x in (known, estimated))
        assert joined == pytest.approx(np.hypot(alone, estimated.by_weights.error))
        assert joined > 1.2 * alone


def test_a_lost_mode_is_reported_though_its_draws_look_well():
    found = weighed(Positive())
    assert found.reverse.mean * N == pytest.approx(np.log(2), abs=0.01)
    assert found.ess > 0.9
    assert found.ess_monte_carlo < 0.01
    assert "mode-seeking" in found.missing
    assert "Monte Carlo has" in found.missing


def test_without_monte_carlo_the_exact_sum_tells():
    torch.manual_seed(0)
    flat = np.full(1000, LOG_Z - np.log(2))
    assert "add up to 50% of Z" in weigh(flat, flat, {}, None, log_z=LOG_Z, n_sites=N).missing
    assert weigh(flat, flat, {}, None, log_z=None, n_sites=N).missing == ""  # nothing can tell


@pytest.mark.parametrize("model", [Independent(N, 0.6), Boltzmann(TARGET, BETA), Positive(leak=0.45)])
def test_a_model_that_covers_everything_is_not_reported(model):
    """Negative control: a model may be poor without having lost anything."""
    assert weighed(model, seed=1).missing == ""
    assert weighed(model, seed=2, log_z=None).missing == ""


def test_a_poor_model_is_not_called_mode_seeking():
    """A few draws carry all the weight: ln w is Gaussian, N(0, 25) over q and thus N(25, 25) over p."""
    rng = np.random.default_rng(0)
    log_w, reference = 5 * rng.standard_normal(1000), 25 + 5 * rng.standard_normal((10, 100))
    found = weigh(log_w, log_w, {}, reference, log_z=None, n_sites=N)
    assert found.ess * 1000 < 50
    assert "too uneven" in found.missing
    assert "mode-seeking" not in found.missing


def test_comparison_table_and_page_have_them(tmp_path):
    torch.manual_seed(1)
    run = run_of(TARGET, BETA, Boltzmann(TARGET, BETA).sample(4000).reshape(8, 500, N))
    lost = compare.against_samples(Positive(), run, name="LOST")
    blind = compare.against_samples(Only(Positive()), run, name="BLIND")
    assert lost.weights.forward.sigmas_from(lost.forward_kl.mean) < Z_MAX
    assert blind.weights is None
    assert "mode-seeking" in lost.note
    rows = {"lost": lost, "blind": blind}
    page = report.write(tmp_path / "a.html", rows).read_text()
    text = compare.table(rows)
    for shown in (page, text):
        assert lost.weights.columns()["KL(p‖q), weights"] in shown
        assert "ESS of Monte Carlo" in shown
        assert "mode-seeking" in shown
    assert "Weights of draws" in page
