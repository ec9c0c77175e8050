r"""Deep belief net: directed layers of binary units below a restricted Boltzmann machine.

.. math:: p(x) = \sum_{h_1 \dots h_{d-1}} p(x | h_1)\, p(h_1 | h_2) \cdots p(h_{d-2} | h_{d-1})\, p(h_{d-1}),
    \qquad p(h_{d-1}) \propto e^{-F(h_{d-1})}

The top machine may see a one-hot label beside :math:`h_{d-1}`. Generation runs Gibbs updates of the top
machine, then passes down once. Inference is not exact: the recognition weights make
:math:`q(h | x) = \prod_k q(h_{k+1} | h_k)`, whose bound on the likelihood

.. math:: \log p(x) \ge \mathbb{E}_q \Big[ \log p(x, h) - \log q(h | x) \Big]

is tight for one layer, and stays as it was when a layer is added whose machine starts as the old one upside
down. Whatever the new machine then learns of its data raises the bound.

References:
    | A Fast Learning Algorithm for Deep Belief Nets (Hinton, Osindero and Teh, 2006)
    | On the Quantitative Analysis of Deep Belief Networks (Salakhutdinov and Murray, 2008)
"""

import hashlib
import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from ising.stats import Estimate

from .. import ais
from ..distributions import Layer, units
from ..nn import private_seed
from .rbm import RBM

__all__ = ["DBN", "build"]

ANNEALED_CHAINS, ANNEALING_STEPS = 200, 2000  # for the log Z of a top machine that cannot sum it


