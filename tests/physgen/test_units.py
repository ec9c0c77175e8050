"""Any visible with any hidden units, against sums and integrals over both layers, in float64 to 1e-10.

The reference (:mod:`tests.physgen.unit_cases`) knows the energy alone, and sums.
"""

import itertools
from functools import partial

import numpy as np
import pytest
import torch
from torch.autograd import grad

from physgen.distributions import Groups, machine, units
from physgen.distributions.conversions import given, swapped
from tests.physgen.unit_cases import CLOSED, KINDS, PAIRS, REAL, Case, build, ids, same


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_energies_and_conditionals(pair):
    case = Case(pair)
    law, E = case.law(), case.energy()
    v, h = case.v.x, case.h.x
    ways_v, ways_h = case.ways()
    few = case.few
    same(law.energy(v[few].unsqueeze(1), h), (E - ways_v.reshape(-1, 1) - ways_h)[few])
    F = -(case.h.log_weight - E).logsumexp(1) - ways_v
    same(law.free_energy(v[few]), F[few])
    if ways_v.dim():
        same(law.log_weights(visible=True), -F)
    posterior = (case.h.log_weight - E).log_softmax(1)  # of a state; of a node with its weight
    density = posterior - case.h.log_weight + ways_h
    same(law.hidden(v[few].unsqueeze(1)).log_prob(h), density[few])
    mean, square = posterior.exp() @ h, posterior.exp() @ h**2
    same(law.hidden(v[few]).mean, mean[few])
    same(law.hidden(v[few]).variance, (square - mean**2)[few])
    back = (case.v.log_weight.unsqueeze(-1) - E).softmax(0).mT
    close = (h.abs() < 4).all(-1)
    same(law.visible(h).mean[close], (back @ v)[close])
    same(law.visible(h).variance[close], (back @ v**2 - (back @ v) ** 2)[close])


@pytest.mark.parametrize("pair", CLOSED, ids=ids)
def test_log_partition_densities_moments_and_gradients(pair):
    case = Case(pair)
    for p in case.parameters:
        p.requires_grad_()
    law, E = case.law(), case.energy()
    log_z = (case.weights - E).logsumexp((0, 1))
    same(law.log_partition(), log_z)
    same(swapped(law).log_partition(), log_z)
    p = (case.weights - E - log_z).exp().detach()
    ways_v, ways_h = case.ways()
    few = case.few
    expected = ((case.h.log_weight - E).logsumexp(1) - log_z + ways_v)[few]
    same(law.log_prob(case.v.x[few]), expected)
    close = (case.h.x.abs() < 4).all(-1)
    hidden = (case.v.log_weight.unsqueeze(-1) - E).logsumexp(0) - log_z + ways_h
    same(law.log_prob_hidden(case.h.x)[close], hidden[close])
    mean = p.sum(1) @ case.v.x
    same(law.mean, mean)
    same(law.variance, p.sum(1) @ (case.v.x - mean) ** 2)
    for found, wanted in zip(
        grad(law.log_prob(case.v.x[few]).sum(), case.parameters),
        grad(expected.sum(), case.parameters),
        strict=True,
    ):
        same(found, wanted)


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_a_temperature_divides_the_energy(pair):
    """Against p(v, h) of E / T by density ratios, so that pairs without a log Z are tested as well."""
    case = Case(pair)
    hot = case.law().at(1.7)
    log_p = case.log_p(1.7)
    ways_v, ways_h = case.ways()
    rows = case.few
    exact = ((case.h.log_weight + log_p).logsumexp(1) + ways_v)[rows]
    if pair in CLOSED:
        same(hot.log_prob(case.v.x[rows]), exact)
        same(hot.at(1 / 1.7).log_partition(), case.law().log_partition())
    found = -hot.free_energy(case.v.x[rows])
    same(found - found[0], exact - exact[0])
    back = (-hot.energy(case.v.x[rows].unsqueeze(1), case.h.x)) - (log_p + ways_v.reshape(-1, 1) + ways_h)[
        rows
    ]
    same(back, back[0, 0].expand_as(back))


def test_real_layers_without_a_closed_log_z_say_so():
    for pair in set(itertools.product(REAL, REAL)) - {("gaussian", "gaussian")}:
        law = Case(pair).law()
        assert not law.enumerable
        with pytest.raises(ValueError, match=r"infinitely many; give log_partition= \(physgen.ais"):
            law.log_partition()


