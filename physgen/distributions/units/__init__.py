r"""The layers of a restricted Boltzmann machine: what one unit is, whatever it is coupled to.

A layer x has an own energy U(x) and couples to the rest of its machine by :math:`t(x)`. In *fields*
:math:`\theta`, one per coordinate, it follows

.. math:: p(x \mid \theta) = e^{\theta \cdot t(x) - U(x) - A(\theta)}, \qquad
    A(\theta) = \log \sum_x e^{\theta \cdot t(x) - U(x)} .

=============  ============  ==============================================  ==============================
kind           values        :math:`A(\theta)` per unit                      mean of x
=============  ============  ==============================================  ==============================
``bernoulli``  0, 1          :math:`\log(1 + e^\theta)`                      :math:`\sigma(\theta)`
``spin``       -1, +1        :math:`\log 2\cosh\theta`                       :math:`\tanh\theta`
``softmax``    one-hot of q  :math:`\log\sum_k e^{\theta_k}`                 :math:`e^{\theta_k - A}`
``binomial``   0, …, K       :math:`K\log(1 + e^\theta)`                     :math:`K\sigma(\theta)`
``gaussian``   real          :math:`\theta^2/2\sigma^2 + \log\sqrt{2\pi}\sigma`  :math:`\theta`, with t = x/σ²
``relu``       real, ≥ 0     that plus :math:`\log\Phi(\theta/\sigma)`       :math:`\theta + \sigma\phi/\Phi`
=============  ============  ==============================================  ==============================

Binomial units count K Bernoulli copies that share their weights: :math:`U = -\log \binom{K}{x}`, the number
of ways. A relu unit is a Gaussian around its field, kept where it is not negative. The noisy rectified linear
unit :math:`\max(0, \theta + \epsilon)` of Nair and Hinton looks alike but belongs to no energy: Gibbs steps
with it leave no known law invariant.

Draws of units with finitely many values compare a uniform number of the field's type with a probability, so
probabilities are exact up to the resolution of that number, 6e-8 in float32 and 1e-16 in float64.

References:
    | Exponential Family Harmoniums with an Application to Information Retrieval (Welling et al., 2004)
    | Rectified Linear Units Improve Restricted Boltzmann Machines (Nair and Hinton, 2010)
    | Emergence of Compositional Representations in Restricted Boltzmann Machines (Tubiana and Monasson, 2017)
"""

from .base import REGISTRY, Units
from .bounded import Bernoulli, Binomial, Softmax, Spin
from .real import Gaussian, ReLU

__all__ = ["REGISTRY", "Bernoulli", "Binomial", "Gaussian", "ReLU", "Softmax", "Spin", "Units", "layer"]


def layer(description: str, n: int) -> Units:
    """``n`` units of a kind given by a word, with its number where it has one.

    Example:
        >>> layer("spin", 16).n_states, layer("softmax:3", 2).width
        (65536.0, 6)
    """
    name, _, number = description.partition(":")
    if name not in REGISTRY or (number and not number.isdecimal()):
        choices = ", ".join(sorted(REGISTRY))
        raise ValueError(
            f"unknown units {description!r}; choose one of {choices}, as in softmax:3 or binomial:4"
        )
    if REGISTRY[name].counted != bool(number):
        needs = f"need a number, as in {name}:3" if REGISTRY[name].counted else "take no number"
        raise ValueError(f"{name} units {needs}, got {description!r}")
    return REGISTRY[name](n, *([int(number)] if number else []))
