"""Models whose weights depend on a condition.

False alarm: 5 sigma for each of 20 components of a gradient (1.2e-5), at fixed seeds.
"""

import pytest
import torch

from ising import Ising, exact, lattices
from physgen import checkpoint, models
from physgen.batches import Batches
from physgen.conditional import (
    Classes,
    Conditional,
    ConditionalBatches,
    ConditionalDraws,
    ConditionalReverseKL,
    Polynomials,
    stratified,
)
from physgen.reverse_kl import Drawn
from physgen.train import fit, gradient_step

ISING = Ising(lattices.square(4))
COUPLINGS = ISING.local_field(torch.eye(16)).float()


def net(shape=(2, 2), spread=0.3, **hyper):
    torch.manual_seed(1)
    found = models.build("conditional", shape, **{"intervals": [(0.2, 0.6)], "degree": 2} | hyper)
    with torch.no_grad():
        for p in found.parameters():
            p += spread * torch.randn_like(p)
    return found


@pytest.mark.parametrize("name", ["fvbn", "odd", "made", "pixelcnn"])
@pytest.mark.parametrize("order", ["raster", "snake"])
def test_at_a_condition_it_is_the_model_with_those_weights(name, order):
    small = {"pixelcnn": {"depth": 2, "width": 4}}.get(name, {})
    found, other = net((4, 4), model=name, hyper={"order": order, **small}), exact.states(16)[::5000].float()
    plain = found.plain(0.3)
    assert type(plain) is type(models.build(name, (4, 4), order=order, **small))
    torch.testing.assert_close(found.at(0.3).log_prob(other), plain.log_prob(other))
    drawn = [m.sample(20, torch.Generator().manual_seed(0)) for m in (found.at(0.3), plain, found.at(0.5))]
    assert drawn[0].equal(drawn[1])
    assert not drawn[0].equal(drawn[2])  # negative control


def test_weights_are_polynomials_of_the_stated_degree():
    """Third differences of degree 2 vanish, second ones do not; beta and h mix up to total degree 2."""
    found = net().double()
    betas = torch.linspace(0.2, 0.6, 5).tolist()
    w = torch.stack([found.weights(b)["direct.weight"] for b in betas])
    assert w.diff(n=3, dim=0).abs().max() < 1e-6
    assert w.diff(n=2, dim=0).abs().max() > 0.01
    assert len(Polynomials([(0.2, 0.6), (0.0, 1.0)], degree=2)) == 6
    features = Polynomials([(0.2, 0.6), (-1.0, 1.0)], degree=3)
    assert abs(float(features.first_number() @ features((0.37, 0.2))) - 0.37) < 1e-12


@pytest.mark.parametrize("order", ["raster", "hierarchical"])
def test_it_starts_from_the_couplings_at_every_beta(order):
    found = net((4, 4), spread=0.0, model="odd", hyper={"order": order}, degree=3)
    found.start_from(COUPLINGS)
    for beta in (0.2, 0.33, 0.6):
        plain = models.build("odd", (4, 4), order=order)
        plain.load_state_dict(found.model.state_dict())
        plain.start_from(beta * COUPLINGS)
        spins = exact.states(16)[::9000].float()
        torch.testing.assert_close(
            found.at(beta).log_prob(spins), plain.log_prob(spins), rtol=1e-5, atol=1e-5
        )
    with pytest.raises(ValueError, match="condition on beta"):
        net((4, 4), classes=3).start_from(COUPLINGS)


def test_rows_have_conditions_of_their_own():
    found, spins = net((2, 2)), exact.states(4).float()[:7]
    betas = torch.tensor([0.3, 0.5, 0.3, 0.2, 0.5, 0.3, 0.6])
    each = torch.stack([found.at(float(b)).log_prob(s) for b, s in zip(betas, spins, strict=True)])
    torch.testing.assert_close(found.log_probs(spins, betas), each)
    both = net((2, 2), intervals=[(0.2, 0.6), (0.0, 1.0)])
    pairs = torch.stack([betas, betas.flip(0)], 1)
    each = torch.stack([both.at(c).log_prob(s) for c, s in zip(pairs, spins, strict=True)])
    torch.testing.assert_close(both.log_probs(spins, pairs), each)


def test_classes_share_what_the_condition_does_not_move():
    found = net(classes=3, biases=True)
    assert found.names == ["direct.bias"]
    a, b = found.weights(0), found.weights(2)
    assert a["direct.weight"].equal(b["direct.weight"])
    assert not a["direct.bias"].equal(b["direct.bias"])
    torch.testing.assert_close(a["direct.bias"], found.model.direct.bias + found.changes[0][0])


def test_reverse_kl_has_the_gradient_of_the_free_energy():
    """At the beta of the batch, with respect to every W_m."""
    ising, found = Ising(lattices.chain(4), h=0.3), net((4,), degree=1).double()
    step, beta, below = ConditionalReverseKL(ising.energy), 0.47, torch.ones(4, 4).tril(-1).bool()

    def gradient():
        base, change = found.model.direct, found.changes[found.names.index("direct.weight")]
        return torch.cat(
            [base.weight.grad[below], change.grad[0][below], base.bias.grad, found.changes[1].grad[0]]
        )

    states = exact.states(4).double()
    log_q = found.at(beta).log_prob(states)
    (log_q.exp() * (beta * ising.energy(states) + log_q)).sum().backward()
    expected, sums = gradient().clone(), []
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        found.zero_grad()
        step(((beta,), Drawn(*found.at(beta).sample_and_log_prob(20, generator))))[0].backward()
        sums.append(gradient().clone())
    sums = torch.stack(sums)
    error = sums.std(0) / len(sums) ** 0.5
    assert ((sums.mean(0) - expected) / error).abs().max() < 5
    assert ((sums.mean(0) - 1.2 * expected) / error).abs().max() > 5  # negative control


