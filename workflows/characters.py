"""Train a sequence model on a text, and score sentences by the chain rule.

A WaveNet learns the probability of every character given those before it.
Their logarithms add up to that of a sentence, however long:

  ln q(sentence) = sum over i of ln q(character i | the characters before it)

The first line tells the bits per character of the last tenth of the text, which
the network has not seen, beside those that counts of single characters and of
pairs would need. Then comes every sentence with its ln q, the likeliest first,
and at the end some characters that the network made up.

Example:

  physgen characters README.md --sentences "the energy of the lattice" \\
    "the lattice energy of the" --out runs/characters
  physgen characters novel.txt --dilations 1 2 4 8 16 32 64 --width 64 \\
    --length 256 --steps 4000
"""

import dataclasses
import logging
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from cyclopts import Parameter
from matplotlib.figure import Figure
from torch import Tensor

from ising.stats import Estimate
from physgen import models
from physgen.models.wavenet import WaveNet
from physgen.nn import private_seed, stream
from physgen.plots import PALETTE
from physgen.train import gradient_step
from workflows import _training
from workflows._common import check_options, pick_device, plain, provenance, write_json

log = logging.getLogger("physgen.characters")

UNSEEN = 0.1  # of the text


@Parameter(name="*")
@dataclasses.dataclass(frozen=True)
class Config:
    """Options of ``physgen characters``."""

    text: Path
    """A text in UTF-8, the longer the better; every run of spaces and line breaks is one space."""
    _: dataclasses.KW_ONLY
    sentences: tuple[str, ...] = ()
    """Sentences to score, each in quotation marks."""
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Of each layer, in characters; the network sees 1 + their sum."""
    width: int = 48
    """Features of a character."""
    length: int = 128
    """Characters of the pieces to learn from, which begin anywhere."""
    steps: int = 2000
    """Gradient steps."""
    batch: int = 32
    """Pieces per step."""
    lr: float = 5e-3
    """Learning rate of Adam at the start; it decays to 2 % as a half cosine."""
    average: float = 0.3
    """Last fraction of the steps over which the weights are averaged (Polyak); 0 turns it off."""
    draw: int = 200
    """Characters to make up."""
    every: int = 200
    """Steps between two records and checkpoints."""
    seed: int = 0
    """Seed of the weights and of all draws."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train."""
    out: Path = Path("runs/characters")
    """Folder of results.json, characters.png, config.json, metrics.jsonl and the checkpoint."""
    resume: bool = False
    """Continue from the last checkpoint in --out."""
    quiet: bool = False
    """No progress bar."""

    SMOKE = {"sentences": ("the spins", "snips hte"), "width": 8, "length": 16, "steps": 4, "every": 2,
             "quiet": True}  # fmt: skip

    def __post_init__(self) -> None:
        check_options(self, shares=("average",), folder=True)
        if any(d < 1 for d in self.dilations):
            raise ValueError(f"--dilations must be whole numbers >= 1, got {self.dilations}")


def main(config: Config) -> None:
    torch.manual_seed(config.seed)
    device = pick_device(config.device)
    text = Text(config.text, config.length)
    sentences = {line: text.codes(line).to(device) for line in config.sentences}
    net = models.build(
        "wavenet", (config.length,), dilations=config.dilations, width=config.width, symbols=len(text.letters)
    ).to(device)
    adam = torch.optim.Adam(net.parameters(), lr=config.lr)
    step = gradient_step(net.loss, adam, clip=1.0, **_training.schedule(config))
    unseen = text.unseen.to(device)
    manifest = {"options": plain(config), "text": text.describe(), "provenance": provenance()}

    def measure() -> dict[str, float]:
        return {"unseen_bits": bits(net, unseen).mean}

    pieces = Pieces(text.train, config.length, config.batch, seed=config.seed, device=device)
    _training.train(net, step, pieces, config, manifest, measure)
    report(net, text, unseen, sentences, config)


class Text:
    """A text as numbers of its characters, the last tenth kept apart in pieces ``(n, length)``.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w") as file:
        ...     _ = file.write("spin  up " * 40) and file.flush()
        ...     text = Text(Path(file.name), 10)
        >>> "".join(text.letters), text.codes("up").tolist(), tuple(text.unseen.shape)
        (' inpsu', [5, 3], (3, 10))
    """

    def __init__(self, path: Path, length: int):
        try:
            words = path.read_text(encoding="utf-8").split()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not a text in UTF-8 ({error}); convert it first") from error
        text = " ".join(words)
        self.path, self.letters = path, sorted(set(text))
        known = len(text) - int(UNSEEN * len(text))
        if len(text) - known < length or len(self.letters) < 3:
            raise ValueError(
                f"{path} has {len(text)} characters, {len(self.letters)} different ones; needed are three "
                f"different ones and {math.ceil(length / UNSEEN)} in all, or a smaller --length"
            )
        numbers = {letter: i for i, letter in enumerate(self.letters)}
        all_of_it = torch.tensor([numbers[letter] for letter in text])
        self.train, self.unseen = all_of_it[:known], all_of_it[known:].unfold(0, length, length)

    def codes(self, line: str) -> Tensor:
        """Numbers of the characters of a sentence, ``(n,)``; refused where the text does not have them."""
        foreign = sorted(set(line) - set(self.letters))
        if foreign or not line:
            what = f"{foreign[0]!r} does not occur in {self.path}" if foreign else "a sentence is empty"
            raise ValueError(f"{what}; no such sentence can be scored")
        return torch.tensor([self.letters.index(letter) for letter in line])

    def describe(self) -> dict[str, Any]:
        return {"file": str(self.path), "characters": len(self.train), "different": len(self.letters)}


