"""Stop and resume give the bits of not stopping; no interruption costs the last checkpoint."""

import contextlib
import errno
import io
import json
import math
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from physgen import checkpoint, energy, models
from physgen.batches import SYMMETRIES, Batches
from physgen.checkpoint import CheckpointError
from physgen.train import adversarial_step, decay, fit, gradient_step, svi_step
from tests.checks import steps_of_publishing

TRAINERS = (
    "ContrastiveDivergence",
    "ExactLikelihood",
    "FastPCD",
    "PersistentCD",
    "TemperedPCD",
    "TrajectoryPCD",
)
SMALL = {
    "made": {"hidden": 8},
    "pixelcnn": {"depth": 2, "width": 4},
    "vae": {"latent": 2, "hidden": 8, "flow": 2},
    "dcgan": {"width": 2, "latent": 2},
    **{f"rbm {loss}": {"hidden": 4} for loss in TRAINERS},
}


def training(name, seed=0):
    """A model with its step and batches, with every kind of state that a step can have."""
    torch.manual_seed(seed)
    kind, _, trainer = name.partition(" ")
    model = models.build(kind, (4, 4), **SMALL[name])
    spins = 2 * torch.randint(0, 2, (100, 16), generator=torch.Generator().manual_seed(1)) - 1
    options = {"schedule": decay(40), "average_from": 10, "clip": 1.0}

    def adam(module):
        return torch.optim.Adam(module.parameters(), lr=0.01)

    if name == "vae":
        step = svi_step(model.model, model.guide, lr=0.01, **options)
    elif name == "dcgan":
        generator = gradient_step(model.generator_loss, adam(model.generator), **options)
        critic = gradient_step(model.critic_loss, adam(model.critic), **options)
        step = adversarial_step(generator, critic, critic_steps=2)
    else:
        loss = losses_of(model, spins)[trainer] if trainer else model.loss
        step = gradient_step(loss, adam(model), **options)
    return model, step, Batches(spins, 16, seed=2, shape=(4, 4), symmetries=SYMMETRIES)


def losses_of(model, spins):
    """Every way to train a Boltzmann machine, with every state that it can have."""
    persistent = {"start": spins, "k": 1, "chains": 10}
    return {
        "PersistentCD": energy.PersistentCD(model, **persistent),
        "ContrastiveDivergence": energy.ContrastiveDivergence(model),
        "FastPCD": energy.FastPCD(model, **persistent),
        "TemperedPCD": energy.TemperedPCD(model, **persistent, levels=3),
        "TrajectoryPCD": energy.TrajectoryPCD(model, **persistent, threshold=0.5),
        "ExactLikelihood": energy.Penalised(energy.ExactLikelihood(model), model, l1=1e-3),
    }


def bits(model):
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def train(name, folder, start, steps):
    model, step, batches = training(name, seed=start)  # other initial weights: all must come from the file
    start = checkpoint.restore(folder, model, step, batches) if start else 0
    fit(step, batches, steps=steps, start=start)
    checkpoint.save(folder, model, step, batches, steps)
    return model, step


def train_all(folder, start, steps):
    torch.set_num_threads(1)
    for name in SMALL:
        train(name, Path(folder) / name, start, steps)


def test_a_new_process_continues_with_the_same_bits(tmp_path):
    """20 steps, then 20 in another process, against 40, for every kind of model; then the averages too."""
    train_all(tmp_path / "split", 0, 20)
    call = f"train_all({str(tmp_path / 'split')!r}, 20, 40)"
    code = f"from tests.physgen.test_checkpoint import train_all; {call}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
    for name in SMALL:
        straight, step = train(name, tmp_path / "straight" / name, 0, 40)
        model, resumed, batches = training(name)
        assert checkpoint.restore(tmp_path / "split" / name, model, resumed, batches) == 40
        assert bits(model) == bits(straight), name
        for each in (step, resumed):
            each.finish()
        assert bits(model) == bits(straight), name


@pytest.mark.parametrize("forgotten", ["random", "batches", "step"])
def test_the_comparison_notices_a_forgotten_state(tmp_path, monkeypatch, forgotten):
    """Negative control, on the VAE: it draws from the global generator and has moments and shuffled data."""
    train("vae", tmp_path, 0, 20)
    model, step, batches = training("vae")
    fit(step, batches, steps=25)
    again, *rest = training("vae", seed=1)
    if forgotten == "random":
        monkeypatch.setattr(torch, "set_rng_state", lambda state: None)  # noqa: ARG005
    else:
        monkeypatch.setattr(rest[forgotten == "batches"], "load_state_dict", lambda state: None)  # noqa: ARG005
    checkpoint.restore(tmp_path, again, *rest)
    fit(*rest, steps=25, start=20)
    assert bits(again) != bits(model)


