"""The frontier of a model in any order is told the bonds of the lattice in that order."""

import pytest
import torch

from ising import lattices
from physgen import orders
from physgen.checkpoint import load_model
from workflows import _training, simulate, train_autoregressive


@pytest.mark.parametrize("order", ["raster", "snake"])
def test_bonds_are_those_of_the_lattice_in_the_order_of_the_model(order):
    lattice = lattices.triangular(4)
    sites = orders.REGISTRY[order]((4, 4))  # the site at each place
    found = {frozenset(sites[torch.tensor(pair)].tolist()) for pair in _training.bonds(lattice, order)}
    assert found == {frozenset(pair) for pair in lattice.edges.tolist()}
    assert found != {frozenset(pair) for pair in lattices.square(4).edges.tolist()}  # negative control


def test_a_trained_frontier_is_loaded_with_its_bonds(tmp_path):
    """On a triangular lattice it needs more slots than the square lattice of the same shape has."""
    options = {"lattice": "triangular", "L": (4,), "beta": (0.2,), "samples": 20, "chains": 16, "burn_in": 5}
    simulate.main(config=simulate.Config(**options, thin=1, out=tmp_path / "a.h5", quiet=True))
    options = train_autoregressive.Config.SMOKE | {"model": "frontier", "order": "snake", "hidden": 2}
    config = train_autoregressive.Config(**options, data=tmp_path / "a.h5", out=tmp_path / "run")
    train_autoregressive.main(config=config)
    net = load_model(tmp_path / "run")
    assert net.model.sources.shape[1] > 8
    assert net.log_prob(net.sample(7)).isfinite().all()