@pytest.mark.parametrize("kind", REAL)
def test_too_strong_a_coupling_of_real_layers_is_refused(kind):
    """The bound is the spectral norm in units of both widths, in every machine of a batch and in groups."""
    layers = build(kind, 2), build("gaussian", 2)
    basis = torch.linalg.qr(torch.randn(2, 2, 2, dtype=torch.float64)).Q
    critical = basis[0] * torch.tensor([1.0, 0.4]) @ basis[1]
    critical = critical * layers[0].scale.unsqueeze(-1) * layers[1].scale
    zero = torch.zeros(2, dtype=torch.float64)
    assert machine(*layers, 0.999 * critical, zero, zero).batch_shape == ()
    batch = torch.stack([0 * critical, 1.001 * critical])
    for weight in (1.001 * critical, batch, float("nan") * critical):
        with pytest.raises(ValueError, match="spectral norm below 1"):
            machine(*layers, weight, zero, zero, validate_args=False)
    grouped = Groups(units.Softmax(1, 3), layers[0])
    weight = torch.cat(
        [5 * torch.ones(3, 2), 0.999 * critical]
    )  # the bounded part may be as strong as it likes
    machine(grouped, layers[1], weight, torch.zeros(5), zero)
    weight[3:] *= 1.01
    with pytest.raises(ValueError, match="spectral norm below 1"):
        machine(grouped, layers[1], weight, torch.zeros(5), zero)


def test_gaussian_machines_are_normal_laws():
    """Against the normal law whose precision is the quadratic form of E, in a batch; draws by moments."""
    torch.manual_seed(0)
    W = 0.25 * torch.randn(3, 4, 2, dtype=torch.float64)
    b, c = torch.randn(4, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)
    sigma, tau = torch.rand(4).double() + 0.5, torch.tensor([0.8, 1.1]).double()
    d = machine(units.Gaussian(4, sigma), units.Gaussian(2, tau), W, b, c)
    S, T = sigma.pow(-2).diag(), tau.pow(-2).diag()
    precision = S - S @ W @ T @ W.mT @ S
    mean = torch.linalg.solve(precision, (S @ b + (S @ W @ T @ c.unsqueeze(-1)).squeeze(-1)).unsqueeze(-1))
    law = torch.distributions.MultivariateNormal(mean.squeeze(-1), precision_matrix=precision)
    v = d.sample((20_000,))
    assert d.batch_shape == (3,)
    assert v.shape == (20_000, 3, 4)
    same(d.log_prob(v[:9]), law.log_prob(v[:9]))
    same(d.mean, law.mean)
    same(d.variance, law.variance)
    # 4.5 sigma for 12 means and 48 covariances, before and after Gibbs steps: false alarm 1e-3 in all
    for draws, right in ((v, True), (d.gibbs(v, 2), True), (0.97 * v, False)):
        error = (draws.mean(0) - law.mean).abs() / (law.variance / 20_000).sqrt()
        centred = draws - law.mean
        found = torch.einsum("nbi,nbj->bij", centred, centred) / 20_000
        diagonal = law.variance.unsqueeze(-1) * law.variance.unsqueeze(-2)
        spread = ((law.covariance_matrix**2 + diagonal) / 20_000).sqrt()
        worst = max(error.max(), ((found - law.covariance_matrix).abs() / spread).max())
        assert (worst < 4.5) == right


def relu_moments(field):
    """Mean, variance and A of a relu unit of width 1, by Gauss-Legendre where its density lives."""
    t, w = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(120))
    low, high = (max(0.0, field - 12), field + 12) if field > 0 else (0.0, 45 / (3 - field))
    x, w = low + (t + 1) * (high - low) / 2, w * (high - low) / 2
    exponent = -(x**2) / 2 + field * x
    total = (exponent + w.log()).logsumexp(0)
    p = (exponent + w.log() - total).exp()
    mean = p @ x
    return mean, p @ (x - mean) ** 2, total


@pytest.mark.parametrize("field", [-1e4, -100.0, -36.0, -6.0, -5.0, -4.9, -0.5, 0.0, 8.9, 9.1, 50.0])
def test_moments_of_a_relu_unit_have_relative_accuracy_in_its_tails(field):
    layer, x = units.ReLU(1), torch.tensor([field], dtype=torch.float64, requires_grad=True)
    close = partial(torch.testing.assert_close, rtol=1e-11, atol=0)
    mean, variance, total = relu_moments(field)
    close(layer.mean(x)[0], mean)
    close(layer.variance(x)[0], variance)
    zero = torch.zeros(1, dtype=torch.float64)
    same(layer.log_sum(zero, x), total)
    (slope,) = grad(layer.log_sum(zero, x), x)  # autograd takes a difference of numbers as large as the field
    torch.testing.assert_close(slope[0], mean, rtol=1e-11, atol=1e-15 * max(1, abs(field)))
    single = x.detach().float()
    torch.testing.assert_close(layer.mean(single)[0].double(), mean, rtol=1e-5, atol=0)
    torch.testing.assert_close(layer.log_sum(zero.float(), single).double(), total, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [*KINDS, "labelled"])
