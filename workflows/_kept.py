"""What an interrupted command leaves for the same command to go on with: arrays in a sealed file."""

import shlex
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load, save

from ising.store import sealed

KIND, VERSION = "physgen-progress", 1


def keep(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Replaces the file in one step; when this returns it is on the disk."""
    sealed.make_folder(path.parent)
    sealed.write(path, KIND, VERSION, [save(arrays)])


def kept(path: Path) -> dict[str, np.ndarray] | None:
    """What :func:`keep` wrote, None if nothing is there; a damaged file is refused."""
    if not path.exists():
        return None
    with sealed.opened(path, KIND, VERSION) as file:
        file.seek(sealed.HEADER)
        return load(bytes(file.readall()))


def stopped(place: Path) -> KeyboardInterrupt:
    """What to say after Ctrl-C.

    Example:
        >>> str(stopped(Path("nowhere"))).partition(":")[0]
        'Nothing was finished yet; to begin again'
    """
    state = f"What is done is safe in {place}; the same command continues"
    if not place.exists():
        state = "Nothing was finished yet; to begin again"
    return KeyboardInterrupt(f"{state}:\n  physgen {shlex.join(sys.argv[1:])}")
