"""Orders of the sites. False alarm: 1e-5 per chi-squared test, at fixed seeds."""

import pytest
import torch

from ising import Ising, exact, lattices
from physgen import checkpoint, models, orders
from physgen.batches import Batches
from physgen.train import gradient_step
from tests.checks import FALSE_ALARM, goodness_of_fit

SHAPE, N = (4, 4), 16
ORDERS = sorted(orders.REGISTRY)


def perturbed(order, spread=0.2, name="odd", **hyper):
    torch.manual_seed(1)
    net = models.build(name, SHAPE, order=order, **hyper)
    with torch.no_grad():
        for p in net.parameters():
            p += spread * torch.randn_like(p)
    return net.double()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("shape", [(2, 2), (4, 4), (16, 16)])
def test_every_site_comes_once(order, shape):
    assert orders.REGISTRY[order](shape).sort().values.equal(torch.arange(shape[0] * shape[1]))


@pytest.mark.parametrize("order", ["snake", "hilbert"])
def test_a_curve_goes_from_neighbour_to_neighbour(order):
    def steps(order):
        return (orders.REGISTRY[order]((8, 8))[:, None] // torch.tensor([8, 1]) % 8).diff(dim=0).abs().sum(-1)

    assert (steps(order) == 1).all()
    assert not (steps("raster") == 1).all()  # negative control


def test_hilbert_finishes_every_quadrant_before_the_next():
    quadrant = [2 * (site // 8 >= 4) + (site % 8 >= 4) for site in orders.hilbert((8, 8)).tolist()]
    assert quadrant == [0] * 16 + [2] * 16 + [3] * 16 + [1] * 16


@pytest.mark.parametrize(("shape", "coarsest"), [((8, 8), 1), ((6, 4), 6), ((12, 8), 6)])
def test_the_hierarchy_doubles_from_a_sublattice_to_the_checkerboard(shape, coarsest):
    """Every set of 2^j N0 sites is evenly spread: the nearest other one is equally far from each."""
    order, known = orders.hierarchical(shape), coarsest
    sides = torch.tensor(shape)
    while known < len(order):
        known *= 2
        sites = order[:known, None] // torch.tensor([shape[1], 1]) % sides
        apart = (sites[:, None] - sites).abs()
        apart = torch.minimum(apart, sides - apart).square().sum(-1)
        apart.fill_diagonal_(10_000)
        assert (apart.amin(1) == len(order) // known).all()
    assert known == len(order)


def test_a_site_of_the_last_stage_has_its_exact_conditional_from_the_couplings():
    ising = Ising(lattices.square(4), J=1.0)
    net = models.build("fvbn", SHAPE, order="hierarchical", symmetric=True).double()
    net.start_from(0.4 * ising.local_field(torch.eye(N)).double())
    spins = exact.states(N)[::997].double()
    late = orders.hierarchical(SHAPE)[N // 2 :]
    field = 0.4 * ising.local_field(spins)
    torch.testing.assert_close(net(spins)[:, late], field[:, late], rtol=0, atol=1e-12)
    assert not torch.allclose(net(spins), field)  # the coarse sites lack the neighbours that come later


@pytest.mark.parametrize("order", sorted(set(ORDERS) - {"raster"}))
def test_density_and_draws_agree(order):
    net, states = perturbed(order), exact.states(N).double()
    with torch.no_grad():
        log_q, raster = net.log_prob(states), net.model.log_prob(states)
    assert abs(log_q.logsumexp(0)) < 1e-10
    torch.manual_seed(3)
    drawn = net.sample(40_000)
    assert goodness_of_fit(drawn, log_q.exp()) > FALSE_ALARM
    assert goodness_of_fit(drawn, raster.exp()) < FALSE_ALARM  # negative control: not put back into place
    spins, fields = net.float().draw(50)
    torch.testing.assert_close(fields, net(spins).detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("order", ORDERS)
def test_a_conditional_depends_on_earlier_sites_of_the_order_only(order):
    net, path = perturbed(order), orders.REGISTRY[order](SHAPE)
    spins = exact.states(N)[12345].double()
    flipped = spins * (1 - 2 * torch.eye(N).double())
    with torch.no_grad():
        moved = (net(flipped) - net(spins)).abs() > 1e-12
    assert moved[path][:, path].equal(torch.ones(N, N).bool().triu(1))


def test_symbols_keep_their_last_axis():
    net = perturbed("snake", name="fvbn", symbols=3)
    values = torch.randint(0, 3, (2, 5, N))
    p = net.conditionals(values)
    assert p.shape == (2, 5, N, 3)
    picked = p.gather(-1, values[..., None]).squeeze(-1).log().sum(-1)
    torch.testing.assert_close(picked, net.log_prob(values))


def test_a_checkpoint_brings_the_order_back(tmp_path):
    net = perturbed("hilbert").float()
    batches = Batches(net.sample(50), 10)
    step = gradient_step(net.loss, torch.optim.Adam(net.parameters(), lr=0.01))
    step(next(batches))
    checkpoint.save(tmp_path, net, step, batches, at=1)
    spins = net.sample(20)
    assert torch.equal(checkpoint.load_model(tmp_path).log_prob(spins), net.log_prob(spins))


@pytest.mark.parametrize(
    ("order", "shape", "message"),
    [
        ("hilbert", (6, 6), r"side 2, 4, 8, \.\.\., got shape \(6, 6\); take snake"),
        ("hierarchical", (5, 4), "even sides"),
        ("zigzag", (4, 4), "choose one of raster, snake, hilbert, hierarchical"),
    ],
)
def test_what_has_no_such_order_is_refused(order, shape, message):
    with pytest.raises(ValueError, match=message):
        models.build("fvbn", shape, order=order)
    with pytest.raises(ValueError, match="not of RBM"):
        models.build("rbm", (4, 4), order="snake")
