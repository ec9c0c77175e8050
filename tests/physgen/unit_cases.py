"""Any pair of layers with random parameters, and the table of its energies.

It knows the energy alone: E(v, h) on all states of finite layers and on quadrature nodes of real ones
(trapezoidal rule for Gaussian units, Gauss-Legendre for relu units).
"""

import itertools
import math
from functools import partial

import numpy as np
import torch

from physgen.distributions import Groups, machine, units

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
