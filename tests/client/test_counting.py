"""Records vote at home: where texts lie, what one record can say, and what a real home lets go."""

import numpy as np
import pytest

from client import embedding
from client.data import Records
from client.embedding import AXES, Embedding, nearest
from client.homes.counting import Voters
from privacy.randomness import SystemRandomness
from privacy.units import Unit
from protocols.secure_sum.terms import Mode, Terms
from protocols.text.ballot import Ballot, Votes

PUBLIC = (
    "the patient was given insulin for diabetes", "the heart beats irregularly: atrial fibrillation",
    "interest rates rose and the bond fell", "the loan was repaid with interest",
    "a parser reads tokens from the stream",
)  # fmt: skip
TERMS = Terms(Mode.STRICT, smallest_crowd=2, colluding=1)


def ballot(**changes) -> Ballot:
    given = {
        "by": Votes.NEAREST, "choices": 5, "counts": 1, "votes": 1, "looks": 1, "population": 12, "record_tokens": 8,
        "unit": Unit.RECORD, "epsilon": None, "delta": 1e-5, "noise_multiplier": None,
    }  # fmt: skip
    return Ballot(**(given | changes))


def voters(*texts: str, choices=PUBLIC, owner=None, **changes) -> Voters:
    rows = len(texts)
    owners = None if owner is None else np.array(owner, np.int32)
    records = Records(np.zeros((rows, 2), np.int32), np.full(rows, 2, np.int32), owners)
    return Voters(records, texts, ballot(**changes), choices)


def each(of: Voters) -> np.ndarray:
    return np.array(list(of.vectors(np.arange(len(of)), SystemRandomness())))


def test_a_text_is_nearest_to_the_one_it_shares_most_with_whatever_its_case_form_and_space():
    place = Embedding(PUBLIC).place
    among = place(PUBLIC)
    for i, text in enumerate(PUBLIC):
        assert nearest(place([text.upper()]), among) == [i]
        assert nearest(place([f"  {text.replace(' ', '   ')}\n"]), among) == [i]
    assert nearest(place(["insulin against diabetes", "ﬁbrillation of the heart"]), among).tolist() == [0, 1]
    assert nearest(place(["", " .,; "]), among).tolist() == [-1, -1]


def test_places_are_unit_vectors_and_the_same_for_ever():
    places = Embedding(PUBLIC).place([*PUBLIC, ""])
    assert places.shape == (6, 1024)
    assert np.linalg.norm(places, axis=1) == pytest.approx([1, 1, 1, 1, 1, 0], abs=1e-6)
    again = Embedding(PUBLIC).place(["the loan was repaid"])
    assert np.flatnonzero(again[0])[:6].tolist() == [30, 48, 55, 75, 85, 131]


def test_many_public_texts_say_by_which_axes_texts_differ():
    public = [f"{text} {word}" for text in PUBLIC for word in ["alpha", "beta", "gamma", "delta", "epsilon"] * 6]
    made = Embedding(public)
    places = made.place([*PUBLIC, ""])
    assert places.shape == (6, AXES)
    assert not places[5].any()
    near = places[:5] @ made.place(public).T
    assert [public[i].startswith(text) for text, i in zip(PUBLIC, near.argmax(axis=1), strict=True)] == [True] * 5


def test_the_public_texts_places_are_as_any_texts_and_of_many_a_sample_says_what_counts(monkeypatch):
    public = [f"{text} {n}" for n in range(40) for text in PUBLIC]
    made = Embedding(public)
    assert np.array_equal(made.places, made.place(public))
    hashed, grams = [], embedding._grams
    monkeypatch.setattr(embedding, "_grams", lambda texts: hashed.append(len(texts)) or grams(texts))
    monkeypatch.setattr(embedding, "_SAMPLE", 150)
    Embedding(public)
    assert hashed == [150, 200]


