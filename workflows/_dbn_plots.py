"""Figures of train_dbn."""

import json
import math
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ising import exact
from physgen import pictures, plots
from physgen.classification import ErrorRate
from physgen.models.dbn import DBN
from physgen.stages import Stages
from workflows._dbn_data import Problem


def draw(out: Path, problem: Problem, dbn: DBN, stage: str, title: str, generator: torch.Generator) -> None:
    """Receptive fields, draws of the net and, with labels, confusions, as they are after a stage."""
    if len(problem.shape) == 2:
        receptive_fields(dbn, problem.shape, title).savefig(out / f"receptive_fields_{stage}.png", dpi=120)
        samples(dbn, problem, title, generator).savefig(out / f"samples_{stage}.png", dpi=120)
    if problem.classes:
        parts = problem.test.split(500)
        with torch.no_grad():
            log_p = torch.cat([dbn.class_log_prob(problem.x(part)) for part in parts]).cpu()
        confusion(log_p, problem, title).savefig(out / f"confusion_{stage}.png", dpi=120)
        if problem.temperatures is not None:
            phases(log_p, problem, title).savefig(out / f"phases_{stage}.png", dpi=120)


def receptive_fields(dbn: DBN, shape: tuple[int, ...], title: str) -> Figure:
    """Weights of the hidden units of the first layer, the 64 with the largest sum of sizes."""
    W = dbn.machines[0].W.detach().cpu().numpy()[: math.prod(shape)]
    largest = np.argsort(-np.abs(W).sum(0))[:64]
    figure = Figure(figsize=(7, 7.3), layout="constrained")
    ax = pictures.tiles(figure.subplots(), W.T[largest].reshape(-1, *shape), 8, signed=True)
    ax.set_title(f"generative weights of 64 units of the first hidden layer, {title}", fontsize="medium")
    return figure


def samples(dbn: DBN, problem: Problem, title: str, generator: torch.Generator) -> Figure:
    """Ten draws of each class, grey levels from the last pass down; or spins below those of Monte Carlo."""
    rows = problem.classes
    if rows:
        labels = torch.arange(len(rows), device=problem.train.device).repeat_interleave(10)
        made = dbn.sample_labelled(labels, 500, generator, mean=problem.visible != "spin")
        title = f"drawn given the class, {title}"
    else:
        data = problem.x(problem.test)
        evenly = torch.linspace(0, len(data) - 1, 10).long()
        rows, made = ("Monte Carlo", "net"), torch.cat([data[evenly], dbn.sample(10)])
        title = f"Monte Carlo and the net, {title}"
    if problem.visible == "spin":
        made = (made + 1) / 2
    figure = Figure(figsize=(7, 0.5 + 0.7 * len(rows)), layout="constrained")
    ax = pictures.tiles(figure.subplots(), made.reshape(-1, *problem.shape).cpu().numpy(), 10, rows=rows)
    ax.set_title(title, fontsize="medium")
    return figure


def confusion(log_p: Tensor, problem: Problem, title: str) -> Figure:
    """Classes of the test rows against the likeliest by ``log_p``, ``(n, classes)``."""
    true, n = problem.y(problem.test).cpu(), len(problem.classes)
    counts = torch.bincount(true * n + log_p.argmax(-1), minlength=n * n).reshape(n, n)
    wrong = ErrorRate(int(counts.sum() - counts.diagonal().sum()), len(true))
    figure = Figure(figsize=(5.5, 5.7), layout="constrained")
    ax = pictures.confusion(figure.subplots(), counts.numpy(), problem.classes)
    ax.set_title(f"{title}: {wrong} of {len(true)} wrong", fontsize="medium")
    return figure


def phases(log_p: Tensor, problem: Problem, title: str) -> Figure:
    """Share of test configurations taken for disordered against temperature, with binomial errors."""
    figure = Figure(figsize=(5.5, 4), layout="constrained")
    ax = figure.subplots()
    every = problem.temperatures.unique()
    found = [log_p[problem.temperatures == T].argmax(-1) for T in every]
    rates = [ErrorRate(int(disordered.sum()), len(disordered)) for disordered in found]
    means = np.array([rate.rate for rate in rates])
    spread = np.abs(np.array([rate.interval() for rate in rates]).T - means)
    ax.errorbar(every.numpy(), means, spread, fmt="o-", color=plots.PALETTE[0], capsize=2)
    ax.axvline(exact.critical_temperature(problem.about["lattice"]), color=plots.EXACT, linestyle=":")
    ax.set_xlabel("temperature T  (J / k$_B$), dotted: T$_c$")
    ax.set_ylabel("share taken for disordered")
    ax.set_title(title, fontsize="medium")
    return figure


def progress(out: Path, stages: Stages) -> None:
    """``bound.png``: the bound on validation rows during training; dotted lines part the stages."""
    records = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    figure = Figure(figsize=(6.5, 4), layout="constrained")
    ax = figure.subplots()
    bounds = [-record["validation_loss"] for record in records]
    ax.plot([record["step"] for record in records], bounds, ".-", color=plots.PALETTE[0])
    for end in stages.ends[:-1]:
        ax.axvline(end, color=plots.EXACT, linestyle=":")
    ax.set_xlabel("gradient steps; dotted: the stages of training")
    ax.set_ylabel("bound on log p(x) of validation rows, nats")
    figure.savefig(out / "bound.png", dpi=120)
