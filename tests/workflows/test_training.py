"""The loop of the train_* workflows refuses what has diverged, also while its numbers are finite."""

import pytest
import torch
from torch import nn

from physgen import checkpoint
from physgen.train import gradient_step
from workflows import _training


@pytest.mark.parametrize(("name", "rate"), [("loss", 1e4), ("critic_loss", 0.0)])
def test_a_loss_beyond_reason_stops_before_the_next_checkpoint(name, rate, tmp_path, monkeypatch):
    """Gradient descent on x**2 with too high a rate grows without end; so may the metric of a part."""
    x = nn.Parameter(torch.tensor(1.0))
    parts = {"critic_loss": torch.tensor(-2e3)} if name == "critic_loss" else {}
    step = gradient_step(lambda batch: (x.square() * batch.mean(), parts), torch.optim.SGD([x], lr=rate))
    config = _training.Training(steps=4, every=1, out=tmp_path, quiet=True)
    monkeypatch.setattr(checkpoint, "save", lambda *_, at: saved.append(at))
    saved = []
    said = f"the {name.replace('_', ' ')} is .*: training has diverged; start again with a lower"
    with pytest.raises(FloatingPointError, match=said):
        _training.train(nn.Linear(1, 1), step, [torch.ones(2)], config, {}, largest=1e3)
    assert saved == ([1] if name == "loss" else [])
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == len(saved)
