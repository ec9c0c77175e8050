"""log Z along training, by the TAP free energy, and by the call that chooses, against exact sums."""

import numpy as np
import pytest
import torch

from physgen import likelihood
from physgen.distributions import BernoulliRBM, GaussianBinaryRBM, SpinRBM
from physgen.models.rbm import RBM
from physgen.partition import Trajectory, UnevenWeights, tap

DOUBLE = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def weak(family, scale, seed=0):
    g = generator(seed)
    W = scale * torch.randn(12, 8, generator=g, dtype=DOUBLE)
    b, c = (0.5 * torch.randn(n, generator=g, dtype=DOUBLE) for n in (12, 8))
    return family(W, b, c)


@pytest.mark.parametrize("family", [BernoulliRBM, SpinRBM])
def test_tap_errs_by_its_first_missing_order(family):
    """Halving the couplings divides the error by about 2^(order + 1); mean field is far behind the others."""
    scales = (0.2, 0.1) if family is BernoulliRBM else (0.1, 0.05)
    errors = np.array([[_tap_error(family, s, order) for s in scales] for order in (1, 2, 3)])
    assert (errors[1:] < errors[0] / 20).all()
    assert (errors[:, 0] / errors[:, 1] > [3, 5, 8]).all()
    assert (errors[2] < 1e-3).all()


def _tap_error(family, scale, order):
    machine = weak(family, scale)
    found = tap(machine, order=order)
    assert found.converged
    return abs(found.log_z - machine.log_partition().item())


def test_mean_field_is_a_lower_bound_and_data_may_start_it():
    machine = weak(BernoulliRBM, 2.0)
    rows = machine.sample((30,))
    assert tap(machine, rows, order=1).log_z < machine.log_partition().item()
    assert tap(machine, rows, order=1).log_z >= tap(machine, rows[:1], order=1).log_z


def test_tap_refuses_what_it_does_not_cover():
    one = torch.ones(2, 2, dtype=DOUBLE)
    with pytest.raises(ValueError, match="two values"):
        tap(GaussianBinaryRBM(one / 9, one[0], one[0], one[0]))
    with pytest.raises(ValueError, match="order 1, 2 or 3"):
        tap(weak(BernoulliRBM, 0.1), order=4)


def followed(seed, chains, steps=20, rate=0.12, honest=True):
    """A machine that grows from no couplings, and what follows it; unequal weights make it draw anew."""
    torch.manual_seed(seed)
    rbm = RBM((3, 3), hidden=4, spread=0.0).double()
    direction = torch.randn(9, 4, generator=generator(7), dtype=DOUBLE)
    follow = Trajectory(rbm, rbm.sample(chains).reshape(10, -1, 9), rbm.log_partition(), seed=seed)
    drawn_anew = 0
    for _ in range(steps):
        rbm.W.data += rate * direction
        follow.update(rbm)
        drawn_anew += int((follow.log_w == 0).all(-1).sum())
        if not honest:
            follow.log_w.zero_()
    return follow, rbm, drawn_anew


def test_log_z_is_followed_through_training():
    """Within 4.5 sigma, which are below 0.1, after chains were drawn anew; forgotten weights are noticed."""
    follow, rbm, drawn_anew = followed(0, 2000)
    assert drawn_anew > 0
    assert follow.estimate.error < 0.1
    assert follow.estimate.sigmas_from(rbm.log_partition()) < 4.5
    assert (follow.shares > 0).all()
    lost, rbm, _ = followed(0, 2000, honest=False)
    assert abs(lost.estimate.mean - rbm.log_partition()) > 0.5


def test_a_trajectory_resumes_bit_for_bit():
    follow, rbm, _ = followed(0, 100, steps=5)
    other = Trajectory(rbm, torch.ones_like(follow.chains), 0.0, seed=9)
    other.log_z = follow.log_z
    other.load_state_dict({k: v.clone() for k, v in follow.state_dict().items()})
    for x in (follow, other):
        x.update(rbm)
    assert torch.equal(follow.chains, other.chains)
    assert follow.estimate == other.estimate
    with pytest.raises(ValueError, match="build it with the chains"):
        other.load_state_dict(followed(0, 50, steps=1)[0].state_dict())
    with pytest.raises(ValueError, match="at least 2 groups"):
        Trajectory(rbm, torch.ones(5, 9), 0.0)


@pytest.fixture(scope="module")
def large():
    """A machine too large to be summed, but known: it falls into halves that are not."""
    torch.manual_seed(0)
    halves = [RBM((4, 4), hidden=12, spread=0.3).double() for _ in range(2)]
    rbm = RBM((4, 8), hidden=24, spread=0.0).double()
    with torch.no_grad():
        for i, half in enumerate(halves):
            rbm.W[16 * i : 16 * i + 16, 12 * i : 12 * i + 12] = half.W
    assert not rbm.enumerable
    samples = torch.cat([half.sample(400) for half in halves], -1)
    return rbm, sum(half.log_partition() for half in halves), samples


def test_the_call_chooses_and_says_so(large):
    rbm, exact, samples = large
    options = {"chains": 200, "temperatures": 60, "seed": 1}
    alone = likelihood.log_partition(rbm, **options)
    both = likelihood.log_partition(rbm, samples[:200], **options)
    given = likelihood.log_partition(rbm, samples=samples[200:], **options)
    assert [x.method for x in (alone, both, given)] == ["annealed", "acceptance ratio", "acceptance ratio"]
    for found in (alone, both, given):
        assert found.estimate.sigmas_from(exact) < 4.5
        assert found.doubt == ""
    assert "200 chains x 60 temperatures" in str(both)
    assert "forward" in str(both)
    assert alone.ess > 20


def test_log_likelihood_of_data(large):
    rbm, exact, samples = large
    found = likelihood.log_likelihood(rbm, samples, samples=samples, chains=200, temperatures=60)
    values = (-rbm.free_energy(samples) - exact).detach()
    assert abs(found.per_configuration.mean - float(values.mean())) < 4.5 * found.log_z.estimate.error
    scatter = float(values.std()) / 20
    assert found.per_configuration.error == pytest.approx(np.hypot(scatter, found.log_z.estimate.error))
    assert found.per_site.mean == found.per_configuration.mean / 32
    assert found.per_site.error == found.per_configuration.error / 32
    assert "400 configurations; log Z = " in str(found)
    small = RBM((2, 2), hidden=3)
    assert likelihood.log_likelihood(small, torch.ones(3, 4)).log_z.method == "exact sum"


def test_samples_of_another_law_are_warned_of(large):
    """The likeliest configuration is not all there is, and with few temperatures chains do not forget it."""
    rbm, _, samples = large
    wrong = samples[rbm.free_energy(samples).argmin()].expand(200, -1)
    with pytest.warns(UnevenWeights, match="disagree by"):
        found = likelihood.log_partition(rbm, samples=wrong, chains=200, temperatures=4)
    assert "doubtful" in str(found)
