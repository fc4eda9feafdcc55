"""Run the recogniser of names in numpy: hashed words, a bidirectional LSTM, a linear chain.

    words ── tables ── mix ──┬── LSTM → ──┐
                             ├── LSTM ← ──┼── top ── a score for each tag ── chain ── probabilities
                             └────────────┘

`simulations/redaction/train.py` makes the weights with torch; `names.npz` holds them, without pickle.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from privacy.redaction.ner import features

TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
HABITS = ("wikigold", "docred", "crossner", "tweets", "emerging", "loans", "novels", "gum", "notes")
_FILE = Path(__file__).parent / "names.npz"
_AT_ONCE = 256  # sentences
_REMEMBERED = 1 << 15  # words
Floats = NDArray[np.float32]


@dataclass(slots=True)
class Recogniser:
    """Give each word of a sentence a probability for every tag.

    `habits` names whose annotators' way of marking is followed: what is a name at all differs between corpora.
    """

    weights: dict[str, Floats]
    places: frozenset[int]
    given: frozenset[int]
    _mixed: dict[str, Floats] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, file: Path = _FILE) -> "Recogniser":
        """Read weights. Raises: ValueError for those of another version of the features."""
        with np.load(file, allow_pickle=False) as kept:
            if kept["version"].tolist() != [features.VERSION]:
                raise ValueError("the weights are of another version of the features")
            weights = {
                name: kept[name].astype(np.float32)
                for name in kept.files
                if name not in ("version", "places", "given") and not name.endswith((".rows", ".scale"))
            }
            for table in ("word", "part", "shape"):
                scale = kept[f"{table}.weight.scale"].astype(np.float32)
                weights[f"{table}.weight"] = kept[f"{table}.weight.rows"].astype(np.float32) * scale
            places, given = (frozenset(kept[name].tolist()) for name in ("places", "given"))
        return cls(weights, places, given)

    def scores(self, sentences: Sequence[Sequence[str]], habit: str) -> list[Floats]:
        """Return the chain's scores of each sentence's words.

        Shapes:  each (words, tags) float32.
        """
        found: list[Floats] = [np.zeros((0, len(TAGS)), np.float32)] * len(sentences)
        for numbers, tops, lengths in self._tops(sentences):
            ends = np.cumsum(lengths)
            for i, rows in zip(numbers, np.split(self._emitted(tops, habit), ends[:-1]), strict=True):
                found[i] = rows
        return found

    def probabilities(self, sentences: Sequence[Sequence[str]], habits: Sequence[str]) -> list[Floats]:
        """Return the probability of each tag for each word, given the whole sentence; the mean over some habits.

        Shapes:  each (words, tags) float32.
        """
        found: list[Floats] = [np.zeros((0, len(TAGS)), np.float32)] * len(sentences)
        for numbers, tops, lengths in self._tops(sentences):
            there = np.arange(lengths[0]) < lengths[:, None]
            padded = np.zeros((*there.shape, len(TAGS)), np.float32)
            mean = np.zeros_like(padded)
            for habit in habits:
                padded[there] = self._emitted(tops, habit)
                mean += self._marginals(padded, lengths)
            mean /= len(habits)
            for n, i in enumerate(numbers):
                found[i] = mean[n, : lengths[n]]
        return found

    def tags(self, sentence: Sequence[str], habit: str) -> list[str]:
        """Return the likeliest sequence of tags. Cites: Viterbi 1967."""
        (scores,) = self.scores([sentence], habit)
        if not len(scores):
            return []
        best, back = self.weights["first"] + scores[0], []
        for row in scores[1:]:
            moved = best[:, None] + self.weights["chain"]
            back.append(moved.argmax(0))
            best = moved.max(0) + row
        path = [int((best + self.weights["last"]).argmax())]
        for pointer in reversed(back):
            path.append(int(pointer[path[-1]]))
        return [TAGS[i] for i in reversed(path)]

    def _tops(self, sentences: Sequence[Sequence[str]]) -> Iterator[tuple[list[int], Floats, NDArray[np.intp]]]:
        """Yield numbers of sentences, longest first, what stands under their words' tags, and their lengths.

        Shapes:  the second (words of all these sentences, top).
        """
        order = [i for i in sorted(range(len(sentences)), key=lambda i: -len(sentences[i])) if sentences[i]]
        for start in range(0, len(order), _AT_ONCE):
            numbers = order[start : start + _AT_ONCE]
            known: dict[str, int] = {}
            places = np.zeros((len(numbers), len(sentences[numbers[0]])), np.intp)
            for n, i in enumerate(numbers):
                places[n, : len(sentences[i])] = [known.setdefault(w, len(known)) for w in sentences[i]]
            lengths = np.array([len(sentences[i]) for i in numbers])
            yield numbers, self._read(self._words(known), places, lengths), lengths

    def _read(self, mixed: Floats, places: NDArray[np.intp], lengths: NDArray[np.intp]) -> Floats:
        steps = np.arange(places.shape[1])
        backwards = np.maximum(lengths[:, None] - 1 - steps, 0)  # of each sentence its last word first
        every = np.arange(len(places))[:, None]
        there = steps < lengths[:, None]
        ahead = self._lstm(mixed, places, lengths, "")[there]
        behind = self._lstm(mixed, places[every, backwards], lengths, "_reverse")[every, backwards][there]
        table, size = self.weights["top.weight"].T, ahead.shape[1]
        sums: Floats = ahead @ table[:size] + behind @ table[size : 2 * size]
        sums += (mixed @ table[2 * size :] + self.weights["top.bias"])[places[there]]
        return np.tanh(sums, out=sums)

    def _lstm(self, mixed: Floats, places: NDArray[np.intp], lengths: NDArray[np.intp], way: str) -> Floats:
        """Run one direction over sentences that are ordered by length: at each step those that still go on.

        Cites: Hochreiter and Schmidhuber 1997; torch orders the gates i, f, g, o. A sigmoid is half of 1 + tanh.
        """
        size = self.weights[f"lstm.weight_hh_l0{way}"].shape[1]
        halves = np.repeat(np.array([0.5, 0.5, 1, 0.5], np.float32), size)  # what tanh is taken of
        bias = self.weights[f"lstm.bias_ih_l0{way}"] + self.weights[f"lstm.bias_hh_l0{way}"]
        seen = (mixed @ self.weights[f"lstm.weight_ih_l0{way}"].T + bias) * halves  # (words, 4 * hidden)
        again = self.weights[f"lstm.weight_hh_l0{way}"].T * halves
        out = np.zeros((*places.shape, size), np.float32)
        state, cell = np.zeros((len(places), size), np.float32), np.zeros((len(places), size), np.float32)
        going = np.searchsorted(-lengths, -np.arange(places.shape[1]), side="left")  # how many are longer than a step
        for step, on in enumerate(going.tolist()):
            gates = seen[places[:on, step]]
            gates += state[:on] @ again
            np.tanh(gates, out=gates)
            put, keep, new, show = (gates[:, n * size : (n + 1) * size] for n in range(4))
            cell[:on] = 0.5 * ((1 + keep) * cell[:on] + (1 + put) * new)
            state[:on] = 0.5 * (1 + show) * np.tanh(cell[:on])
            out[:on, step] = state[:on]
        return out

    def _emitted(self, tops: Floats, habit: str) -> Floats:
        number = HABITS.index(habit)
        table = self.weights["emit.weight"].T + self.weights["habits"][number]
        emitted: Floats = tops @ table + self.weights["emit.bias"] + self.weights["habit_bias"][number]
        return emitted

    def _marginals(self, emitted: Floats, lengths: NDArray[np.intp]) -> Floats:
        """Return (sentences, words, tags): forwards, backwards, and their product. Cites: Rabiner 1989."""
        local = np.exp(emitted - emitted.max(2, keepdims=True))
        chain = np.exp(self.weights["chain"])
        forwards, backwards = np.empty_like(local), np.empty_like(local)
        forwards[:, 0] = _scaled(np.exp(self.weights["first"]) * local[:, 0])
        for t in range(1, local.shape[1]):
            forwards[:, t] = _scaled((forwards[:, t - 1] @ chain) * local[:, t])
        end = np.exp(self.weights["last"])
        after = np.broadcast_to(end, local[:, 0].shape)
        for t in range(local.shape[1] - 1, -1, -1):
            after = np.where((lengths - 1 == t)[:, None], end, after)
            backwards[:, t] = _scaled(after)
            after = (local[:, t] * backwards[:, t]) @ chain.T
        return _scaled(forwards * backwards)

    def _words(self, known: dict[str, int]) -> Floats:
        """Return (words, mixed): what stands for each word, remembered for the next time it is met."""
        if len(self._mixed) > _REMEMBERED:
            self._mixed.clear()
        new = [w for w in known if w not in self._mixed]
        if new:
            for word, row in zip(new, self._embedded(new), strict=True):
                self._mixed[word] = row
        return np.stack([self._mixed[w] for w in known])

    def _embedded(self, words: Sequence[str]) -> Floats:
        seen = [features.seen(w, self.places, self.given) for w in words]
        starts = np.cumsum([0, *(len(s.parts) for s in seen[:-1])])
        parts = self.weights["part.weight"][np.concatenate([s.parts for s in seen])]
        bag = np.add.reduceat(parts, starts, axis=0) / np.array([len(s.parts) for s in seen], np.float32)[:, None]
        word, shape = (
            self.weights["word.weight"][[s.word for s in seen]],
            self.weights["shape.weight"][[s.shape for s in seen]],
        )
        flat = np.concatenate([word, bag, shape, np.array([s.flags for s in seen], np.float32)], axis=1)
        return _gelu(flat @ self.weights["mix.weight"].T + self.weights["mix.bias"])


def _scaled(rows: Floats) -> Floats:
    scaled: Floats = rows / np.maximum(rows.sum(-1, keepdims=True), np.float32(1e-30))
    return scaled


def _gelu(x: Floats) -> Floats:
    """Return x times the normal distribution's share below it, within 2e-7. Cites: Abramowitz and Stegun 7.1.26."""
    z = np.abs(x) * np.float32(0.7071067811865476)
    t = 1 / (1 + np.float32(0.3275911) * z)
    series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t
    erf = np.sign(x) * (1 - series * np.exp(-z * z))
    gelu: Floats = (0.5 * x * (1 + erf)).astype(np.float32)
    return gelu


@functools.cache
def shipped() -> Recogniser:
    """Return the recogniser that ships."""
    return Recogniser.load()
