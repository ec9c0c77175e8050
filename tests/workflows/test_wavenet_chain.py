"""Cells of `physgen wavenet_chain`: what is kept, what is refused, and the exact reference of the ring."""

import dataclasses
import math

import pytest
import torch

from ising import exact
from ising.exact.decimated import DecimatedChain
from physgen import models
from workflows._wavenet_report import covered
from workflows.wavenet_chain import (
    CHAIN,
    Config,
    chain_cell,
    described,
    divergence,
    kept,
    least_divergence,
    loss_over_coins,
)

SMALL = Config(**Config.SMOKE)


@pytest.mark.parametrize("field", [0, 1, 3])
def test_the_least_divergence_of_a_table_is_that_of_the_closed_form(field):
    chain, spins = DecimatedChain(8, xi=3.0), exact.states(8)
    found = least_divergence(chain.log_prob(spins).exp(), field)
    assert found == pytest.approx(chain.least_divergence(field), abs=1e-14)
    assert found > 0.1 or field


@pytest.fixture(scope="module")
def net():
    """Of three sites that are -1, hidden or 1; of float64."""
    torch.manual_seed(0)
    net = models.build("wavenet", (3,), dilations=(1,), width=4, symbols=3, levels=True).double()
    with torch.no_grad():
        for p in net.parameters():
            p += 0.3 * torch.randn_like(p)
    return net


VALUES = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 3)


@torch.no_grad()
def test_the_loss_over_coins_is_the_cross_entropy_of_the_values(net):
    """Sums over all spins and all coins; with another probability of a coin, the control, it is not."""
    rho, chain, whole = 0.3, DecimatedChain(3, xi=2.0, seen=0.3), DecimatedChain(3, xi=2.0)
    found = wrong = 0.0
    for spins in exact.states(3):
        for coins in (exact.states(3) + 1) / 2:
            p = whole.log_prob(spins).exp() * (rho * coins + (1 - rho) * (1 - coins)).prod()
            batch = torch.stack([spins * coins, spins])[:, None]
            found += p * loss_over_coins(net, rho, batch)
            wrong += p * loss_over_coins(net, 0.4, batch)
    expected = -(chain.log_prob(VALUES).exp() * net.log_prob((VALUES + 1).long())).sum() / 3
    assert float(found) == pytest.approx(float(expected), rel=1e-6)
    assert abs(wrong - expected) > 0.01


@torch.no_grad()
@pytest.mark.parametrize("seen", [0.3, 1.0])
def test_the_divergence_of_conditionals_has_the_mean_of_that_of_the_law(net, seen):
    chain = DecimatedChain(3, xi=2.0, seen=seen)
    if seen < 1:
        values, read = VALUES, (VALUES + 1).long()
    else:
        net = models.build("wavenet", (3,), dilations=(1,), width=4).double()
        values = read = exact.states(3).double()
    log_p, log_q = chain.log_prob(values), net.log_prob(read)
    expected = (log_p.exp() * (log_p - log_q)).sum() / 3
    found = (log_p.exp() * divergence(net, chain, values)).sum()
    assert float(found) == pytest.approx(float(expected), rel=1e-9)
    assert expected > 0.01


def test_a_network_learns_a_chain_up_to_what_it_cannot_see():
    """Of R = 1 the least divergence is what is left; after five steps, the control, far more."""
    config = dataclasses.replace(SMALL, steps=150, batch=32, drawn=500)
    cell = chain_cell(config, xi=2.0, seen=0.5, field=1)
    early = chain_cell(dataclasses.replace(config, steps=5), xi=2.0, seen=0.5, field=1)
    assert 0 < cell["kl"][0] - cell["least"] < 1e-3
    assert early["kl"][0] - cell["least"] > 1e-2


def test_what_is_left_beyond_two_correlation_lengths():
    found = [(2, 1e-2), (4, 3e-5), (8, 2e-5)]
    cells = [{"xi": 2.0, "receptive_field": R, "kl": [kl, 0.0], "least": kl / 2} for R, kl in found]
    assert covered(cells) == ["R >= 2 xi: KL per site at most 3.0e-05  (xi 2, R 4, least 1.5e-05)"]
    assert covered(cells[:1]) == []


def test_a_finished_cell_is_kept_and_one_of_other_options_refused(tmp_path):
    config, made = dataclasses.replace(SMALL, out=tmp_path), []

    def make():
        made.append(1)
        return {"kl": [0.1, 0.0]}

    assert kept(config, "a", CHAIN, make) == kept(config, "a", CHAIN, make)
    assert len(made) == 1
    kept(
        dataclasses.replace(config, sweeps=300, quiet=False), "a", CHAIN, make
    )  # of the series, not of chains
    with pytest.raises(ValueError, match="repeat them, or change --out"):
        kept(dataclasses.replace(config, steps=21), "a", CHAIN, make)


def test_series_are_described_by_their_levels():
    """Independent levels 0 and 2 of three: m = ±1, tau 1/2."""
    levels = 2 * torch.randint(2, (64, 2000), generator=torch.Generator().manual_seed(0)).numpy()
    found = described(levels, top=2)
    assert found["tau"][0] == pytest.approx(0.5, abs=0.02)
    assert found["abs_m"]["mean"] == 1
    assert found["histogram"][1] == 0
    assert math.isclose(sum(found["histogram"]), 1)
    assert found["autocorrelation"][0] == pytest.approx(1)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"fields": (3,)}, "powers of two, got 3"),
        ({"series_field": 12}, "powers of two, got 12"),
        ({"seen": 1.0}, "--seen is a probability"),
        ({"xi": (0.0,)}, "xi finite and > 0"),
        ({"ring_beta": 0.0}, "--ring-beta must be a finite number"),
        ({"sweeps": 16}, "--sweeps more than --window"),
        ({"steps": 0}, "--steps must be a whole number"),
    ],
)
def test_refusals(option, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **option)
