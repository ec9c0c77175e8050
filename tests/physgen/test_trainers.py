"""Every loss of physgen.energy against enumeration: known gradients, kernels, ladders, penalties, guards."""

import itertools
import math

import pytest
import torch
from torch.autograd import grad
from torch.distributions import Bernoulli, kl_divergence

from ising.exact import states
from physgen.distributions.passes import difference
from physgen.energy import (
    ChainHealth,
    ContrastiveDivergence,
    ExactLikelihood,
    FastPCD,
    Penalised,
    PersistentCD,
    TemperedPCD,
    TrajectoryPCD,
    free_energy_gap,
    pseudo_likelihood,
)
from physgen.energy.exact import enumerated, fisher
from physgen.energy.moments import contrast
from physgen.energy.tempered import levelled
from physgen.models.rbm import RBM
from physgen.nn import private_seed
from physgen.train import gradient_step
from tests.checks import FALSE_ALARM, goodness_of_fit

KINDS = ["spin", "bernoulli", "softmax:3", "binomial:2", "gaussian", "relu"]
FINITE = KINDS[:4]


def machine(visible="spin", hidden="bernoulli", shape=(2, 2), n_hidden=3, spread=0.5, **options):
    torch.manual_seed(5)
    rbm = RBM(shape, n_hidden, visible=visible, hidden_units=hidden, spread=spread, **options).double()
    with torch.no_grad():
        for p in (rbm.b, rbm.c, rbm.base):
            p.normal_(0, 0.3)
        rbm.W.mul_(0.3 if {visible, hidden} <= {"gaussian", "relu"} else 1.0)
    return rbm


def flat(tensors):
    return torch.cat([x.flatten() for x in tensors])


def slope(scalar, rbm):
    return flat(grad(scalar, [p for p in rbm.parameters() if p.requires_grad], retain_graph=True))


def draws(rbm, n):
    law = rbm.distribution()
    return law.visible_units.draw(torch.randn(n, law.n_visible).double())


@pytest.mark.parametrize(("visible", "hidden"), list(itertools.product(KINDS, KINDS)))
def test_known_gradients_are_those_of_the_free_energies(visible, hidden):
    rbm = machine(visible, hidden)
    data, chains = draws(rbm, 7), draws(rbm, 5)
    found = slope(contrast(rbm.distribution(), data, chains), rbm)
    exact = slope(rbm.free_energy(data).mean() - rbm.free_energy(chains).mean(), rbm)
    torch.testing.assert_close(found, exact, atol=1e-11, rtol=1e-10)


@pytest.mark.parametrize(
    "options", [{"tied": True}, {"symmetric": True}, {"visible": "gaussian", "learn_scale": True}]
)
def test_known_gradients_reach_other_parameters_by_the_chain_rule(options):
    rbm = machine(**options)
    data, chains = draws(rbm, 7), draws(rbm, 5)
    found = slope(contrast(rbm.distribution(), data, chains), rbm)
    exact = slope(rbm.free_energy(data).mean() - rbm.free_energy(chains).mean(), rbm)
    torch.testing.assert_close(found, exact, atol=1e-11, rtol=1e-10)


@pytest.mark.parametrize(
    ("visible", "hidden"), [*itertools.product(FINITE, FINITE), ("gaussian", "spin"), ("spin", "relu")]
)
def test_the_exact_loss_is_the_likelihood_with_its_gradient(visible, hidden):
    rbm = machine(visible, hidden)
    data = draws(rbm, 7)
    loss, law = ExactLikelihood(rbm)(data), rbm.distribution()
    known = -law.log_prob(data).mean()
    torch.testing.assert_close(loss, known, atol=1e-11, rtol=1e-10)
    torch.testing.assert_close(slope(loss, rbm), slope(known, rbm), atol=1e-11, rtol=1e-10)


