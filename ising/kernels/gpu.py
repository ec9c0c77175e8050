r"""Metropolis and heat bath on a GPU: one 32-bit word per site, one bit per lattice or per strip of one.

Covers the periodic square lattice with even sides, uniform :math:`|J|` (each bond of either sign) and uniform
h. Where the first side is a multiple of 64 each lattice is cut into 32 strips of rows, the 32 bits of a word:
one lattice of L = 16 384 and a batch of small ones are then the same work. Other sides put 32 lattices into a
word, and fewer waste lanes. Small lattices stay with one program for many sweeps; large ones take a launch
for each colour.

Every spin of every lattice gets its own random decision, by the law of :mod:`ising.updates`: a uniform
number u is compared with the flip probability p binary digit by digit, the digits of u from Philox4x32-7
(:mod:`ising.kernels.gpu_loops`). The resolution of p is :math:`2^{-32}`: an acceptance is right to 2.4e-10.
Energies and magnetisations are counted on the device, exactly.

References:
    | Multi-spin coding for a lattice of spins (Jacobs and Rebbi, 1981)
    | Parallel random numbers: as easy as 1, 2, 3 (Salmon, Moraes, Dror and Shaw, 2011)
"""

from contextlib import nullcontext
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from ..model import Ising
from .multispin import FLIP_PROBABILITY

LANES = 32  # bits of a word
BLOCK = 64  # words decided together, by one warp: with more, a lane that needs more digits keeps more waiting
REGISTERS = 64  # of a thread at most: 32 warps share a multiprocessor
GROUPS = 3  # of four digits, drawn for all lanes
CENSUS = 128  # words counted together
AT_ONCE = 1024  # sweeps of a launch at most, so that an interrupt is heard
RECORDED = 16  # sweeps whose launches are handed over at once


