"""Cells of `physgen wavenet_chain`: what is kept, what is refused, and the exact reference of the ring."""

import dataclasses
import math

import pytest
import torch

from ising import exact
from ising.exact.decimated import DecimatedChain
from workflows.wavenet_chain import CHAIN, Config, described, kept, least_divergence

SMALL = Config(**Config.SMOKE)


@pytest.mark.parametrize("field", [0, 1, 3])
def test_the_least_divergence_of_a_table_is_that_of_the_closed_form(field):
    chain, spins = DecimatedChain(8, xi=3.0), exact.states(8)
    found = least_divergence(chain.log_prob(spins).exp(), field)
    assert found == pytest.approx(chain.least_divergence(field), abs=1e-14)
    assert found > 0.1 or field


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
