"""Any other model for a range of temperatures and fields, or for several classes (physgen/conditional.py)."""

from collections.abc import Mapping, Sequence
from typing import Any

from .. import models
from ..conditional import Classes, Conditional, Polynomials

__all__ = ["Conditional", "build"]


def build(
    shape: tuple[int, ...],
    *,
    model: str = "fvbn",
    intervals: Sequence[tuple[float, float]] = ((0.3, 0.5),),
    degree: int = 4,
    classes: int = 0,
    biases: bool = False,
    hyper: Mapping[str, Any] | None = None,
) -> Conditional:
    """The model of that name, conditional.

    Arguments:
        shape: Sites along each axis.
        model: Any of :func:`physgen.models.names`.
        intervals, degree: Of :class:`~physgen.conditional.Polynomials`, where there are no classes.
        classes: How many; 0 for numbers such as beta.
        biases: Whether the condition moves only the biases.
        hyper: Further arguments of the model, its order too.

    Example:
        >>> net = build((4, 4), model="odd", intervals=[(0.2, 0.4)], degree=2, hyper={"hidden": 2})
        >>> net.at(0.3).sample(5).shape
        torch.Size([5, 16])
    """
    features = Classes(classes) if classes else Polynomials(intervals, degree=degree)
    return Conditional(models.build(model, shape, **(hyper or {})), features, biases=biases)
