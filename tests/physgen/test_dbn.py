"""Deep belief nets so small that every hidden state can be listed, in float64."""

import itertools

import pytest
import torch

from physgen import models
from physgen.distributions import units
from physgen.models.dbn import DBN
from tests.checks import FALSE_ALARM, goodness_of_fit

KINDS = ("spin", "bernoulli")


def states(kind, n=4):
    return units.layer(kind, n).states(torch.ones(1, dtype=torch.float64))


def net(kind="spin", hidden=(3, 4), layers=None, labels=0, spread=0.7):
    """With weights, biases and recognition weights at random."""
    torch.manual_seed(1)
    dbn = DBN((2, 2), hidden, kind, labels, spread=spread).double()
    x = states(kind)[3:]
    rows = (
        torch.cat([x, torch.eye(labels, dtype=torch.float64)[torch.arange(len(x)) % labels]], -1)
        if labels
        else x
    )
    dbn.machines[0].centre(rows if dbn.labelled else x)
    for _ in range((layers or len(hidden)) - 1):
        dbn.add_layer(rows)
    with torch.no_grad():
        for p in dbn.parameters():
            p += 0.5 * torch.randn_like(p)
    return dbn


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hidden", [(3,), (3, 4), (3, 2, 3)])
def test_the_enumerated_density_is_that_of_the_sampler(kind, hidden):
    """Normalised to 1e-10; 20 000 draws, false alarm 1e-5; a net with one bias moved is rejected."""
    dbn = net(kind, hidden)
    log_p = dbn.log_prob_enumerated(states(kind))
    assert abs(log_p.logsumexp(0)) < 1e-10
    x = dbn.sample(20_000)
    spins = x if kind == "spin" else 2 * x - 1
    assert goodness_of_fit(spins, log_p.exp()) > FALSE_ALARM
    with torch.no_grad():
        dbn.machines[0].b[0] += 0.2
    assert goodness_of_fit(spins, dbn.log_prob_enumerated(states(kind)).exp()) < FALSE_ALARM


