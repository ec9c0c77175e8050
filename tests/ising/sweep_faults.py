"""Faulty workers for test_sweep.py, in a file that spawned processes import without pytest."""

import os
import warnings
from collections.abc import Callable
from concurrent.futures import Executor, Future
from unittest import mock

import numpy as np

from ising import sweep


def careless(task: sweep.Task, expected: dict[str, str]) -> tuple[int, str]:
    """A planted bug: random numbers that depend on the process."""
    with mock.patch("ising.simulate.root_seed", return_value=np.random.SeedSequence(os.getpid())):
        return sweep.work(task, expected)


class Careless(Executor):
    """Hands careless work to another executor."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def submit(self, work: Callable, *args: object) -> Future:
        assert work is sweep.work
        return self.executor.submit(careless, *args)


def warn(text: str) -> None:
    warnings.warn(text, UserWarning, stacklevel=1)
