r"""Steps of training in one pass over their numbers, which near caches do not hold, instead of several.

What contrastive losses need of a machine of two-valued units is found by one kernel, in bits: chains after
some updates, and the difference of moments between chains and data. Other machines take their turns by torch.
"""

from typing import NamedTuple

import numpy as np
import torch
from numba import float32
from torch import Tensor

from .alternating import alternate, alternated, arrays_of, both_layers, lows_of, tools_for, update, words_of
from .centred import Centred
from .compiled import exponential, inner, inner_reordered, jit
from .fused import mix
from .lookup import NONE, multiply, product, scratch
from .packing import HIGH, turned
from .rbm import RestrictedBoltzmann


class Moments(NamedTuple):
    r"""Means of :math:`t_v \bar t_h^\top` ``(D, H)``, :math:`t_v` ``(D,)`` and :math:`\bar t_h` ``(H,)``."""

    weight: Tensor
    visible: Tensor
    hidden: Tensor


class Contrast(NamedTuple):
    """Moments of chains minus those of data, and their product with the plain parameters."""

    value: Tensor
    slope: Moments


def walked(
    law: RestrictedBoltzmann,
    data: Tensor,
    k: int,
    generator: torch.Generator | None = None,
    hidden: Tensor | None = None,
) -> tuple[Tensor, Tensor | None, Contrast]:
    """Chains after k updates, hidden states drawn for them, and how they differ from the data.

    Arguments:
        hidden: States ``(m, H)`` from which the chains go on; without them they start at the data, and no
            hidden states are drawn in the end.
    """
    beside = words_of(law, data, law.visible_units)
    words = beside if hidden is None else words_of(law, hidden, law.hidden_units)
    if beside is None or words is None:
        return _walked_by_layers(law, data, k, generator, hidden)
    (n, D), m, H = data.shape, words.shape[1], law.hidden_units.width
    v, h = torch.empty(m, D), None if hidden is None else torch.empty(m, H)
    fields = np.empty((n + m, H), np.float32)
    both, drawn = both_layers(law, words, hidden is not None), NONE if h is None else h
    arrays, tools = arrays_of(law), tools_for(max(n + m, D), generator)
    states = v.view(-1).numpy(), drawn.view(-1).numpy()
    joint = np.empty(beside.shape[0] * (n + m) + HIGH, np.uint32)
    found, rooms = _rooms(law.parts, n + m)
    _walk(arrays, beside, both, joint, k, tools, fields, states, rooms)
    return v, h, found


@torch.no_grad()
def _walked_by_layers(
    law: RestrictedBoltzmann, data: Tensor, k: int, generator: torch.Generator | None, hidden: Tensor | None
) -> tuple[Tensor, Tensor | None, Contrast]:
    law.visible_units.check(data)
    if hidden is None:
        field = law.hidden_field(data)
        h = law.hidden_units.draw(field, generator)
        v = alternate(law, h, 2 * k - 1, generator, hidden=True)
        return v, None, difference(law, data, v, torch.cat([field, law.hidden_field(v)]), law.centred)
    v = alternate(law, hidden, 2 * k - 1, generator, hidden=True)
    fields = law.hidden_field(torch.cat([data, v]))
    h = law.hidden_units.draw(fields[len(data) :], generator)
    return v, h, difference(law, data, v, fields, law.centred)


@torch.no_grad()
def difference(
    law: RestrictedBoltzmann, data: Tensor, chains: Tensor, fields: Tensor, about: Centred | None = None
) -> Contrast:
    r"""Moments of the chains minus those of the data, by one product.

    Arguments:
        data, chains: Configurations, ``(n, D)`` and ``(m, D)``.
        fields: Fields of the hidden units in both, ``(n + m, H)``.
        about: With its offsets :math:`\mu` and :math:`\lambda` the first moment is that of
            :math:`(t_v - \mu)(\bar t_h - \lambda)^\top`, the slope in centred parameters.
    """
    rows, n = torch.cat([data, chains]), len(data)
    words = words_of(law, rows, law.visible_units)
    if words is not None:
        joint = np.concatenate([words.reshape(-1), np.zeros(HIGH, np.uint32)])
        found, rooms = _rooms(about or law.plain, len(rows))
        _differ(joint, n, fields.contiguous().numpy(), lows_of(law), scratch(rows.shape[1]), rooms)
        return found
    mu, rest = (about or law.plain)[3:]
    t_v, t_h = law.visible_units.coupled(rows), law.hidden_units.coupled(law.hidden_units.mean(fields))
    share = t_h.new_full((len(t_h),), 1 / len(chains))
    share[:n] = -1 / n
    t_h = t_h * share.unsqueeze(-1)
    visible, hidden = share @ t_v, t_h.sum(0)
    weight = product(t_v.mT, t_h).addr_(mu, hidden, alpha=-1).addr_(visible, rest, alpha=-1)
    value = t_h.flatten().dot(fields.flatten()) + visible.dot(law.loc)
    return Contrast(value, Moments(weight, visible, hidden))


