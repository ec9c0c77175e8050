"""The calls that the README shows, as a user writes them, with their results checked."""

import math

import pyro
import pytest
import torch

from ising import Ising, exact, lattices, simulate, store, tempering
from physgen import ais, compare, models, report
from physgen.batches import Batches
from physgen.distributions import GaussianBinaryRBM
from physgen.energy import PersistentCD
from physgen.train import fit, gradient_step, svi_step

BETA = 0.44
Z_MAX = 4.5  # false alarm 7e-6 per comparison


def test_simulate_store_and_exact_values(tmp_path):
    model = Ising(lattices.square(16), J=1.0)
    run = simulate(model, beta=BETA, update="wolff", samples=2_000, burn_in=500, chains=64, seed=1)
    assert run.energy.sigmas_from(exact.kaufman_energy(16, 16, beta=BETA)) < Z_MAX
    assert run.specific_heat.sigmas_from(exact.kaufman_specific_heat(16, 16, beta=BETA)) < Z_MAX
    assert all(e.error > 0 for e in (run.energy, run.abs_m, run.specific_heat, run.chi, run.u4))
    assert str(run.energy).count("(") == 1
    assert abs(exact.onsager_energy(beta=BETA) - run.energy.mean) < 0.1
    assert math.isfinite(exact.kaufman_log_z(16, 16, beta=BETA))
    assert exact.log_partition(Ising(lattices.triangular(4)), beta=0.3) > 16 * math.log(2)

    store.append(tmp_path / "square16.h5", run)
    spins = next(store.runs(tmp_path / "square16.h5", beta=BETA)).spins
    assert spins.dtype.name == "int8"
    assert (spins == run.spins).all()


def test_tempering():
    betas = [0.60, 0.52, 0.46, 0.42, 0.38]
    ladder = tempering.simulate(Ising(lattices.square(16)), betas=betas, samples=5_000, seed=1)
    for beta, run in zip(betas, ladder.runs, strict=True):
        assert run.energy.sigmas_from(exact.kaufman_energy(16, 16, beta=beta)) < Z_MAX


def test_train_and_compare(tmp_path):
    model = Ising(lattices.square(4))
    run = simulate(model, beta=BETA, samples=100, chains=64, seed=1)
    spins = torch.from_numpy(run.spins.reshape(-1, 16)).float()
    batches = Batches(spins, size=100, seed=0)

    rbm = models.build("rbm", model.lattice.shape, hidden=16)
    loss = PersistentCD(rbm, start=spins[:200], k=10)
    step = gradient_step(loss, torch.optim.Adam(rbm.parameters(), lr=1e-3))
    records = list(fit(step, batches, steps=1_000, every=500))
    assert [record.step for record in records] == [500, 1_000]
    log_z = ais.log_partition(rbm, chains=1_000, temperatures=2_000)
    assert log_z.sigmas_from(float(rbm.log_partition())) < Z_MAX

    vae = models.build("vae", model.lattice.shape, latent=8)
    before = [p.clone() for p in vae.parameters()]
    fit(svi_step(vae.model, vae.guide, lr=1e-3), batches, steps=200)
    assert not all(torch.equal(a, b) for a, b in zip(before, vae.parameters(), strict=True))

    pixelcnn = models.build("pixelcnn", model.lattice.shape, depth=6)
    assert pixelcnn.log_prob(spins).shape == (6_400,)
    assert pixelcnn.sample(1_000).shape == (1_000, 16)

    result = compare.against_boltzmann(pixelcnn, model, beta=BETA)
    assert result.reverse_kl.mean > 0
    report.write(tmp_path / "report.html", {"PixelCNN": result, "VAE": compare.against_samples(vae, run)})
    page = (tmp_path / "report.html").read_text()
    assert "PixelCNN" in page
    assert "VAE" in page


def test_hopfield_recalls():
    patterns = 2.0 * torch.randint(0, 2, (5, 256)) - 1
    noisy = patterns * (1 - 2.0 * (torch.rand(5, 256) < 0.1))
    recalled = models.build("hopfield", (16, 16)).store(patterns).recall(noisy)
    assert (recalled * patterns).mean() > 0.97


def test_gaussian_binary_rbm_is_a_pyro_distribution():
    weight, loc, hidden_bias, scale = torch.randn(4, 3), torch.zeros(4), torch.zeros(3), torch.ones(4)
    v = pyro.sample("v", GaussianBinaryRBM(weight, loc, hidden_bias, scale))
    assert v.shape == (4,)


@pytest.mark.slow
@pytest.mark.filterwarnings("default::ising.stats.ChainTooShort")
def test_the_whole_session_at_full_size(tmp_path, monkeypatch):
    """One script from simulation to report, with the sizes a user takes; minutes.

    Chains of this machine cross slowly between the signs, of which the report may warn.
    """
    monkeypatch.chdir(tmp_path)
    model = Ising(lattices.square(16), J=1.0)
    run = simulate(model, beta=0.44, update="wolff", samples=2_000, burn_in=500, chains=64, seed=1)
    store.append("data/square16.h5", run)
    spins = next(store.runs("data/square16.h5", beta=0.44)).spins
    batches = Batches(spins, 100, seed=0)

    rbm = models.build("rbm", model.lattice.shape, hidden=64)
    step = gradient_step(PersistentCD(rbm, start=spins, k=10), torch.optim.Adam(rbm.parameters(), lr=1e-3))
    for record in fit(step, batches, steps=20_000, every=500):
        assert math.isfinite(record.metrics["loss"])
    log_z = ais.log_partition(rbm, chains=1_000, temperatures=2_000)

    vae = models.build("vae", model.lattice.shape, latent=8)
    fit(svi_step(vae.model, vae.guide, lr=1e-3), batches, steps=10_000)
    pixelcnn = models.build("pixelcnn", model.lattice.shape, depth=6)
    assert pixelcnn.sample(1_000).shape == (1_000, 256)

    results = {
        "PixelCNN": compare.against_boltzmann(pixelcnn, model, beta=0.44),  # untrained
        "RBM": compare.against_samples(rbm, run, log_z=log_z),
        "VAE": compare.against_samples(vae, run),
    }
    report.write("report.html", results)
    assert 0 < results["RBM"].forward_kl.mean < 0.1 < results["PixelCNN"].reverse_kl.mean
    assert results["VAE"].divergence("KL(p‖q)").kind == "bound"