def test_lbfgs_and_natural_gradients_learn_exactly():
    """The frequencies of 20 000 draws of another machine: KL from above 0.05 to below 1e-5 and 1e-3."""
    teacher = machine().distribution()
    rows = states(4)
    counts = (teacher.log_prob(rows).exp() * 20_000).round().long()
    data = rows.repeat_interleave(counts, 0)
    p = counts.double() / counts.sum()
    entropy = -torch.xlogy(p, p).sum().item()
    students = [machine(n_hidden=6, spread=0.1) for _ in range(2)]
    optimiser = torch.optim.LBFGS(students[0].parameters(), max_iter=100, line_search_fn="strong_wolfe")
    exact = ExactLikelihood(students[0])

    def closure():
        optimiser.zero_grad()
        value = exact(data)
        value.backward()
        return value

    before = closure().item() - entropy
    optimiser.step(closure)
    natural = ExactLikelihood(students[1], natural=1e-3)
    steps = torch.optim.SGD(students[1].parameters(), 0.5)
    for _ in range(40):
        steps.zero_grad()
        natural(data).backward()
        steps.step()
    assert before > 0.05
    assert closure().item() - entropy < 1e-5
    assert natural(data).item() - entropy < 1e-3


def test_the_natural_gradient_is_the_solution_with_the_fisher_matrix():
    """Fisher matrix from the score of every state by autograd, in the centred parameters."""
    rbm, data = machine(), states(4)[:5]
    log_p = rbm.distribution().log_prob(states(4))
    scores = torch.stack([slope(x, rbm) for x in log_p])
    metric = scores.mT @ (log_p.exp().unsqueeze(-1) * scores)
    metric = metric + 0.01 * metric.diagonal().mean() * torch.eye(len(metric))
    expected = torch.linalg.solve(metric, slope(ExactLikelihood(rbm)(data), rbm))
    torch.testing.assert_close(slope(ExactLikelihood(rbm, natural=0.01)(data), rbm), expected.detach())
    assert fisher(rbm.distribution()).diagonal().min() > 0


def kernel(law):
    """One Gibbs step as a matrix between visible states, by the sum over hidden states."""
    v, h = (layer.states(law.loc) for layer in (law.visible_units, law.hidden_units))
    up = torch.stack([law.hidden(x).log_prob(h) for x in v]).exp()
    down = torch.stack([law.visible(x).log_prob(v) for x in h]).exp()
    return v, up @ down


@pytest.mark.parametrize(
    ("visible", "hidden"), [("spin", "bernoulli"), ("bernoulli", "spin"), ("softmax:3", "binomial:2")]
)
def test_the_mean_of_100_000_cd1_gradients_is_the_enumerated_one(visible, hidden):
    """Each component within 4.5 sigma, false alarm below 4e-4 at a fixed seed; CD-2 is told apart."""
    rbm = machine(visible, hidden, shape=(1, 3), spread=1.2)
    law = rbm.distribution()
    v, step = kernel(law)
    assert (step.sum(-1) - 1).abs().max() < 1e-12
    start = [0, 3, len(v) - 1]
    data = v[start].repeat(334, 1)[:1000]
    expected = {}
    for k in (1, 2):
        q = torch.linalg.matrix_power(step, k)[start].repeat(334, 1)[:1000].mean(0).detach()
        expected[k] = slope(law.free_energy(data).mean() - q @ law.free_energy(v), rbm)
    loss = ContrastiveDivergence(rbm, k=1, seed=1)
    found = torch.stack([slope(loss(data), rbm) for _ in range(100)])
    mean, error = found.mean(0), found.std(0) / 10

    def agree(with_k):
        return bool(((mean - expected[with_k]).abs() < 4.5 * error + 1e-12).all())

    assert agree(1)
    assert not agree(2), "the test has no power"


def test_fast_weights_without_a_rate_are_plain_persistent_chains():
    rbm, data = machine(), states(4)
    plain, idle = PersistentCD(rbm, data, k=2, chains=50), FastPCD(rbm, data, k=2, chains=50, rate=0.0)
    for _ in range(3):
        assert (slope(plain(data), rbm) - slope(idle(data), rbm)).abs().max() < 1e-14
    assert torch.equal(plain.chains, idle.chains)


def test_fast_weights_follow_their_rule_and_drive_chains_out_of_a_trap():
    """Strong couplings hold spins up for ever; with the overlay chains cross, as the data have both signs."""
    rbm = RBM((1, 6), hidden=1, symmetric=True)
    rbm.W.data.fill_(6.0)
    data = torch.cat([torch.ones(50, 6), -torch.ones(50, 6)])
    losses = [kind(rbm, torch.ones(100, 6), k=1, chains=100) for kind in (PersistentCD, FastPCD)]
    losses[1].rate = 1.0
    for _ in range(60):
        for loss in losses:
            loss(data)
    assert (losses[0].chains == 1).all()
    assert (losses[1].chains < 0).any()
    assert losses[1].overlay[0].abs().max() > 0