def test_a_few_steps_find_the_axes_along_which_rows_differ_most():
    random = np.random.default_rng(3)
    scales = np.r_[np.linspace(9, 5, AXES), np.full(200 - AXES, 1.0)]
    turned = np.linalg.qr(random.standard_normal((200, 200)))[0]
    rows = ((random.standard_normal((600, 200)) * scales) @ turned).astype(np.float32)
    axes = embedding._widest(rows)
    assert axes.T @ axes == pytest.approx(np.eye(AXES), abs=1e-5)
    most = np.sort(np.linalg.eigvalsh((rows.T @ rows).astype(float)))[-AXES:].sum()
    assert 0.999 * most < np.square(rows @ axes).sum() <= 1.00001 * most


def test_what_a_text_says_does_not_hang_on_the_texts_beside_it():
    texts = ["insulin", "bonds fell", "tokens of a stream"]
    alone = [each(voters(text))[0] for text in texts]
    assert np.array_equal(each(voters(*texts)), np.array(alone))


def test_a_record_votes_once_for_the_nearest_choice_and_an_empty_one_for_none():
    votes = each(voters("insulin and diabetes", "rates and bonds", "..."))
    assert votes.argmax(axis=1)[:2].tolist() == [0, 2]
    assert votes.sum(axis=1).tolist() == [1, 1, 0]


def test_looks_are_averaged_and_a_choice_is_their_mean():
    looks = tuple(x for text in PUBLIC for x in (text, text.upper(), f"{text}!"))
    votes = each(voters("insulin and diabetes", choices=looks, looks=3))
    assert votes.shape == (1, 5)
    assert votes.argmax() == 0


def test_phrases_are_whole_words_in_their_order():
    phrases = ("heart", "heart rate", "art", "rate heart", "Café")
    held = each(voters("The HEART rate at the cafe\u0301.", choices=phrases, by=Votes.HELD, votes=5))[0]
    assert held.tolist() == [1, 1, 0, 0, 1]


def test_of_more_phrases_than_votes_the_same_few_are_chosen_and_not_the_first_of_the_list():
    phrases = tuple(f"w{i}" for i in range(40))
    text = " ".join(phrases)
    one = each(voters(text, choices=phrases, by=Votes.HELD, votes=4))
    assert one.sum() == 4
    assert np.array_equal(one, each(voters(text, choices=phrases, by=Votes.HELD, votes=4)))
    chosen = [each(voters(f"{text} x{i}", choices=phrases, by=Votes.HELD, votes=4))[0] for i in range(30)]
    assert (np.sum(chosen, axis=0) > 0).sum() > 25


@pytest.mark.parametrize("by", list(Votes))
def test_no_unit_says_more_than_its_norm_whatever_it_holds(by):
    dice, words = np.random.default_rng(1), [w for text in PUBLIC for w in text.split()]
    texts = [" ".join(dice.choice(words, 9)) for _ in range(40)]
    most = 3 if by is Votes.HELD else 1
    choices = tuple(dict.fromkeys(words)) if by is Votes.HELD else PUBLIC
    for owner in (None, np.repeat([0, 1], 20)):
        unit = Unit.RECORD if owner is None else Unit.GROUP
        found = each(voters(*texts, choices=choices, by=by, votes=most, owner=owner, unit=unit))
        assert np.linalg.norm(found, axis=1).max() <= np.sqrt(most) * (1 + 1e-12)
        assert len(found) == (40 if owner is None else 2)


def test_records_are_counted_in_whole_numbers_however_many_there_are():
    code = ballot(epsilon=1.0, noise_multiplier=3.0, population=1000).spec(TERMS, 3, 5)
    one = code.encode(np.eye(5)[2])
    assert abs(int(one[2]) - code.scale) <= 1
    assert float(np.linalg.norm(one.astype(np.float64))) <= code.bound


def test_an_embedding_of_nothing_places_nothing():
    assert Embedding(()).place(["a text"]).any() is np.False_
    assert Embedding(PUBLIC).place([]).shape == (0, 1024)
