"""Lattices: sites, bonds and an update order. One decorated function per lattice."""

import functools
import inspect
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

REGISTRY: dict[str, Callable[..., "Lattice"]] = {}


@dataclass(frozen=True, eq=False)
class Lattice:
    """Sites, bonds and an update order.

    Attributes:
        shape: Sites along each axis; their product is :math:`N`. Site ``i`` is the row-major index.
        pbc: For each axis, whether it is periodic.
        edges: Every bond exactly once, shape ``(E, 2)``.
        name: The function of this module that built it.
        size: The numbers that function was called with.

    Example:
        >>> torus = square(4)
        >>> torus.n_sites, len(torus.edges), torus.degree.tolist()[0], len(torus.colour_classes)
        (16, 32, 4, 2)
    """

    shape: tuple[int, ...]
    pbc: tuple[bool, ...]
    edges: Tensor
    name: str = ""
    size: tuple[int, ...] = ()

    @property
    def n_sites(self) -> int:
        """Number of sites N."""
        return math.prod(self.shape)

    @cached_property
    def is_as_named(self) -> bool:
        """Whether name, size and pbc lead back to the same bonds in the same order."""
        try:
            again = build(self.name, self.size, self.pbc)
        except ValueError:
            return False
        return again.shape == self.shape and torch.equal(again.edges, self.edges.cpu().long())

    @cached_property
    def degree(self) -> Tensor:
        """Neighbours of each site, shape ``(N,)``."""
        return torch.bincount(self.edges.flatten(), minlength=self.n_sites)

    @cached_property
    def neighbours(self) -> tuple[Tensor, Tensor]:
        """Tables ``(N, z)`` of neighbouring sites and of the bonds to them.

        Where a site has fewer than z neighbours the site entry is the site itself and the bond entry is E.
        """
        i, j = self.edges.T
        here, there = torch.cat([i, j]), torch.cat([j, i])
        order = here.argsort(stable=True)
        here, there = here[order], there[order]
        first = self.degree.cumsum(0) - self.degree
        slot = torch.arange(len(here), device=here.device) - first[here]
        table_shape = (self.n_sites, int(self.degree.max()) if len(here) else 0)
        sites = torch.arange(self.n_sites, device=here.device).unsqueeze(-1).repeat(1, table_shape[1])
        bonds = torch.full(table_shape, len(self.edges), device=here.device)
        sites[here, slot] = there
        bonds[here, slot] = order % max(len(self.edges), 1)
        return sites, bonds

    @cached_property
    def colours(self) -> Tensor:
        """Colour of each site, shape ``(N,)``; no bond joins equal colours.

        Two colours mean a bipartite lattice; odd or frustrated lattices take three or more.
        """
        index = torch.cartesian_prod(*(torch.arange(n) for n in self.shape)).reshape(self.n_sites, -1).sum(-1)
        i, j = self.edges.T.cpu()
        for k in (2, 3):
            colours = index % k
            if not (colours[i] == colours[j]).any():
                return colours.to(self.edges.device)
        return _greedy_colours(self.n_sites, self.edges)

    @cached_property
    def colour_classes(self) -> list[Tensor]:
        """Sites of each colour: the groups that an update may treat at once."""
        return [(self.colours == c).nonzero().squeeze(-1) for c in range(int(self.colours.max()) + 1)]

    @cached_property
    def staggering(self) -> Tensor:
        """Signs ``(N,)`` that turn an antiferromagnet into a ferromagnet; refused if not bipartite."""
        if len(self.colour_classes) > 2:
            raise ValueError(
                f"{self.name}{self.size} with pbc={self.pbc} is not bipartite, so it has no staggered order; "
                "use even sides or open boundaries"
            )
        return 1.0 - 2.0 * self.colours

    @cached_property
    def symmetries(self) -> tuple[str, ...]:
        """Those of translation, reflection, transposition that map the bonds onto themselves.

        Translations by one site along every axis, the reflection of every axis, all orders of the axes.
        """
        axes = range(len(self.shape))
        moves: dict[str, list[Callable[[Tensor], Tensor]]] = {
            "translation": [lambda x, a=a: x.roll(1, a) for a in axes],
            "reflection": [lambda x, a=a: x.flip(a) for a in axes],
            "transposition": [lambda x, a=a: x.transpose(a - 1, a) for a in axes[1:]],
        }
        if not all(self.pbc):
            del moves["translation"]
        if len(set(self.shape)) > 1 or len(self.shape) == 1:
            del moves["transposition"]
        return tuple(name for name, maps in moves.items() if all(self._maps_bonds_to_bonds(f) for f in maps))

    def _maps_bonds_to_bonds(self, move: Callable[[Tensor], Tensor]) -> bool:
        image = move(torch.arange(self.n_sites, device=self.edges.device).reshape(self.shape)).flatten()

        def keys(edges: Tensor) -> Tensor:
            low, high = edges.sort(-1).values.T
            return (low * self.n_sites + high).sort().values

        return torch.equal(keys(image[self.edges]), keys(self.edges))

    def to(self, device: torch.device | str) -> "Lattice":
        """The same lattice with its bonds on another device."""
        return replace(self, edges=self.edges.to(device))


