"""Monte Carlo runs on disk: one HDF5 file per Hamiltonian, one group per run. Format version 1.

A file is a header of 512 bytes, which HDF5 skips as its user block, and an HDF5 file whose metadata are those
of HDF5 1.10 (checksummed, readable by 1.10 and later)::

    bytes 0-511               text: "ising-runs 1", then bytes and SHA-256 of all that follows (see sealed)
    /                         attributes  format="ising-runs"  version=1  shape=(16, 16)
    /model                    text     the Hamiltonian as JSON: the arguments of ising.model.restore
    /runs/0000                attributes  beta  update  seed  burn_in  thin  content_sha256  key (may lack)
    /runs/0000/provenance     text     JSON: versions, command, kernel, autocorrelation times, seconds, ...
    /runs/0000/spins          uint8    (chains, samples, ceil(N/8))  bits, see below
    /runs/0000/energy         float64  (chains, samples)  total energy E, each bond counted once
    /runs/0000/magnetisation  float64  (chains, samples)  total magnetisation M, the sum of the spins

- Spins: site i of the row-major lattice is bit ``7 - i % 8`` of byte ``i // 8`` (``numpy.packbits``), set for
  spin +1; bits past the last site are 0. Chains are independent; samples of a chain follow in time.
- ``beta`` is the inverse temperature, k_B = 1. ``burn_in`` sweeps were made before the first sample and
  ``thin`` between samples. ``seed`` is a decimal number as text, for it may exceed 64 bits; ``key`` names the
  settings of a run that came through a :class:`Journal`.
- Texts are fixed-length ASCII strings; the numbers in JSON may include NaN and Infinity. Numbers on disk are
  little-endian, in uncompressed chunks with the fletcher32 filter and nothing else; there are no links,
  external files or virtual datasets. A reader refuses what departs from this and ignores attributes that it
  does not know.
- ``content_sha256`` is the SHA-256 of the JSON list ``[model, shape, beta, update, seed, burn_in, thin,
  chains, a, b, c]`` (keys sorted, separators ``", "`` and ``": "``), where a, b, c are the hexadecimal
  SHA-256 of the three datasets in the order (samples, chains, ...). :func:`digest` hashes these of all runs.
  Times and versions are not in it: a simulation that was stopped and continued has the digest of one that
  was not.

Files are never changed in place: a writer publishes a new one by a rename. To read one without this library::

    file = h5py.File("square16.h5")
    bits = numpy.unpackbits(file["runs/0000/spins"][:], axis=-1, count=256)
    spins = 2 * bits.astype("int8") - 1
"""

from .archive import append, betas, digest, hamiltonian, runs, summary
from .configurations import Configuration, Configurations
from .journal import Journal
from .sealed import StoreError

__all__ = [
    "Configuration",
    "Configurations",
    "Journal",
    "StoreError",
    "append",
    "betas",
    "digest",
    "hamiltonian",
    "runs",
    "summary",
]
