r"""Training of restricted Boltzmann machines: losses whose gradient is that of the likelihood, or near it.

.. math:: -\nabla \log L = \langle\nabla E\rangle_{data} - \langle\nabla E\rangle_{model}

The losses differ in where the samples of the model come from:

=========================  =====================================================  =====================
loss                       samples of the model                                   gradient
=========================  =====================================================  =====================
``ExactLikelihood``        all states of the smaller layer                        exact
``ContrastiveDivergence``  k updates from the data                                biased for every k
``PersistentCD``           chains that go on from call to call                    biased while they lag
``FastPCD``                the same, pushed on by weights that decay quickly      biased on purpose
``TemperedPCD``            the same, exchanged with chains at higher temperature  biased while they lag
``TrajectoryPCD``          the same, exchanged with those of earlier models       biased while they lag
=========================  =====================================================  =====================

Each is called on a batch and returns a scalar whose ``backward()`` gives that gradient to the parameters of
the model, whatever these are (plain, centred, tied): the loss knows the machine as ``model.distribution()``
only. But for ``ExactLikelihood`` the value is a contrast of energies that means nothing by itself, may be
negative and does not fall while learning goes well; watch :mod:`physgen.energy.health` and the likelihood
instead.
"""

from .chains import ContrastiveDivergence, FastPCD, PersistentCD
from .exact import ExactLikelihood
from .health import ChainHealth, free_energy_gap, pseudo_likelihood
from .moments import Machine
from .penalties import Penalised
from .tempered import TemperedPCD
from .trajectory import TrajectoryPCD

__all__ = [
    "ChainHealth",
    "ContrastiveDivergence",
    "ExactLikelihood",
    "FastPCD",
    "Machine",
    "Penalised",
    "PersistentCD",
    "TemperedPCD",
    "TrajectoryPCD",
    "free_energy_gap",
    "pseudo_likelihood",
]
