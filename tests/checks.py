"""Checks every sampler and model must pass. A new one gets them for free."""

import os
import stat
from pathlib import Path

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

FALSE_ALARM = 1e-5  # probability that correct code fails one call of goodness_of_fit


def counts_of(spins: Tensor) -> Tensor:
    """How often each of the ``2**N`` states occurs in ``(n, N)`` spins, in the order of ``exact.states``."""
    n_sites = spins.shape[-1]
    index = ((spins > 0).long() << torch.arange(n_sites - 1, -1, -1)).sum(-1)
    return torch.bincount(index, minlength=2**n_sites).double()


def goodness_of_fit(spins: Tensor, probs: Tensor) -> float:
    """p-value of Pearson's chi-squared for ``(n, N)`` independent spins against ``(2**N,)`` probabilities.

    States that expect fewer than 10 draws share one bin.
    """
    return goodness_of_counts(counts_of(spins), probs)


def goodness_of_counts(counts: Tensor, probs: Tensor) -> float:
    """The same from how often each state was drawn, float64."""
    expected = probs.double() / probs.double().sum() * counts.sum()
    rare = expected < 10
    if rare.all():
        raise ValueError(f"{counts.sum():.0f} draws are too few: no state expects 10 of them")
    if rare.any():
        pooled = [torch.cat([x[rare].sum().unsqueeze(0), x[~rare]]) for x in (counts, expected)]
        if pooled[1][0] < 10:  # too thin a bin of its own: join it to the likeliest state
            top = 1 + pooled[1][1:].argmax()
            for x in pooled:
                x[top] += x[0]
            pooled = [x[1:] for x in pooled]
    else:
        pooled = [counts, expected]
    return float(chisquare(*(x.numpy() for x in pooled)).pvalue)


def steps_of_publishing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that grows with each file and folder flushed to the disk, and with each that gets its name."""
    steps, fsync = [], os.fsync

    def flushed(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", flushed)
    for name in ("rename", "replace"):
        real = getattr(Path, name)
        monkeypatch.setattr(
            Path, name, lambda path, target, real=real: (steps.append("name"), real(path, target))[1]
        )
    return steps