def _rooms(about: Centred, rows: int) -> tuple[Contrast, tuple[np.ndarray, ...]]:
    """What is to be found, and arrays: its own, those of offsets and biases, and room for bits and means."""
    D, H = about.weight.shape
    found = Contrast(torch.empty(()), Moments(torch.empty(D, H), torch.empty(D), torch.empty(H)))
    known = (x.detach().contiguous() for x in (about.visible, about.hidden, about.loc))
    parts = found.value, *found.slope, *known
    words, means = np.empty((-(-rows // HIGH), D), np.uint32), np.empty((rows, H), np.float32)
    minus = np.empty(D, np.float32), np.empty(H, np.float32)
    return found, (*(x.numpy() for x in parts), words, means, *minus)


@jit
def _walk(arrays, beside, both, joint, k, tools, fields, states, rooms):
    """The updates, and then the contrast of the data and the chains, side by side."""
    mix(tools[0])
    (v, h), seen, none = states, fields.reshape(-1), states[0][:0]
    n, m, across = beside.shape[1], both[0].shape[1], len(beside)
    first = n * fields.shape[1]
    rows = joint[: across * (n + m)].reshape((across, n + m))
    for w in range(across):
        for i in range(n):
            rows[w, i] = beside[w, i]  # from here on there may be chains
    if h.size == 0:
        update(arrays, beside, 0, tools, both[1], seen[:first], none)
    alternated(arrays, both, 1, 2 * k - 1, tools, v)
    for w in range(across):
        for i in range(m):
            rows[w, n + i] = both[0][w, i]
    if h.size == 0:
        update(arrays, both[0], 0, tools, joint[:0].reshape((0, 0)), seen[first:], none)
    else:
        update(arrays, rows, 0, tools, both[1], seen, h)
    _contrast(joint, n, fields, arrays[-1], tools[-1], rooms)


@jit
def _differ(joint, n, fields, lows, scratch, rooms):
    _contrast(joint, n, fields, lows, scratch, rooms)


@inner
def _contrast(joint, n, fields, lows, scratch, rooms):
    """Fills value and moments; ``joint`` holds words of the visible units of all rows, data first."""
    value, weight, visible, hidden, mu, rest, b, words, means, minus, less = rooms
    (low, other), (rows, H), total = lows, fields.shape, np.float32(0)
    turned(joint, n, rows, words, visible)
    for k in range(visible.size):
        visible[k] *= np.float32(1) - low
        minus[k] = -visible[k]
        total += visible[k] * b[k]
    hidden[:] = 0
    total += _add_means(fields[:n], np.float32(-1 / n), other, rest, means[:n], hidden)
    total += _add_means(fields[n:], np.float32(1 / (rows - n)), other, rest, means[n:], hidden)
    for j in range(H):
        less[j] = -hidden[j]
    start = mu, less, minus, rest
    values = rest[:0], low, np.float32(1)
    multiply(words, means.reshape(-1), (rows, H, 1), start, values, scratch, weight)
    value[()] = total


@inner_reordered
def _add_means(fields, weight, low, rest, out, sums):
    """Weighted means of units whose upper value is 1, and sums; returns their product with the fields.

    The product is that of means about ``rest``.
    """
    value, span = float32(0), float32(1) - low
    for i in range(len(fields)):
        row, target = fields[i], out[i]
        for j in range(row.size):
            u = weight * (low + span / (float32(1) + exponential(-span * row[j])))
            target[j] = u
            sums[j] += u
            value += (u - weight * rest[j]) * row[j]
    return value