def test_bias_of_is_the_inverse_of_the_mean(kind):
    layer = build(kind, 3)
    field = torch.linspace(-6, 4, layer.width, dtype=torch.float64)
    mean = layer.mean(field)
    same(layer.mean(layer.bias_of(mean)), mean)
    rows = layer.draw(field.expand(50, -1))
    fitted = layer.mean(layer.fit(rows))
    plain = kind == "gaussian"
    none = layer.mean(torch.zeros_like(field))
    same(fitted, rows.mean(0) if plain else (rows.sum(0) + 2 * none) / 52)


@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_any_positive_mean_has_a_bias_of_relu_units(scale):
    mean = torch.logspace(-6, 6, 25, dtype=torch.float64)
    layer = units.ReLU(25, scale)
    torch.testing.assert_close(layer.mean(layer.bias_of(mean)), mean, rtol=1e-11, atol=0)


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_float32_free_energies_lose_no_more_than_rounding(pair):
    """Fields up to 1000: relative errors of a few float32 roundings of the largest term."""
    case = Case(pair)
    W, b, c = case.parameters
    small = 1 if set(pair) <= set(REAL) else 300
    double = machine(*case.layers, small * W, 100 * b, 1000 * c)
    single = [p.float() for p in (double.weight, double.loc, double.hidden_bias)]
    layers = [_single(x) for x in case.layers]
    v = case.v.x[:: max(1, len(case.v.x) // 50)]
    exact, found = double.free_energy(v), machine(*layers, *single).free_energy(v.float())
    size = 300 * small + 100**2 + 1000**2 * (pair[1] in REAL)
    assert found.dtype == torch.float32
    assert ((found.double() - exact).abs() < 1e-6 * (exact.abs() + size / 10)).all()


def _single(layer):
    return type(layer)(layer.n, layer.scale.float()) if hasattr(layer, "scale") else layer


def test_log_of_one_plus_exp_is_exact_beyond_20():
    for name, double in (("bernoulli", 1), ("spin", 2)):
        x = torch.tensor([[21.0], [30.0]], dtype=torch.float64)
        small = units.layer(name, 1).log_sum(0 * x, x) - x.squeeze(-1)
        torch.testing.assert_close(small, torch.exp(-double * x).log1p().squeeze(-1), rtol=0, atol=1e-14)


def test_descriptions_are_read_and_refused_in_words():
    assert units.layer("binomial:4", 2).trials == 4
    for wrong, words in (
        ("sping", "choose one of bernoulli"),
        ("softmax", "softmax units need a number"),
        ("spin:3", "spin units take no number"),
        ("gaussian:2", "gaussian units take no number"),
        ("softmax:1", "at least 2 states"),
        ("binomial:0", "at least one trial"),
    ):
        with pytest.raises(ValueError, match=words):
            units.layer(wrong, 4)
    with pytest.raises(ValueError, match="at least one unit"):
        units.Spin(0)


def test_one_part_given_the_other():
    """p(label | pixels) and p(pixels | label) of a machine with a label, from its joint table."""
    case = Case(("labelled", "relu"))
    law = case.law()
    table = law.log_prob(case.v.x).reshape(4, 3)  # pixels by label
    pixels, label = case.v.x[::3, :2], torch.eye(3, dtype=torch.float64)
    same(given(law, 0, pixels.unsqueeze(1)).log_prob(label), table.log_softmax(1))
    same(given(law, 1, label).log_prob(pixels.unsqueeze(1)), table.log_softmax(0))
    with pytest.raises(ValueError, match="two parts"):
        given(Case(("spin", "spin")).law(), 0, pixels)
    with pytest.raises(ValueError, match="2 coordinates"):
        given(law, 0, label)
    with pytest.raises(ValueError, match="the known part takes"):
        given(law, 0, pixels - 1)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_bernoulli_units_take_whatever_holds_0_and_1(dtype):
    layer = units.Bernoulli(2)
    assert layer.valid(torch.tensor([[0, 1], [1, 1]]).to(dtype)).all()
    assert not layer.valid(torch.tensor([[0, 1], [0.5, 2.0], [torch.nan, 1]]))[1:].any()  # negative control
