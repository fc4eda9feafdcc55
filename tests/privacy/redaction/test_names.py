"""The recogniser of names computes what it says, on whatever words, and hides names that are on no list."""

import itertools
import math

import numpy as np
import pytest

from privacy.redaction.names import NameDetector
from privacy.redaction.ner import features, network
from privacy.redaction.ner.network import HABITS, TAGS, Recogniser
from privacy.redaction.redactor import Redactor
from privacy.redaction.settings import profile
from privacy.redaction.spans import Entity
from privacy.redaction.view import View
from privacy.redaction.wordlists import given_names, plain_words, surnames

WORDS = [["Anna", "Schmidt", "left"], ["x"], ["Initech", "is", "in", "Oslo", ",", "Norway", "."], [], ["Bo"]]


@pytest.fixture(scope="module")
def recogniser() -> Recogniser:
    return network.shipped()


def naive(recogniser: Recogniser, words: list[str], habit: str) -> np.ndarray:
    """The network's scores, word by word and gate by gate in float64, as torch's documentation writes them."""
    w = {name: value.astype(np.float64) for name, value in recogniser.weights.items()}
    gelu = np.vectorize(lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))))
    mixed = []
    for word in words:
        seen = features.seen(word, recogniser.places, recogniser.given)
        bag = np.mean([w["part.weight"][p] for p in seen.parts], axis=0)
        flat = np.concatenate([w["word.weight"][seen.word], bag, w["shape.weight"][seen.shape], seen.flags])
        mixed.append(gelu(w["mix.weight"] @ flat + w["mix.bias"]))
    ahead, behind = lstm(w, mixed, ""), lstm(w, mixed[::-1], "_reverse")[::-1]
    number = HABITS.index(habit)
    rows = []
    for parts in zip(ahead, behind, mixed, strict=True):
        top = np.tanh(w["top.weight"] @ np.concatenate(parts) + w["top.bias"])
        rows.append(top @ (w["emit.weight"].T + w["habits"][number]) + w["emit.bias"] + w["habit_bias"][number])
    return np.array(rows)


