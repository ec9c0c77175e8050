r"""Fine-tuning of a deep belief net: the contrastive wake-sleep or up-down algorithm.

Wake: states are drawn bottom-up, and the generative weights learn to restore each layer from the one above.
Top: the top machine learns by contrastive divergence from the states that came up. Sleep: the ends of its
chains are passed down, and the recognition weights learn to find the states that made each layer. With p the
probability of a unit and x its state every update is a delta rule, :math:`\Delta w \propto h (x - p)`.

References:
    | The Wake-Sleep Algorithm for Unsupervised Neural Networks (Hinton, Dayan, Frey and Neal, 1995)
    | A Fast Learning Algorithm for Deep Belief Nets (Hinton, Osindero and Teh, 2006), appendix B
    | Classification using Discriminative Restricted Boltzmann Machines (Larochelle and Bengio, 2008)
"""

import torch
from torch import Tensor

from .energy.moments import contrast
from .models.dbn import DBN
from .nn import private_seed
from .train import Metrics


class UpDown:
    r"""A loss for :func:`physgen.train.gradient_step`, nats per row:

    .. math:: -\log p(x, h_{<d-1} | h_{d-1}) + [F(v) - F(v_k)] - \log q(h' | x'),

    h drawn upwards from the data x, v the states (and label) on top, :math:`v_k` the end of their k Gibbs
    updates, (x', h') drawn downwards from there. Draws are held fixed, and no weight stands in two terms. The
    first term rises towards the variational bound; the second is a contrast, not a likelihood; the third
    minimises :math:`\mathrm{KL}(p \| q)`, not the :math:`\mathrm{KL}(q \| p)` of the bound, so the bound may
    fall a little while samples get better.

    Arguments:
        dbn: A net with two layers or more in use.
        k: Gibbs updates of the top machine; Hinton raised them from 3 to 10.
        label_weight: Adds this times :math:`-\log p(y | h_{d-1})` of labelled rows, from which the top
            machine alone learns: to the likelihood a label is one coordinate of hundreds (hybrid learning).
        persistent: Chains that go on from call to call, in place of chains that start at the data, or 0.
        seed: Of the private generator.

    Example:
        >>> dbn = DBN((4, 4), hidden=(8, 8))
        >>> dbn.add_layer(torch.ones(10, 16))
        >>> loss, metrics = UpDown(dbn, k=2)(torch.ones(10, 16))
        >>> sorted(metrics)
        ['contrast', 'sleep', 'wake']
    """

    def __init__(
        self, dbn: DBN, k: int = 3, *, label_weight: float = 0.0, persistent: int = 0, seed: int = 0
    ):
        if int(dbn.depth) < 2 or k < 1:
            raise ValueError(
                f"up-down learning needs two layers in use and k >= 1, got {int(dbn.depth)} and k = {k}"
            )
        self.dbn, self.k, self.label_weight, self.persistent = dbn, k, label_weight, persistent
        self.chains: Tensor | None = None
        self.generator = torch.Generator(next(dbn.parameters()).device).manual_seed(private_seed(seed, 22))

    def __call__(self, rows: Tensor) -> tuple[Tensor, Metrics]:
        x, y = self.dbn.parts(rows)
        layers = self.dbn.up(x, self.generator)
        v = layers[-1] if y is None else torch.cat([layers[-1], y], -1)
        if self.chains is None and self.persistent:
            self.chains = v[torch.arange(self.persistent, device=v.device) % len(v)]
        start = self.chains if self.persistent else v
        chains = self.dbn.top.gibbs(start, self.k, self.generator)
        self.chains = chains if self.persistent else None
        dream = self.dbn.down(chains[:, : layers[-1].shape[-1]], self.generator)
        parts = {
            "wake": -self.dbn.log_generate(layers).mean(),
            "contrast": contrast(self.dbn.top.distribution(), v, chains),
            "sleep": -self.dbn.log_recognise(dream).mean(),
        }
        if self.label_weight and y is not None:
            log_p = self.dbn.scores(layers[-1]).log_softmax(-1)[y > 0].mean()
            parts["label"] = -self.label_weight * log_p
        return sum(parts.values()), {name: part.detach() for name, part in parts.items()}

    def state_dict(self) -> dict[str, Tensor | None]:
        return {"generator": self.generator.get_state(), "chains": self.chains}

    def load_state_dict(self, state: dict[str, Tensor | None]) -> None:
        saved = state["chains"]
        self.chains = None if saved is None else saved.to(next(self.dbn.parameters()))
        self.generator.set_state(state["generator"].cpu())