class DBN(nn.Module):
    r"""A stack of machines. At first only the lowest is in use; :meth:`add_layer` takes in the next.

    A machine that is no longer on top goes on as a directed layer, its biases of hidden units unused, and
    gets recognition weights of its own.

    Arguments:
        shape: Sides of the lattice or image.
        hidden: Units of each hidden layer, 0 and 1, from below.
        visible: Kind of visible units, as :class:`physgen.models.rbm.RBM` takes it.
        labels: Classes; where there are any, rows of data end in a one-hot label.
        symmetric: Makes the lowest machine even, see there.
        learn_scale: Learns the widths of Gaussian visible units.
        spread: Standard deviation of the initial weights; default: that of :class:`RBM` for each machine.

    Example:
        >>> dbn = DBN((4, 4), hidden=(8, 16))
        >>> dbn.add_layer(torch.ones(10, 16))
        >>> dbn.sample(5).shape, dbn.log_prob_bound(torch.ones(3, 16)).shape
        (torch.Size([5, 16]), torch.Size([3]))
    """

    depth: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        hidden: Sequence[int] = (64, 64),
        visible: str = "spin",
        labels: int = 0,
        symmetric: bool = False,
        learn_scale: bool = False,
        spread: float | None = None,
    ):
        super().__init__()
        if not hidden:
            raise ValueError("a deep belief net needs at least one hidden layer")
        self.shape, self.n_sites, self.labels = shape, math.prod(shape), labels
        last = len(hidden) - 1
        self.machines = nn.ModuleList()
        for k, (below, above) in enumerate(pairwise((self.n_sites, *hidden))):
            lowest = {"visible": visible, "symmetric": symmetric, "learn_scale": learn_scale}
            options = {"visible": "bernoulli"} if k else lowest
            sides = (below,) if k else shape
            self.machines.append(RBM(sides, above, spread, labels=labels if k == last else 0, **options))
        self.width = self.machines[0].width - (0 if last else labels)
        self.recognition = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise((self.width, *hidden[:-1])))
        self.register_buffer("depth", torch.ones((), dtype=torch.long))
        self._log_z: tuple[bytes, Estimate] | None = None

    @property
    def top(self) -> RBM:
        """The machine that is now on top."""
        return self.machines[int(self.depth) - 1]

    @property
    def _below(self) -> int:
        """Coordinates of the layer that the top machine sees, without labels."""
        return self.top.width - self.labels * self.labelled

    @property
    def labelled(self) -> bool:
        """Whether the top machine sees labels: once the net is complete."""
        return bool(self.labels) and int(self.depth) == len(self.machines)

    @torch.no_grad()
    def add_layer(self, data: Tensor, generator: torch.Generator | None = None) -> None:
        r"""Puts the next machine on top and centres it on the hidden units of ``data`` ``(n, width)``.

        Where it has as many hidden units as the machine below has visible ones of two values, it starts as
        that machine upside down, :math:`W_2 = W_1^\top`, labels not yet coupled; else with small weights.
        Spins :math:`s = 2h - 1` become units of 0 and 1 by :math:`1 + e^{2\theta} = 2 e^\theta \cosh\theta`.
        """
        if int(self.depth) == len(self.machines):
            raise ValueError(f"this net has {len(self.machines)} layers, and all of them are in use")
        law, recognition = self.top.distribution(), self.recognition[int(self.depth) - 1]
        per_unit = law.visible_units.coupled(torch.ones_like(law.loc))
        recognition.weight.copy_((law.weight * per_unit.unsqueeze(-1)).T)
        recognition.bias.copy_(law.hidden_bias)
        self.depth += 1
        self.top.centre(self.top_data(data, generator))
        kind, width = self.machines[int(self.depth) - 2].visible, law.n_hidden
        if self.top.hidden_layer.width != law.n_visible or kind not in ("spin", "bernoulli"):
            return
        W, b, c = law.weight.T, law.hidden_bias, law.loc
        if kind == "spin":
            W, b, c = 2 * W, b - W.sum(-1), 2 * c
        top = self.top
        top.W.zero_()
        top.W[:width] = W
        top.b[:width] = b + W.sum(-1) / 2  # hidden units are centred at 1/2
        top.c.copy_(c + top.base[:width].sigmoid() @ W)

    @torch.no_grad()
    def up(self, x: Tensor, generator: torch.Generator | None = None) -> list[Tensor]:
        """X and a draw of each hidden layer below the top machine given the one before, from below."""
        layers = [x]
        for weights in self.recognition[: int(self.depth) - 1]:
            layers.append(units.Bernoulli(weights.out_features).draw(weights(layers[-1]), generator))
        return layers

    def features(self, x: Tensor) -> list[Tensor]:
        """X and the activation of each hidden layer below the top machine: a feed-forward net, no noise."""
        layers = [x]
        for weights in self.recognition[: int(self.depth) - 1]:
            layers.append(weights(layers[-1]).sigmoid())
        return layers

    @torch.no_grad()
    def down(
        self, h: Tensor, generator: torch.Generator | None = None, *, mean: bool = False
    ) -> list[Tensor]:
        """What h of the top machine generates, with h, sorted from below: x first.

        Arguments:
            h: States ``(n, width)`` of the layer that the top machine sees.
            generator: Source of randomness; torch's global one if not given.
            mean: Gives the mean of x in place of a draw, grey levels for instance.
        """
        layers = [h]
        for k in reversed(range(int(self.depth) - 1)):
            law = self.machines[k].distribution().visible(layers[0])
            last = law.mean if mean and k == 0 else law.units.draw(law.field, generator)
            layers.insert(0, last)
        return layers

    @torch.no_grad()
    def sample(self, n: int, burn_in: int = 1000) -> Tensor:
        """``(n, width)`` draws: of the top machine by :meth:`RBM.sample`, then one pass down."""
        return self.down(self.top.sample(n, burn_in)[:, : self._below])[0]

    @torch.no_grad()
    def sample_labelled(
        self,
        labels: Tensor,
        burn_in: int = 1000,
        generator: torch.Generator | None = None,
        *,
        mean: bool = False,
    ) -> Tensor:
        """Draws ``(n, width)`` given their classes ``(n,)``: the top machine runs with labels clamped.

        Arguments:
            labels: Whole numbers below :attr:`labels`.
            burn_in: Updates from units at random.
            generator, mean: As in :meth:`down`.
        """
        self._needs_labels()
        law = self.top.distribution()
        y = one_hot(labels, self.labels).to(law.loc)
        width = self._below
        v = law.draw_visible(law.hidden_bias.new_zeros(len(labels), law.n_hidden), generator)
        for _ in range(burn_in):
            v = law.draw_visible(law.draw_hidden(torch.cat([v[:, :width], y], -1), generator), generator)
        return self.down(v[:, :width], generator, mean=mean)[0]

    def class_log_prob(self, x: Tensor) -> Tensor:
        r""":math:`\log p(y | h)` of every class at the activations h of x, ``(n, width)`` to ``(n, labels)``.

        .. math:: p(y | h) \propto \exp \Big( b_y + \sum_j \mathrm{softplus}(c_j + W_j \cdot h + U_{yj}) \Big)

        from the free energy of each label, exact for units h of 0 and 1. As a function of x it is a
        feed-forward net, so it can be trained by back-propagation (Larochelle and Bengio, 2008).
        """
        self._needs_labels()
        return self.scores(self.features(x)[-1]).log_softmax(-1)

    def scores(self, h: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Minus the top machine's free energy with each label, ``(*, labels)``, or ``(*, 1)`` without."""
        law = self.top.distribution(dtype)
        if not self.labelled:
            return -law.free_energy(h).unsqueeze(-1)
        width, below = h.shape[-1], law.visible_units.parts[0]
        shift = (below.coupled(h) @ law.weight[:width]).unsqueeze(-2) + law.weight[width:]
        own = law.loc[width:] - below.energy(h, law.loc[:width]).unsqueeze(-1)
        return own + law.hidden_units.log_sum(law.hidden_bias, shift)

    @torch.no_grad()
    def log_prob_bound(
        self,
        x: Tensor,
        k: int = 64,
        generator: torch.Generator | None = None,
        *,
        log_z: Estimate | None = None,
    ) -> Tensor:
        r"""Importance weighted bound, ``(n, width)`` to ``(n,)``, nats; of (x, y) where rows end in a label.

        .. math:: \log \frac{1}{k} \sum_{j=1}^k \frac{p(x, h^j)}{q(h^j | x)}, \quad h^j \sim q(h | x)

        Its expectation is at most :math:`\log p`, and grows with k: k = 1 is the variational bound. The error
        of log Z shifts all values alike. One layer alone has no h: the value is log p itself.

        Arguments:
            x: Configurations.
            k: Importance samples.
            generator: Source of randomness; torch's global one if not given.
            log_z: Of the top machine, where it has been estimated before; default :meth:`log_partition`.
        """
        x, y = self.parts(x)
        layer = units.layer(self.machines[0].visible, self.n_sites)
        if not layer.support.check(x).all():
            raise ValueError(f"{self.machines[0].visible} units take {layer.takes}; got other values")
        draws = 1 if int(self.depth) == 1 else k
        log_weights = [self._log_weight(self.up(x, generator), y) for _ in range(draws)]
        return torch.stack(log_weights).logsumexp(0) - math.log(draws) - (log_z or self.log_partition()).mean

    def log_partition(self) -> Estimate:
        """Log Z of the top machine: the exact sum or annealed, found once for the same weights."""
        parameters = b"".join(p.detach().cpu().numpy().tobytes() for p in self.top.state_dict().values())
        key = hashlib.sha256(parameters).digest()
        if self._log_z is None or self._log_z[0] != key:
            if self.top.enumerable:
                found = Estimate(self.top.log_partition(), 0.0)
            else:
                generator = torch.Generator(self.top.b.device).manual_seed(private_seed(0, 21))
                found = ais.log_partition(self.top, ANNEALED_CHAINS, ANNEALING_STEPS, generator)
            self._log_z = key, found
        return self._log_z[1]

    @torch.no_grad()
    def log_prob_enumerated(self, x: Tensor) -> Tensor:
        r""":math:`\log p`, exact in float64, of a net so small that all states of its layers can be listed.

        ``(n, width)`` to ``(n,)``, nats; of (x, y) where rows end in a label.

        Example:
            >>> dbn = DBN((2, 2), hidden=(3, 4))
            >>> dbn.add_layer(torch.ones(10, 4))
            >>> states = units.Spin(4).states(torch.ones(1))
            >>> round(dbn.log_prob_enumerated(states).exp().sum().item(), 10)
            1.0
        """
        x, y = self.parts(x.double())
        laws = [m.distribution(torch.float64) for m in self.machines[: int(self.depth) - 1]]
        states = [x, *(law.hidden_units.states(x) for law in laws)]
        log_p = self.scores(states[-1], torch.float64)
        for k in reversed(range(len(laws))):
            given = laws[k].visible(states[k + 1]).log_prob(states[k].unsqueeze(1))
            log_p = (given.unsqueeze(-1) + log_p).logsumexp(1)
        return self._of_label(log_p, y) - self.top.distribution(torch.float64).log_partition()

    def parts(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Rows of data without their label and, where they have one, the label ``(n, labels)``."""
        x, y = rows[..., : self.width], rows[..., self.width :]
        if x.shape[-1] == self.width and y.shape[-1] in (0, self.labels):
            if not y.shape[-1]:
                return x, None
            if units.Softmax(1, self.labels).valid(y).all():
                return x, y
            raise ValueError("a label is a single 1 among 0; leave the label out of rows that have none")
        label = f", and {self.labels} of a label or none" if self.labels else ""
        raise ValueError(f"rows of this net have {self.width} coordinates{label}; got {tuple(rows.shape)}")

    @torch.no_grad()
    def top_data(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What the top machine sees of data: a draw of the layer below it, and the label if it takes one."""
        x, y = self.parts(rows)
        h = self.up(x, generator)[-1]
        if not self.labelled:
            return h
        if y is None:
            raise ValueError(f"the top machine learns labels, so every row must end in one of {self.labels}")
        return torch.cat([h, y], -1)

    def log_generate(self, layers: list[Tensor]) -> Tensor:
        r""":math:`\sum_k \log p(h_k | h_{k+1})` of the directed layers, x = :math:`h_0`: to ``(n,)``."""
        pairs = zip(self.machines, pairwise(layers), strict=False)
        found = [machine.distribution().visible(h).log_prob(x) for machine, (x, h) in pairs]
        return sum(found, layers[0].new_zeros(len(layers[0])))

    def log_recognise(self, layers: list[Tensor]) -> Tensor:
        r""":math:`\log q(h | x) = \sum_k \log q(h_{k+1} | h_k)`, to ``(n,)``."""
        pairs = zip(self.recognition, pairwise(layers), strict=False)
        found = [Layer(units.Bernoulli(w.out_features), w(x)).log_prob(h) for w, (x, h) in pairs]
        return sum(found, layers[0].new_zeros(len(layers[0])))

    def _log_weight(self, layers: list[Tensor], y: Tensor | None) -> Tensor:
        top = self._of_label(self.scores(layers[-1]), y)
        return self.log_generate(layers) + top - self.log_recognise(layers)

    def _of_label(self, scores: Tensor, y: Tensor | None) -> Tensor:
        """Of the row's own label, or summed over labels: ``(n, labels)`` to ``(n,)``."""
        if y is None or not self.labelled:
            return scores.logsumexp(-1)
        return scores[y > 0]

    def _needs_labels(self) -> None:
        if not self.labelled:
            raise ValueError("only a complete net that was built with labels= knows classes")


build = DBN