class Triton:
    """See :class:`ising.kernels.Sampler`; ``beta`` may differ between columns of words, not within one."""

    name = "triton"

    @staticmethod
    def covers(update: str, model: Ising, device: str) -> bool:
        on_card = str(device).split(":")[0] == "cuda" and find_spec("triton") is not None
        return on_card and update in FLIP_PROBABILITY and _is_even_torus(model) and _is_uniform(model)

    def __init__(
        self,
        model: Ising,
        update: str,
        beta: float | np.ndarray,
        spins: np.ndarray,
        seed: np.random.SeedSequence,
        *,
        device: str = "cuda",
        threads: int = 1,  # noqa: ARG002  the device has its own
    ):
        from . import gpu_loops  # imports Triton

        self._loops, self._device = gpu_loops, torch.device(device)
        self._chains, self._shape = len(spins), model.lattice.shape
        self._flip_probability = FLIP_PROBABILITY[update]
        self._h = float(model.h if isinstance(model.h, float) else model.h[0])
        self._J, signs = _split(model.J)
        self._tiled = self._shape[0] % (2 * LANES) == 0
        rows = self._shape[0] // LANES if self._tiled else self._shape[0]
        self._width = self._shape[1] // 2
        self._half = rows * self._width
        self._order = _checkerboard(rows, self._shape[1]).to(self._device)
        self._bits = self._packed(spins)
        if max(2 * self._half, 2 * LANES) * len(self._bits) >= 2**31:  # addresses are 32-bit numbers
            raise ValueError(
                f"{self._bits.numel()} words of 32 spins are too many for one run; take fewer chains"
            )
        self._bonds = self._bits if signs is None else self._packed_signs(signs)
        self._signed = signs is not None
        self._key = seed.generate_state(2, np.uint32)
        self._clock = torch.zeros(1, dtype=torch.int64, device=self._device)
        processors = 1
        if self._device.type == "cuda":
            processors = torch.cuda.get_device_properties(self._device).multi_processor_count
        self._columns = columns_per_program(len(self._bits), self._half, processors)
        self.set_beta(beta)

    def sweep(self, n: int) -> float:
        """The flipped fraction is that of the last sweep."""
        if n == 0:
            return 0.0
        self._run(n - 1)
        before = self._bits.clone()
        self._run(1)
        flipped = self._per_chain(self._census(self._bits ^ before)[:, 1])
        return float(flipped.sum()) / (self._chains * self._shape[0] * self._shape[1])

    def spins(self) -> np.ndarray:
        return (2 * self._up().view(torch.int8) - 1).cpu().numpy()

    def bits(self) -> np.ndarray:
        up = self._up()
        up = torch.nn.functional.pad(up, (0, -up.shape[1] % 8)).view(self._chains, -1, 8)
        weights = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=self._device)
        return (up * weights).sum(-1, dtype=torch.uint8).cpu().numpy()

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        unsatisfied, up = (self._per_chain(x).double() for x in self._census(self._bits).unbind(1))
        n_sites = self._shape[0] * self._shape[1]
        magnetisation = 2 * up - n_sites
        energy = -self._J * (2 * n_sites - 2 * unsatisfied) - self._h * magnetisation
        return energy.cpu().numpy(), magnetisation.cpu().numpy()

    def set_beta(self, beta: float | np.ndarray) -> None:
        """One number, or one per chain; chains that share a word have to be alike."""
        per_chain = np.broadcast_to(np.asarray(beta, dtype=np.float64), (self._chains,))
        chains_per_word = 1 if self._tiled else LANES
        per_word = per_chain[::chains_per_word]
        if (np.repeat(per_word, chains_per_word)[: self._chains] != per_chain).any():
            raise ValueError(f"beta must be the same for each {LANES} consecutive chains; reorder the chains")
        self._ladder = bool((per_word != per_word[0]).any())
        per_word = per_word if self._ladder else per_word[:1]
        unsatisfied, own = np.arange(5), np.array([[-1], [1]])
        cost = 2 * self._J * (4 - 2 * unsatisfied) + 2 * self._h * own
        self._graph = None
        law = self._flip_probability(per_word[:, None, None] * cost)  # by column, own spin, unsatisfied bonds
        self._easy = bool((law[..., 2:] == 15 / 16).all())
        units = np.minimum(np.rint(law * 2.0**32), 2.0**32 - 1).astype(np.uint32)
        self._law = torch.from_numpy(units.view(np.int32)).to(self._device)

    def state(self) -> dict[str, np.ndarray]:
        return {
            "bits": self._bits.cpu().numpy().copy(),
            "sweeps": np.array(int(self._clock)),
            "key": self._key.copy(),
        }

    def load(self, state: dict[str, np.ndarray]) -> None:
        self._bits.copy_(torch.from_numpy(np.array(state["bits"])))
        self._clock.fill_(int(state["sweeps"]))
        self._key, self._graph = np.array(state["key"]), None

    def _run(self, n: int) -> None:
        if self._columns:
            for m in (*[AT_ONCE] * (n // AT_ONCE), n % AT_ONCE):
                self._launch(m)
            return
        while n >= RECORDED and self._device.type == "cuda":
            self._recording().replay()
            n -= RECORDED
        self._launch(n)

    def _launch(self, n: int) -> None:
        """Queues n sweeps."""
        if n == 0:
            return
        words, key0, key1 = len(self._bits), *(int(k) for k in self._key)
        tensors = self._bits, self._bonds, self._law, self._clock
        flags = {
            "half": self._half, "width": self._width,
            "CASES": 10 if self._h != 0 else 2 if self._easy else 5,
            "SIGNED": self._signed, "TILED": self._tiled, "LADDER": self._ladder,
            "GROUPS": GROUPS, "BLOCK": BLOCK, "num_warps": 1, "maxnreg": REGISTERS,
            "num_stages": 1,  # a later load must never be moved before an earlier store
        }  # fmt: skip
        with self._on_device():
            if self._columns:
                grid = (-(-words // self._columns),)
                self._loops.sweeps[grid](*tensors, words, self._columns, n, key0, key1, **flags)
            else:
                grid = (-(-words * self._half // BLOCK),)
                for t in range(n):
                    for colour in (0, 1):
                        self._loops.half_sweep[grid](*tensors, words, t, key0, key1, colour=colour, **flags)
            self._clock += n

    def _recording(self) -> "torch.cuda.CUDAGraph":
        """RECORDED sweeps; apart, each of their launches would cost the host more time than the device."""
        if self._graph is None:
            before = self._bits.clone(), self._clock.clone()
            self._launch(1)  # compiles what cannot be compiled while it is recorded
            self._bits.copy_(before[0])
            self._clock.copy_(before[1])
            graph = torch.cuda.CUDAGraph()
            with self._on_device(), torch.cuda.graph(graph):
                self._launch(RECORDED)
            self._graph = graph
        return self._graph

    def _census(self, bits: Tensor) -> Tensor:
        """Unsatisfied bonds and up spins by column and lane, int32, ``(words, 2, 32)``."""
        counts = torch.zeros(len(bits), 2, LANES, dtype=torch.int32, device=self._device)
        sites = min(CENSUS, 1 << (self._half - 1).bit_length())
        columns = CENSUS // sites
        grid = (-(-len(bits) // columns) * -(-self._half // sites),)
        with self._on_device():
            self._loops.census[grid](
                bits, self._bonds, counts, len(bits), self._half, self._width,
                SIGNED=self._signed, TILED=self._tiled, COLUMNS=columns, SITES=sites,
            )  # fmt: skip
        return counts

    def _per_chain(self, counts: Tensor) -> Tensor:
        """``(words, 32)`` numbers of lanes to ``(chains,)`` numbers of lattices."""
        return counts.sum(1) if self._tiled else counts.flatten()[: self._chains]

    def _on_device(self):
        return torch.cuda.device(self._device) if self._device.type == "cuda" else nullcontext()

    def _up(self) -> Tensor:
        """Which spins are up, uint8, ``(chains, N)``."""
        octets = self._bits.view(torch.uint8).view(len(self._bits), -1, 4, 1)
        lanes = (octets >> torch.arange(8, dtype=torch.uint8, device=self._device)) & 1
        sites = lanes.view(len(self._bits), -1, LANES)[:, self._order.argsort()]
        return sites.transpose(1, 2).reshape(-1, self._shape[0] * self._shape[1])[: self._chains]

    def _packed(self, spins: np.ndarray) -> Tensor:
        """``(chains, N)`` spins to ``(words, sites)``; lanes beyond the last chain repeat the first ones."""
        if not self._tiled:
            spins = spins[np.resize(np.arange(len(spins)), -(-len(spins) // LANES) * LANES)]
        up = torch.from_numpy(np.ascontiguousarray(spins)).to(self._device) > 0
        lanes = up.view(-1, LANES, len(self._order))[..., self._order]
        return _words(lanes)

    def _packed_signs(self, negative: np.ndarray) -> Tensor:
        """``(2, N)`` signs of the bonds to the right and down, in the order of the sites."""
        signs = torch.from_numpy(negative).to(self._device)
        shape = (2, LANES, len(self._order)) if self._tiled else (2, 1, len(self._order))
        return _words(signs.view(shape).expand(2, LANES, -1)[..., self._order])


def columns_per_program(words: int, half: int, processors: int) -> int:
    """How many columns a program keeps for many sweeps; 0 where a launch for each colour is the faster way.

    In units of what a warp takes for a block, 0.6 µs on an H200: a launch costs three, and a multiprocessor
    is busy with six blocks at a time.

    Example:
        >>> columns_per_program(16_384, 64, processors=132), columns_per_program(1, 262_144, processors=132)
        (1, 0)
    """
    columns = min(words, max(1, BLOCK // half))
    alone = -(-columns * half // BLOCK)
    together = words * half / (6 * BLOCK * processors)
    return columns if alone <= 3 + together else 0


def _is_even_torus(model: Ising) -> bool:
    lattice = model.lattice
    square = lattice.name in ("square", "rectangular") and all(lattice.pbc)
    return square and all(side % 2 == 0 for side in lattice.shape) and lattice.is_as_named


def _is_uniform(model: Ising) -> bool:
    J, h = (x if isinstance(x, Tensor) else torch.tensor([x]) for x in (model.J, model.h))
    return bool((J.abs() == J[:1].abs()).all() and (h == h[:1]).all())


def _split(J: float | Tensor) -> tuple[float, np.ndarray | None]:
    """One strength for all bonds, and which of them, ``(2, N)``, are negative; none where all are alike."""
    if isinstance(J, float):
        return J, None
    if torch.equal(J, J[:1].expand_as(J)):
        return float(J[0]), None
    return float(J[0].abs()), (J < 0).cpu().numpy().reshape(2, -1)


def _checkerboard(rows: int, side: int) -> Tensor:
    """Sites in the order of the words: even sites (x + y even) row by row, then odd ones."""
    x, k = torch.meshgrid(torch.arange(rows), torch.arange(side // 2), indexing="ij")
    return torch.cat([(x * side + 2 * k + (x + colour) % 2).flatten() for colour in (0, 1)])


def _words(lanes: Tensor) -> Tensor:
    """Booleans ``(words, 32, sites)`` to int32 ``(words, sites)``, lane b in bit b."""
    words = torch.zeros(len(lanes), lanes.shape[-1], dtype=torch.int32, device=lanes.device)
    for lane, bits in enumerate(lanes.unbind(1)):
        words |= bits.to(torch.int32) << lane
    return words