def test_load_model_builds_from_the_recipe(tmp_path):
    torch.manual_seed(5)
    model, step, batches = training("made")
    model.double()
    checkpoint.save(tmp_path, model, step, batches, 7)
    random = torch.get_rng_state()
    loaded = checkpoint.load_model(tmp_path)
    assert torch.equal(torch.get_rng_state(), random)
    spins = torch.ones(2, 16, dtype=torch.float64)
    assert torch.equal(loaded.log_prob(spins), model.log_prob(spins))
    assert loaded.recipe == {"name": "made", "shape": [4, 4], "hyper": {"hidden": 8}}


class Killed(BaseException):
    """Nothing may catch it, and nothing may run after it: the disk stays as a kill leaves it."""


def die_at(monkeypatch, k):
    """Makes the k-th of the calls that touch the disk stop everything; a write stops halfway."""
    calls = 0

    def counted(real, halfway=None):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == k:
                if halfway:
                    halfway(*args)
                raise Killed
            return real(*args, **kwargs)

        return call

    half = lambda path, data: path.write_bytes(data[: len(data) // 2])  # noqa: E731
    monkeypatch.setattr(checkpoint, "_write", counted(checkpoint._write, half))
    monkeypatch.setattr(os, "fsync", counted(os.fsync))
    monkeypatch.setattr(Path, "rename", counted(Path.rename))
    monkeypatch.setattr(Path, "mkdir", counted(Path.mkdir))
    monkeypatch.setattr(checkpoint.shutil, "rmtree", counted(checkpoint.shutil.rmtree))
    return lambda: calls


def test_a_kill_at_any_call_leaves_the_checkpoint_before_or_the_new_one(tmp_path, monkeypatch):
    model, step, batches = training("made")
    seen = set()
    for k in range(1, 100):
        folder = tmp_path / str(k)
        checkpoint.save(folder, model, step, batches, 1)
        with monkeypatch.context() as patch:
            calls = die_at(patch, k)
            with contextlib.suppress(Killed):
                checkpoint.save(folder, model, step, batches, 2)
            if calls() < k:
                break
        at = checkpoint.restore(folder, *training("made"))
        seen.add(at)
        checkpoint.save(folder, model, step, batches, 3)
        assert [p.name for p in (folder / "checkpoints").iterdir()] == ["00000003"]
    assert k > 10
    assert seen == {1, 2}


def test_a_checkpoint_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    """A loss of power, unlike a kill, loses what was written and not flushed."""
    model, step, batches = training("made")
    steps = steps_of_publishing(monkeypatch)
    checkpoint.save(tmp_path, model, step, batches, at=1)
    assert steps == ["file"] * 3 + ["folder", "name", "folder"]


def test_saving_the_same_step_again_replaces_it(tmp_path):
    model, step, batches = training("made")
    for _ in range(3):
        newest = checkpoint.save(tmp_path, model, step, batches, 9)
        assert [newest] == list((tmp_path / "checkpoints").iterdir())
        assert checkpoint.restore(tmp_path, model, step, batches) == 9


def test_what_a_stop_left_of_an_older_checkpoint_goes_with_the_next_one(tmp_path):
    left = tmp_path / "checkpoints" / "00000050"
    left.mkdir(parents=True)
    (left / "weights.safetensors").touch()
    new = checkpoint.save(tmp_path, *training("made"), at=1)
    assert list(new.parent.iterdir()) == [new]


def test_a_full_disk_is_said_in_one_sentence_and_costs_nothing(tmp_path, monkeypatch):
    model, step, batches = training("made")
    checkpoint.save(tmp_path, model, step, batches, 1)

    def full(path, data):
        path.write_bytes(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(checkpoint, "_write", full)
    with pytest.raises(
        OSError, match=r"step 2 could not be written .No space left on device.; make room"
    ) as caught:
        checkpoint.save(tmp_path, model, step, batches, 2)
    assert caught.value.errno == errno.ENOSPC
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["00000001"]


def test_a_real_limit_on_file_size_is_met_the_same_way(tmp_path):
    model, step, batches = training("made")
    checkpoint.save(tmp_path, model, step, batches, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(OSError, match="step 2 could not be written"):
            checkpoint.save(tmp_path, model, step, batches, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoint.restore(tmp_path, model, step, batches) == 1


@pytest.mark.parametrize("name", [checkpoint.WEIGHTS, checkpoint.STATE, checkpoint.MANIFEST])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damage_is_noticed_before_anything_is_parsed(tmp_path, name, damage):
    path = checkpoint.save(tmp_path, *training("made"), 1) / name
    data = bytearray(path.read_bytes())
    if damage == "remove":
        path.unlink()
    else:
        data[len(data) // 2] ^= 16
        path.write_bytes(data if damage == "flip" else data[:-20])
    with pytest.raises(CheckpointError, match=r"is damaged|holds no checkpoint"):
        checkpoint.load_model(tmp_path)


def test_no_byte_of_the_manifest_can_be_flipped(tmp_path):
    path = checkpoint.save(tmp_path, *training("made"), 1) / checkpoint.MANIFEST
    data = path.read_bytes()
    for i in range(len(data)):
        path.write_bytes(data[:i] + bytes([data[i] ^ 16]) + data[i + 1 :])
        with pytest.raises(CheckpointError, match="is damaged"):
            checkpoint.load_model(tmp_path)
    for other in (b"[]", b"{}", b"null"):
        path.write_bytes(other)
        with pytest.raises(CheckpointError, match="lacks some of format"):
            checkpoint.load_model(tmp_path)


@pytest.mark.parametrize("change", [{"step": 2}, {"recipe": {"name": "made"}}, {"version": 2}])
def test_a_changed_manifest_is_noticed(tmp_path, change):
    path = checkpoint.save(tmp_path, *training("made"), 1) / checkpoint.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=r"the seal of checkpoint\.json does not match"):
        checkpoint.restore(tmp_path, *training("made"))


def reseal(path, **change):
    """Changes the manifest as one would who knows the format."""
    manifest = json.loads((path / checkpoint.MANIFEST).read_text()) | change
    (path / checkpoint.MANIFEST).write_text(json.dumps(manifest | {"seal": checkpoint._seal(manifest)}))


def test_the_state_needs_no_code_to_be_read(tmp_path):
    path = checkpoint.save(tmp_path, *training("rbm PersistentCD"), 1)
    state = torch.load(path / checkpoint.STATE, weights_only=True)
    assert set(state) == {"step", "batches", "random"}


def test_refusals_name_both_sides(tmp_path):
    model, step, batches = training("made")
    with pytest.raises(CheckpointError, match="holds no checkpoint; train there first"):
        checkpoint.load_model(tmp_path)
    path = checkpoint.save(tmp_path, model, step, batches, 1)
    other = models.build("made", (4, 4), hidden=9)
    with pytest.raises(CheckpointError, match=r"'hidden': 8.* this model is .*'hidden': 9"):
        checkpoint.restore(tmp_path, other, step, batches)
    with pytest.raises(CheckpointError, match="Linear has none; build it by"):
        checkpoint.save(tmp_path, torch.nn.Linear(2, 2), step, batches, 1)
    with torch.no_grad():
        model.direct.weight[0, 0] = math.nan
    with pytest.raises(FloatingPointError, match=r"'direct.weight' is not finite at step 2"):
        checkpoint.save(tmp_path, model, step, batches, 2)
    reseal(path, version=checkpoint.VERSION + 1)
    with pytest.raises(CheckpointError, match=r"this version reads .*; update physgen"):
        checkpoint.load_model(tmp_path)


def test_a_pickled_state_is_refused(tmp_path):
    """Even with a matching hash, code in the file does not run."""
    path = checkpoint.save(tmp_path, *training("made"), 1)
    buffer = io.BytesIO()
    torch.save({"step": os.system}, buffer)
    (path / checkpoint.STATE).write_bytes(buffer.getvalue())
    files = (checkpoint.WEIGHTS, checkpoint.STATE)
    reseal(path, sha256=checkpoint._hashes({name: (path / name).read_bytes() for name in files}))
    with pytest.raises(CheckpointError, match="holds more than tensors and plain values"):
        checkpoint.restore(tmp_path, *training("made"))