def lattice(build: Callable[..., Lattice]) -> Callable[..., Lattice]:
    """Registers a builder under its own name, for the command line and for the contract tests."""

    @functools.wraps(build)
    def named(*size: int, pbc: bool | tuple[bool, ...] = True) -> Lattice:
        for length in size:
            if not isinstance(length, int) or length < 1:
                raise ValueError(f"a lattice side is a whole number >= 1, got {length!r}")
        return replace(build(*size, pbc=pbc), name=build.__name__, size=size)

    REGISTRY[build.__name__] = named
    return named


def build(name: str, size: int | tuple[int, ...], pbc: bool | tuple[bool, ...] = True) -> Lattice:
    """``build("square", 16)`` is ``square(16)``."""
    if name not in REGISTRY:
        raise ValueError(f"unknown lattice {name!r}; choose one of {', '.join(sorted(REGISTRY))}")
    sides = (size,) if isinstance(size, int) else tuple(size)
    if not _takes(name, sides):
        fit = [other for other in sorted(REGISTRY) if _takes(other, sides)]
        raise ValueError(
            f"the lattice {name!r} does not take {len(sides)} side(s), as in {sides}; "
            + (f"those that do: {', '.join(fit)}" if fit else "no lattice does")
        )
    return REGISTRY[name](*sides, pbc=pbc)


def _takes(name: str, sides: tuple[int, ...]) -> bool:
    try:
        inspect.signature(REGISTRY[name]).bind(*sides)
    except TypeError:
        return False
    return True


@lattice
def chain(L: int, *, pbc: bool | tuple[bool, ...] = True) -> Lattice:
    """A ring of L sites, or an open chain with ``pbc=False``; coordination 2."""
    return _bravais((L,), [(1,)], pbc)


@lattice
def square(L: int, *, pbc: bool | tuple[bool, ...] = True) -> Lattice:
    """The L by L square lattice, coordination 4."""
    return _bravais((L, L), [(0, 1), (1, 0)], pbc)


@lattice
def rectangular(Lx: int, Ly: int, *, pbc: bool | tuple[bool, ...] = True) -> Lattice:
    """The square lattice with unequal sides: shape ``(Lx, Ly)``."""
    return _bravais((Lx, Ly), [(0, 1), (1, 0)], pbc)


@lattice
def triangular(L: int, *, pbc: bool | tuple[bool, ...] = True) -> Lattice:
    """The square lattice with one diagonal per plaquette, coordination 6."""
    return _bravais((L, L), [(0, 1), (1, 0), (1, 1)], pbc)


@lattice
def honeycomb(L: int, *, pbc: bool | tuple[bool, ...] = True) -> Lattice:
    """Coordination 3, drawn as an L by L brick wall: all horizontal bonds, every second vertical one.

    A periodic brick wall needs an even side, or the pattern does not close.
    """
    axes = _axes(pbc, 2)
    if any(axes) and L % 2:
        raise ValueError(
            f"a periodic honeycomb lattice needs an even L, got {L}; take {L + 1} or an open boundary"
        )
    wall = _bravais((L, L), [(0, 1), (1, 0)], axes)
    i, j = wall.edges.T
    vertical = (i - j).abs() % L == 0
    return replace(wall, edges=wall.edges[~vertical | ((i // L + i % L) % 2 == 0)])


@lattice
def cubic(L: int, *, pbc: bool | tuple[bool, ...] = True) -> Lattice:
    """The L by L by L simple cubic lattice, coordination 6."""
    return _bravais((L, L, L), [(0, 0, 1), (0, 1, 0), (1, 0, 0)], pbc)


def _axes(pbc: bool | tuple[bool, ...], n_axes: int) -> tuple[bool, ...]:
    axes = (pbc,) * n_axes if isinstance(pbc, bool) else pbc
    if not isinstance(axes, tuple | list) or [type(axis) for axis in axes] != [bool] * n_axes:
        raise ValueError(f"pbc needs one entry per axis: {n_axes} times True or False, got {pbc!r}")
    return tuple(axes)


def _bravais(shape: tuple[int, ...], steps: list[tuple[int, ...]], pbc: bool | tuple[bool, ...]) -> Lattice:
    """Bonds from every site along every step; a step that leaves an open side makes no bond."""
    axes = _axes(pbc, len(shape))
    if any(n < 3 for n, periodic in zip(shape, axes, strict=True) if periodic):
        raise ValueError(
            f"a periodic side needs at least 3 sites, or its bonds are not distinct, got {shape}; "
            "take more sites, or an open boundary"
        )
    site = torch.arange(math.prod(shape)).reshape(shape)
    edges = []
    for step in steps:
        inside = torch.ones(shape, dtype=torch.bool)
        for axis, (move, periodic) in enumerate(zip(step, axes, strict=True)):
            if move and not periodic:
                inside.narrow(axis, shape[axis] - move, move).zero_()
        there = site.roll([-move for move in step], list(range(len(shape))))
        edges.append(torch.stack([site[inside], there[inside]], dim=-1))
    return Lattice(shape, axes, torch.cat(edges))


def _greedy_colours(n_sites: int, edges: Tensor) -> Tensor:
    """Smallest free colour, site by site."""
    linked: list[set[int]] = [set() for _ in range(n_sites)]
    for i, j in edges.tolist():
        linked[i].add(j)
        linked[j].add(i)
    colours = [-1] * n_sites
    for site in range(n_sites):
        taken = {colours[other] for other in linked[site]}
        colours[site] = next(c for c in itertools.count() if c not in taken)
    return torch.tensor(colours, device=edges.device)
