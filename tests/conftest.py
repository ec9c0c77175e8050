"""One thread and an empty Pyro parameter store for every test, so that none depends on another."""

import os

# Before numpy is imported: the threads of two workers would wait for each other, busily.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import pyro
import pytest
import torch


@pytest.fixture(autouse=True)
def _isolated():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    pyro.clear_param_store()
    yield
    torch.set_num_threads(threads)


def pytest_collection_modifyitems(items):
    """The longest file first, beside it models: two cold workers would compile the same kernels twice."""
    items.sort(key=lambda item: not item.nodeid.startswith(("README", "tests/physgen")))