def worst_level(loss, laws, monkeypatch, wrong):
    """Smallest p-value, of 20 000 chains per level against its law, which they started from; 4 calls.

    ``wrong`` turns the sign in the exchange around.
    """
    torch.manual_seed(1)
    for level, law in enumerate(laws):
        loss.replicas[level] = law.sample((20_000,))
    if wrong:
        real = torch.Tensor.clamp
        monkeypatch.setattr(torch.Tensor, "clamp", lambda x, **bounds: real(-x, **bounds))
    for _ in range(4):
        loss(states(4))
    monkeypatch.undo()
    found = zip(loss.replicas, laws, strict=True)
    return min(goodness_of_fit(v, law.log_prob(states(4)).exp().detach()) for v, law in found)


@pytest.mark.parametrize("wrong", [False, True])
def test_exchanges_leave_every_level_of_the_ladder_invariant(wrong, monkeypatch):
    """False alarm 1e-5 per level, at a fixed seed."""
    rbm = machine(spread=1.5)
    base = torch.tensor([0.8, -0.5, 0.2, -1.0])  # not that of the states, which is 0
    loss = TemperedPCD(rbm, states(4), chains=20_000, levels=4, base=base, seed=2)
    laws = [rbm.distribution().annealed(t, loss.base) for t in loss.ladder.tolist()]
    assert (worst_level(loss, laws, monkeypatch, wrong) < FALSE_ALARM) == wrong


@pytest.mark.parametrize("wrong", [False, True])
def test_exchanges_with_earlier_machines_leave_all_their_laws_invariant(wrong, monkeypatch):
    """Three machines: without weights, a copy, and the present one. False alarm 1e-5 per level."""
    rbm = machine(spread=0.6)
    loss = TrajectoryPCD(rbm, states(4), chains=20_000, threshold=0.9, seed=2)
    loss.rate = 0.0  # so that a copy is made at the next call
    loss(states(4))
    rbm.W.data *= 2
    loss.threshold = 1e-9
    first, middle = (copy.distribution() for copy in loss.copies)
    laws = [first.annealed(0.0), middle, rbm.distribution()]
    assert (worst_level(loss, laws, monkeypatch, wrong) < FALSE_ALARM) == wrong


def test_the_ladder_moves_to_equal_rates_without_random_numbers():
    """Rejections of 0.05 to 0.4 before; afterwards the largest is below twice the smallest."""
    rbm = machine(shape=(3, 4), n_hidden=6, spread=1.5)
    torch.manual_seed(1)
    data = rbm.distribution().sample((500,))
    loss = TemperedPCD(rbm, data, chains=500, levels=6, seed=2)
    loss.ladder = torch.tensor([0.0, 0.05, 0.1, 0.15, 0.2, 1.0], dtype=torch.float64)
    for _ in range(300):
        loss(data)
    assert loss.rejection.max() < 2 * loss.rejection.min()
    assert (loss.ladder.diff() > 0).all()
    assert torch.equal(levelled(loss.ladder, torch.ones(5)), loss.ladder)


