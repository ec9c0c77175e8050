"""Any visible with any hidden units, against sums and integrals over both layers, in float64 to 1e-10.

The reference knows the energy alone: it tabulates E(v, h) on all states of finite layers and on quadrature
nodes of real ones (trapezoidal rule for Gaussian units, Gauss-Legendre for relu units), and sums.
"""

import itertools
import math
from functools import partial

import numpy as np
import pyro
import pytest
import torch
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.infer.mcmc.util import initialize_model
from scipy.special import log_ndtr
from scipy.stats import chisquare
from torch.autograd import grad
from torch.distributions.transforms import identity_transform

from physgen.distributions import Groups, Layer, machine, units
from physgen.distributions.conversions import given, swapped
from tests.checks import FALSE_ALARM

NUMBERED = {"softmax": "softmax:3", "binomial": "binomial:3"}
KINDS = [NUMBERED.get(name, name) for name in units.REGISTRY]
REAL = ("gaussian", "relu")
PAIRS = [*itertools.product(KINDS, KINDS), ("labelled", "spin"), ("labelled", "relu"), ("spin", "labelled")]
CLOSED = [p for p in PAIRS if not set(p) <= set(REAL) or p == ("gaussian", "gaussian")]
SCALE = {"gaussian": 0.7, "relu": 0.9}

same = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)


def build(kind, n):
    if kind == "labelled":
        return Groups(units.Bernoulli(n), units.Softmax(1, 3))
    if kind in REAL:
        return units.REGISTRY[kind](n, torch.linspace(1, 1.2, n, dtype=torch.float64) * SCALE[kind])
    return units.layer(kind, n)


class Reference:
    """States or nodes of one layer, with own energy, t(x) and log weight, by definition."""

    def __init__(self, kind, n):
        self.kind = kind
        self.scale = torch.linspace(1, 1.2, n, dtype=torch.float64) * SCALE.get(kind, 1.0)
        one, weight = self._one(kind)
        choices = list(itertools.product(range(len(one)), repeat=n))
        self.x = torch.stack([torch.cat([one[i] for i in row]) for row in choices]).double()
        self.log_weight = torch.stack([sum(weight[i] for i in row) for row in choices])
        if kind == "labelled":
            label = torch.eye(3, dtype=torch.float64)
            self.x = torch.stack([torch.cat([x, y]) for x in self.x for y in label])
            self.log_weight = self.log_weight.repeat_interleave(3)

    @staticmethod
    def _one(kind):
        """Values of one unit, ``(q, width)``, and their log weights."""
        column = partial(torch.tensor, dtype=torch.float64)
        if kind == "gaussian":
            x = torch.arange(-13, 13.01, 0.4, dtype=torch.float64)
            return x.unsqueeze(-1), torch.full_like(x, math.log(0.4))
        if kind == "relu":
            x, w = (torch.from_numpy(y) for y in np.polynomial.legendre.leggauss(80))
            return (x.unsqueeze(-1) + 1) * 7.5, (7.5 * w).log()
        finite = {
            "bernoulli": [[0], [1]],
            "labelled": [[0], [1]],
            "spin": [[-1], [1]],
            "softmax:3": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
            "binomial:3": [[0], [1], [2], [3]],
        }[kind]
        ways = [1, 3, 3, 1] if kind == "binomial:3" else [1] * len(finite)
        return column(finite), column(ways).log()

    def t(self):
        return self.x / self.scale**2 if self.kind in REAL else self.x

    def own(self, bias):
        if self.kind in REAL:
            return ((self.x - bias) ** 2 / (2 * self.scale**2)).sum(-1)
        return -self.x @ bias


