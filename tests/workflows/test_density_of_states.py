"""A walk that is stopped and continued."""

import itertools

import pytest

from ising import Ising, lattices
from workflows import density_of_states

NAMES = ("walkers", "sweeps", "ln_f", "seed")
QUICK = {"L": (4,), "walkers": 2, "sweeps": 3000, "ln_f": 1e-2, "seed": 2**70, "quiet": True}


@pytest.mark.parametrize("stop", [1, 4, 8])
def test_a_stopped_walk_continues_with_the_same_bytes(stop, tmp_path, monkeypatch):
    whole, parts = (
        density_of_states.Config(**QUICK, out=tmp_path / name) for name in ("whole.csv", "parts.csv")
    )
    density_of_states.main(config=whole)

    def interrupted(*args, **options):
        yield from itertools.islice(original(*args, **options), stop)
        raise KeyboardInterrupt

    original = density_of_states.stages
    assert stop < len(list(original(Ising(lattices.square(4)), **{name: QUICK[name] for name in NAMES})))
    monkeypatch.setattr(density_of_states, "stages", interrupted)
    with pytest.raises(KeyboardInterrupt, match="the same command continues"):
        density_of_states.main(config=parts)
    assert not parts.out.exists()
    monkeypatch.setattr(density_of_states, "stages", original)
    density_of_states.main(config=parts)
    assert parts.out.read_bytes() == whole.out.read_bytes()
    assert not list(tmp_path.glob("*.walk"))


def test_a_damaged_walk_is_refused(tmp_path, monkeypatch):
    config = density_of_states.Config(**QUICK, out=tmp_path / "g.csv")
    monkeypatch.setattr(density_of_states, "EVERY", 0.0)
    monkeypatch.setattr("pathlib.Path.unlink", lambda *_, **__: None)
    density_of_states.main(config=config)
    monkeypatch.undo()
    [walk] = tmp_path.glob("*.walk")
    data = walk.read_bytes()
    walk.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    config.out.rename(tmp_path / "other.csv")
    (tmp_path / "g.png").unlink()
    with pytest.raises(ValueError, match="is damaged"):
        density_of_states.main(config=config)
