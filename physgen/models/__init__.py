"""One file per model; the folder is the registry.

A model offers what it can, by these names: ``log_prob(x)`` (normalised), ``free_energy(x)`` (up to log Z),
``sample(n)``, ``loss(x)``, or a Pyro ``model`` and ``guide``.
"""

import importlib
import pkgutil

from torch import nn

from ..orders import Ordered


def names() -> list[str]:
    """Every model of this folder, by file name."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def build(name: str, shape: tuple[int, ...], *, order: str = "raster", **hyper: object) -> nn.Module:
    """``build("made", (4, 4), hidden=64)`` is ``build((4, 4), hidden=64)`` of ``physgen/models/made.py``.

    The arguments stay on the module as ``recipe``, from which a checkpoint builds it again. Autoregressive
    models go through the sites in any ``order`` of :mod:`physgen.orders`.
    """
    if name not in names():
        raise ValueError(f"unknown model {name!r}; choose one of {', '.join(names())}")
    model = importlib.import_module(f"{__name__}.{name}").build(tuple(shape), **hyper)
    if order != "raster":
        model, hyper = Ordered(model, order), hyper | {"order": order}
    model.recipe = {"name": name, "shape": list(shape), "hyper": hyper}
    return model
