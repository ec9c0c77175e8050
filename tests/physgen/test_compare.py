"""Comparisons of hand-made models whose divergences have closed forms.

Every |z| < 4.5 is a false alarm 7e-6 of the time; the seeds are fixed. The Monte Carlo runs are exact
independent draws, so that nothing here depends on a Markov chain.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from ising import Ising, exact, lattices, observables
from ising.run import Run
from ising.stats import Estimate
from physgen import compare
from physgen.comparison import NOISE_FLOOR, groups
from physgen.divergence import FORWARD, REVERSE

Z_MAX = 4.5
SQUARE, BETA = Ising(lattices.square(4)), 0.3
CHAIN, CHAIN_BETA = Ising(lattices.chain(40, pbc=False)), 0.6


class Independent(nn.Module):
    """Spins that are up with one probability, each by itself; ``log_prob`` in closed form."""

    def __init__(self, n_sites: int, up: float):
        super().__init__()
        self.n_sites, self.up = n_sites, nn.Parameter(torch.tensor(up, dtype=torch.float64))

    def log_prob(self, spins):
        return torch.where(spins > 0, self.up.log(), (-self.up).log1p()).sum(-1)

    def sample(self, n):
        return 2 * (torch.rand(n, self.n_sites) < self.up).float() - 1


class Only(nn.Module):
    """Another model seen through some of its methods alone."""

    def __init__(self, model: nn.Module, **methods):
        super().__init__()
        self.model = model
        for name, method in methods.items():
            setattr(self, name, method)

    def sample(self, n):
        return self.model.sample(n)


class Boltzmann(nn.Module):
    """The exact law of a small system, at a temperature of its own."""

    def __init__(self, target: Ising, beta: float):
        super().__init__()
        self.target, self.beta, self.log_z = target, beta, exact.log_partition(target, beta)

    def log_prob(self, spins):
        return -self.beta * self.target.energy(spins) - self.log_z

    def sample(self, n):
        states = exact.states(self.target.lattice.n_sites)
        return states[torch.multinomial(exact.boltzmann(self.target, self.beta), n, replacement=True)].float()


def run_of(target: Ising, beta: float, spins: torch.Tensor) -> Run:
    spins = spins.to(torch.int8)
    energies = target.energy(spins).numpy()
    return Run(
        model=target.describe(),
        shape=target.lattice.shape,
        beta=beta,
        update="exact",
        seed=0,
        burn_in=0,
        thin=1,
        spins=spins.numpy(),
        energies=energies,
        magnetisations=spins.sum(-1).double().numpy(),
        provenance={"kernel": "none"},
    )


@pytest.fixture(scope="module")
def square_run():
    torch.manual_seed(1)
    return run_of(SQUARE, BETA, Boltzmann(SQUARE, BETA).sample(16_000).reshape(32, 500, 16))


@pytest.fixture(scope="module")
def chain_run():
    """Independent draws of the open chain, bond by bond."""
    torch.manual_seed(2)
    aligned = torch.rand(32, 500, 40) < 1 / (1 + math.exp(-2 * CHAIN_BETA))
    aligned[..., 0] = torch.rand(32, 500) < 0.5
    return run_of(CHAIN, CHAIN_BETA, (2.0 * aligned - 1).cumprod(-1))


def independent_divergences(target: Ising, beta: float, energy: float, up: float) -> tuple[float, float]:
    """KL(p‖q) and KL(q‖p) per site of :class:`Independent` in zero field, where <m> = 0, in closed form."""
    n, bonds, m = target.lattice.n_sites, len(target.lattice.edges), 2 * up - 1
    log_z = exact.log_z(target, beta)
    forward = -beta * energy - log_z / n - 0.5 * (math.log(up) + math.log(1 - up))
    reverse = up * math.log(up) + (1 - up) * math.log(1 - up) - beta * bonds / n * m * m + log_z / n
    return forward, reverse


@pytest.mark.parametrize("up", [0.5, 0.3])
def test_exact_divergences_are_those_of_the_formula(up):
    result = compare.against_boltzmann(Independent(16, up), SQUARE, BETA)
    energy = exact.known(SQUARE, BETA)["energy"]
    assert [d.kind for d in result.divergences] == ["exact", "exact"]
    found = result.forward_kl.mean, result.reverse_kl.mean
    assert found == pytest.approx(independent_divergences(SQUARE, BETA, energy, up), abs=1e-12)
    assert result.forward_kl.error == result.reverse_kl.error == 0
    assert abs(found[0] - found[1]) > 0.005  # exchanging the directions would be seen
    p, q = exact.boltzmann(SQUARE, BETA), Independent(16, up).log_prob(exact.states(16)).detach().exp()
    assert result.ess == pytest.approx(1 / float((p * p / q).sum()))


@pytest.mark.parametrize("up", [0.5, 0.3])
def test_estimated_divergences_are_those_of_the_formula(up, chain_run):
    result = compare.against_boltzmann(Independent(40, up), CHAIN, CHAIN_BETA, run=chain_run)
    energy = exact.known(CHAIN, CHAIN_BETA)["energy"]
    forward, reverse = independent_divergences(CHAIN, CHAIN_BETA, energy, up)
    assert {d.kind for d in result.divergences if d.of == "configurations"} == {"estimated"}
    assert result.forward_kl.sigmas_from(forward) < Z_MAX
    assert result.reverse_kl.sigmas_from(reverse) < Z_MAX
    assert result.forward_kl.sigmas_from(reverse) > Z_MAX
    assert 0 < result.ess < 0.5


def test_error_bars_of_estimated_divergences_cover():
    """One sigma covers 68 % of 200 replicas; 54 to 81 % has a false alarm of 4e-5."""
    _, reverse = independent_divergences(CHAIN, CHAIN_BETA, math.nan, 0.4)
    model = Independent(40, 0.4)
    z = [
        compare.against_boltzmann(model, CHAIN, CHAIN_BETA, samples=400, seed=seed).reverse_kl.sigmas_from(
            reverse
        )
        for seed in range(200)
    ]
    assert 0.54 < np.mean(np.array(z) < 1) < 0.81


def test_the_true_law_is_recognised(square_run):
    result = compare.against_samples(Boltzmann(SQUARE, BETA), square_run)
    assert result.forward_kl.mean == pytest.approx(0, abs=1e-12)
    assert result.ess == pytest.approx(1)
    assert result.joint.p_value > 1e-5
    assert all(abs(row.z_mc) < Z_MAX for row in result.observables.values())
    assert all(abs(row.z_exact) < Z_MAX for row in result.observables.values())
    assert all(result.divergence(FORWARD, of).estimate.sigmas_from(0) < Z_MAX for of in ("e", "m"))
    pairs = zip(result.model.correlation, result.monte_carlo.correlation, strict=True)
    assert all(abs(ours.z(theirs)) < Z_MAX for ours, theirs in pairs)


def test_a_law_three_percent_too_cold_is_rejected(square_run):
    result = compare.against_samples(Boltzmann(SQUARE, 1.03 * BETA), square_run, samples=40_000)
    assert result.joint.p_value < 1e-5
    assert abs(result.observables["energy"].z_exact) > Z_MAX
    assert result.forward_kl.mean > 0


def test_a_free_energy_is_normalised_by_enumeration():
    model = Independent(16, 0.3)
    shifted = Only(model, free_energy=lambda x: 7.5 - model.log_prob(x))
    ours, theirs = (compare.against_boltzmann(m, SQUARE, BETA) for m in (shifted, model))
    assert ours.forward_kl.mean == pytest.approx(theirs.forward_kl.mean, abs=1e-12)
    assert ours.ess == pytest.approx(theirs.ess)
    with pytest.raises(ValueError, match="must sum to 1"):
        compare.against_boltzmann(Only(model, log_prob=lambda x: model.log_prob(x) - 7.5), SQUARE, BETA)


def test_the_error_of_log_z_is_carried(chain_run):
    model = Independent(40, 0.3)
    shifted = Only(model, free_energy=lambda x: -7.5 - model.log_prob(x))
    plain = compare.against_samples(model, chain_run)
    carried = compare.against_samples(shifted, chain_run, log_z=Estimate(7.5, 0.4))
    for ours, theirs in ((carried.forward_kl, plain.forward_kl), (carried.reverse_kl, plain.reverse_kl)):
        assert ours.mean == pytest.approx(theirs.mean, abs=1e-10)
        assert ours.error == pytest.approx(math.hypot(theirs.error, 0.4 / 40))


def test_log_z_is_summed_where_the_model_can(chain_run):
    model = Independent(40, 0.3)
    summed = Only(
        model, free_energy=lambda x: -7.5 - model.log_prob(x), enumerable=True, log_partition=lambda: 7.5
    )
    assert compare.against_samples(summed, chain_run).forward_kl.mean == pytest.approx(
        compare.against_samples(model, chain_run).forward_kl.mean, abs=1e-10
    )


def test_a_bound_is_reported_as_a_bound(chain_run):
    model = Independent(40, 0.3)
    bounded = Only(model, log_prob_bound=lambda x, k: model.log_prob(x) - 1.0 / k)
    result = compare.against_samples(bounded, chain_run)
    (density,) = (d for d in result.divergences if d.of == "configurations")
    truth = compare.against_samples(model, chain_run).forward_kl.mean
    assert (density.direction, density.kind) == (FORWARD, "bound")
    assert density.estimate.mean == pytest.approx(truth + 1 / compare.BOUND_DRAWS / 40)
    assert result.ess is None
    assert "[<]" in compare.table({"bounded": result})


def test_a_bound_becomes_an_estimate_where_all_states_can_be_summed():
    model = Independent(16, 0.3)

    def bound(x, k):
        noise = torch.randn(k, len(x), dtype=torch.float64) * 0.5 - 0.125  # exp(noise) has mean 1
        return model.log_prob(x) + noise.logsumexp(0) - math.log(k)

    result = compare.against_boltzmann(Only(model, log_prob_bound=bound), SQUARE, BETA)
    truth = compare.against_boltzmann(model, SQUARE, BETA)
    assert {d.kind for d in result.divergences} == {"estimated"}
    assert (
        abs(result.forward_kl.z(truth.forward_kl)) < 6
    )  # the error has 7 degrees of freedom: false alarm 5e-4
    assert abs(result.reverse_kl.z(truth.reverse_kl)) < 6


def test_a_model_without_a_density_gets_no_density_divergence(chain_run):
    result = compare.against_samples(Only(Independent(40, 0.3)), chain_run)
    assert {(d.kind, d.of) for d in result.divergences} == {("histogram", "e"), ("histogram", "m")}
    assert result.forward_kl is result.reverse_kl is result.ess is None
    assert "no density" in result.note


def test_a_model_without_a_density_is_counted_where_all_states_can_be():
    model = Independent(16, 0.3)
    result = compare.against_boltzmann(Only(model), SQUARE, BETA)
    truth = compare.against_boltzmann(model, SQUARE, BETA).reverse_kl.mean
    assert [d.kind for d in result.divergences] == ["histogram"]
    assert result.forward_kl is None
    floor = float(result.note.rpartition("give ")[2].partition("(")[0])
    assert -Z_MAX * result.reverse_kl.error < result.reverse_kl.mean - truth < 2 * floor
    assert floor < 0.01


def test_without_an_exact_log_z_no_divergence_per_site_is_claimed():
    target = Ising(lattices.triangular(6))
    result = compare.against_boltzmann(Independent(36, 0.5), target, 0.2)
    assert result.divergences == ()
    assert "log Z of this Hamiltonian is not known" in result.note
    assert "-" in compare.table({"independent": result})


def test_markov_chain_samples_have_honest_errors(chain_run):
    """Sticky chains: |z| against the exact values stays small, though neighbours in time are alike."""
    model = Independent(40, 0.5)

    def sample_chains(chains, samples, *, thin=1, burn_in=100, start=None):
        spins = model.sample(chains) if start is None else start
        kept = []
        for step in range(burn_in + samples * thin):
            spins = torch.where(
                torch.rand(spins.shape) < 0.1, 2.0 * (torch.rand(spins.shape) < 0.5) - 1, spins
            )
            if step >= burn_in and (step - burn_in + 1) % thin == 0:
                kept.append(spins)
        return torch.stack(kept, 1)

    sticky = Only(model, free_energy=lambda x: -model.log_prob(x), sample_chains=sample_chains)
    result = compare.against_samples(sticky, chain_run, log_z=Estimate(0.0, 0.0))
    assert result.model.energies.shape == (64, 64)
    assert result.model.observables["energy"].sigmas_from(0.0) < Z_MAX
    assert result.model.observables["m2"].sigmas_from(1 / 40) < Z_MAX
    assert 0.5 <= result.model.observables["m2"].tau < 1


def test_the_noise_floor_is_zero_within_its_error(chain_run):
    floor = compare.noise_floor(chain_run)
    assert all(d.estimate.sigmas_from(0) < Z_MAX for d in floor.divergences)
    assert floor.joint.p_value > 1e-5
    assert floor.model.size + floor.monte_carlo.size == chain_run.energies.size
    one_chain = run_of(CHAIN, CHAIN_BETA, torch.from_numpy(chain_run.spins[:1]))
    with pytest.raises(ValueError, match="needs 2, got 1"):
        compare.noise_floor(one_chain)


def test_held_out_chains_alone_are_the_reference(chain_run):
    model = Independent(40, 0.5)
    rest = run_of(CHAIN, CHAIN_BETA, torch.from_numpy(chain_run.spins[24:]))
    held_out = compare.against_samples(model, chain_run, held_out=range(24, 32))
    alone, whole = compare.against_samples(model, rest), compare.against_samples(model, chain_run)
    assert held_out.divergences == alone.divergences
    assert held_out.joint == alone.joint
    assert held_out.observables == alone.observables
    assert held_out.forward_kl != whole.forward_kl
    assert held_out.joint != whole.joint
    assert held_out.noise_floor.divergences == whole.noise_floor.divergences
    assert held_out.provenance["held_out"] == list(range(24, 32))
    with pytest.raises(ValueError, match="held_out must name some of the 32 chains"):
        compare.against_samples(model, chain_run, held_out=[32])


def test_what_a_model_has_memorised_does_not_look_like_physics(chain_run):
    """Negative control: a model that repeats 8 chains agrees with these too well, |z| far below one."""
    learned = torch.from_numpy(chain_run.spins[:8]).reshape(-1, 40).float()
    parrot = Only(Independent(40, 0.5), sample=lambda n: learned[:n])

    def joint(held_out):
        return compare.against_samples(parrot, chain_run, samples=4000, held_out=held_out).joint

    assert joint(range(8)).p_value > 1 - 1e-5
    assert 1e-5 < joint(range(24, 32)).p_value < 1 - 1e-5


@pytest.mark.parametrize("held_out", [[31], [0, 31]])
def test_few_held_out_chains_are_enough(chain_run, square_run, held_out):
    for model, run in ((Independent(40, 0.5), chain_run), (Independent(16, 0.5), square_run)):
        result = compare.against_samples(model, run, held_out=held_out)
        assert result.monte_carlo.size == 500 * len(held_out)
        assert all(0 <= row.monte_carlo.error < 0.5 for row in result.observables.values())
        assert NOISE_FLOOR in compare.table({"coin": result})


def test_the_callers_note_heads_the_note(chain_run):
    result = compare.against_samples(Only(Independent(40, 0.5)), chain_run, note="training not finished.")
    assert result.note.startswith("training not finished. The model has no density")
    assert compare.against_samples(Independent(40, 0.5), chain_run, note="x").note == "x"


def test_a_seed_does_not_repeat_the_bits_of_the_callers_generator():
    torch.manual_seed(7)
    expected = Independent(16, 0.5).sample(100)
    drawn = []
    spy = Only(
        Independent(16, 0.5), sample=lambda n: drawn.append(Independent(16, 0.5).sample(n)) or drawn[0]
    )
    compare.against_boltzmann(spy, Ising(lattices.square(4)), BETA, samples=100, seed=7)
    assert not torch.equal(drawn[0], expected)


def test_the_error_of_a_quadrature_is_printed_and_an_improbable_p_is_marked(square_run):
    result = compare.against_samples(Independent(16, 0.3), square_run)
    assert f"{result.forward_kl.mean:.4g} [x]" in compare.table({"coin": result})
    uncertain = dataclasses.replace(result.divergence(FORWARD), estimate=Estimate(0.25, 0.01))
    changed = dataclasses.replace(result, divergences=(uncertain,))
    assert "0.250(10) [x]" in compare.table({"coin": changed})
    row = next(line for line in compare.table({"coin": result}).splitlines() if line.startswith("coin"))
    assert row.endswith("!")
    likely = dataclasses.replace(result, joint=dataclasses.replace(result.joint, p_value=0.0028))
    row = next(line for line in compare.table({"coin": likely}).splitlines() if line.startswith("coin"))
    assert row.endswith("0.0028")


def test_same_seed_same_numbers_and_nothing_left_behind(chain_run):
    model = Independent(40, 0.4).train()
    before = torch.get_rng_state()
    first, again, other = (compare.against_samples(model, chain_run, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert first.reverse_kl == again.reverse_kl != other.reverse_kl


def test_a_new_observable_is_a_new_column(chain_run, monkeypatch):
    monkeypatch.setattr(observables, "REGISTRY", observables.REGISTRY.copy())
    monkeypatch.setattr(compare, "REGISTRY", observables.REGISTRY)

    @observables.observable("m₄")
    def m4(series):
        return Estimate(float((series.magnetisation**4).mean()), 0.1)

    assert "m₄" in compare.table({"independent": compare.against_samples(Independent(40, 0.5), chain_run)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": 0.5}, "the run is at beta = 0.5 but the comparison at 0.6"),
        ({"model": Ising(lattices.chain(40)).describe()}, "take the matching run"),
    ],
)
def test_a_run_of_something_else_is_refused(chain_run, change, message):
    with pytest.raises(ValueError, match=message):
        compare.against_boltzmann(
            Independent(40, 0.5), CHAIN, CHAIN_BETA, run=dataclasses.replace(chain_run, **change)
        )


def test_wrong_samples_are_refused():
    with pytest.raises(ValueError, match="the model draws 9 sites, the target has 16"):
        compare.against_boltzmann(Independent(9, 0.5), SQUARE, BETA)
    binary = Only(Independent(16, 0.5), sample=lambda n: torch.randint(0, 2, (n, 16)).float())
    with pytest.raises(ValueError, match=r"spins of -1 and \+1"):
        compare.against_boltzmann(binary, SQUARE, BETA)
    with pytest.raises(ValueError, match="Identity cannot be compared"):
        compare.against_boltzmann(nn.Identity(), SQUARE, BETA)
    with pytest.raises(ValueError, match="samples = 0"):
        compare.against_boltzmann(Independent(16, 0.5), SQUARE, BETA, samples=0)
    with pytest.raises(ValueError, match="beta must be"):
        compare.against_boltzmann(Independent(16, 0.5), SQUARE, math.nan)


def test_the_table_has_every_row(square_run, chain_run):
    results = {
        "a": compare.against_samples(Independent(16, 0.5), square_run, name="coin"),
        "b": compare.against_samples(Independent(16, 0.3), square_run, name="coin"),
        "c": compare.against_samples(Independent(40, 0.5), chain_run),
    }
    assert [list(g.rows) for g in groups(results)] == [["c", NOISE_FLOOR], ["coin a", "coin b", NOISE_FLOOR]]
    text = compare.table(results)
    starts = [line.split("  ")[0] for line in text.splitlines()]
    assert [starts.count(label) for label in ("coin a", "coin b", "c", NOISE_FLOOR, "exact")] == [
        2,
        2,
        2,
        4,
        2,
    ]
    assert "!" in text
    with pytest.raises(ValueError, match="at least one comparison"):
        compare.table({})


def test_exact_curves():
    result = compare.against_boltzmann(Independent(16, 0.5), SQUARE, BETA)
    curves = compare.exact_curves(result, np.array([0.2, BETA]))
    assert curves["energy"][1] == pytest.approx(result.exact["energy"])
    assert result.divergence(REVERSE) is not None
