"""Compiled passes through networks that read a few slots of memory, site after site; 64 configurations
side by side.

Every site reads all slots and then writes its own spin into one of them (:mod:`physgen.models.frontier`). For
float32 on a CPU; the model has the same in torch for the rest. Configurations lie in tiles, ``(T, N, 64)``.
Products go by blocks of 6 outputs by 16 configurations, or 16 slots, that are summed in registers.
"""

import numpy as np
import torch
from numba import float32
from torch import Tensor
from torch.nn.functional import pad

from .compiled import adder, aligned, exponential, inner, inner_reordered, jit, tanh
from .fused import LANES, decide, fill, mix

SIDE = 64
_STEP = 16  # slots are padded to a multiple of it where their gradient is summed

_six_by_two, _one_by_eight, _one_by_two = adder(6, 2), adder(1, 8), adder(1, 2)


def tiles(values: Tensor) -> Tensor:
    """``(n, N)`` to ``(T, N, 64)``, with zeros for what is missing to whole tiles.

    Example:
        >>> tiles(torch.ones(65, 3)).shape
        torch.Size([2, 3, 64])
    """
    padded = pad(values, (0, 0, 0, -len(values) % SIDE))
    return padded.view(-1, SIDE, values.shape[1]).transpose(1, 2).contiguous()


def rows(tiled: Tensor, n: int) -> Tensor:
    """Back to ``(n, N)``."""
    return tiled.transpose(1, 2).reshape(-1, tiled.shape[1])[:n]


