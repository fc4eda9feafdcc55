"""Train the recogniser of names: hashed words, a bidirectional LSTM, a linear chain on top.

    python -m simulations.redaction.train --data DIR --out FILE --minutes 70
    python -m simulations.redaction.train --data DIR --out FILE --start FILE --focus --rate 0.001 --minutes 20

DIR holds `ner/*.jsonl`; FILE is what `privacy.redaction.ner.network` reads. Wikigold's last fifth is only judged,
when all is done. With `--develop`, for choosing, the fourth is judged instead, and not trained on.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import torch
from phonenumbers.geodata import GEOCODE_DATA
from torch import Tensor, nn

from privacy.redaction.ner import features
from privacy.redaction.ner.network import TAGS, Recogniser
from privacy.redaction.wordlists import given_names
from simulations.redaction.corpus import SOURCE_NAMES, Renamer, Sentence, batches, fragments, manual, read, spans
from simulations.redaction.phrases import PHRASES, PLAIN

WORD, PART, SHAPE, MIXED, HIDDEN, TOP = 80, 80, 24, 144, 128, 128
SHARES = {"wikigold": 3.0, "novels": 0.5, "loans": 0.5}  # of a corpus in an epoch; of one that is not named, all
# towards written text
FOCUSED = {
    **SHARES,
    "wikigold": 4.0,
    "tweets": 0.3,
    "emerging": 0.5,
    "novels": 0.2,
    "loans": 0.3,
}
RENAMED = 0.25  # of the names in a copy
LOWERED, SMALL_NAMES = 0.14, 0.04  # of the copies: all in small letters, the names alone
PLAIN_RUNS = 2500  # of words in small letters that are no names, in an epoch
UNKNOWN = 0.3  # a word seen n times is hidden from its own row with probability UNKNOWN / (UNKNOWN + n)


def known_places() -> list[str]:
    """Return the English names of the places in the phone parser's tables, an open list."""
    names = {entry["en"].split(" - ")[0] for entry in GEOCODE_DATA.values() if "en" in entry}
    return sorted(n for part in names for n in part.split("/") if n and n.replace(",", "").replace(" ", "").isalpha())


def lists() -> tuple[frozenset[int], frozenset[int]]:
    """Return the hashes of known places' words and of first names."""
    places = {
        features.hashed(features.folded(w)) for n in known_places() for w in n.split(", ")[0].split() if len(w) > 3
    }
    return frozenset(places), frozenset(features.hashed(features.folded(n)) for n in given_names())


class Words:
    """Number every word once, with what the network sees of it."""

    def __init__(self) -> None:
        self.places, self.given = lists()
        self.numbers: dict[str, int] = {}
        self.seen: list[features.Seen] = []

    def number(self, word: str) -> int:
        """Return the word's number."""
        if word not in self.numbers:
            self.numbers[word] = len(self.seen)
            self.seen.append(features.seen(word, self.places, self.given))
        return self.numbers[word]


