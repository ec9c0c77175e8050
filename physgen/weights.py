r"""What the weights of configurations tell of a model q whose density is exact, and what they hide.

.. math:: w = e^{-\beta E} / q , \qquad
    -\langle \ln w \rangle_q = \beta F_q \ge \beta F = -\ln \langle w \rangle_q , \qquad
    \mathrm{KL}(q \| p) = \ln Z - \langle \ln w \rangle_q , \qquad
    \mathrm{KL}(p \| q) = \langle \ln w \rangle_p - \ln Z .

A model that knows one of two modes of p looks well in all that its own draws can tell: KL(q‖p) is at most
ln 2 in all and the effective sample size is large. Configurations of p from elsewhere tell: their KL(p‖q) is
larger, and their effective sample size :math:`1 / \langle w / Z \rangle_p` smaller, than the draws promise.

References:
    | Detecting and Mitigating Mode-Collapse for Flow-based Sampling of Lattice Field Theories (Nicoli et al.,
      2023), https://arxiv.org/abs/2302.14082
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from ising import stats
from ising.stats import Estimate

from . import importance
from .divergence import effective_sample_size

MISSING = 0.1  # nats in all from which a disagreement is reported, a tenth of the probability
SURE = 3.0  # and standard errors
FEW = 50  # draws, by ESS, on which an average by weights cannot rest


@dataclass(frozen=True, eq=False)
class Weights:
    r"""Everything per site, in nats, but the weights and the effective sample sizes.

    Attributes:
        draws: :math:`\ln (w / Z)` of draws of the model, ``(n,)``.
        monte_carlo: The same of configurations of p, ``(chains, n)``; None without any.
        variational, by_weights, exact: :math:`\beta F_q`, :math:`\beta F` by importance sampling, and exactly
            where known. Where it is not, :math:`\ln Z` by importance sampling is taken in all the rest.
        reverse, forward: KL(q‖p) of the draws, KL(p‖q) of Monte Carlo.
        promised: KL(p‖q) as the weights of the draws have it.
        entropy: :math:`-\langle \ln q \rangle_q`.
        ess, ess_monte_carlo: Effective sample size over the number of draws, from either side.
        observables: By symbol, the mean over the draws as they are and weighted.
        missing: What of the configurations the draws do not know, or that their weights are too uneven to
            tell; one sentence, or nothing.
    """

    draws: np.ndarray
    monte_carlo: np.ndarray | None
    variational: Estimate
    by_weights: Estimate
    exact: float | None
    reverse: Estimate
    forward: Estimate | None
    promised: Estimate
    entropy: Estimate
    ess: float
    ess_monte_carlo: float | None
    observables: dict[str, tuple[Estimate, Estimate]]
    missing: str

    def columns(self) -> dict[str, str]:
        """What a table shows of it, by heading.

        Example:
            >>> flat = np.zeros(100)
            >>> weigh(flat, flat, {}, None, log_z=0.0, n_sites=4).columns()["ESS of draws"]
            '1'
        """
        return {
            "βF_q": str(self.variational),
            "βF, weights": str(self.by_weights),
            "βF, exact": "–" if self.exact is None else f"{self.exact:.6f}",
            "KL(q‖p)": str(self.reverse),
            "KL(p‖q), weights": str(self.promised),
            "KL(p‖q), Monte Carlo": "–" if self.forward is None else str(self.forward),
            "ESS of draws": f"{self.ess:.3g}",
            "ESS of Monte Carlo": "–" if self.ess_monte_carlo is None else f"{self.ess_monte_carlo:.3g}",
            "entropy": str(self.entropy),
        } | {
            f"{symbol}, {kind}": str(value)
            for symbol, values in self.observables.items()
            for kind, value in zip(("draws", "weighted"), values, strict=True)
        }


def weigh(
    log_w: np.ndarray,
    log_q: np.ndarray,
    observables: dict[str, np.ndarray],
    reference: np.ndarray | None,
    *,
    log_z: float | None,
    n_sites: int,
) -> Weights:
    r"""Everything about independent draws of a model, and Monte Carlo beside them.

    Arguments:
        log_w, log_q: :math:`\ln w` and :math:`\ln q` of the draws, ``(n,)`` nats.
        observables: Of the draws, by symbol, ``(n,)``.
        reference: :math:`\ln w` of Monte Carlo configurations that the model was not trained on,
            ``(chains, n)``.
        log_z: Exact, where known.
        n_sites: N.
    """
    found = importance.log_partition(log_w)
    known = found if log_z is None else Estimate(log_z, 0.0)
    draws = log_w - known.mean

    def per_site(value: Estimate, sign: float = 1.0, more: float = 0.0) -> Estimate:
        return Estimate(sign * value.mean / n_sites, math.hypot(value.error, more) / n_sites, value.tau)

    monte_carlo = None if reference is None else reference - known.mean
    forward = None if monte_carlo is None else stats.mean(monte_carlo)
    promised = importance.reweighted(log_w, log_w - found.mean)
    ess = effective_sample_size(log_w)
    return Weights(
        draws=draws,
        monte_carlo=monte_carlo,
        variational=per_site(stats.mean(log_w[None]), -1),
        by_weights=per_site(found, -1),
        exact=None if log_z is None else -log_z / n_sites,
        reverse=per_site(stats.mean(draws[None]), -1, known.error),
        forward=None if forward is None else per_site(forward, more=known.error),
        promised=per_site(promised),
        entropy=per_site(stats.mean(log_q[None]), -1),
        ess=ess,
        ess_monte_carlo=None
        if monte_carlo is None
        else float(np.exp(math.log(monte_carlo.size) - logsumexp(monte_carlo))),
        observables={
            symbol: (stats.mean(x[None]), importance.reweighted(log_w, x))
            for symbol, x in observables.items()
        },
        missing=_missing(found, log_z, promised, forward, ess, len(log_w)),
    )


def _missing(
    found: Estimate, log_z: float | None, promised: Estimate, forward: Estimate | None, ess: float, n: int
) -> str:
    """A sentence where KL(q‖p) and ESS on one side and KL(p‖q) or ln Z on the other do not go together.

    Below an ESS of :data:`FEW` draws nothing tells a model that has lost a mode from one that is poor
    everywhere: what its weights promise is then an error bar of itself.
    """
    sentence = ""
    if log_z is not None and log_z - found.mean > max(MISSING, SURE * found.error):
        sentence = (
            f"Its draws miss a part of the configurations (mode-seeking): their weights, with an ESS of "
            f"{ess:.2g}, add up to {math.exp(found.mean - log_z):.0%} of Z."
        )
    if forward is not None:
        gap, error = forward.mean - promised.mean, math.hypot(forward.error, promised.error)
        if gap > max(MISSING, SURE * error):
            sentence = (
                f"Its draws miss a part of the configurations (mode-seeking): with an ESS of {ess:.2g} they "
                f"promise KL(p‖q) = {promised.mean:.2g} nats in all, Monte Carlo has {forward.mean:.2g}."
            )
    if sentence and ess * n < FEW:
        return (
            f"Its weights are too uneven to tell what its draws miss: {n} of them count as {ess * n:.2g} "
            "(ESS); train longer, or draw more."
        )
    return sentence
