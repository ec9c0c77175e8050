"""WaveNet beyond the contract of every model: what it sees, how it is drawn from, any length, sentences."""

import random

import pytest
import torch

from physgen.models import build
from physgen.models.wavenet import Layer, earlier
from physgen.train import fit, gradient_step


def perturbed(shape, **hyper):
    torch.manual_seed(0)
    net = build("wavenet", shape, width=6, **hyper).double()
    with torch.no_grad():
        for p in net.parameters():
            p += 0.3 * torch.randn_like(p)
    return net


@pytest.mark.parametrize(
    ("dilations", "kernel", "field"), [((), 2, 1), ((1, 2, 4), 2, 8), ((1, 3), 3, 9), ((2,), 2, 3)]
)
def test_a_conditional_depends_on_its_receptive_field_alone(dilations, kernel, field):
    net = perturbed((20,), dilations=dilations, kernel=kernel)
    spins = (2.0 * torch.randint(0, 2, (1, 20)) - 1).double().requires_grad_()
    net(spins)[0, 15].backward()
    seen = {15 - back for back in range(1, 21) if spins.grad[0, 15 - back] != 0}
    gaps = {15 - 1 - d for d in range(field)} if dilations != (2,) else {14, 12}
    assert net.receptive_field == field
    assert seen == gaps


@pytest.mark.parametrize("shape", [(3,), (40,), (5, 7)])
@pytest.mark.parametrize(("dilations", "kernel"), [((), 2), ((1, 2, 4, 8), 2), ((4, 1), 3)])
def test_queues_give_what_the_full_pass_gives(shape, dilations, kernel):
    """Sequences shorter and longer than the receptive field."""
    net = perturbed(shape, dilations=dilations, kernel=kernel)
    spins, fields = net.draw(30)
    with torch.no_grad():
        torch.testing.assert_close(fields, net(spins), atol=1e-10, rtol=0)


def test_a_queue_that_is_too_short_is_noticed():
    """Negative control of the test before: the same layer, looking back one token less."""
    torch.manual_seed(0)
    layer, wrong = Layer(4, 2, 3, last=False).double(), Layer(4, 2, 3, last=False).double()
    wrong.load_state_dict(layer.state_dict())
    tokens = torch.randn(2, 9, 4, dtype=torch.float64)
    at, at_wrong = layer.cached(2), wrong.cached(2)
    wrong.back[-1] = 2
    with torch.no_grad():
        full, _ = layer(tokens)
        for i in range(9):
            torch.testing.assert_close(at(i, tokens[:, i])[0], full[:, i], atol=1e-12, rtol=0)
            last = at_wrong(i, tokens[:, i])[0]
    assert (last - full[:, -1]).abs().max() > 0.01


def test_earlier_tokens():
    x = torch.arange(1.0, 5.0).view(1, 4, 1)
    assert earlier(x, 3).flatten().tolist() == [0, 0, 0, 1]
    assert earlier(x, 9).flatten().tolist() == [0, 0, 0, 0]


def test_another_length_goes_on_with_the_same_law():
    net = perturbed((12,), dilations=(1, 2), symbols=4, levels=True)
    longer = net.of_length(30)
    values = longer.sample(5)
    with torch.no_grad():
        torch.testing.assert_close(longer(values)[:, :12], net(values[:, :12]), atol=1e-12, rtol=0)
    with pytest.raises(ValueError, match="direct=False"):
        build("wavenet", (12,), direct=True).of_length(30)


def test_refusals():
    with pytest.raises(ValueError, match="kernel of at least 2"):
        build("wavenet", (8,), kernel=1)
    with pytest.raises(ValueError, match="dilations of at least 1"):
        build("wavenet", (8,), dilations=(0,))


NOUNS, VERBS = ("spin", "wall", "bond"), ("flips", "moves", "meets")


def sentence(rng):
    return f"the {rng.choice(NOUNS)} {rng.choice(VERBS)} the {rng.choice(NOUNS)}. "


def test_a_model_of_characters_tells_sentences_from_scrambled_ones():
    """Chain rule: log q of all characters. An untrained network, the negative control, cannot tell."""
    rng = random.Random(0)
    text = "".join(sentence(rng) for _ in range(400))
    letters = {letter: i for i, letter in enumerate(sorted(set(text)))}

    def read(line):
        return torch.tensor([letters[letter] for letter in line])

    torch.manual_seed(0)
    net = build("wavenet", (32,), dilations=(1, 2, 4, 8), symbols=len(letters))
    step = gradient_step(net.loss, torch.optim.Adam(net.parameters(), lr=1e-2))
    codes = read(text)

    @torch.no_grad()
    def score(line):
        return float(net.of_length(len(line)).log_prob(read(line)))

    def told_apart():
        found = []
        for _ in range(20):
            line = sentence(rng)
            words = line.split()
            scrambled = " ".join([words[2], words[0], words[4], words[1], words[3]]) + " "
            found.append(score(line) > score(scrambled) + 5)
        return sum(found)

    before = told_apart()
    windows = codes.unfold(0, 32, 1)
    batches = (windows[torch.randint(0, len(windows), (16,))] for _ in range(150))
    fit(step, batches, steps=150)
    assert told_apart() == 20
    assert before < 10
