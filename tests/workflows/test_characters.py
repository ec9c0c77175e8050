"""`physgen characters`: what it counts, learns, keeps and refuses."""

import json
import math
import random

import pytest
import torch

from physgen import models
from workflows import characters

SMALL = {"width": 8, "dilations": (1, 2), "length": 16, "batch": 8, "draw": 20, "quiet": True}


@pytest.fixture(scope="module")
def cycle(tmp_path_factory):
    """A text in which every character follows from the one before."""
    path = tmp_path_factory.mktemp("text") / "cycle.txt"
    path.write_text("spin up " * 100)
    return path


def test_bits_add_up_to_the_log_probability():
    torch.manual_seed(0)
    net = models.build("wavenet", (16,), width=8, symbols=4)
    codes = torch.randint(4, (3, 11))
    nats = -math.log(2) * characters.surprise(net, codes).sum(-1)
    torch.testing.assert_close(nats, net.of_length(11).log_prob(codes).double(), rtol=1e-5, atol=1e-5)


def test_counts_need_the_entropy_of_their_source(tmp_path):
    """Letters of a Markov chain: within 4 sigma (6e-5) of its two entropies, which differ by far more."""
    rng, text = random.Random(0), ["a"]
    while len(text) < 20_000:
        text.append(rng.choices("abc", [8, 1, 1] if text[-1] == "a" else [2, 4, 4])[0])
    (tmp_path / "markov.txt").write_text("".join(text))
    found = characters.counted(characters.Text(tmp_path / "markov.txt", 50))

    def entropy(*p):
        return -sum(x * math.log2(x) for x in p)

    single = entropy(0.5, 0.25, 0.25)  # half of the letters are a
    pairs = (entropy(0.8, 0.1, 0.1) + entropy(0.2, 0.4, 0.4)) / 2 + (single - 1.2219) / 50
    for value, known in ((found["single characters"], single), (found["pairs"], pairs)):
        assert abs(value.mean - known) < 4 * value.error
    assert single - pairs > 4 * found["pairs"].error  # negative control


def test_it_learns_and_continues_bit_for_bit(cycle, tmp_path, capsys):
    options = {
        "steps": 60,
        "every": 30,
        "average": 0.0,
        "lr": 0.02,
        "sentences": ("spin up spin", "nips pu nips"),
        **SMALL,
    }
    characters.main(characters.Config(cycle, **options, out=tmp_path / "whole"))
    shown = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[-1] for line in shown[2:4]] == ["spin up spin", "nips pu nips"]
    found = json.loads((tmp_path / "whole" / "results.json").read_text())
    network, pairs = (found["bits_per_character"][name]["mean"] for name in ("network", "pairs"))
    assert network < 0.5  # of log2(6) = 2.6: only where a piece begins is open
    assert pairs < 1.0

    stopped = tmp_path / "stopped"
    batches = characters.Pieces.__next__
    drawn = iter(range(40))

    def interrupted(pieces):
        if next(drawn, None) is None:
            raise KeyboardInterrupt
        return batches(pieces)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(characters.Pieces, "__next__", interrupted)
        with pytest.raises(KeyboardInterrupt, match="continue with"):
            characters.main(characters.Config(cycle, **options, out=stopped))
    characters.main(characters.Config(cycle, **options, out=stopped, resume=True))
    again = json.loads((stopped / "results.json").read_text())
    assert again["sentences"] == found["sentences"]
    assert again["made_up"] == found["made_up"]


@pytest.mark.parametrize(
    ("sentences", "length", "message"),
    [(("spin down",), 16, "'d' does not occur"), ((), 128, "has 799 characters"), (("",), 16, "empty")],
)
def test_refusals(sentences, length, message, cycle, tmp_path):
    options = SMALL | {"sentences": sentences, "length": length, "out": tmp_path / "run"}
    with pytest.raises(ValueError, match=message):
        characters.main(characters.Config(cycle, **options))
    assert not (tmp_path / "run").exists()
