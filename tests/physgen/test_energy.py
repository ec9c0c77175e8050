"""CD and PCD gradients against the enumerated gradient of the negative log-likelihood."""

import pytest
import torch
from torch.autograd import grad

from ising.exact import boltzmann, states
from ising.lattices import square
from ising.model import Ising
from physgen.energy import ContrastiveDivergence, PersistentCD
from physgen.energy.moments import contrast
from physgen.models.rbm import RBM


def machine(hidden=4, spread=0.6):
    rbm = RBM((2, 3), hidden=hidden, spread=spread).double()
    with torch.no_grad():
        rbm.b.normal_(0, 0.3)
        rbm.c.normal_(0, 0.3)
    return rbm


def flat(gradients):
    return torch.cat([g.flatten() for g in gradients])


def enumerated(rbm, data):
    nll = rbm.free_energy(data).mean() + (-rbm.free_energy(states(6))).logsumexp(0)
    return flat(grad(nll, tuple(rbm.parameters())))


def repeated(loss, rbm, data, times):
    """Mean and standard error of the surrogate's gradient over ``times`` calls."""
    found = torch.stack([flat(grad(loss(data), tuple(rbm.parameters()))) for _ in range(times)])
    return found.mean(0), found.std(0) / times**0.5


def agree(mean, error, expected):
    """Every component within 4.5 sigma: false alarm 3e-4 for the 34 of them at a fixed seed."""
    return bool(((mean - expected).abs() < 4.5 * error + 1e-12).all())


DATA = states(6)[[0, 5, 21, 63, 62, 40]]


def test_persistent_chains_give_the_likelihood_gradient():
    """Chains start in equilibrium and never leave it: the mean over calls is exact; k = 20 decorrelates."""
    rbm = machine()
    loss = PersistentCD(rbm, start=rbm.sample(2000), k=20, chains=2000)
    mean, error = repeated(loss, rbm, DATA, 60)
    assert agree(mean, error, enumerated(rbm, DATA))
    assert not agree(-mean, error, enumerated(rbm, DATA))
    assert not agree(mean, error, enumerated(rbm, DATA[:5])), "the test has no power"


def test_long_contrastive_divergence_approaches_it_and_cd1_is_biased():
    rbm = machine(spread=1.5)
    many = DATA.repeat(300, 1)
    exact = enumerated(rbm, DATA)
    assert agree(*repeated(ContrastiveDivergence(rbm, k=60), rbm, many, 40), exact)
    assert not agree(*repeated(ContrastiveDivergence(rbm, k=1), rbm, many, 40), exact)


def test_training_learns_an_ising_model():
    """3 x 3 at beta = 0.3 from 5000 draws: exact KL(p || q) from 0.9 to below 0.03 nats."""
    p = boltzmann(Ising(square(3)), 0.3)
    data = states(9)[torch.multinomial(p, 5000, replacement=True)].float()
    rbm = RBM((3, 3), hidden=9, spread=0.3).centre(data)

    def kl():
        log_q = rbm.distribution(torch.float64).log_prob(states(9)).detach()
        return float((p * (p.log() - log_q)).sum())

    before = kl()
    loss = PersistentCD(rbm, start=data, k=3, chains=500)
    optimiser = torch.optim.Adam(rbm.parameters(), lr=0.04, betas=(0.0, 0.999))
    decay = torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.993)
    for i in range(600):
        optimiser.zero_grad()
        loss(data[i % 10 :: 10]).backward()
        optimiser.step()
        decay.step()
    assert before > 0.3
    assert kl() < 0.03


def test_start_takes_runs_of_any_type_evenly():
    """An int8 array (chains, samples, N), as Monte Carlo stores it."""
    run = states(6).reshape(8, 8, 6).to(torch.int8).numpy()
    loss = PersistentCD(RBM((2, 3), hidden=2), start=run, chains=64)
    assert torch.equal(loss.chains, states(6).float())
    assert len(PersistentCD(RBM((2, 3), hidden=2), start=run, chains=10).chains) == 10


@pytest.mark.parametrize("kind", [lambda rbm: PersistentCD(rbm, DATA, k=2, chains=50), ContrastiveDivergence])
def test_saved_state_continues_bit_for_bit(kind):
    rbm = machine()
    straight, first = kind(rbm), kind(rbm)
    for _ in range(3):
        first(DATA)
    second = kind(rbm)
    second.load_state_dict(first.state_dict())
    values = [straight(DATA).item() for _ in range(6)]
    assert [second(DATA).item() for _ in range(3)] == values[3:]
    assert values[0] != values[3]


def test_the_global_generator_is_left_alone():
    rbm = machine()
    loss = PersistentCD(rbm, DATA, chains=50)
    before = torch.get_rng_state()
    loss(DATA)
    assert torch.equal(before, torch.get_rng_state())


def test_refuses_in_words():
    rbm = machine()
    with pytest.raises(ValueError, match="k must be a whole number >= 1"):
        PersistentCD(rbm, DATA, k=0)
    with pytest.raises(ValueError, match="build it with the settings it was saved with"):
        PersistentCD(rbm, DATA, chains=5).load_state_dict(PersistentCD(rbm, DATA, chains=6).state_dict())
    with pytest.raises(ValueError, match="2 \\* x - 1"):
        PersistentCD(rbm, DATA)((DATA + 1) / 2)


def test_the_gradient_of_a_contrast_scales_and_is_given_once():
    rbm, data = machine(), states(6)[::5].double()
    law = rbm.distribution()
    contrast(law, data, -data).backward()
    once = rbm.W.grad.clone()
    rbm.zero_grad()
    (3 * (loss := contrast(rbm.distribution(), data, -data))).backward(retain_graph=True)
    torch.testing.assert_close(rbm.W.grad, 3 * once)
    with pytest.raises(RuntimeError, match="call the loss again"):
        loss.backward()