def test_one_model_learns_a_range_of_temperatures_and_fields_without_data():
    ising = Ising(lattices.square(3))
    features = Polynomials([(0.1, 0.4), (-0.5, 0.5)], degree=2)
    torch.manual_seed(0)
    found = Conditional(models.build("made", (3, 3), hidden=32), features)

    def energy(spins, h):
        return ising.energy(spins) - h * spins.sum(-1)

    def worst():
        kl, states = [], exact.states(9).float()
        for beta, h in ((0.1, 0.5), (0.3, -0.2), (0.4, -0.5)):
            log_p = (-beta * energy(states, h)).double().log_softmax(0)
            log_q = found.at((beta, h)).log_prob(states).double()
            kl.append(float((log_q.exp() * (log_q - log_p)).sum().detach()) / 9)
        return max(kl)

    before = worst()
    adam = torch.optim.Adam(found.parameters(), lr=0.01)
    step = gradient_step(ConditionalReverseKL(energy), adam, clip=1.0)
    fit(step, ConditionalDraws(found, 100), steps=200)
    assert before > 0.1
    assert worst() < 0.02


def test_likelihood_of_several_temperatures():
    torch.manual_seed(0)
    data = {b: (2.0 * (torch.rand(500, 4) < b).float() - 1) for b in (0.2, 0.6)}
    found = net(spread=0.0, degree=1)
    batches = ConditionalBatches({b: Batches(spins, 100) for b, spins in data.items()})
    step = gradient_step(found.loss, torch.optim.Adam(found.parameters(), lr=0.05))
    fit(step, batches, steps=150)
    for b, spins in data.items():
        up = found.at(b).sample(4000, torch.Generator().manual_seed(1)).gt(0).float().mean()
        assert abs(up - spins.gt(0).float().mean()) < 0.03
    again = ConditionalBatches({b: Batches(spins, 100) for b, spins in data.items()})
    again.load_state_dict(batches.state_dict())
    (a, x), (b, y) = next(batches), next(again)
    assert a == b
    assert x.equal(y)
    with pytest.raises(ValueError, match="other conditions"):
        ConditionalBatches({0.3: Batches(data[0.2], 100)}).load_state_dict(batches.state_dict())


def test_the_order_of_conditions_is_even():
    for first in (0, 17, 400):
        parts = torch.tensor([int(10 * stratified(n, 3)[0]) for n in range(first, first + 100)]).bincount(
            minlength=10
        )
        assert parts.min() >= 8
        assert parts.max() <= 12
    cells = [int(4 * x) + 4 * int(4 * y) for x, y in (stratified(n, 3, 2) for n in range(160))]
    assert 7 <= min(torch.tensor(cells).bincount(minlength=16)) <= 10
    drawn = (10 * torch.rand(100, generator=torch.Generator().manual_seed(0))).long().bincount(minlength=10)
    assert drawn.max() > 12  # negative control: independent ones are not


def test_a_stop_leaves_no_trace(tmp_path):
    def start():
        torch.manual_seed(5)
        found = models.build("conditional", (2, 2), model="odd", intervals=[(0.2, 0.4)], degree=1)
        step = gradient_step(
            ConditionalReverseKL(lambda s: -s.prod(-1)), torch.optim.Adam(found.parameters(), lr=0.01)
        )
        return found, step, ConditionalDraws(found, 10, seed=4)

    whole, step, draws = start()
    fit(step, draws, steps=6)
    first, step, draws = start()
    fit(step, draws, steps=3)
    checkpoint.save(tmp_path, first, step, draws, at=3)
    second, step, draws = start()
    assert checkpoint.restore(tmp_path, second, step, draws) == 3
    fit(step, draws, steps=6, start=3)
    assert all(a.equal(b) for a, b in zip(whole.parameters(), second.parameters(), strict=True))
    spins = exact.states(4).float()
    assert checkpoint.load_model(tmp_path).at(0.3).log_prob(spins).equal(first.at(0.3).log_prob(spins))


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"conditions from 0\.2 to 0\.6, got 0\.7"):
        net().at(0.7).sample(3)
    with pytest.raises(ValueError, match="classes 0 to 2, got 3"):
        net(classes=3).at(3).sample(3)
    with pytest.raises(ValueError, match="1 numbers here, got 2"):
        net().at((0.3, 0.2)).sample(3)
    with pytest.raises(ValueError, match="from low to high"):
        Polynomials([(0.5, 0.3)], degree=1)
    with pytest.raises(ValueError, match="at least 1"):
        Polynomials([(0.3, 0.5)], degree=0)
    with pytest.raises(ValueError, match="no biases"):
        net(model="odd", biases=True)
    with pytest.raises(ValueError, match="not classes"):
        ConditionalDraws(net(classes=2), 10)
    assert len(Classes(2)) == 3
