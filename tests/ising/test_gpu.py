"""The GPU sampler, by its own code: on a card where there is one, and in the interpreter of Triton otherwise.

The interpreter has to be chosen before the kernels are decorated, so that its cases run in one process of
their own. That the same code compiles for a card is checked without one.

False alarms: 5e-6 for each of eight p-values and 6e-7 for each of four five-sigma bounds, on fixed seeds:
1 in 20 000 new sets of seeds.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from ising import kernels, lattices
from ising.kernels import gpu
from ising.model import Ising

pytest.importorskip("triton", reason="there is no Triton for this platform")
from tests.ising import gpu_cases
from workflows.benchmarks import gpu as benchmark

COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from ising.kernels import gpu, gpu_loops
wide = dict.fromkeys(("bits", "bonds", "law", "counts"), "*i32")
wide |= {"clock": "*i64", "key0": "i64", "key1": "i64"}
flags = {"half": 64, "width": 32, "colour": 0, "TILED": True, "SIGNED": False, "LADDER": False}
flags |= {"CASES": 2, "GROUPS": gpu.GROUPS, "BLOCK": gpu.BLOCK, "COLUMNS": 1, "SITES": 128}
for kernel in (gpu_loops.half_sweep, gpu_loops.sweeps, gpu_loops.census):
    kinds = {p.name: "constexpr" if p.is_constexpr else wide.get(p.name, "i32") for p in kernel.params}
    source = ASTSource(kernel, kinds, constexprs={name: flags[name] for name in kinds if name in flags})
    options = {"num_stages": 1, "num_warps": 1, "maxnreg": gpu.REGISTERS}
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    print(len(compiled.asm["cubin"]) > 0, "st.local" in compiled.asm["ptx"])
"""


def run(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def interpreted() -> dict[str, str]:
    return json.loads(run("-W", "error", "-m", "tests.ising.gpu_cases", TRITON_INTERPRET="1"))


@pytest.mark.parametrize("name", gpu_cases.CASES)
def test_in_the_interpreter(name, interpreted):
    assert not interpreted[name], interpreted[name]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", gpu_cases.CASES)
def test_on_a_card(name):
    gpu_cases.CASES[name]("cuda")


def test_it_compiles_for_a_card(tmp_path):
    """For capability 9.0, without spilling to memory; needs no card."""
    assert run("-c", COMPILE, TRITON_CACHE_DIR=str(tmp_path)).split() == ["True", "False"] * 3


def test_the_reference_draws_the_published_numbers():
    """The known answers of Random123 (Salmon et al., 2011) for Philox4x32-7."""
    ones = 2**32 - 1
    for counter, key, expected in [
        ([0, 0, 0, 0], [0, 0], [0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48]),
        ([ones] * 4, [ones] * 2, [0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A],
        ),
    ]:
        assert gpu_cases.philox([np.uint64(c) for c in counter], key).tolist() == expected


def test_what_it_covers():
    torus = lattices.square(6)
    glass, normal = gpu_cases.signed(torus), torch.randn(72, generator=torch.Generator().manual_seed(0))
    for update, model, device, expected in [
        ("metropolis", Ising(torus), "cuda", "triton"),
        ("heat_bath", Ising(lattices.rectangular(4, 64), J=-2.0, h=0.1), "cuda:0", "triton"),
        ("metropolis", Ising(torus, J=glass), "cuda", "triton"),
        ("metropolis", Ising(torus, J=normal), "cuda", "torch"),
        ("metropolis", Ising(torus, h=normal[:36]), "cuda", "torch"),
        ("metropolis", Ising(lattices.square(5)), "cuda", "torch"),
        ("metropolis", Ising(lattices.square(6, pbc=False)), "cuda", "torch"),
        ("metropolis", Ising(lattices.triangular(6)), "cuda", "torch"),
        ("wolff", Ising(torus), "cuda", "torch"),
    ]:
        assert kernels.choose(update, model, device, 64).name == expected
    assert not kernels.Triton.covers("metropolis", Ising(torus), "cpu")


@pytest.mark.parametrize(
    ("words", "half", "columns"),
    [
        pytest.param(32_768, 8, 8, id="1 048 576 lattices of L = 4"),
        pytest.param(16_384, 64, 1, id="16 384 lattices of L = 64"),
        pytest.param(1, 128, 1, id="32 lattices of L = 16"),
        pytest.param(1024, 1024, 1, id="1024 lattices of L = 256"),
        pytest.param(128, 512, 0, id="4096 lattices of L = 32"),
        pytest.param(64, 16_384, 0, id="64 lattices of L = 1024"),
        pytest.param(1, 262_144, 0, id="one lattice of L = 4096"),
    ],
)
def test_small_lattices_stay_with_one_program(words, half, columns):
    assert gpu.columns_per_program(words, half, processors=132) == columns


def test_the_benchmark_needs_a_card(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="needs a CUDA device"):
        benchmark.main()


def test_the_benchmark_checks_before_it_times(monkeypatch):
    """With the plain form on the CPU; a wrong energy stops it."""
    assert benchmark.rate(kernels.Plain, 16, 16, 0.01, "cpu") > 0
    monkeypatch.setattr(benchmark.exact, "kaufman_energy", lambda *_: 0.0)
    with pytest.raises(SystemExit, match="sigma away"):
        benchmark.rate(kernels.Plain, 16, 16, 0.01, "cpu")
