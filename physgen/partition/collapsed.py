r"""The path :math:`f_t = f_0^{1-t} f^t` of the marginal weight f(y) of the smaller of two layers of bits.

The other layer is summed over in closed form and never drawn,

.. math:: \log f(y) = a + c \cdot y + \sum_i \log(1 + e_i), \qquad e_i = e^{b_i + (W y)_i},

so one unit after another sees its exact odds given the rest of its layer. Two things follow that annealing on
:math:`tW` by block updates lacks. A draw of a wide layer all but tells the small one and holds it fast; here
it moves freely. And log f of every state grows in proportion to t, so that what matters in the end is not out
of favour on the way: a mode with 31 % of a trained machine of 784 by 20 units never has less than 1.7 % here,
and 0.01 % at t = 0.6 on :math:`tW`.

Flipping unit j multiplies e by :math:`e^{\pm W_j}`, so a proposal costs a multiplication and an addition per
unit of the other layer, in float32, and one logarithm: powers of two of the product of :math:`1 + e_i` are
counted before it overflows. Every hundred updates e is computed anew, so that log f stays right to 1e-5.
An update visits the layer in order, upwards or downwards at random, which makes it reversible; that costs as
much as a block update where the layer has 60 units.

References:
    | The Collapsed Gibbs Sampler in Bayesian Computations (Liu, 1994)
"""

import math
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor
from torch.nn.functional import pad, softplus

from ..distributions import RestrictedBoltzmann
from ..distributions.bits import Bits, cuts, in_bits
from ..distributions.compiled import INDEX, LANES, VECTOR, WORD, jit, place
from ..distributions.fused import words

MAX_UNITS = 64  # of the layer that is kept; block updates of larger ones cost less
MAX_FIELD = 80.0  # of the other layer, so that e is a float32
WIDE = 4 * LANES  # units of the other layer whose factors are multiplied side by side
FRESH = 100  # updates until e is computed anew, so that roundings do not add up
LN2 = math.log(2)


class Marginal(NamedTuple):
    r"""States of the layer that is kept; :meth:`Collapsed.move` changes them in place.

    Attributes:
        y: Bits, float64 ``(n, H)``.
        factors: e of the other layer, float32 ``(n, D)``, with zeros up to a multiple of WIDE.
        log_sum: :math:`\sum_i \log(1 + e_i)`, float64 ``(n,)``.
        rise: :math:`\log f - \log f_0`, float64 ``(n,)``.
        age: Updates since e was computed.
    """

    y: Tensor
    factors: Tensor
    log_sum: Tensor
    rise: Tensor
    age: int = 0


class Collapsed:
    """The path from ``start``, without couplings, to ``end``; :func:`fits` says whether there is one."""

    reversible = True

    def __init__(self, start: RestrictedBoltzmann, end: RestrictedBoltzmann):
        self._law, self._hidden = end, end.n_hidden < end.n_visible
        base, bits = _facing(start), _facing(end)
        at_base = base.constant + softplus(base.b).sum()
        self.log_z0 = float(at_base + softplus(base.c).sum())
        self._base, self._bits = base.c, bits
        self._tilt, self._shift = bits.c - base.c, bits.constant - at_base
        self._fields = torch.stack([self._base, self._tilt]).numpy()
        self._ratios = _wide(torch.stack([bits.W.mT, -bits.W.mT]).exp().float()).numpy()
        largest = _wide(softplus(_largest(bits))).reshape(-1, WIDE).amax(1)
        self._cuts = WIDE * cuts(largest.numpy(), MAX_FIELD)

    def start(self, n: int, generator: torch.Generator | None) -> Marginal:
        u = torch.rand(n, len(self._base), generator=generator, dtype=torch.float64)
        return self._seen((u < self._base.sigmoid()).double())

    def of(self, v: Tensor, generator: torch.Generator | None) -> Marginal:
        v = v.to(self._law.weight)
        units = self._law.hidden_units if self._hidden else self._law.visible_units
        (_,), (high,) = units.values
        y = self._law.draw_hidden(v, generator) if self._hidden else v
        return self._seen((y == high).double())

    def change(self, state: Marginal, here: float, there: float) -> Tensor:
        return (there - here) * state.rise

    def move(self, state: Marginal, t: float, generator: torch.Generator | None) -> Marginal:
        if state.age == FRESH:
            state = self._seen(state.y)
        n, H = state.y.shape
        u = words(n * (H + 1), generator).reshape(n, H + 1)
        _sweep(*(x.numpy() for x in state[:4]), u, self._fields, self._ratios, t, self._cuts)
        return state._replace(age=state.age + 1)

    def _seen(self, y: Tensor) -> Marginal:
        field = self._bits.b + y @ self._bits.W.mT
        log_sum = softplus(field, threshold=40).sum(-1)
        return Marginal(y, _wide(field.exp().float()), log_sum, log_sum + y @ self._tilt + self._shift)