class Case:
    """A machine with random parameters and the table of its energies."""

    def __init__(self, pair, seed=0, n_visible=2):
        visible, hidden = pair
        generator = torch.Generator().manual_seed(seed)
        normal = partial(torch.randn, generator=generator, dtype=torch.float64)
        n_hidden = 1 if hidden in REAL and visible in REAL else 2
        self.layers = build(visible, n_visible), build(hidden, n_hidden)
        self.v, self.h = Reference(visible, n_visible), Reference(hidden, n_hidden)
        widths = [x.width for x in self.layers]
        strong = 0.15 if set(pair) <= set(REAL) else 0.6
        near = (self.v.x.abs() < 4).all(-1).nonzero().squeeze(-1)  # whose integrals over h the nodes contain
        self.few = near[:: max(1, len(near) // 30)]
        self.parameters = [strong * normal(*widths), 0.5 * normal(widths[0]), 0.5 * normal(widths[1])]
        self.weights = self.v.log_weight.unsqueeze(-1) + self.h.log_weight

    def law(self, **options):
        return machine(*self.layers, *self.parameters, **options)

    def energy(self):
        W, b, c = self.parameters
        return self.v.own(b).unsqueeze(-1) + self.h.own(c) - self.v.t() @ W @ self.h.t().mT

    def log_p(self, temperature=1.0):
        """Joint log density of every pair of states: in h and v, without the weights of the nodes."""
        E = self.energy() / temperature
        return -E - (self.weights - E).logsumexp((0, 1))

    def ways(self):
        """Log multiplicity of v and of h, part of U; nodes have none."""
        finite = [0 if x.kind in REAL else x.log_weight for x in (self.v, self.h)]
        return [torch.as_tensor(x) for x in finite]


def ids(pair):
    return "-".join(pair)


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


# -- normalisable or not ---------------------------------------------------------------------------------


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


# -- draws -----------------------------------------------------------------------------------------------


def p_value(draws, probs, edges=None):
    """Of the numbers of draws per bin: states, or intervals of exact probability between ``edges``."""
    index = draws.argmax(-1) if edges is None else torch.bucketize(draws, edges)
    counts = torch.bincount(index, minlength=len(probs)).double()
    few = probs * len(draws) < 10
    pooled = [torch.cat([x[few].sum()[None], x[~few]]) for x in (counts, probs / probs.sum() * len(draws))]
    pooled = [x[int(not few.any()) :].numpy() for x in pooled]
    return chisquare(*pooled).pvalue


class Binned:
    """The exact law of v in bins: its states, or twenty intervals of one real unit."""

    def __init__(self, case):
        self.case, self.real = case, case.v.kind in REAL
        if not self.real:
            self.probs = (case.weights - case.energy()).logsumexp(1).softmax(0)
            return
        low = 0.0 if case.v.kind == "relu" else -13.0
        self.x = torch.linspace(low, 13.0, 200_001, dtype=torch.float64)
        density = (-case.law().free_energy(self.x.unsqueeze(-1))).softmax(0)
        density[[0, -1]] /= 2
        self.cdf = (density.cumsum(0) - density / 2) / density.sum()
        self.edges = self.x[torch.searchsorted(self.cdf, torch.linspace(0, 1, 21).double()[1:-1])]
        inner = torch.cat([torch.zeros(1), self.cdf[torch.searchsorted(self.x, self.edges)], torch.ones(1)])
        self.probs = inner.diff()

    def draw(self, n):
        if not self.real:
            return self.case.v.x[torch.multinomial(self.probs, n, True)]
        u = torch.rand(n, dtype=torch.float64)
        return self.x[torch.searchsorted(self.cdf, u).clamp(max=len(self.x) - 1)].unsqueeze(-1)

    def p_value(self, v):
        if self.real:
            return p_value(v.squeeze(-1), self.probs, self.edges)
        number = (v.unsqueeze(1) == self.case.v.x).all(-1)
        assert number.any(-1).all()
        return p_value(number.double(), self.probs)


@pytest.mark.parametrize("pair", PAIRS, ids=ids)
def test_draws_and_gibbs_steps_follow_the_exact_law(pair):
    """Draws, and exact draws moved by 1 and 3 block updates; an update of a wrong machine is rejected.

    False alarm 1e-5 per chi-squared, 1.2e-3 in all at a fixed seed.
    """
    torch.manual_seed(1)
    case = Case(pair, n_visible=1 if pair[0] in REAL else 2)
    case.parameters[0] *= 0.3 if pair[1] in REAL and pair[0] not in REAL else 1.0
    exact, law = Binned(case), case.law()
    if law.enumerable:
        assert exact.p_value(law.sample((20_000,))) > FALSE_ALARM
    v = exact.draw(20_000)
    assert exact.p_value(v) > FALSE_ALARM
    for steps in (1, 3):
        assert exact.p_value(law.gibbs(v, steps)) > FALSE_ALARM
    W, b, c = case.parameters
    wrong = machine(*case.layers, -W, b + 0.6, c)
    assert exact.p_value(wrong.gibbs(v, 3)) < FALSE_ALARM


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", ["bernoulli", "spin", "softmax:3", "binomial:3"])
def test_draws_of_finite_units(kind, dtype):
    """200 000 draws per field, down to probabilities of 2e-3; fields off by 0.3 are rejected."""
    torch.manual_seed(2)
    layer, one = build(kind, 1), Reference(kind, 1)
    for field in (0.3, 2.0, -3.0):
        fields = field * torch.arange(1, layer.width + 1, dtype=dtype)
        probs = (one.log_weight + one.x @ fields.double()).softmax(0)
        for off, right in ((0.0, True), (0.3, False)):
            wrong = fields + off * torch.arange(1, layer.width + 1)
            drawn = layer.draw(wrong.expand(200_000, -1)).double()
            number = (drawn.unsqueeze(1) == one.x).all(-1)
            assert number.any(-1).all()
            assert (p_value(number.double(), probs) > FALSE_ALARM) == right


TAILS = [-100.0, -36.0, -34.0, -8.0, -1.0, 0.0, 3.0, 30.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("field", TAILS)
def test_draws_of_relu_units_follow_their_law_from_tail_to_tail(field, dtype):
    """The exact distribution function of 200 000 draws, in bins down to 1e-4 of either end.

    The noisy rectified unit max(0, field + noise), and a field 5 % off, are rejected.
    """
    torch.manual_seed(3)
    layer = units.ReLU(1, scale=0.5)
    fields = torch.full((200_000, 1), 0.5 * field, dtype=dtype)
    edges = torch.tensor([1e-4, 1e-3, 1e-2, *np.arange(0.1, 0.91, 0.1), 0.99, 0.999, 0.9999]).double()
    probs = torch.cat([torch.zeros(1), edges, torch.ones(1)]).diff().double()

    def exceeded(draws):
        x = draws.double().squeeze(-1).numpy() / 0.5
        return torch.from_numpy(np.exp(log_ndtr(field - x) - log_ndtr(field)))

    assert p_value(exceeded(layer.draw(fields)), probs, edges) > FALSE_ALARM
    other = fields + 0.025 * max(1, abs(field))
    assert p_value(exceeded(layer.draw(other)), probs, edges) < FALSE_ALARM
    if field < 2:
        noisy = (fields + 0.5 * torch.randn(200_000, 1)).clamp(min=0)
        assert p_value(exceeded(noisy), probs, edges) < FALSE_ALARM


def test_a_generator_fixes_the_draws_of_every_kind():
    for kind in (*KINDS, "labelled"):
        layer = build(kind, 3)
        field = torch.zeros(20, layer.width, dtype=torch.float64)
        first, again = (layer.draw(field, torch.Generator().manual_seed(1)) for _ in range(2))
        assert torch.equal(first, again)


# -- one layer -------------------------------------------------------------------------------------------


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


# -- in Pyro ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pair", [p for p in CLOSED if p[1] not in REAL], ids=ids)
def test_hidden_units_are_summed_over_in_pyro(pair):
    """Evidence of v by TraceEnum_ELBO over the hidden states is log p(v)."""
    law = Case(pair).law()
    v = pyro.sample("v", law)
    loss = TraceEnum_ELBO(max_plate_nesting=0).loss(config_enumerate(law.joint), lambda _: None, v)
    assert abs(loss + law.log_prob(v).item()) < 1e-10


@pytest.mark.parametrize("hidden", ["bernoulli", "spin", "softmax:3", "binomial:3"])
@pytest.mark.parametrize("visible", REAL)
def test_the_potential_that_nuts_sees_is_the_free_energy(visible, hidden):
    """Potential and force on v, with hidden units summed over, equal those of -log p(v)."""
    law = Case((visible, hidden)).law()
    _, potential, transforms, _ = initialize_model(config_enumerate(law.joint), max_plate_nesting=0)
    z = torch.tensor([0.4, -0.3], dtype=torch.float64, requires_grad=True)
    transform = transforms["v"].inv if "v" in transforms else identity_transform
    v = transform(z)
    jacobian = transform.log_abs_det_jacobian(z, v).sum()
    expected = -law.log_prob(v) - jacobian
    same(potential({"v": z}), expected)
    same(*(grad(x, z)[0] for x in (potential({"v": z}), expected)))


@pytest.mark.parametrize("kind", [*KINDS, "labelled"])
def test_a_layer_is_a_distribution(kind):
    """Batches, expand, to_event, enumeration and validation as Pyro asks for."""
    layer = build(kind, 2)
    d = Layer(
        layer, torch.linspace(-1, 1, 3 * layer.width, dtype=torch.float64).reshape(3, -1), validate_args=True
    )
    wide = d.expand((4, 3))
    assert (wide.batch_shape, wide.event_shape, wide._validate_args) == ((4, 3), (layer.width,), True)
    x = wide.sample((5,))
    assert x.shape == (5, 4, 3, layer.width)
    same(wide.log_prob(x), d.log_prob(x))
    same(wide.to_event(2).log_prob(x), d.log_prob(x).sum((-1, -2)))
    assert d.has_enumerate_support == (kind not in REAL)
    if d.has_enumerate_support:
        states = d.enumerate_support(expand=False)
        assert states.shape == (layer.n_states, 1, layer.width)
        same(d.log_prob(states).logsumexp(0), torch.zeros(3, dtype=torch.float64))
        same(states.expand(-1, 3, -1), d.enumerate_support())
    outside = x.clone()
    outside[..., 0] = float("nan")
    with pytest.raises(ValueError, match="within the support"):
        d.log_prob(outside)
    with pytest.raises(ValueError, match="coordinates"):
        Layer(layer, torch.zeros(layer.width + 1))


def test_a_machine_of_spins_is_enumerated_as_a_latent_variable():
    """pyro.sample of a machine summed over by TraceEnum_ELBO in a plate; evidence of a noisy copy by hand."""
    law = Case(("spin", "softmax:3")).law()
    noisy = torch.tensor([[0.3, -0.2], [1.0, 0.5]], dtype=torch.float64)

    def story():
        with pyro.plate("copies", 2):
            s = pyro.sample("s", law, infer={"enumerate": "parallel"})
            pyro.sample("x", pyro.distributions.Normal(s, 0.8).to_event(1), obs=noisy)

    s = law.enumerate_support()
    seen = torch.distributions.Normal(s.unsqueeze(1), 0.8).log_prob(noisy).sum(-1)
    evidence = (law.log_prob(s).unsqueeze(1) + seen).logsumexp(0).sum()
    loss = TraceEnum_ELBO(max_plate_nesting=1).loss(story, lambda: None)
    assert abs(loss + evidence.item()) < 1e-10


def test_machines_that_share_parameters_need_no_copies_of_them():
    """A batch of 10 000 views of one 784 x 100 machine would need 3 GB if they were copied."""
    layers = units.Bernoulli(784), units.Bernoulli(100)
    one = machine(*layers, torch.randn(784, 100) / 28, torch.zeros(784), torch.zeros(100))
    many = one.expand((10_000,))
    v = torch.zeros(10_000, 784)
    torch.testing.assert_close(many.free_energy(v), one.free_energy(v))


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
