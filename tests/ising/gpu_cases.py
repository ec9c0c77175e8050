"""What the GPU sampler has to pass, on a card or in the interpreter; :mod:`tests.ising.test_gpu` runs it.

``TRITON_INTERPRET=1 python -m tests.ising.gpu_cases`` prints, as JSON, what went wrong in each case.
"""

import contextlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from ising import exact, lattices
from ising.kernels import gpu
from ising.model import Ising
from tests.checks import FALSE_ALARM
from tests.ising import laws

CASES: dict[str, Callable[[str], None]] = {}
INTERPRETED = {"block": 8192}  # the interpreter takes about the same time for a block of any size
SEED = np.random.SeedSequence(7)


def case(check: Callable[[str], None]) -> Callable[[str], None]:
    CASES[check.__name__] = check
    return check


@contextlib.contextmanager
def mutated(target: object, name: str, value: object) -> Iterator[None]:
    old = getattr(target, name)
    setattr(target, name, value)
    try:
        yield
    finally:
        setattr(target, name, old)


def sampler(
    model: Ising, update: str, beta: float | np.ndarray, spins: np.ndarray, device: str, block: int = 0
) -> gpu.Triton:
    block = block or (INTERPRETED["block"] if device == "cpu" else gpu.BLOCK)
    with mutated(gpu, "BLOCK", block):
        return gpu.Triton(model, update, beta, spins, SEED, device=device)


def swept(s: gpu.Triton, n: int, block: int = 0) -> np.ndarray:
    with mutated(gpu, "BLOCK", block or (INTERPRETED["block"] if s._device.type == "cpu" else gpu.BLOCK)):
        s.sweep(n)
        return s.spins()


def random_spins(chains: int, n_sites: int) -> np.ndarray:
    return 2 * np.random.default_rng(3).integers(0, 2, (chains, n_sites), dtype=np.int8) - 1


def signed(lattice: lattices.Lattice) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.where(torch.rand(len(lattice.edges), generator=generator) < 0.5, -0.7, 0.7)


# ---- the same algorithm on unpacked spins, with whole numbers instead of words of digits


def philox(counter: list[np.ndarray], key: list[int], rounds: int = 7) -> np.ndarray:
    """Philox4x32, uint64 arrays of 32-bit numbers, ``(4, *)``."""
    mask = np.uint64(2**32 - 1)
    a, b, c, d = np.broadcast_arrays(*(np.asarray(x, dtype=np.uint64) for x in counter))
    k0, k1 = key
    for _ in range(rounds):
        first, second = np.uint64(0xD2511F53) * a, np.uint64(0xCD9E8D57) * c
        a, b = (second >> np.uint64(32)) ^ b ^ np.uint64(k0), second & mask
        c, d = (first >> np.uint64(32)) ^ d ^ np.uint64(k1), first & mask
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return np.stack([a, b, c, d])


