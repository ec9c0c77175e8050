"""General and deep Boltzmann machines against enumeration of all their units.

Chi-squared tests have a false alarm of 1e-5 each, gradients of 3e-4, all on fixed seeds.
"""

import pytest
import torch
from torch.autograd import grad

from ising import exact, lattices, simulate
from ising.model import Ising
from physgen import ais, checkpoint, compare, models
from physgen.batches import Batches
from physgen.learning import MeanFieldPCD, maximum_likelihood, negative_log_likelihood
from physgen.loops import heat_bath
from physgen.pairwise import PairwiseSpins, spelled
from physgen.train import decay, fit, gradient_step
from tests.checks import FALSE_ALARM, goodness_of_fit

MACHINES = {
    "visible": ("boltzmann", (2, 3), {}),
    "hidden": ("boltzmann", (2, 2), {"hidden": 3, "lateral": False, "temperature": 1.7}),
    "lateral": ("boltzmann", (2, 2), {"hidden": 3, "temperature": 0.8}),
    "two layers": ("deep_boltzmann", (2, 2), {"hidden": [3, 2]}),
    "three layers": ("deep_boltzmann", (3,), {"hidden": [2, 3, 2]}),
}
COUPLED = ["lateral", "two layers", "three layers"]  # among hidden units


def machine(kind, spread=0.5):
    name, shape, hyper = MACHINES[kind]
    model = models.build(name, shape, **hyper).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(spread * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return model


def all_states(n):
    return spelled(torch.arange(2**n), n)


def log_weights(model):
    """Of all units, from the formula of the model's own docstring, ``(2**M,)`` and the states."""
    states = all_states(model.n_units)
    if hasattr(model, "layers"):
        layers = model.layers(states)
        terms = sum((x * b).sum(-1) for x, b in zip(layers, model.biases, strict=True))
        return terms + sum(
            ((x @ W) * y).sum(-1) for x, W, y in zip(layers, model.W, layers[1:], strict=False)
        ), states
    s, h = states.split([model.n_sites, model.n_hidden], dim=1)
    V = torch.zeros(model.n_sites, model.n_sites).double()
    V[tuple(torch.triu_indices(len(V), len(V), 1))] = model.V
    terms = s @ model.a + ((s @ V) * s).sum(-1)
    if model.n_hidden:
        terms = terms + h @ model.b + ((s @ model.W) * h).sum(-1)
    if model.lateral:
        U = torch.zeros(model.n_hidden, model.n_hidden).double()
        U[tuple(torch.triu_indices(len(U), len(U), 1))] = model.U
        terms = terms + ((h @ U) * h).sum(-1)
    return terms / model.temperature, states


def visible_free_energy(model):
    return -log_weights(model)[0].reshape(2**model.n_sites, -1).logsumexp(1)


def exact_law(model):
    return log_weights(model)[0].softmax(0).detach()


def flat(gradients):
    return torch.cat([g.flatten() for g in gradients])


@pytest.mark.parametrize("kind", MACHINES)
def test_sums_are_those_of_enumeration(kind):
    model = machine(kind)
    log_w, states = log_weights(model)
    torch.testing.assert_close(-model.energy(states), log_w, atol=1e-12, rtol=0)
    log_z, first, second = model.law().moments()
    p = exact_law(model)
    assert model.log_partition() == pytest.approx(log_w.logsumexp(0).item(), abs=1e-10)
    assert log_z == pytest.approx(log_w.logsumexp(0).item(), abs=1e-10)
    torch.testing.assert_close(first, p @ states, atol=1e-10, rtol=0)
    torch.testing.assert_close(second, (p.unsqueeze(-1) * states).T @ states, atol=1e-10, rtol=0)
    torch.testing.assert_close(
        model.free_energy(all_states(model.n_sites)), visible_free_energy(model), atol=1e-10, rtol=0
    )


@pytest.mark.parametrize("kind", MACHINES)
def test_gradient_of_the_likelihood(kind):
    model = machine(kind)
    data = all_states(model.n_sites)[[0, 3, 5, 5, 6]]
    parameters = list(model.parameters())
    by_hand = visible_free_energy(model)[[0, 3, 5, 5, 6]].mean() + log_weights(model)[0].logsumexp(0)
    value = negative_log_likelihood(model, data)
    torch.testing.assert_close(value, by_hand, atol=1e-10, rtol=0)
    torch.testing.assert_close(
        flat(grad(value, parameters)), flat(grad(by_hand, parameters)), atol=1e-10, rtol=0
    )


@pytest.mark.parametrize("kind", MACHINES)
def test_conditionals_are_those_of_the_joint_law(kind):
    """The field on a unit is half the log odds of its two values, at every state."""
    law = machine(kind).law()
    states = all_states(law.n_units)
    fields = law.field + states @ law.J
    for i in range(law.n_units):
        up, down = states.clone(), states.clone()
        up[:, i], down[:, i] = 1, -1
        odds = law.free_energy(down) - law.free_energy(up)
        torch.testing.assert_close(fields[:, i], odds / 2, atol=1e-10, rtol=0)


@pytest.mark.parametrize("kind", MACHINES)
def test_gibbs_leaves_the_law_invariant(kind):
    """From exact draws; a pair of parts taken for uncoupled, hence drawn at once, is caught."""
    model = machine(kind)
    law, p = model.law(), exact_law(model)
    generator = torch.Generator().manual_seed(5)
    start = law.sample(30_000, generator)
    assert goodness_of_fit(start, p) > FALSE_ALARM
    assert goodness_of_fit(model.gibbs(start, 1, generator), p) > FALSE_ALARM
    assert goodness_of_fit(model.gibbs(start, 3, generator), p) > FALSE_ALARM
    at_once = PairwiseSpins(law.J, law.field, [(law.n_units, False)])
    assert goodness_of_fit(at_once.gibbs(start, 1, generator), p) < FALSE_ALARM


def test_single_precision_and_slices_take_the_same_path():
    model = machine("lateral").float()
    states = model.law().sample(30_000, torch.Generator().manual_seed(1))
    assert states.dtype == torch.float32
    moved = model.gibbs(states, 2, torch.Generator().manual_seed(2))
    assert goodness_of_fit(moved, exact_law(model.double())) > FALSE_ALARM


def test_compiled_loop_is_the_readable_one():
    law = PairwiseSpins(*(machine("visible").law().__dict__[x].detach() for x in ("J", "field")))
    spins = law.sample(50, torch.Generator().manual_seed(1))
    fields = law.field + spins @ law.J
    noise = (
        torch.rand(fields.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).logit() / 2
    )
    expected = spins.clone()
    for i in range(6):
        expected[:, i] = 2.0 * (law.field[i] + expected @ law.J[:, i] > noise[:, i]) - 1
    heat_bath(spins, 0, fields, law.J, noise)
    assert torch.equal(spins, expected)


@pytest.mark.parametrize("kind", MACHINES)
def test_hidden_units_are_drawn_given_the_visible_ones(kind):
    model = machine(kind)
    v = all_states(model.n_sites)[3]
    joint = exact_law(model).reshape(2**model.n_sites, -1)[3]
    drawn = model.complete(v.expand(5_000, -1), torch.Generator().manual_seed(4))
    assert torch.equal(drawn[:, : model.n_sites], v.expand(5_000, -1))
    if len(joint) > 1:
        assert goodness_of_fit(drawn[:, model.n_sites :], joint) > FALSE_ALARM
        other = exact_law(model).reshape(2**model.n_sites, -1)[12 % 2**model.n_sites]
        assert goodness_of_fit(drawn[:, model.n_sites :], other) < FALSE_ALARM


@pytest.mark.parametrize("kind", MACHINES)
def test_mean_field_bounds_the_free_energy(kind):
    model = machine(kind)
    v = all_states(model.n_sites)
    gap = (model.free_energy_bound(v) - model.free_energy(v)).detach()
    if kind in COUPLED:
        assert (gap > 1e-6).all()
    else:
        assert gap.abs().max() < 1e-10
    law, means = model.law(), model.mean_field(v, tolerance=1e-9)
    fields = (law.field + means @ law.J)[:, model.n_sites :]
    torch.testing.assert_close(means[:, model.n_sites :], fields.tanh(), atol=1e-7, rtol=0)


def test_bound_of_a_deep_machine_rises_with_every_round_and_is_tight_without_upper_weights():
    model = machine("three layers")
    v = all_states(3)
    rounds = []
    for i in range(1, 8):
        means = model.mean_field(v, iterations=i)
        rounds.append(model.law().free_energy_bound(means, clamped=3).detach())
    rounds = torch.stack(rounds)
    assert (rounds[1:] <= rounds[:-1] + 1e-12).all()
    assert (rounds[-1] < rounds[0] - 1e-4).any()
    with torch.no_grad():
        model.W[1].zero_()
        model.W[2].zero_()
    torch.testing.assert_close(model.free_energy_bound(v), model.free_energy(v), atol=1e-10, rtol=0)


@pytest.mark.parametrize("kind", ["hidden", "two layers"])
def test_learning_follows_the_gradient_of_likelihood_or_bound(kind):
    """The mean over calls, with chains in equilibrium; the opposite sign and other data are refused."""
    model = machine(kind)
    data = all_states(4)[[0, 5, 15, 3, 9]]
    loss = MeanFieldPCD(model, start=data, k=10, chains=2000)
    loss.chains = model.law().sample(2000, torch.Generator().manual_seed(1))
    parameters = list(model.parameters())
    found = torch.stack([flat(grad(loss(data), parameters)) for _ in range(40)])
    mean, error = found.mean(0), found.std(0) / 40**0.5

    def agrees(sign, rows):
        value = model.free_energy_bound(rows).mean() + log_weights(model)[0].logsumexp(0)
        return ((mean - sign * flat(grad(value, parameters))).abs() < 4.5 * error + 1e-9).all()

    assert agrees(1, data)
    assert not agrees(-1, data)
    assert not agrees(1, data[:4])
    if kind == "hidden":
        likelihood = flat(grad(negative_log_likelihood(model, data), parameters))
        assert ((mean - likelihood).abs() < 4.5 * error + 1e-9).all()


def test_pseudo_likelihood_is_stationary_at_the_law_of_the_data():
    model, other = machine("visible"), machine("visible", spread=0.6)
    v, p = all_states(6), exact_law(model)
    slopes = [
        flat(grad((p * m.pseudo_log_prob(v)).sum(), [m.V, m.a])).abs().max().item() for m in (model, other)
    ]
    assert slopes[0] < 1e-12
    assert slopes[1] > 1e-3
    conditional = torch.zeros(64).double()
    for i in range(6):
        flipped = v.clone()
        flipped[:, i] *= -1
        conditional -= (1 + (model.free_energy(v) - model.free_energy(flipped)).exp()).log()
    torch.testing.assert_close(model.pseudo_log_prob(v), conditional.detach(), atol=1e-10, rtol=0)


@pytest.mark.parametrize("kind", ["visible", "lateral", "two layers"])
def test_maximum_likelihood_matches_the_moments(kind):
    """At the maximum the means and pair products that the couplings multiply are those of the data."""
    truth, model = machine(kind), machine(kind, spread=0.1)
    data = truth.sample(2000, generator=torch.Generator().manual_seed(2))
    entropy = -torch.unique(data, dim=0, return_counts=True)[1].double().div(2000).log() @ (
        torch.unique(data, dim=0, return_counts=True)[1].double() / 2000
    )
    value = maximum_likelihood(model, data, tolerance=1e-7)
    assert entropy <= value <= negative_log_likelihood(truth, data) + 1e-9
    _, first, second = model.law().moments()
    n = model.n_sites
    if kind == "visible":
        torch.testing.assert_close(first, data.mean(0), atol=1e-5, rtol=0)
        torch.testing.assert_close(second, data.T @ data / 2000, atol=1e-5, rtol=0)
    elif kind == "two layers":  # no couplings among visible units: only fields are matched directly
        torch.testing.assert_close(first[:n], data.mean(0), atol=1e-5, rtol=0)


def test_data_without_a_maximum_are_refused():
    with pytest.raises(FloatingPointError, match="take more data"):
        maximum_likelihood(models.build("boltzmann", (3,)), torch.ones(5, 3), steps=5)


def test_an_ising_model_is_a_fully_visible_machine():
    """Energy and log Z of the 3 x 3 lattice at beta = 1/T0; draws by chi-squared."""
    target = Ising(lattices.square(3), h=0.2)
    J = torch.zeros(9, 9).double()
    i, j = target.lattice.edges.T
    J[i, j] = J[j, i] = target.bond_couplings
    model = models.build("boltzmann", (3, 3), temperature=2.5).double().set(J, target.site_fields)
    states = exact.states(9)
    torch.testing.assert_close(model.free_energy(states), 0.4 * target.energy(states), atol=1e-12, rtol=0)
    assert model.log_partition() == pytest.approx(exact.log_partition(target, 0.4), abs=1e-10)
    assert goodness_of_fit(model.sample(20_000), exact.boltzmann(target, 0.4)) > FALSE_ALARM
    chains = model.sample_chains(2_000, samples=3, burn_in=20, thin=5, start=model.sample(2_000))
    assert chains.shape == (2_000, 3, 9)
    assert goodness_of_fit(chains[:, -1], exact.boltzmann(target, 0.4)) > FALSE_ALARM
    assert goodness_of_fit(chains[:, -1], exact.boltzmann(target, 0.5)) < FALSE_ALARM


@pytest.mark.parametrize("kind", ["visible", "hidden", "lateral"])
def test_zero_one_units_are_the_same_machine(kind):
    model = machine(kind)
    binary, constant = model.to_binary()
    states = all_states(model.n_units)
    x, h = ((1 + states) / 2).split([model.n_sites, model.n_hidden], dim=1)
    energy = -(x @ binary["a"]) - h @ binary["b"] - ((x @ binary["W"]) * h).sum(-1)
    energy -= (((x @ binary["V"]) * x).sum(-1) + ((h @ binary["U"]) * h).sum(-1)) / 2
    torch.testing.assert_close(
        energy + constant, model.temperature * model.energy(states).detach(), atol=1e-10, rtol=0
    )
    again = machine(kind, spread=0.0).from_binary(binary)
    for p, q in zip(again.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(p, q, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", MACHINES)
def test_couplings_stay_symmetric_without_diagonal_and_resume_bit_for_bit(kind, tmp_path):
    """10 steps, then 10 in a fresh machine, are 20: weights, averages, chains and their generator."""

    def training(seed):
        torch.manual_seed(seed)
        name, shape, hyper = MACHINES[kind]
        model = models.build(name, shape, **hyper)
        spins = 2 * torch.randint(0, 2, (100, model.n_sites), generator=torch.Generator().manual_seed(1)) - 1
        loss = MeanFieldPCD(model, start=spins, k=1, chains=10)
        adam = torch.optim.Adam(model.parameters(), lr=0.01)
        step = gradient_step(loss, adam, schedule=decay(20), average_from=5)
        return model, step, Batches(spins, 16, seed=2, shape=shape)

    straight, step, batches = training(0)
    fit(step, batches, steps=20)
    model, step, batches = training(0)
    fit(step, batches, steps=10)
    checkpoint.save(tmp_path, model, step, batches, 10)
    again, resumed, batches = training(1)
    start = checkpoint.restore(tmp_path, again, resumed, batches)
    fit(resumed, batches, steps=20, start=start)
    for p, q in zip(straight.parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q)
    assert not torch.equal(resumed.loss.chains, step.loss.chains)
    J = again.law().J
    assert torch.equal(J, J.T)
    assert not J.diagonal().any()
    assert models.build("boltzmann", (3,)).centre(torch.ones(8, 3)).free_energy(torch.ones(3)) < 0


@pytest.mark.parametrize("kind", ["lateral", "two layers"])
def test_annealing_finds_the_sum_over_all_units(kind):
    """Within 4.5 of its errors; not that of the visible units alone."""
    model = machine(kind, spread=0.3)
    found = ais.log_partition(model, 500, 50, torch.Generator().manual_seed(1))
    assert found.error < 0.02
    assert found.sigmas_from(model.log_partition()) < 4.5
    assert found.sigmas_from(model.log_partition() - model.n_units * 0.05) > 4.5


def test_a_machine_without_a_free_energy_is_compared_by_its_bound():
    """A machine of 13 idle hidden units is the chain itself: the bound on KL(p‖q) is 0 within its error."""
    target = Ising(lattices.chain(5))
    run = simulate(target, beta=0.4, samples=20, chains=64, seed=1)
    J = torch.zeros(5, 5)
    i, j = target.lattice.edges.T
    J[i, j] = J[j, i] = 0.4
    model, wrong = (models.build("boltzmann", (5,), hidden=13, spread=0.0).set(x) for x in (J, -J))
    assert not model.tractable
    result = compare.against_boltzmann(model, target, 0.4, run=run, samples=200)
    assert result.divergence("KL(p‖q)").kind == "bound"
    assert abs(result.forward_kl.mean) < 4.5 * result.forward_kl.error + 1e-6
    result = compare.against_boltzmann(wrong, target, 0.4, run=run, samples=200)
    assert result.forward_kl.mean > 4.5 * result.forward_kl.error + 0.01


def test_refuses_in_words():
    with pytest.raises(ValueError, match="one layer is an RBM"):
        models.build("deep_boltzmann", (4,), hidden=(3,))
    with pytest.raises(ValueError, match="hidden >= 0"):
        models.build("boltzmann", (4,), hidden=-1)
    big = models.build("boltzmann", (4,), hidden=13)
    with pytest.raises(ValueError, match=r"at most 12 hidden units, .* needs 13; take free_energy_bound"):
        big.free_energy(torch.ones(2, 4))
    with pytest.raises(ValueError, match="draw hidden units for visible ones by complete"):
        big.gibbs(torch.ones(2, 4))
    with pytest.raises(ValueError, match="this one has 13 hidden units"):
        big.loss(torch.ones(2, 4))
    with pytest.raises(ValueError, match="symmetrise by"):
        models.build("boltzmann", (2,)).set(V=torch.ones(2, 2))
    with pytest.raises(ValueError, match="this machine needs 21; take"):
        models.build("boltzmann", (21,)).log_partition()
    loss = MeanFieldPCD(big, torch.ones(3, 4), chains=5)
    with pytest.raises(ValueError, match="build it with the settings"):
        loss.load_state_dict(MeanFieldPCD(big, torch.ones(3, 4), chains=6).state_dict())
