r"""How to train a restricted Boltzmann machine when nobody has tuned it: one function of its size.

Measured to learn Ising models of 4 x 4 to 8 x 8 spins above, at and below the critical temperature with the
same settings (``python -m workflows.benchmarks.rbm_quality``). What is in it, and why:

- centred parameters, biases that start at the means of the data;
- persistent chains, which give the gradient of the likelihood as long as the machine changes slowly;
- steps of equal size for all parameters (Adam without momentum: persistent chains answer late, and momentum
  would make chains and weights swing around each other), of size :math:`0.16 / \sqrt N` for N visible
  units, as N weights of a hidden unit act together;
- a rate that falls as a half cosine, so that chains catch up and noise dies out, and the average of the
  parameters over the last part (Polyak and Juditsky, 1992);
- for tied machines of at most 2048 weights (a step costs as the cube), natural gradients instead of Adam
  (:mod:`physgen.natural`): they arrive within hundreds of steps, and what is left is the noise of the chains.
  A rate that then falls as 1 / t counts all of them alike; an average over as long a time would not do, as
  the parameters wander along bent valleys of equally good machines.
"""

import torch
from torch import Tensor

from .energy import PersistentCD
from .models.rbm import RBM
from .natural import Natural, settle
from .train import GradientStep, Loss, decay

NATURAL = 0.05  # the part of the way that a natural step goes at first


def rbm_step(
    rbm: RBM,
    data: Tensor,
    *,
    steps: int = 8000,
    loss: Loss | None = None,
    lr: float | None = None,
    average: float = 0.3,
    seed: int = 0,
) -> GradientStep:
    r"""Centres the machine on the data and returns the step that trains it; take batches of about 256.

    Arguments:
        rbm: A new machine.
        data: All training configurations ``(*, width)``.
        steps: Steps of the whole training.
        loss: Any of :mod:`physgen.energy`; default ``PersistentCD`` with :func:`chains_of`.
        lr: Learning rate of Adam at the start; default :math:`0.16 / \sqrt N`, and 0.4 times that for tied
            machines, whose parameters act at every site. Tied machines of at most 2048 weights with plain
            persistent chains and no ``lr`` follow natural gradients.
        average: Last fraction of the steps over which the parameters are averaged; 0 turns it off.
        seed: Of the chains.

    Example:
        >>> from physgen.batches import Batches
        >>> from physgen.train import fit
        >>> data = 2.0 * torch.randint(0, 2, (500, 9)) - 1
        >>> rbm = RBM((3, 3), hidden=8)
        >>> step = rbm_step(rbm, data, steps=20)
        >>> fit(step, Batches(data, 100), steps=20).step
        20
        >>> step.finish()
    """
    rbm.centre(data)
    if loss is None:
        loss = PersistentCD(rbm, start=data, seed=seed, **chains_of(rbm))
    trained = [p for p in rbm.parameters() if p.requires_grad]
    natural = _small(rbm) and lr is None and type(loss) is PersistentCD
    optimizer: torch.optim.Optimizer
    if natural:
        optimizer = Natural(rbm, loss, NATURAL)
        schedule = settle(NATURAL, after=max(300, steps // 5))
    else:
        rate = (0.4 if rbm.tied else 1.0) * 0.16 * rbm.width**-0.5 if lr is None else lr
        optimizer = torch.optim.Adam(trained, rate, betas=(0.0, 0.999))
        schedule = decay(steps, final=0.02, warm_up=min(50, steps // 20))
    return GradientStep(
        loss, optimizer, schedule=schedule, average_from=round(steps * (1 - average)) if average else None
    )


def chains_of(rbm: RBM) -> dict[str, int]:
    """How many persistent chains to take, and their updates per step.

    A step along natural gradients costs as much as ten updates of the chains and goes far: it takes 16.

    Example:
        >>> chains_of(RBM((3, 3), hidden=8)), chains_of(RBM((3, 3), hidden=2, tied=True))
        ({'chains': 256, 'k': 4}, {'chains': 512, 'k': 16})
    """
    if not rbm.tied:
        return {"chains": 256, "k": 4}
    return {"chains": 512, "k": 16 if _small(rbm) else 8}


def _small(rbm: RBM) -> bool:
    return rbm.tied and rbm.W.numel() <= 2048