def fits(end: RestrictedBoltzmann) -> bool:
    """Whether both layers are of two-valued units, the smaller one of few, and the fields of e within range.

    Example:
        >>> from physgen.distributions import SpinRBM
        >>> fits(SpinRBM(torch.ones(3, 2), torch.zeros(3), torch.zeros(2)))
        True
    """
    if end.weight.device.type != "cpu" or min(end.n_hidden, end.n_visible) > MAX_UNITS:
        return False
    bits = _facing(end)
    return bits is not None and bool(max(_largest(bits).max(), -_smallest(bits).min()) <= MAX_FIELD)


def _facing(machine: RestrictedBoltzmann) -> Bits | None:
    """In bits, y the layer with fewer units."""
    bits = in_bits(machine)
    if bits is None or machine.n_hidden < machine.n_visible:
        return bits
    return bits.swapped


def _wide(x: Tensor) -> Tensor:
    """With zeros up to a multiple of WIDE in the last axis."""
    return pad(x, (0, -x.shape[-1] % WIDE)).contiguous()


def _largest(bits: Bits) -> Tensor:
    """Of the fields of x in any state of y, ``(D,)``."""
    return bits.b + bits.W.clamp(min=0).sum(1)


def _smallest(bits: Bits) -> Tensor:
    return bits.b + bits.W.clamp(max=0).sum(1)


@intrinsic
def _product(typing, e, ratio, cuts):  # noqa: ARG001
    """Of 1 + e ratio: a number from 1 to 2^WIDE and a power of 2; no lane may overflow between two cuts."""

    def generate(context, builder, signature, arguments):
        e, ratio, cuts = arguments
        whole = ir.VectorType(WORD, LANES)
        one, none = ir.Constant(VECTOR, [1.0] * LANES), ir.Constant(whole, [0] * LANES)
        low, bias, place_of = (ir.Constant(whole, [x] * LANES) for x in (2**23 - 1, 127 << 23, 23))
        totals = [cgutils.alloca_once_value(builder, one) for _ in range(0, WIDE, LANES)]
        exponent, first = (cgutils.alloca_once_value(builder, x) for x in (none, INDEX(0)))
        with cgutils.for_range(builder, builder.extract_value(builder.extract_value(cuts, 5), 0)) as stretch:
            last = builder.load(builder.gep(builder.extract_value(cuts, 4), [stretch.index]))
            with cgutils.for_range_slice(builder, builder.load(first), last, INDEX(WIDE)) as (at, _):
                for part, total in enumerate(totals):
                    x, y = (builder.load(place(builder, a, at, LANES * part), align=4) for a in (e, ratio))
                    factor = builder.fadd(builder.fmul(x, y, flags=("contract",)), one, flags=("contract",))
                    builder.store(builder.fmul(builder.load(total), factor), total)
            builder.store(last, first)
            for total in totals:
                bits = builder.bitcast(builder.load(total), whole)
                power = builder.lshr(builder.sub(bits, bias), place_of)
                builder.store(builder.add(builder.load(exponent), power), exponent)
                unit = builder.or_(builder.and_(bits, low), bias)
                builder.store(builder.bitcast(unit, VECTOR), total)
        mantissa = reduce(builder.fmul, [builder.load(total) for total in totals])
        parts = mantissa, builder.load(exponent)
        lanes = [[builder.extract_element(x, WORD(k)) for k in range(LANES)] for x in parts]
        found = reduce(builder.fmul, lanes[0]), reduce(builder.add, lanes[1])
        return context.make_tuple(builder, signature.return_type, found)

    return types.Tuple((types.float32, types.int32))(e, ratio, cuts), generate


@jit
def _sweep(y, factors, log_sum, rise, words, fields, ratios, t, cuts):
    """Words of 64 random bits, one for each unit and one for the direction: u, in steps of 2^-53."""
    n, H = y.shape
    for chain in range(n):
        e, upwards = factors[chain], words[chain, H] >> np.uint64(63)
        for k in range(H):
            j = k if upwards else H - 1 - k
            down = int(y[chain, j])
            ratio, sign = ratios[down, j], 1 - 2 * down
            mantissa, exponent = _product(e, ratio, cuts)
            proposed = np.log(np.float64(mantissa)) + exponent * LN2
            change = proposed - log_sum[chain] + sign * fields[1, j]
            u = np.int64(words[chain, k] >> np.uint64(11)) * 2.0**-53
            if u * (1 + np.exp(-sign * fields[0, j] - t * change)) < 1:
                y[chain, j] = 1 - down
                log_sum[chain] = proposed
                rise[chain] += change
                for i in range(e.size):
                    e[i] *= ratio[i]