def lstm(w: dict[str, np.ndarray], inputs: list[np.ndarray], way: str) -> list[np.ndarray]:
    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    size = w[f"lstm.weight_hh_l0{way}"].shape[1]
    h, c, out = np.zeros(size), np.zeros(size), []
    for x in inputs:
        gates = w[f"lstm.weight_ih_l0{way}"] @ x + w[f"lstm.bias_ih_l0{way}"]
        i, f, g, o = np.split(gates + w[f"lstm.weight_hh_l0{way}"] @ h + w[f"lstm.bias_hh_l0{way}"], 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        out.append(h)
    return out


def test_a_batch_of_sentences_has_the_scores_of_each_by_itself(recogniser) -> None:
    for words, scores in zip(WORDS, recogniser.scores(WORDS, "wikigold"), strict=True):
        assert scores.shape == (len(words), len(TAGS))
        if words:
            np.testing.assert_allclose(scores, naive(recogniser, words, "wikigold"), atol=2e-3)


def test_probabilities_are_those_of_all_sequences_of_tags(recogniser) -> None:
    words = WORDS[0]
    scores = naive(recogniser, words, "gum")
    first, last, chain = (recogniser.weights[n].astype(np.float64) for n in ("first", "last", "chain"))
    expected, best, likeliest = np.zeros((3, len(TAGS))), -np.inf, ()
    for path in itertools.product(range(len(TAGS)), repeat=3):
        total = first[path[0]] + last[path[2]] + sum(scores[i, t] for i, t in enumerate(path))
        total += chain[path[0], path[1]] + chain[path[1], path[2]]
        best, likeliest = max((best, likeliest), (total, path))
        for i, tag in enumerate(path):
            expected[i, tag] += math.exp(total)
    found = recogniser.probabilities(WORDS, ["gum"])
    np.testing.assert_allclose(found[0], expected / expected.sum(1, keepdims=True), atol=1e-3)
    assert recogniser.tags(words, "gum") == [TAGS[t] for t in likeliest]
    assert recogniser.tags([], "gum") == []
    for chances in found:
        np.testing.assert_allclose(chances.sum(1), 1, atol=1e-5)


def test_weights_of_other_features_are_refused(recogniser, tmp_path) -> None:
    np.savez(tmp_path / "w.npz", version=np.array([features.VERSION + 1]))
    with pytest.raises(ValueError, match="another version"):
        Recogniser.load(tmp_path / "w.npz")


def test_the_weights_that_ship_are_small_and_finite(recogniser) -> None:
    assert network._FILE.stat().st_size <= 12 * 10**6
    assert all(np.isfinite(value).all() for value in recogniser.weights.values())


NAMED = [
    ("Yesterday Brantonio Ulmskaya wrote to us from Ostfield.", ("Brantonio", "Ulmskaya", "Ostfield")),
    ("The contract with Pellgard Logistics was signed by Ms. Tamquist.", ("Pellgard", "Tamquist")),
    ("I met Keldova in Lomvik last week.", ("Keldova", "Lomvik")),
]


@pytest.mark.parametrize(("text", "names"), NAMED)
def test_a_name_that_is_on_no_list_is_hidden(text: str, names: tuple[str, ...]) -> None:
    hidden = " ".join(text[s.start : s.end] for s in Redactor().find(text))
    assert [n for n in names if n not in hidden] == []


@pytest.mark.parametrize("text", ["", " ", "\n\n", "a" * 5000, "😀 😀", "...", "word " * 3000])
def test_any_text_is_looked_at(text: str) -> None:
    for span in NameDetector().find(View.of(text)):
        assert 0 <= span.start < span.end <= len(text)


def test_strict_hides_more(recogniser) -> None:
    text = "the meeting with ulmskaya from tamquist logistics in ostfield went well, said brant"
    plain, strict = (sum(s.end - s.start for s in Redactor(profile(p)).find(text)) for p in ("default", "strict"))
    assert strict >= plain


def test_a_kind_is_the_likeliest_of_its_run() -> None:
    found = {
        s.kind
        for s in NameDetector().find(View.of("Anna Schmidt lives in Norway and works for Microsoft Corporation."))
    }
    assert Entity.PERSON in found
    assert Entity.LOCATION in found


TALK = (
    "the lid of the tall barrel is glass. anna schmidt broke the old kettle in the attic of ostfield hospital. "
    "is the room of the torn sack and the new mug the same? write to ulmskaya about the funnel and the blue needle"
)


def runs(detector: NameDetector, text: str = TALK) -> dict[str, float]:
    return {text[s.start : s.end]: s.score for s in detector.find(View.of(text))}


def test_a_run_of_nothing_but_plain_words_must_be_surely_a_name() -> None:
    everything, surely, none = (runs(NameDetector(0.02, bar, small=0.02)) for bar in (0.0, 0.5, 1.1))
    plain = {r for r in everything if set(r.split()) <= plain_words()}
    assert plain  # at so low a bar the recogniser takes some for names
    assert set(none) == set(everything) - plain  # no other run is touched
    bar = 0.4 + 0.6 * (0.5 - 0.02) / (1 - 0.02)
    assert set(surely) == {r for r in everything if r not in plain or everything[r] >= bar}


def test_no_capital_makes_a_plain_word() -> None:
    text = "Will and Mark Long met the Barrel Basket in the Attic"
    assert runs(NameDetector(0.02, plain=1.1), text) == runs(NameDetector(0.02, plain=0.0), text)
    assert runs(NameDetector(0.5, 1.1, small=0.01), text) == runs(NameDetector(0.5, 1.1, small=0.5), text)


def test_a_word_in_small_letters_that_is_no_plain_one_is_hidden_at_a_lower_bar() -> None:
    strange = "the flumber of keldova grantic met ulmskaya by the porridge"
    low, high = (set(runs(NameDetector(0.999, 1.1, small), strange)) for small in (0.01, 0.999))
    assert len(" ".join(low)) > len(" ".join(high))
    assert not {"the", "of", "met", "by", "porridge"} & low


def test_names_in_small_letters_are_still_found() -> None:
    text = "my name is anna schmidt and i work at ostfield hospital in norway, ask for brant keldova"
    hidden = " ".join(text[s.start : s.end] for s in Redactor().find(text))
    assert [n for n in ("anna", "schmidt", "ostfield", "norway", "keldova") if n not in hidden] == []


def test_the_list_of_plain_words_holds_no_first_name_and_no_capital() -> None:
    assert not {n.lower() for n in given_names()} & plain_words()
    assert len({n.lower() for n in surnames()} & plain_words()) < 60  # "brown" and the like, that stand for things
    assert all(w.isascii() and w.isalpha() and w.islower() for w in plain_words())
    assert 10_000 < len(plain_words()) < 20_000