def test_by_hand():
    """p(x) of one hidden layer below a machine, summed by three loops from the energies themselves."""
    dbn = net("bernoulli", (2, 2))
    v, bits = states("bernoulli"), states("bernoulli", 2)
    below, top = (machine.distribution() for machine in dbn.machines)
    p = torch.zeros(16, dtype=torch.float64)
    z = sum((-top.energy(h1, h2)).exp() for h1 in bits for h2 in bits)
    for h1 in bits:
        prior = sum((-top.energy(h1, h2)).exp() for h2 in bits) / z
        on = (below.loc + below.weight @ h1).sigmoid()
        p += prior * (on * v + (1 - on) * (1 - v)).prod(-1)
    torch.testing.assert_close(dbn.log_prob_enumerated(v), p.log(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_is_below_and_unbiased_inside_the_logarithm(kind):
    """E[p(x,h)/q(h|x)] = p(x): 16 means of 4000 draws within 4.5 sigma (1e-4); a missing entropy is seen."""
    dbn = net(kind)
    x = states(kind)
    log_p = dbn.log_prob_enumerated(x)
    one = dbn.log_prob_bound(x.repeat(4000, 1), k=1).reshape(4000, 16)
    error = one.std(0) / 4000**0.5
    assert (one.mean(0) < log_p + 4.5 * error).all()
    assert (one.mean(0) < log_p - 4.5 * error).any()

    def z(weights):
        return (weights.exp().mean(0) - log_p.exp()).abs() / (weights.exp().std(0) / 4000**0.5)

    assert z(one).max() < 4.5
    many = dbn.log_prob_bound(x.repeat(100, 1), k=40).reshape(100, 16).mean(0)
    assert one.mean() < many.mean() < log_p.mean() + 0.01
    layers = dbn.up(x.repeat(4000, 1))
    without = dbn.log_generate(layers) + dbn.scores(layers[-1])[:, 0] - dbn.log_partition().mean
    assert z(without.detach().reshape(4000, 16)).max() > 4.5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labels", [0, 2])
def test_a_new_layer_upside_down_changes_nothing(kind, labels):
    """The bound after is log p before, for every draw of h: the posterior is the true one."""
    dbn = net(kind, (3, 4), layers=1, labels=labels)
    before = dbn.log_prob_enumerated(states(kind))
    dbn.add_layer(torch.cat([states(kind), torch.eye(2).double().repeat(8, 1)[:, :labels]], -1))
    torch.testing.assert_close(dbn.log_prob_enumerated(states(kind)), before, atol=1e-10, rtol=0)
    torch.testing.assert_close(dbn.log_prob_bound(states(kind), k=1), before, atol=1e-10, rtol=0)
    with torch.no_grad():
        dbn.machines[1].W[0, 0] += 0.1
    assert (dbn.log_prob_bound(states(kind), k=1) - before).abs().max() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_bound_rises_when_the_added_layer_learns(kind):
    """Exact gradient on the aggregated posterior; from the tied start bound and log p both rise."""
    dbn = net(kind, (3, 4), layers=1)
    weight = torch.ones(16, dtype=torch.float64)
    weight[::3] = 6.0
    x = states(kind)
    share = weight / weight.sum()

    def bound():
        h = states("bernoulli", 3)
        q = torch.stack([dbn.log_recognise([x, row.expand(16, -1)]) for row in h])
        inside = torch.stack([dbn._log_weight([x, row.expand(16, -1)], None) for row in h])
        return ((q.exp() * inside).sum(0) * share).sum() - dbn.top.distribution().log_partition()

    before = float((dbn.log_prob_enumerated(x) * share).sum())
    dbn.add_layer(x)
    assert float(bound().detach()) == pytest.approx(before, abs=1e-10)
    optimiser, seen = torch.optim.SGD(dbn.machines[1].parameters(), 0.2), [before]
    for _ in range(12):
        optimiser.zero_grad()
        (-bound()).backward()
        optimiser.step()
        seen.append(float(bound().detach()))
    assert all(b > a for a, b in itertools.pairwise(seen))
    assert float((dbn.log_prob_enumerated(x) * share).sum()) >= seen[-1] > before + 0.002


def test_the_bound_of_one_layer_is_the_density_whatever_k():
    dbn = DBN((2, 2), hidden=(3,)).double()
    x = states("spin")
    torch.testing.assert_close(dbn.log_prob_bound(x, k=5), dbn.log_prob_enumerated(x))


def test_generation_uses_no_recognition_weights():
    dbn = net()
    torch.manual_seed(5)
    before = dbn.sample(50)
    with torch.no_grad():
        for p in dbn.recognition.parameters():
            p.fill_(torch.nan)
    torch.manual_seed(5)
    assert torch.equal(dbn.sample(50), before)
    with torch.no_grad():
        dbn.machines[0].W[:] = -dbn.machines[0].W
    torch.manual_seed(5)
    assert not torch.equal(dbn.sample(50), before)


def test_classes_by_free_energy_are_those_of_the_enumerated_joint():
    """For states of the layer below the labels; over x alone they differ, since features are not states."""
    dbn = net("bernoulli", (4,), labels=3)
    x = states("bernoulli")
    rows = [torch.cat([x, torch.eye(3).double()[k].expand(16, -1)], -1) for k in range(3)]
    joint = torch.stack([dbn.log_prob_enumerated(each) for each in rows], -1)
    torch.testing.assert_close(joint.log_softmax(-1), dbn.class_log_prob(x), atol=1e-10, rtol=0)
    torch.testing.assert_close(joint.logsumexp(-1), dbn.log_prob_enumerated(x), atol=1e-10, rtol=0)
    for k, each in enumerate(rows):
        energies = dbn.top.free_energy(each)
        torch.testing.assert_close(dbn.scores(x)[:, k], -energies, atol=1e-10, rtol=0)


def test_draws_given_a_class_follow_the_conditional_law():
    """20 000 chains of 60 updates; false alarm 1e-5 per class; the law of the other class is rejected."""
    dbn = net("spin", (3, 4), labels=2, spread=0.4)
    with torch.no_grad():
        dbn.top.W[3:] += torch.tensor([[2.0], [-2.0]])  # a class that matters
    labels = torch.eye(2).double()
    rows = (torch.cat([states("spin"), y.expand(16, -1)], -1) for y in labels)
    law = [dbn.log_prob_enumerated(each).exp() for each in rows]
    generator = torch.Generator().manual_seed(0)
    for k in range(2):
        x = dbn.sample_labelled(torch.full((20_000,), k), 60, generator)
        assert goodness_of_fit(x, law[k]) > FALSE_ALARM
        assert goodness_of_fit(x, law[1 - k]) < FALSE_ALARM
    grey = dbn.sample_labelled(torch.zeros(5, dtype=torch.long), 10, generator, mean=True)
    assert ((grey.abs() < 1) & (grey != 0)).all()


def test_log_z_is_found_again_when_the_top_machine_changes(monkeypatch):
    dbn = net()
    first = dbn.log_partition()
    assert first is dbn.log_partition()
    with torch.no_grad():
        dbn.top.W[0, 0] += 1
    assert dbn.log_partition().mean != first.mean
    monkeypatch.setattr("physgen.models.dbn.ANNEALING_STEPS", 50)
    large = DBN((5, 5), (24, 24))
    large.add_layer(torch.ones(30, 25))
    assert large.log_partition().error > 0


def test_gaussian_data():
    """Density of a Gaussian first layer: its integral over a grid of x, and a bound that lies below."""
    torch.manual_seed(0)
    dbn = DBN((1, 1), (2, 3), "gaussian").double()
    data = torch.randn(200, 1).double() * 0.6 + 1
    dbn.machines[0].centre(data)
    dbn.add_layer(data)
    x = torch.linspace(-8, 10, 4001).double().unsqueeze(-1)
    log_p = dbn.log_prob_enumerated(x)
    assert abs(torch.trapezoid(log_p.exp(), x[:, 0]) - 1) < 1e-8
    law, h = dbn.machines[0].distribution(), dbn.recognition[0]
    torch.testing.assert_close(h(x), law.hidden_field(x))
    some = x[1500:2500:100]
    draws = dbn.log_prob_bound(some.repeat(2000, 1), 1).reshape(2000, -1)
    assert (draws.mean(0) < dbn.log_prob_enumerated(some) + 4.5 * draws.std(0) / 2000**0.5).all()
    samples = dbn.sample(20_000)[:, 0]
    mean = torch.trapezoid(log_p.exp() * x[:, 0], x[:, 0])
    assert abs(samples.mean() - mean) < 4.5 * samples.std() / 20_000**0.5  # false alarm 7e-6


def test_refuses_in_words():
    dbn = models.build("dbn", (2, 2), hidden=[3, 2])
    assert dbn.recipe["hyper"] == {"hidden": [3, 2]}
    dbn.add_layer(torch.ones(9, 4))
    with pytest.raises(ValueError, match="all of them are in use"):
        dbn.add_layer(torch.ones(9, 4))
    with pytest.raises(ValueError, match="4 coordinates; got"):
        dbn.log_prob_bound(torch.ones(2, 5))
    with pytest.raises(ValueError, match="knows classes"):
        dbn.class_log_prob(torch.ones(2, 4))
    labelled = DBN((2, 2), (3, 2), labels=2)
    with pytest.raises(ValueError, match="must end in one of 2"):
        labelled.add_layer(torch.ones(9, 4))
    with pytest.raises(ValueError, match="at least one hidden layer"):
        DBN((2, 2), ())


@pytest.mark.parametrize("label", [[0.0, 0, 0], [1.0, 1, 0]])
def test_a_row_with_no_label_or_two_is_not_scored_as_another_one(label):
    net = DBN((2, 2), hidden=(3,), labels=3)
    rows = torch.tensor([[1.0, 1, 1, 1, 1, 0, 0], [1.0, 1, 1, 1, *label]])
    for score in (net.log_prob_bound, net.log_prob_enumerated):
        with pytest.raises(ValueError, match="a label is a single 1 among 0"):
            score(rows)
