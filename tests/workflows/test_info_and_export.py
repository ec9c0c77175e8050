"""Looking into a file and handing its configurations to other programs."""

import h5py
import numpy as np
import pytest

from ising import store
from tests.ising.store_cases import make_run, two_runs
from workflows import export, info


@pytest.fixture
def path(tmp_path):
    return two_runs(tmp_path)


def test_info_tells_what_a_physicist_asks(path, capsys):
    info.main(info.Config(path))
    text = capsys.readouterr().out
    for word in ("rectangular 3 x 4", "periodic", "h = 0.25", "140 configurations", store.digest(path)):
        assert word in text
    run = make_run(0.3)
    [row] = [line for line in text.splitlines() if line.strip().startswith("0001")]
    assert [f"{run.beta:g}", "3.33333", "metropolis", "10", "7", "10", "2"] == row.split()[1:8]
    assert [str(run.energy), str(run.abs_m), "1"] == row.split()[-3:]
    assert "kernel=none" in text


def test_info_marks_short_runs(tmp_path, capsys):
    store.append(tmp_path / "short.h5", make_run(chains=2, samples=3))
    info.main(info.Config(tmp_path / "short.h5"))
    assert "error bars are guesses" in capsys.readouterr().out


def test_npz(path, tmp_path):
    export.main(export.Config(path, out=tmp_path / "x.npz", temperature=1 / 0.3))
    with np.load(tmp_path / "x.npz") as file:
        assert set(file) == {"spins", "shape", "beta", "energy", "magnetisation", "run", "chain", "sample"}
        np.testing.assert_array_equal(file["spins"], make_run(0.3).spins.reshape(-1, 12))
        np.testing.assert_array_equal(file["energy"], make_run(0.3).energies.ravel())
        assert (file["spins"].dtype, file["shape"].tolist()) == (np.int8, [3, 4])
    with pytest.raises(ValueError, match="exists"):
        export.main(export.Config(path, out=tmp_path / "x.npz"))


def test_rbms(path, tmp_path):
    export.main(export.Config(path, out=tmp_path / "x.h5", format="rbms", split="test"))
    with h5py.File(tmp_path / "x.h5") as file:
        assert set(np.unique(file["samples"][:])) == {0, 1}
        assert file["samples"].shape == (14, 12)
        assert file["labels"][:].tolist() == [0.44] * 7 + [0.3] * 7


def test_arviz(path, tmp_path):
    import xarray

    export.main(export.Config(path, out=tmp_path / "x.nc", format="arviz", beta=0.3))
    with xarray.open_datatree(tmp_path / "x.nc", engine="h5netcdf") as tree:
        assert tree.attrs["beta"] == 0.3
        np.testing.assert_array_equal(tree["posterior"]["energy"], make_run(0.3).energies)
    with pytest.raises(ValueError, match="choose by --beta"):
        export.main(export.Config(path, out=tmp_path / "y.nc", format="arviz"))
    with pytest.raises(ValueError, match="leave out --split"):
        export.main(export.Config(path, out=tmp_path / "y.nc", format="arviz", beta=0.3, split="test"))
