"""Training state on disk: each checkpoint is one folder that appears whole or not at all.

::

    FOLDER/checkpoints/00000500/
        weights.safetensors   parameters and buffers of the model
        state.pt              step, batches, random state: tensors and plain values only
        checkpoint.json       format, version, recipe, step, SHA-256 of the two files, and of all this (seal)

A checkpoint is written under a temporary name, flushed to the disk, and renamed; only then are older ones
removed. So a kill at any instant and a full disk leave the last complete checkpoint in place. Hashes are
checked before anything is used. A second checkpoint of the same step is ``00000500.1``.

Training resumes with the same bits on one machine and one set of versions, because the model, the optimiser,
the order of the data and the global torch generator are all restored.
"""

import hashlib
import io
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from . import models
from .batches import Stateful
from .nn import diverged
from .train import Step

FORMAT, VERSION = "physgen-checkpoint", 1
WEIGHTS, STATE, MANIFEST = "weights.safetensors", "state.pt", "checkpoint.json"


class CheckpointError(ValueError):
    """The checkpoint is missing, damaged or of another model; the message names the folder and what to do."""


def save(folder: str | Path, model: nn.Module, step: Step, batches: Stateful, at: int) -> Path:
    """Writes the checkpoint of step number ``at`` and removes older ones; returns its folder.

    Raises:
        FloatingPointError: If a weight is not finite.
        OSError: If the disk is full or refuses; the checkpoint before is intact then.
    """
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    for name, value in weights.items():
        if not value.isfinite().all():
            raise diverged(f"no checkpoint is written, as the weight {name!r} is not finite at step {at}")
    buffer = io.BytesIO()
    torch.save(
        {"step": step.state_dict(), "batches": batches.state_dict(), "random": _random_state()}, buffer
    )
    files = {WEIGHTS: safetensors.torch.save(weights), STATE: buffer.getvalue()}
    manifest = {"format": FORMAT, "version": VERSION, "step": at, "recipe": _recipe(model)}
    manifest["sha256"] = _hashes(files)
    manifest["seal"] = _seal(manifest)
    files[MANIFEST] = json.dumps(manifest, indent=1).encode()

    parent = Path(folder) / "checkpoints"
    temporary = parent / ".writing"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)  # left by a kill
        temporary.mkdir()
        for name, data in files.items():
            _write(temporary / name, data)
        _sync(temporary)
        complete = map(_number, _complete(parent))
        last = max((again for number, again in complete if number == at), default=-1)
        target = parent / (f"{at:08d}.{last + 1}" if last >= 0 else f"{at:08d}")
        temporary.rename(target)
        _sync(parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise OSError(
            error.errno,
            f"the checkpoint of step {at} could not be written ({error.strerror}); make room or take another "
            f"folder and resume, the checkpoint before is intact",
            str(parent),
        ) from error
    for path in parent.glob("[0-9]*"):  # also what a stop left of one
        if path != target:
            shutil.rmtree(path, ignore_errors=True)
    return target


def restore(folder: str | Path, model: nn.Module, step: Step, batches: Stateful) -> int:
    """Loads the last checkpoint into all three, and the random state into torch; returns the steps done."""
    manifest, files = _read(folder)
    if manifest["recipe"] != _recipe(model):
        raise CheckpointError(
            f"{folder} holds {manifest['recipe']}, this model is {_recipe(model)}; build it the same way"
        )
    try:
        state = torch.load(io.BytesIO(files[STATE]), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{STATE} in {folder} holds more than tensors and plain values, so it is not read; train again"
        ) from error
    batches.load_state_dict(state["batches"])
    model.load_state_dict(safetensors.torch.load(files[WEIGHTS]))
    step.load_state_dict(state["step"])
    torch.set_rng_state(state["random"]["cpu"])
    if state["random"]["cuda"]:
        torch.cuda.set_rng_state_all(state["random"]["cuda"])
    return manifest["step"]


def load_model(folder: str | Path, device: torch.device | str = "cpu") -> nn.Module:
    """The model of the last checkpoint, built by its recipe, with its weights, in evaluation mode."""
    manifest, files = _read(folder)
    recipe, weights = manifest["recipe"], safetensors.torch.load(files[WEIGHTS])
    with torch.random.fork_rng(
        devices=[]
    ):  # the initial weights are thrown away, so they cost no random numbers
        model = models.build(recipe["name"], tuple(recipe["shape"]), **recipe["hyper"])
    dtypes = {value.dtype for value in weights.values() if value.is_floating_point()}
    model = model.to(device, *dtypes) if len(dtypes) == 1 else model.to(device)
    model.load_state_dict(weights)
    return model.eval()


def latest(folder: str | Path) -> Path | None:
    """Folder of the last complete checkpoint, if there is one."""
    return max(_complete(Path(folder) / "checkpoints"), default=None, key=_number)


def _complete(parent: Path) -> list[Path]:
    return [p for p in parent.glob("[0-9]*") if (p / MANIFEST).is_file()]


def _number(path: Path) -> tuple[int, int]:
    """Step and repetition: ``00000500.1`` is (500, 1)."""
    step, _, repetition = path.name.partition(".")
    return int(step), int(repetition or 0)


def _recipe(model: nn.Module) -> dict[str, Any]:
    """As it reads after a round trip through JSON, where tuples are lists."""
    if not hasattr(model, "recipe"):
        raise CheckpointError(
            f"a checkpoint needs the recipe of the model, and {type(model).__name__} has none; "
            "build it by physgen.models.build(name, shape, …)"
        )
    return json.loads(json.dumps(model.recipe))


def _random_state() -> dict[str, Any]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def _read(folder: str | Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    path = latest(folder)
    if path is None:
        raise CheckpointError(f"{folder} holds no checkpoint; train there first, or name another folder")
    try:
        manifest = _opened((path / MANIFEST).read_bytes())
        known = manifest["format"], manifest["version"]
        if known != (FORMAT, VERSION):
            raise CheckpointError(
                f"{path} has format {known}, this version reads {(FORMAT, VERSION)}; update physgen"
            )
        files = {name: (path / name).read_bytes() for name in (WEIGHTS, STATE)}
        if _hashes(files) != manifest["sha256"]:
            raise _Damaged("a hash does not match")
    except (OSError, _Damaged) as error:
        raise CheckpointError(f"{path} is damaged ({error}); remove it and resume or train again") from error
    return manifest, files


class _Damaged(Exception):
    """What is wrong with the bytes, in a few words."""


def _opened(data: bytes) -> dict[str, Any]:
    """The manifest, if its seal holds."""
    try:
        manifest = json.loads(data)
    except ValueError as error:  # of JSON or of UTF-8
        raise _Damaged(f"{MANIFEST}: {error}") from error
    entries = {"format", "version", "step", "recipe", "sha256", "seal"}
    if not isinstance(manifest, dict) or not entries <= manifest.keys():
        raise _Damaged(f"{MANIFEST} lacks some of {', '.join(sorted(entries))}")
    if manifest["seal"] != _seal(manifest):
        raise _Damaged(f"the seal of {MANIFEST} does not match")
    return manifest


def _seal(manifest: dict[str, Any]) -> str:
    """SHA-256 of everything else in the manifest, as JSON with sorted keys."""
    rest = {name: value for name, value in manifest.items() if name != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _hashes(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