LOSSES = {
    "cd": lambda rbm: ContrastiveDivergence(rbm, k=2),
    "exact": ExactLikelihood,
    "fast": lambda rbm: FastPCD(rbm, states(4), k=2, chains=20),
    "tempered": lambda rbm: TemperedPCD(rbm, states(4), chains=20, levels=3),
    "trajectory": lambda rbm: TrajectoryPCD(rbm, states(4), chains=20, threshold=0.99),
    "penalised": lambda rbm: Penalised(PersistentCD(rbm, states(4), chains=20), rbm, l2=0.1),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_saved_loss_continues_bit_for_bit(name):
    rbm, data = machine(), states(4)
    straight, first = LOSSES[name](rbm), LOSSES[name](rbm)
    for _ in range(3):
        first(data)
    second = LOSSES[name](rbm)
    second.load_state_dict(first.state_dict())
    first(data)  # what goes on must not reach the copy
    values = [slope(straight(data), rbm) for _ in range(6)]
    for expected in values[3:]:
        assert torch.equal(slope(second(data), rbm), expected)
    torch.testing.assert_close(second.state_dict(), straight.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("visible", FINITE)
def test_pseudo_likelihood_is_the_mean_of_conditionals(visible):
    rbm = machine(visible, shape=(1, 3))
    law = rbm.distribution()
    v = law.visible_units.states(law.loc)
    log_p, grouped = law.log_prob(v).detach(), v.unflatten(-1, (3, -1))
    total = torch.zeros(len(v)).double()
    for i in range(3):
        others = torch.cat([grouped[:, :i], grouped[:, i + 1 :]], 1).flatten(1)
        same = (others.unsqueeze(0) == others.unsqueeze(1)).all(-1)
        total += log_p - torch.where(same, log_p, -torch.inf).logsumexp(-1)
    found = pseudo_likelihood(law, v)
    assert abs(found.mean - (total / 3).mean().item()) < 1e-12
    some = pseudo_likelihood(law, v.repeat(400, 1), sites=1, generator=torch.Generator().manual_seed(0))
    assert abs(some.mean - found.mean) < 4.5 * some.error


def test_penalties_and_the_cap():
    rbm, data = machine(), states(4)
    exact = ExactLikelihood(rbm)
    free = slope(exact(data), rbm)
    decayed = slope(Penalised(exact, rbm, l1=0.1, l2=0.2)(data), rbm)
    W = rbm.W.detach()
    expected = grad(0.1 * rbm.W.abs().sum() + 0.1 * rbm.W.square().sum(), rbm.W)[0]
    torch.testing.assert_close(decayed - free, flat([expected, 0 * rbm.b.detach(), 0 * rbm.c.detach()]))
    sparse = Penalised(exact, rbm, sparsity=0.1, strength=100.0)
    wanted, mean = (Bernoulli(torch.as_tensor(p)) for p in (0.1, rbm.hidden(data).mean.mean(0)))
    torch.testing.assert_close(sparse(data) - exact(data), 100 * kl_divergence(wanted, mean).sum())
    optimiser = torch.optim.SGD(rbm.parameters(), 0.01)
    for _ in range(200):
        optimiser.zero_grad()
        sparse(data).backward()
        optimiser.step()
    assert (rbm.hidden(data).mean.mean(0) - 0.1).abs().max() < 0.02
    Penalised(exact, rbm, largest=0.3)(data)
    assert W.norm(dim=0).max() <= 0.3 + 1e-12
    with pytest.raises(ValueError, match="hidden units of 0 and 1"):
        Penalised(exact, machine(hidden="spin"), sparsity=0.1)


def test_guards_stop_at_once():
    """Not a number stops within one step; so do chains of real units that run away."""
    rbm = machine()
    step = gradient_step(PersistentCD(rbm, states(4), chains=20), torch.optim.SGD(rbm.parameters(), 0.1))
    step(states(4))
    rbm.W.data[0, 0] = math.nan
    with pytest.raises(FloatingPointError, match="step 2"):
        step(states(4))
    real = machine("gaussian")
    real.W.data.fill_(1e3)
    with pytest.raises(FloatingPointError, match=r"root mean square .* of the chains"):
        PersistentCD(real, draws(real, 20), chains=20)(draws(real, 20))


def test_health_of_chains_and_the_gap():
    moving, health = torch.randn(200, 30).sign(), ChainHealth()
    assert health(moving) == {"distinct": 1.0}
    assert health(moving)["stuck"] == pytest.approx(1.0)
    assert abs(health(torch.randn(200, 30).sign())["stuck"]) < 0.1
    assert health(torch.ones(200, 30)) == {"distinct": 1 / 200, "stuck": 1.0}
    rbm = machine(shape=(3, 3), n_hidden=40, spread=0.1)
    data = states(9)[torch.randperm(512)[:20]]
    optimiser = torch.optim.Adam(rbm.parameters(), 0.05)
    loss = ExactLikelihood(rbm)
    gaps = []
    for _ in range(2):
        gaps.append(free_energy_gap(rbm.distribution(), data, states(9)))
        for _ in range(60):
            optimiser.zero_grad()
            loss(data).backward()
            optimiser.step()
    assert abs(gaps[0].mean) < 4.5 * gaps[0].error
    assert gaps[1].mean > 4.5 * gaps[1].error


def test_persistent_chains_are_those_that_were_drawn():
    """Not thrown away between calls: each starts where the one before ended."""
    rbm = machine()
    loss = PersistentCD(rbm, states(4), k=3, chains=16, seed=3)
    generator = torch.Generator().manual_seed(
        private_seed(3, 3)
    )  # hidden units for the first update are drawn
    expected = loss.chains
    for _ in range(3):
        expected = rbm.gibbs(expected, 3, generator)
        loss(states(4))
    assert torch.equal(loss.chains, expected)


def test_gaussian_hidden_units_are_sampled_as_their_energy_says():
    """Gibbs steps with hidden units of width 1, 20 000 chains from the exact law, by chi-squared."""
    rbm = machine(hidden="gaussian", spread=0.4)
    law = rbm.distribution()
    probs = law.log_prob(states(4)).exp().detach()
    torch.manual_seed(0)
    chains = law.gibbs(law.sample((20_000,)), 3)
    assert goodness_of_fit(chains, probs) > FALSE_ALARM
    assert goodness_of_fit(law.at(1.15).gibbs(chains, 3), probs) < FALSE_ALARM


def test_enumeration_over_either_layer_agrees():
    rbm = machine(shape=(2, 3), n_hidden=3)
    law = rbm.distribution()
    log_z, m = enumerated(law)
    assert abs(log_z - (-law.free_energy(states(6))).logsumexp(0)) < 1e-11
    p = law.log_prob(states(6)).exp()
    torch.testing.assert_close(m.visible, p @ states(6))
    torch.testing.assert_close(m.hidden, p @ law.hidden(states(6)).mean)


def test_adam_with_momentum_converges_in_centred_parameters():
    """The optimiser that a peer diverges with when it centres: KL from above 0.3 to below 0.05 nats."""
    teacher = machine(shape=(2, 3), spread=1.0).distribution()
    torch.manual_seed(2)
    data, every = teacher.sample((4000,)), states(6)
    p = teacher.log_prob(every).exp().detach()
    rbm = RBM((2, 3), hidden=6, spread=0.1).double().centre(data)

    def kl():
        return float((p * (p.log() - rbm.distribution().log_prob(every).detach())).sum())

    before = kl()
    step = gradient_step(PersistentCD(rbm, data, k=2, chains=500), torch.optim.Adam(rbm.parameters(), 0.01))
    for i in range(400):
        step(data[i % 8 :: 8])
    assert before > 0.3
    assert kl() < 0.05


def test_the_value_of_a_contrast_is_its_slope_along_the_parameters():
    """The centred ones that the machine is made of; its plain ones where it does not know any others."""
    law, data = machine().distribution(), states(4)
    alike = law.expand(law.batch_shape)
    chains = data.flip(0)[:5]
    rows = torch.cat([data, chains])
    for d, parameters in ((law, law.centred[:3]), (alike, (alike.weight, alike.loc, alike.hidden_bias))):
        for found in (None, difference(d, data, chains, d.hidden_field(rows), d.centred)):
            value = contrast(d, data, chains, found)
            slopes = torch.autograd.grad(value, parameters, retain_graph=True)
            total = sum((p * slope).sum() for p, slope in zip(parameters, slopes, strict=True))
            torch.testing.assert_close(value, total)


def test_layers_may_have_more_states_than_a_float_can_count():
    rbm = RBM((36, 30), hidden=1025)
    assert not rbm.enumerable
    PersistentCD(rbm, torch.ones(3, 1080), k=1, chains=3)(torch.ones(3, 1080)).backward()
    assert rbm.W.grad.isfinite().all()


@pytest.mark.parametrize("loss", [ContrastiveDivergence, ExactLikelihood, PersistentCD, TemperedPCD])
def test_a_double_machine_learns_from_single_batches(loss):
    """As they come from Batches and Rows."""
    rbm = machine()
    data = draws(rbm, 20)
    start = {} if loss in (ContrastiveDivergence, ExactLikelihood) else {"start": data, "chains": 8}
    slopes = [slope(loss(rbm, **start)(batch), rbm) for batch in (data, data.float())]
    assert slopes[0].dtype == torch.float64
    assert torch.equal(*slopes)