class Network(nn.Module):  # type: ignore[misc]
    """Score every tag of every word: what `network.Recogniser` computes in numpy."""

    def __init__(self) -> None:
        super().__init__()
        self.word = nn.Embedding(features.WORD_ROWS + 1, WORD)
        self.part = nn.EmbeddingBag(features.PART_ROWS, PART, mode="mean")
        self.shape = nn.Embedding(features.SHAPE_ROWS, SHAPE)
        for table in (self.word, self.part, self.shape):
            nn.init.normal_(table.weight, std=0.3)
        self.mix = nn.Linear(WORD + PART + SHAPE + features.FLAGS, MIXED)
        self.lstm = nn.LSTM(MIXED, HIDDEN, bidirectional=True, batch_first=True)
        self.top = nn.Linear(2 * HIDDEN + MIXED, TOP)
        self.emit = nn.Linear(TOP, len(TAGS))
        self.habits = nn.Parameter(torch.zeros(len(SOURCE_NAMES), TOP, len(TAGS)))
        self.habit_bias = nn.Parameter(torch.zeros(len(SOURCE_NAMES), len(TAGS)))
        self.chain = nn.Parameter(torch.zeros(len(TAGS), len(TAGS)))
        self.first = nn.Parameter(torch.zeros(len(TAGS)))
        self.last = nn.Parameter(torch.zeros(len(TAGS)))
        self.drop = nn.Dropout(0.3)

    def forward(self, batch: Batch) -> Tensor:
        """Return the scores (sentences, words, tags)."""
        flat = torch.cat(
            [self.word(batch.word), self.part(batch.parts, batch.bags), self.shape(batch.shape), batch.flags], 1
        )
        mixed = torch.nn.functional.gelu(self.mix(self.drop(flat)))[batch.places]  # (sentences, words, MIXED)
        mixed = self.drop(mixed)
        packed = nn.utils.rnn.pack_padded_sequence(mixed, batch.lengths, batch_first=True, enforce_sorted=False)
        out, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        top = self.drop(torch.tanh(self.top(torch.cat([self.drop(out), mixed], 2))))
        habit = torch.bmm(top, self.habits[batch.sources]) + self.habit_bias[batch.sources][:, None]
        scores: Tensor = self.emit(top) + habit
        return scores

    def loss(self, scores: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """Return the chain's negative log-likelihood for a word, in nats. Cites: Lafferty et al. 2001."""
        rows = torch.arange(len(tags))
        right = self.first[tags[:, 0]] + scores[rows, 0, tags[:, 0]]
        alpha = self.first + scores[:, 0]
        for t in range(1, tags.shape[1]):
            on = mask[:, t]
            step = self.chain[tags[:, t - 1], tags[:, t]] + scores[rows, t, tags[:, t]]
            right = right + step * on
            moved = torch.logsumexp(alpha[:, :, None] + self.chain, 1) + scores[:, t]
            alpha = torch.where(on[:, None] > 0, moved, alpha)
        ends = mask.sum(1).long() - 1
        right = right + self.last[tags[rows, ends]]
        return (torch.logsumexp(alpha + self.last, 1) - right).sum() / mask.sum()


@dataclass(slots=True)
class Batch:
    """Hold some sentences as tensors; each word that occurs is embedded once."""

    word: Tensor
    parts: Tensor
    bags: Tensor
    shape: Tensor
    flags: Tensor
    places: Tensor
    lengths: Tensor
    sources: Tensor
    tags: Tensor
    mask: Tensor


def batch_of(sentences: list[Sentence], words: Words, counts: Counter[str] | None, random: Random) -> Batch:
    """Return the tensors of some sentences; with `counts`, rare words are hidden from their own rows now and then."""
    longest = max(len(s.words) for s in sentences)
    places = np.zeros((len(sentences), longest), np.int64)
    tags, mask = np.zeros_like(places), np.zeros(places.shape, np.float32)
    local: dict[tuple[int, bool], int] = {}
    for i, s in enumerate(sentences):
        rare = not _is_plain(s)
        for j, w in enumerate(s.words):
            hidden = counts is not None and rare and random.random() < UNKNOWN / (UNKNOWN + counts[w.lower()])
            places[i, j] = local.setdefault((words.number(w), hidden), len(local))
        tags[i, : len(s.tags)] = [TAGS.index(t) for t in s.tags]
        mask[i, : len(s.words)] = 1
    seen = [words.seen[n] for n, _ in local]
    parts = [p for one in seen for p in one.parts]
    return Batch(
        torch.tensor([features.WORD_ROWS if hidden else words.seen[n].word for n, hidden in local]),
        torch.tensor(parts),
        torch.tensor(np.cumsum([0, *(len(one.parts) for one in seen[:-1])])),
        torch.tensor([one.shape for one in seen]),
        torch.tensor([one.flags for one in seen]),
        torch.from_numpy(places),
        torch.tensor([len(s.words) for s in sentences]),
        torch.tensor([s.source for s in sentences]),
        torch.from_numpy(tags),
        torch.from_numpy(mask),
    )


def _is_plain(sentence: Sentence) -> bool:
    """Say whether this is a run of plain words: none of them is hidden, so that an unknown one may be a name."""
    return not any(t != "O" or w[0].isupper() for w, t in zip(sentence.words, sentence.tags, strict=True))


def decode(scores: np.ndarray, chain: np.ndarray, first: np.ndarray, last: np.ndarray) -> list[str]:
    """Return the likeliest tags of one sentence's scores (words, tags)."""
    best, back = first + scores[0], []
    for row in scores[1:]:
        moved = best[:, None] + chain
        back.append(moved.argmax(0))
        best = moved.max(0) + row
    path = [int((best + last).argmax())]
    for pointer in reversed(back):
        path.append(int(pointer[path[-1]]))
    return [TAGS[i] for i in reversed(path)]


def judge(network: Network, sentences: list[Sentence], words: Words) -> tuple[float, float]:
    """Return F1 over entities of the right kind and place, and the share of entities' words that any tag covers."""
    network.eval()
    random = Random(0)  # noqa: S311 - hides nothing here
    right = found = wanted = covered = covering = 0
    with torch.no_grad():
        for start in range(0, len(sentences), 64):
            part = sentences[start : start + 64]
            scores = network(batch_of(part, words, None, random)).numpy()
            chain = [p.detach().numpy() for p in (network.chain, network.first, network.last)]
            for s, row in zip(part, scores, strict=True):
                tags = decode(row[: len(s.words)], *chain)
                here, there = set(spans(tags)), set(spans(s.tags))
                right, found, wanted = right + len(here & there), found + len(here), wanted + len(there)
                covered += sum(t != "O" and g != "O" for t, g in zip(tags, s.tags, strict=True))
                covering += sum(g != "O" for g in s.tags)
    network.train()
    return 2 * right / max(1, found + wanted), covered / max(1, covering)


def save(network: Network, words: Words, file: Path) -> None:
    """Write the weights: tables in 8 bits with a scale for each row, the rest in half precision."""
    arrays: dict[str, np.ndarray] = {"version": np.array([features.VERSION])}
    arrays["places"] = np.array(sorted(words.places), np.uint32)
    arrays["given"] = np.array(sorted(words.given), np.uint32)
    for name, value in network.state_dict().items():
        table = value.numpy()
        if name in ("word.weight", "part.weight", "shape.weight"):
            scale = np.abs(table).max(1, keepdims=True) / 127
            arrays[name + ".rows"] = np.round(table / np.maximum(scale, 1e-12)).astype(np.int8)
            arrays[name + ".scale"] = scale.astype(np.float16)
        else:
            arrays[name] = table.astype(np.float16)
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Plan:
    """Say how to train: for how long, from which weights, at which rate, on how much of each corpus.

    Units:   `minutes` by the clock, unless it is said how many `steps`.
    """

    minutes: float = 70
    steps: int = 0
    seed: int = 0
    start: Path | None = None
    rate: float = 2e-3
    shares: Mapping[str, float] = field(default_factory=lambda: SHARES)
    develop: bool = False

    def done(self, step: int, began: float) -> float:
        """Return how much of the training is done, from 0 to 1."""
        return step / self.steps if self.steps else (time.time() - began) / (60 * self.minutes)


def train(data: Path, out: Path, plan: Plan) -> None:
    """Train, write the moving average of the weights, judge it; the rate falls in a line to zero."""
    torch.manual_seed(plan.seed)
    random = Random(plan.seed)  # noqa: S311 - a seed is wanted
    training, held_out = read(data / "ner", plan.develop)
    words, renamer = Words(), Renamer(training, known_places(), random)
    counts, plain = Counter(w.lower() for s in training for w in s.words), [*fragments(training), *manual()]
    network = Network()
    if plan.start is not None:
        kept = Recogniser.load(plan.start).weights
        network.load_state_dict({name: torch.from_numpy(value) for name, value in kept.items()})
    average = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=plan.rate, weight_decay=0.01, betas=(0.9, 0.99), fused=True
    )
    began, step, done = time.time(), 0, 0.0
    while done < 1:
        copies = _epoch(training, renamer, plan.shares, plain, random)
        for numbers in batches([len(s.words) for s in copies], 900, random):
            done = plan.done(step, began)
            if done >= 1:
                break
            for group in optimiser.param_groups:
                group["lr"] = plan.rate * min(1, (step + 1) / 200) * max(0.02, 1 - done)
            batch = batch_of([copies[i] for i in numbers], words, counts, random)
            loss = network.loss(network(batch), batch.tags, batch.mask)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            step += 1
            if step % 200 == 0:
                save(average, words, out)  # a run may be stopped at any time
            if step % 4 == 0:
                _follow(average, network, min(0.999, 1 - 1 / (step / 10 + 1)) ** 4)
        said = f"{step} steps, {time.time() - began:.0f} s"
        if plan.develop or done >= 1:  # what is held out in the end is looked at once
            said += ": F1 {:.4f}, words covered {:.4f}".format(*judge(average, held_out, words))
        sys.stdout.write(said + "\n")
        sys.stdout.flush()
        save(average, words, out)


