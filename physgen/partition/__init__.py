r"""Partition functions :math:`Z` of machines that are too large to be summed.

==================  =======================================================================================
:mod:`path`         machines between independent units and the model, and updates that keep their laws
:mod:`collapsed`    a better path where units have two values: the wide layer is summed over, not drawn
:mod:`schedule`     where on the path the temperatures lie, by a pilot
:mod:`weights`      importance weights: their mean in log space, its error, and whether to believe it
:mod:`bennett`      the acceptance ratio of chains that walk the path both ways
:mod:`trajectory`   log Z carried along while a model is trained
:mod:`tap`          a deterministic estimate for weak couplings
==================  =======================================================================================

What users call is in :mod:`physgen.ais` and :mod:`physgen.likelihood`.
"""

from .path import Annealable, Path, path_of
from .tap import Tap, tap
from .trajectory import Trajectory
from .weights import UnevenWeights, Weights

__all__ = ["Annealable", "Path", "Tap", "Trajectory", "UnevenWeights", "Weights", "path_of", "tap"]