def uniforms(shape: tuple[int, int], chains: int, time: int, key: list[int]) -> np.ndarray:
    """The 32-bit uniform number of every spin in one sweep, ``(chains, N)``."""
    x, y = (i.flatten() for i in np.indices(shape))
    strips = 32 if shape[0] % 64 == 0 else 1
    rows = shape[0] // strips
    site = (x + y) % 2 * (rows * shape[1] // 2) + x % rows * (shape[1] // 2) + y // 2
    chain = np.arange(chains)[:, None]
    column, lane = (chain + 0 * x, x // rows + 0 * chain) if strips > 1 else (chain // 32 + 0 * x, chain % 32)
    low, high = time % 2**32, time >> 32
    words = np.concatenate([philox([low, site[None], g + 8 * high, column], key) for g in range(8)])
    digits = (words >> lane.astype(np.uint64)) & np.uint64(1)
    return sum(digit << np.uint64(31 - d) for d, digit in enumerate(digits))


def reference(
    model: Ising, update: str, beta: float | np.ndarray, spins: np.ndarray, times: range, key: list[int]
) -> np.ndarray:
    s = torch.from_numpy(spins.astype(float))
    beta = torch.as_tensor(beta, dtype=torch.float64).expand(len(s)).unsqueeze(-1)
    for t in times:
        u = uniforms(model.lattice.shape, len(s), t, key)
        for colour in (0, 1):
            cost = 2 * s * model.local_field(s)
            p = 15 / 16 * torch.exp(-beta * cost.clamp(min=0)) if update == "metropolis" else None
            p = torch.sigmoid(-beta * cost) if p is None else p
            below = u < np.minimum(np.rint(p.numpy() * 2.0**32), 2**32 - 1).astype(np.uint64)
            flip = torch.from_numpy(below) & (model.lattice.colours == colour)
            s = torch.where(flip, -s, s)
    return s.numpy().astype(np.int8)


SYSTEMS = {
    "replicas": (lattices.square(4), 1.0, 0.0, "metropolis", 40),
    "replicas in a field": (lattices.rectangular(6, 8), -0.8, 0.3, "heat_bath", 70),
    "a glass": (lattices.rectangular(4, 6), None, -0.2, "metropolis", 33),
    "strips": (lattices.rectangular(64, 4), 1.0, 0.0, "heat_bath", 3),
    "longer strips, a glass": (lattices.rectangular(128, 6), None, 0.1, "metropolis", 2),
}


def system(name: str) -> tuple[Ising, str, np.ndarray]:
    lattice, J, h, update, chains = SYSTEMS[name]
    return (
        Ising(lattice, signed(lattice) if J is None else J, h),
        update,
        random_spins(chains, lattice.n_sites),
    )


@case
def the_bytes_of_the_unpacked_algorithm(device: str) -> None:
    for name in SYSTEMS:
        model, update, spins = system(name)
        s = sampler(model, update, 0.4, spins, device)
        expected = reference(model, update, 0.4, spins, range(2), s._key.tolist())
        np.testing.assert_array_equal(swept(s, 2), expected, err_msg=name)


@case
def time_goes_on_beyond_32_bits(device: str) -> None:
    model, update, spins = system("replicas")
    s = sampler(model, update, 0.4, spins, device)
    s._clock.fill_(2**32 - 1)
    expected = reference(model, update, 0.4, spins, range(2**32 - 1, 2**32 + 1), s._key.tolist())
    np.testing.assert_array_equal(swept(s, 2), expected)


@case
def a_temperature_for_each_column(device: str) -> None:
    for name, per_column in (("replicas", 32), ("strips", 1)):
        model, update, spins = system(name)
        beta = (0.2 + 0.1 * np.arange(3)).repeat(per_column)[: len(spins)]
        s = sampler(model, update, beta, spins, device)
        expected = reference(model, update, beta, spins, range(2), s._key.tolist())
        np.testing.assert_array_equal(swept(s, 2), expected, err_msg=name)


@case
def blocks_and_launches_do_not_change_a_byte(device: str) -> None:
    model, update, spins = system("longer strips, a glass")
    results = []
    for block, columns in ((1024, 0), (128, 1), (256, 2)):
        s = sampler(model, update, 0.4, spins, device, block)
        s._columns = columns
        results.append(swept(s, 2, block))
    assert all((result == results[0]).all() for result in results)


@case
def recorded_launches_make_the_same_spins(device: str) -> None:
    """Before and after a change of temperature; on a card alone anything is recorded."""
    model, update, spins = system("replicas")
    together, apart = (sampler(model, update, 0.4, spins, device) for _ in range(2))
    together._columns = apart._columns = 0
    with mutated(gpu, "RECORDED", 2):
        for beta in (0.4, 0.1):
            together.set_beta(beta)
            apart.set_beta(beta)
            for n in (1, 1, 0, 1, 1):
                apart.sweep(n)
            together.sweep(6)
            apart.sweep(2)
            np.testing.assert_array_equal(together.spins(), apart.spins())
            assert together.state()["sweeps"] == apart.state()["sweeps"]


@case
def the_boltzmann_law_is_invariant(device: str) -> None:
    torus = lattices.square(4)
    for update, model in (
        ("metropolis", Ising(torus)),
        ("metropolis", Ising(torus, J=-1.0, h=0.3)),
        ("heat_bath", Ising(torus, J=signed(torus), h=0.2)),
    ):
        spins = laws.equilibrium(model, laws.BETA)
        s = sampler(model, update, laws.BETA, spins.numpy(), device)
        for n in (1, 2):
            assert laws.p_value(torch.from_numpy(swept(s, n)), model, laws.BETA) > FALSE_ALARM / 2, update


@case
def an_acceptance_wrong_by_ten_percent_is_refused(device: str) -> None:
    model = Ising(lattices.square(4))
    spins = laws.equilibrium(model, laws.BETA)
    s = sampler(model, "metropolis", laws.BETA, spins.numpy(), device)
    s._law[..., 1] = (s._law[..., 1].double() * 1.1).int()
    assert laws.p_value(torch.from_numpy(swept(s, 5)), model, laws.BETA) < FALSE_ALARM


@case
def it_moves_as_the_readable_form_does(device: str) -> None:
    """Flipped fractions of one sweep: |z| < 5."""
    model = Ising(lattices.square(4), h=0.1)
    spins = laws.equilibrium(model, laws.BETA)
    for update in ("metropolis", "heat_bath"):
        a = torch.from_numpy(swept(sampler(model, update, laws.BETA, spins.numpy(), device), 1)) != spins
        b = laws.swept("readable", update, model, laws.BETA, spins, 1) != spins
        a, b = a.double().mean(-1), b.double().mean(-1)
        assert abs(float((a - b).mean() / ((a.var() + b.var()) / len(a)).sqrt())) < 5


def excess_of_common_flips(device: str) -> float:
    r"""Variance of the number of flips at a site, over that of independent chains: mean :math:`\chi^2 / n`.

    All chains start with all spins up; the even sites are decided first, each with the same probability.
    """
    chains, beta = 1280, 0.1
    s = sampler(Ising(lattices.square(8)), "heat_bath", beta, np.ones((chains, 64), np.int8), device)
    flips = (swept(s, 1) < 0)[:, lattices.square(8).colours.numpy() == 0].sum(0)
    p = 1 / (1 + np.exp(8 * beta))
    return float(((flips - chains * p) ** 2 / (chains * p * (1 - p))).mean())


@case
def chains_decide_independently(device: str) -> None:
    """32 sites: five standard deviations of the mean chi-squared are 1.25."""
    assert excess_of_common_flips(device) < 2.25


@case
def chains_that_share_random_numbers_are_caught(device: str) -> None:
    """One number for the 32 lanes of a word, and one for equal lanes of all words; interpreter only."""
    from ising.kernels import gpu_loops

    if device != "cpu":  # compiled code does not see a patch
        return
    draw, tl = gpu_loops.philox, gpu_loops.tl

    def for_all_lanes(*counter):
        return tuple(tl.where((word & 1) == 1, word | 0xFFFFFFFF, word & 0) for word in draw(*counter))

    def for_all_columns(time, site, group, column, *rest):
        return draw(time, site, group, column & 0, *rest)

    for mutant in (for_all_lanes, for_all_columns):
        with mutated(gpu_loops, "philox", mutant):
            assert excess_of_common_flips(device) > 5, mutant.__name__


@case
def a_strip_that_does_not_see_the_next_is_caught(device: str) -> None:
    """Without the rotation of lanes the strips are 32 separate tori; interpreter only."""
    from ising.kernels import gpu_loops

    if device != "cpu":
        return
    model, update, spins = system("strips")
    with mutated(gpu_loops, "_above", lambda x, *_: x):
        s = sampler(model, update, 0.4, spins, device)
        expected = reference(model, update, 0.4, spins, range(1), s._key.tolist())
        assert (swept(s, 1) != expected).any()
        assert (s.measure()[0] != model.energy(torch.from_numpy(s.spins())).numpy()).any()


@case
def it_measures_packs_saves_and_restores(device: str) -> None:
    for name in ("replicas in a field", "a glass", "longer strips, a glass"):
        model, update, spins = system(name)
        s = sampler(model, update, 0.3, spins, device)
        np.testing.assert_array_equal(s.spins(), spins)
        np.testing.assert_array_equal(s.bits(), np.packbits(spins > 0, axis=-1))
        energy, magnetisation = s.measure()
        np.testing.assert_allclose(
            energy, model.energy(torch.from_numpy(spins)).numpy(), rtol=1e-12, atol=1e-9
        )
        np.testing.assert_array_equal(magnetisation, spins.sum(-1, dtype=float))
        saved = s.state()
        after = swept(s, 1)
        again = sampler(model, update, 0.3, np.ones_like(spins), device)
        again.load(saved)
        flipped = again.sweep(1)
        np.testing.assert_array_equal(again.spins(), after)
        assert flipped == (after != spins).mean()


@case
def sixteen_lattices_in_strips_have_the_energy_of_kaufman(device: str) -> None:
    """Hot starts at beta = 0.25, L = 64, 12 sweeps: relaxed to 1e-3 of the spread, |z| < 5."""
    model, chains = Ising(lattices.square(64)), 16
    s = sampler(model, "heat_bath", 0.25, random_spins(chains, 64 * 64), device)
    swept(s, 12)
    energy = s.measure()[0] / 64**2
    assert abs(energy.mean() - exact.kaufman_energy(64, 64, 0.25)) < 5 * energy.std(ddof=1) / chains**0.5


@case
def mixed_temperatures_in_one_word_are_refused(device: str) -> None:
    model, spins = Ising(lattices.square(4)), random_spins(32, 16)
    with pytest.raises(ValueError, match="same for each 32 consecutive chains"):
        sampler(model, "metropolis", np.linspace(0.1, 0.2, 32), spins, device)


def main() -> None:
    torch.set_num_threads(1)
    outcome = {}
    for name, check in CASES.items():
        try:
            check("cpu")
        except Exception:  # noqa: BLE001  whatever it is, the test of that name shows it
            outcome[name] = traceback.format_exc()
        else:
            outcome[name] = ""
    json.dump(outcome, sys.stdout)


if __name__ == "__main__":
    main()
