"""Bonds, neighbours and colours of every lattice, by counting."""

import itertools

import pytest
import torch

from ising import lattices
from tests.ising import laws

COORDINATION = {"chain": 2, "square": 4, "rectangular": 4, "triangular": 6, "honeycomb": 3, "cubic": 6}
CASES = laws.SMALL | {
    "odd triangular": lattices.triangular(5),
    "cubic torus": lattices.cubic(3),
    "film": lattices.cubic(4, pbc=(False, True, True)),
    "open honeycomb": lattices.honeycomb(5, pbc=False),
}


@pytest.mark.parametrize("name", CASES)
def test_bonds_are_distinct_and_join_different_sites(name):
    lattice = CASES[name]
    edges = lattice.edges.sort(dim=-1).values
    assert len(edges.unique(dim=0)) == len(edges)
    assert (edges[:, 0] < edges[:, 1]).all()
    assert int(lattice.degree.sum()) == 2 * len(edges)


@pytest.mark.parametrize("name", CASES)
def test_the_neighbour_table_lists_every_bond_from_both_ends(name):
    lattice = CASES[name]
    sites, bonds = lattice.neighbours
    pairs = sorted((min(i, j), max(i, j)) for i, row in enumerate(sites.tolist()) for j in row if j != i)
    assert pairs == sorted(2 * [tuple(edge) for edge in lattice.edges.sort(dim=-1).values.tolist()])
    for i, (row, through) in enumerate(zip(sites.tolist(), bonds.tolist(), strict=True)):
        for j, bond in zip(row, through, strict=True):
            assert (j == i and bond == len(lattice.edges)) or {i, j} == set(lattice.edges[bond].tolist())


@pytest.mark.parametrize("name", CASES)
def test_no_bond_joins_equal_colours(name):
    lattice = CASES[name]
    i, j = lattice.edges.T
    assert (lattice.colours[i] != lattice.colours[j]).all()
    assert torch.cat(lattice.colour_classes).sort().values.tolist() == list(range(lattice.n_sites))


@pytest.mark.parametrize("name", lattices.REGISTRY)
def test_coordination_of_the_periodic_lattice(name):
    lattice = lattices.build(name, (4, 6) if name == "rectangular" else 6)
    assert lattice.degree.tolist() == [COORDINATION[name]] * lattice.n_sites


def test_colours_of_even_and_odd_tori():
    """Two colours on an odd square torus would update neighbours at the same time."""
    assert [len(lattices.square(L).colour_classes) for L in (4, 6, 3, 5)] == [2, 2, 3, 3]


def test_the_square_lattice_has_the_bonds_of_its_drawing():
    torus = {frozenset(edge) for edge in lattices.square(3).edges.tolist()}
    site = torch.arange(9).reshape(3, 3).tolist()
    drawn = {
        frozenset(pair)
        for x, y in itertools.product(range(3), repeat=2)
        for pair in ((site[x][y], site[x][(y + 1) % 3]), (site[x][y], site[(x + 1) % 3][y]))
    }
    assert torus == drawn


def test_an_open_axis_has_no_bond_around():
    cylinder = lattices.square(4, pbc=(True, False))
    assert len(cylinder.edges) == 16 + 12
    edges = {frozenset(edge) for edge in cylinder.edges.tolist()}
    assert frozenset((0, 12)) in edges  # along the first axis it closes
    assert frozenset((0, 3)) not in edges


def test_staggering_alternates_and_needs_two_colours():
    lattice = lattices.square(4)
    i, j = lattice.edges.T
    assert (lattice.staggering[i] == -lattice.staggering[j]).all()
    with pytest.raises(ValueError, match="not bipartite, so it has no staggered order; use even sides"):
        _ = lattices.square(5).staggering


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: lattices.square(2), r"a periodic side needs at least 3 sites.*an open boundary"),
        (lambda: lattices.square(0), "a lattice side is a whole number >= 1, got 0"),
        (lambda: lattices.square(4.0), "a lattice side is a whole number >= 1, got 4.0"),
        (lambda: lattices.honeycomb(5), "needs an even L, got 5; take 6 or an open boundary"),
        (lambda: lattices.square(4, pbc=(True,)), "pbc needs one entry per axis: 2"),
        (
            lambda: lattices.square(4, pbc=None),
            "pbc needs one entry per axis: 2 times True or False, got None",
        ),
        (lambda: lattices.build("square", 4, None), "pbc needs one entry per axis: 2 times True or False"),
        (lambda: lattices.build("kagome", 4), "unknown lattice 'kagome'; choose one of chain, cubic"),
        (lambda: lattices.build("square", (4, 5)), r"square.* does not take 2 side\(s\).*: rectangular"),
    ],
)
def test_impossible_lattices_are_refused_in_one_sentence(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_a_mistake_inside_a_builder_is_not_taken_for_a_wrong_number_of_sides(monkeypatch):
    def broken(L: int, **_: object) -> lattices.Lattice:
        return L + None

    monkeypatch.setitem(lattices.REGISTRY, "broken", broken)
    with pytest.raises(TypeError, match="unsupported operand"):
        lattices.build("broken", 4)