def draw(
    weights: Tensor, outer: Tensor, bias: Tensor, slot: Tensor, n: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Draws from :math:`\theta_i = b_i + W_{i0} \cdot x_i + \sum_m v_{im} \tanh(W_{im} \cdot x_i)`.

    Arguments:
        weights: W, ``(N, 1 + w, K)``.
        outer: v, ``(N, w)``.
        bias: b, ``(N,)``.
        slot: Into which of the K each spin goes, ``(N,)`` int64.
        n: How many.
        generator: Source of randomness; torch's global one if not given.

    Returns:
        Log-probabilities ``(T, 64)``, spins ``(T, N, 64)``, fields ``(T, N, 64)`` and hidden units
        ``(T, N, w, 64)``.
    """
    spins = torch.empty(-(-n // SIDE), len(bias), SIDE)
    seeds = torch.empty(4, LANES, dtype=torch.int64).random_(generator=generator).numpy().view(np.uint64)
    return _forward(spins, weights, outer, bias, slot, seeds)


def read(
    spins: Tensor, weights: Tensor, outer: Tensor, bias: Tensor, slot: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same for given spins ``(T, N, 64)``."""
    return _forward(spins, weights, outer, bias, slot, np.empty((0, LANES), np.uint64))


def _forward(spins, weights, outer, bias, slot, seeds):
    fields, units = torch.empty_like(spins), spins.new_empty(*spins.shape[:2], weights.shape[1], SIDE)
    log_q = torch.empty(len(spins), SIDE, dtype=torch.float64)
    scratch = np.empty(SIDE // 2, np.uint64), aligned(weights.shape[-1] * SIDE), aligned(SIDE)
    arrays = weights.flatten(), outer, bias, slot, log_q, spins, fields, units
    _pass(seeds, *scratch, *(x.detach().contiguous().numpy() for x in arrays))
    return log_q.to(spins.dtype), spins, fields, units


def gradient(
    signal: Tensor, spins: Tensor, fields: Tensor, units: Tensor, outer: Tensor, slot: Tensor, n_slots: int
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Of :math:`\sum_b c_b \ln q(s_b)` by W, v and b.

    Arguments:
        signal: c, ``(T, 64)``.
        spins, fields, units: As :func:`draw` or :func:`read` gives them.
        outer, slot: As there.
        n_slots: K.
    """
    n_sites, w = outer.shape
    across = -(-n_slots // _STEP) * _STEP
    by_weights = torch.zeros(n_sites, 1 + w, across)
    by_outer, by_bias = torch.zeros(n_sites, w), torch.zeros(n_sites)
    scratch = aligned((1 + w) * SIDE), aligned(SIDE * across)
    arrays = signal, outer, slot, spins, fields, units, by_weights.view(-1), by_outer, by_bias
    _backward(*scratch, *(x.detach().contiguous().numpy() for x in arrays))
    return by_weights[..., :n_slots], by_outer, by_bias


@jit
def _pass(state, words, memory, part, weights, outer, bias, slot, log_q, spins, fields, units):
    if len(state):
        mix(state)
    n_slots, outputs = memory.size // SIDE, units.shape[2]
    for tile in range(len(spins)):
        memory[:] = float32(0)
        log_q[tile] = 0.0
        for i in range(len(bias)):
            theta, unit, s = fields[tile, i], units[tile, i].reshape(outputs * SIDE), spins[tile, i]
            unit[:] = float32(0)
            _multiply(unit, outputs, weights, i * outputs * n_slots, memory, n_slots)
            tanh(unit[SIDE:])
            _field(theta, bias[i], outer[i], unit)
            if len(state):
                fill(state, words)
                decide(words.view(np.uint32), theta, s, float32(2), float32(-1))
            _log_sigmoid(part, theta, s)
            _add(log_q[tile], part)
            _copy(s, memory[slot[i] * SIDE : (slot[i] + 1) * SIDE])


@inner
def _multiply(sums, outputs, weights, first, memory, n):
    """``sums += weights @ memory``, ``(outputs, n)`` by ``(n, 64)``."""
    whole = outputs // 6 * 6
    for o in range(0, whole, 6):
        for lane in range(0, SIDE, 16):
            _six_by_two(sums, o * SIDE + lane, SIDE, weights, first + o * n, n, 1, memory, lane, SIDE, n)
    for o in range(whole, outputs):
        _one_by_eight(sums, o * SIDE, SIDE, weights, first + o * n, n, 1, memory, 0, SIDE, n)


@inner
def _field(theta, bias, outer, unit):
    for lane in range(SIDE):
        theta[lane] = bias + unit[lane]
    for m in range(len(outer)):
        row = unit[(1 + m) * SIDE : (2 + m) * SIDE]
        for lane in range(SIDE):
            theta[lane] += outer[m] * row[lane]


@jit
def _backward(signals, memory, signal, outer, slot, spins, fields, units, by_weights, by_outer, by_bias):
    n_slots, outputs = memory.size // SIDE, units.shape[2]
    for tile in range(len(spins)):
        memory[:] = float32(0)
        for i in range(len(outer)):
            unit, s, theta = units[tile, i], spins[tile, i], fields[tile, i]
            _by_field(signals, signal[tile], s, theta)
            by_bias[i] += _sum(signals[:SIDE])
            for m in range(1, outputs):
                by_outer[i, m - 1] += _dot(signals[:SIDE], unit[m])
                _by_unit(signals[m * SIDE : (m + 1) * SIDE], signals, outer[i, m - 1], unit[m])
            _accumulate(by_weights, i * outputs * n_slots, outputs, signals, memory, n_slots)
            for lane in range(SIDE):
                memory[lane * n_slots + slot[i]] = s[lane]


@inner
def _by_field(out, signal, spins, fields):
    r""":math:`c (s - \tanh \theta)`, as 2 c s / (1 + exp(2 s theta))."""
    for lane in range(SIDE):
        s = spins[lane]
        out[lane] = float32(2) * signal[lane] * s / (float32(1) + exponential(float32(2) * s * fields[lane]))


@inner
def _by_unit(out, by_field, outer, unit):
    for lane in range(SIDE):
        out[lane] = by_field[lane] * outer * (float32(1) - unit[lane] * unit[lane])


@inner
def _accumulate(sums, first, outputs, signals, memory, n):
    """``sums += signals @ memory``, ``(outputs, 64)`` by ``(64, n)``."""
    whole = outputs // 6 * 6
    for o in range(0, whole, 6):
        for k in range(0, n, 16):
            _six_by_two(sums, first + o * n + k, n, signals, o * SIDE, SIDE, 1, memory, k, n, SIDE)
    for o in range(whole, outputs):
        for k in range(0, n, 16):
            _one_by_two(sums, first + o * n + k, n, signals, o * SIDE, SIDE, 1, memory, k, n, SIDE)


def _log_sigmoid_of(out, theta, spins):
    """Of x = 2 theta s, to 2e-7: min(x, 0) - log(1 + e), e = exp(-abs(x)), by a series of artanh."""
    for lane in range(SIDE):
        x = float32(2) * theta[lane] * spins[lane]
        e = exponential(-abs(x))
        z = e / (float32(2) + e)
        y = z * z
        series = float32(1 / 13) * y + float32(1 / 11)
        series = series * y + float32(1 / 9)
        series = series * y + float32(1 / 7)
        series = series * y + float32(1 / 5)
        series = series * y + float32(1 / 3)
        out[lane] = min(x, float32(0)) - float32(2) * (series * y + float32(1)) * z


_log_sigmoid = inner(_log_sigmoid_of, fastmath={"contract"})


@inner
def _add(total, more):
    for lane in range(SIDE):
        total[lane] += more[lane]


@inner
def _copy(source, target):
    for lane in range(SIDE):
        target[lane] = source[lane]


@inner_reordered
def _sum(x):
    total = float32(0)
    for lane in range(SIDE):
        total += x[lane]
    return total


@inner_reordered
def _dot(x, y):
    total = float32(0)
    for lane in range(SIDE):
        total += x[lane] * y[lane]
    return total