def _epoch(
    training: list[Sentence],
    renamer: Renamer,
    shares: Mapping[str, float],
    plain: list[tuple[str, ...]],
    random: Random,
) -> list[Sentence]:
    """Return copies of the sentences, of each corpus as many as its share says; notes made of phrases; plain runs.

    Without plain runs the notes' output would know a few hundred words that are no names, and take any other for one.
    """
    found: list[Sentence] = []
    for sentence in training:
        share = shares.get(SOURCE_NAMES[sentence.source], 1.0)
        times = int(share) + (random.random() < share % 1)
        found += [renamer.copy(sentence, RENAMED, LOWERED, small=SMALL_NAMES) for _ in range(times)]
    notes = [renamer.filled(t) for t in PHRASES for _ in range(20)] + [
        renamer.filled(t) for t in PLAIN for _ in range(10)
    ]
    drawn = [random.choice(plain) for _ in range(PLAIN_RUNS)]
    habits = [SOURCE_NAMES.index(name) for name in ("notes", "wikigold")]
    found += [Sentence(run, ("O",) * len(run), random.choice(habits)) for run in drawn]
    return found + [renamer.beside(n, random.choice(plain)) if random.random() < 0.4 else n for n in notes]


def _follow(average: Network, network: Network, keep: float) -> None:
    """Move the average a little towards the weights."""
    with torch.no_grad():
        for a, p in zip(average.parameters(), network.parameters(), strict=True):
            a.lerp_(p, 1 - keep)


def main() -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=70)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--focus", action="store_true")
    parser.add_argument("--develop", action="store_true")
    options = vars(parser.parse_args())
    data, out, focus = (options.pop(name) for name in ("data", "out", "focus"))
    train(data, out, Plan(shares=FOCUSED if focus else SHARES, **options))


if __name__ == "__main__":
    main()