class Pieces:
    """An endless iterator of pieces ``(size, length)`` of a text that begin anywhere.

    The n-th batch is a function of the text, the seed and n alone: the state is one number.
    """

    def __init__(self, codes: Tensor, length: int, size: int, *, seed: int, device: torch.device):
        self.pieces, self.size, self.seed, self.drawn = codes.unfold(0, length, 1), size, seed, 0
        self.device = device

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        generator = torch.Generator().manual_seed(private_seed(self.seed, 70, self.drawn))
        self.drawn += 1
        return self.pieces[torch.randint(len(self.pieces), (self.size,), generator=generator)].to(self.device)

    def state_dict(self) -> dict[str, int]:
        return {"drawn": self.drawn, "pieces": len(self.pieces)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues after the batches drawn before; refuses those of another text."""
        if state["pieces"] != len(self.pieces):
            raise ValueError("the checkpoint belongs to another text; resume with the same one")
        self.drawn = state["drawn"]


@torch.no_grad()
def surprise(net: WaveNet, codes: Tensor) -> Tensor:
    """:math:`-\\log_2 q` of each character given those before it, ``(*, n)`` bits."""
    given = net.of_length(codes.shape[-1])(codes).double().log_softmax(-1)
    return -given.gather(-1, codes.unsqueeze(-1)).squeeze(-1) / math.log(2)


def bits(net: WaveNet, pieces: Tensor) -> Estimate:
    """Mean bits per character over pieces of a text ``(n, length)``, with the error of their scatter."""
    return scatter(torch.cat([surprise(net, part).mean(-1) for part in pieces.split(64)]))


def counted(text: Text) -> dict[str, Estimate]:
    """The same for counts of single characters and of pairs, with half a count added to each.

    A piece begins with a single character; q symbols need q (q + 1) counts.
    """
    q, pieces = len(text.letters), text.unseen
    single = torch.bincount(text.train, minlength=q) + 0.5
    pairs = torch.bincount(text.train[:-1] * q + text.train[1:], minlength=q * q).reshape(q, q) + 0.5
    single, pairs = single / single.sum(), pairs / pairs.sum(-1, keepdim=True)
    first, later = single[pieces], pairs[pieces[:, :-1], pieces[:, 1:]]
    both = torch.cat([first[:, :1], later], 1)
    return {"single characters": scatter(-first.log2().mean(-1)), "pairs": scatter(-both.log2().mean(-1))}


def scatter(values: Tensor) -> Estimate:
    values = values.double()
    return Estimate(float(values.mean()), float(values.std() / math.sqrt(len(values))))


def report(net: WaveNet, text: Text, unseen: Tensor, sentences: dict[str, Tensor], config: Config) -> None:
    """Scores, draws, prints and writes."""
    found = {"network": bits(net, unseen)} | counted(text)
    each = {line: surprise(net, codes).tolist() for line, codes in sentences.items()}
    scores = {line: -math.log(2) * sum(values) for line, values in each.items()}
    ranked = sorted(scores, key=scores.get, reverse=True)
    drawn = net.of_length(config.draw).sample(1, stream(net, config.seed, 71))
    made = "".join(text.letters[i] for i in drawn[0].tolist())
    single, pairs = found["single characters"], found["pairs"]
    shown = [
        f"{found['network']} bits per character of {unseen.numel()} unseen ones; counts of single "
        f"characters need {single}, of pairs {pairs}"
    ]
    if ranked:
        shown.append(f"{'ln q':>10}  {'bits each':>9}  sentence")
    shown += [f"{scores[s]:10.2f}  {sum(each[s]) / len(s):9.3f}  {s}" for s in ranked]
    sys.stdout.write("\n".join([*shown, f"made up: {made}"]) + "\n")
    write_json(
        config.out / "results.json",
        {
            "bits_per_character": {name: dataclasses.asdict(value) for name, value in found.items()},
            "sentences": {s: {"log_prob": scores[s], "bits": each[s]} for s in ranked},
            "made_up": made,
            "options": plain(config),
            "provenance": provenance(),
        },
    )
    if ranked:
        draw({s: each[s] for s in ranked}).savefig(config.out / "characters.png", dpi=150)
    log.info("%s holds results.json%s", config.out, " and characters.png" if ranked else "")


def draw(sentences: dict[str, list[float]]) -> Figure:
    """Bits of every character, one row per sentence."""
    longest, highest = max(map(len, sentences)), max(max(values) for values in sentences.values())
    figure = Figure(figsize=(max(5, 0.16 * longest), 1.5 * len(sentences) + 0.5), layout="constrained")
    axes = figure.subplots(len(sentences), sharey=True, squeeze=False)[:, 0]
    for ax, (line, values) in zip(axes, sentences.items(), strict=True):
        ax.bar(range(len(line)), values, color=PALETTE[0])
        ax.set_xticks(range(len(line)), line, family="monospace")
        ax.set(xlim=(-0.7, longest - 0.3), ylim=(0, 1.05 * highest))
        ax.set_title(f"ln q = {-math.log(2) * sum(values):.1f} nats", loc="left", fontsize="small")
    figure.supylabel(r"$-\log_2 q$ of each character  (bits)", fontsize="medium")
    return figure
