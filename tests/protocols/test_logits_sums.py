"""Sums at the logit level against what they are by definition, and each word of them against plain integers."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from thinkers import PUBLIC, SYMBOLS, TEXT, bigram, public_rows, question, reading, support_of
from village import village

from client.homes.positions import entries
from privacy.units import Unit
from protocols.faults import LocalError, PeerError
from protocols.logits.block import Asked
from protocols.logits.distill import Distill
from protocols.logits.question import Alphabet, Question, Sends
from protocols.logits.sampling import combined
from protocols.post import unseal
from protocols.secure_sum.messages import Upload
from protocols.secure_sum.terms import Mode, Terms
from protocols.wire import Wire

RATIOS = {"sends": Sends.RATIOS, "clip": 2.0}
COLLABORATIONS = {
    "mixture": question(decay=0.8),
    "product": question(**RATIOS, strength=1.7, temperature=0.7),
    "contrast": question(**RATIOS, lean=0.5, strength=2.5, plausible=0.3),
}


def experts(there) -> list:
    return [e for house in there.houses.values() for e in house.thinkers.own]


def weight(model, text, asked: Question) -> float:
    """Return a model's weight after a text: by the recursion, one symbol after the other."""
    score = 0.0
    for last, symbol in itertools.pairwise(text):
        said = np.float64(np.float32(PUBLIC.logs[last, symbol]))  # as it is told
        score = asked.decay * score + model.logs[last, symbol] - said
    return math.exp(min(max(score, -asked.weight_bound), asked.weight_bound))


def naive(name: str, asked: Question, models, text=TEXT) -> np.ndarray:
    """Return the distribution at each position of a text, from nothing but the formula."""
    found = []
    for at in range(1, len(text)):
        p0 = np.exp(PUBLIC.logs[text[at - 1]])
        each = [np.exp(m.logs[text[at - 1]]) for m in models]
        if name == "mixture":
            weights = [weight(m, text[:at], asked) for m in models]
            q = p0 + sum(w * p for w, p in zip(weights, each, strict=True))
            found.append(q / (1 + sum(weights)))
            continue
        d = [asked.grain * np.rint((np.log(p) - np.log(p0)) / asked.grain) for p in each]
        d = sum(np.clip(x, (asked.lean - 1) * asked.clip, (asked.lean + 1) * asked.clip) for x in d) / asked.experts
        q = (p0 * np.exp(asked.strength * d)) ** (1 / asked.temperature)
        if name == "contrast":
            e = p0 * np.exp(d)
            q = np.where(e >= asked.plausible * e.max(), q, 0)
        found.append(q / q.sum())
    return np.array(found)


@pytest.mark.parametrize("name", COLLABORATIONS)
def test_a_read_text_has_the_distributions_of_the_definition(name, tmp_path):
    there, asked = village(tmp_path, 3), COLLABORATIONS[name]
    done = there.run(reading(asked), collaboration=name)
    got = combined(asked, public_rows(), done.sums, support_of(TEXT, 0))
    assert np.allclose(got, naive(name, asked, experts(there)), atol=1e-7)
    assert done.answered == (3, 3, 3)
    assert done.trips == (1, 1, 1)


@pytest.mark.parametrize("name", COLLABORATIONS)
def test_one_block_or_many_say_the_same_of_every_position(name, tmp_path):
    there = village(tmp_path, 3)
    sums = []
    for number, block in enumerate((1, 2, 9)):
        same = {f: getattr(COLLABORATIONS[name], f) for f in ("sends", "clip", "lean", "strength", "plausible")}
        asked = question(**same, decay=0.8, block=block)
        sums.append(there.run(reading(asked), session=f"{number:04x}", collaboration=name).sums)
    assert np.array_equal(sums[0], sums[1])
    assert np.array_equal(sums[0], sums[2])


def test_on_a_support_the_rest_of_a_mixture_is_spread_as_the_public_model_does(tmp_path):
    there, asked = village(tmp_path, 3), question(support=3)
    done = there.run(reading(asked), collaboration="mixture")
    where = support_of(TEXT, 3)[1:].astype(int)
    got = combined(asked, public_rows(), done.sums, where)
    whole, p0 = naive("mixture", asked, experts(there)), np.exp(public_rows())
    inside = np.take_along_axis(whole, where, 1)
    assert np.allclose(np.take_along_axis(got, where, 1), inside, atol=1e-7)
    np.put_along_axis(p0, where, 0, 1)
    rest = p0 / p0.sum(1, keepdims=True) * (1 - inside.sum(1, keepdims=True))
    assert np.allclose(got[p0 > 0], rest[p0 > 0], atol=1e-7)
    assert np.allclose(got.sum(1), 1)


def test_outside_of_a_support_a_ratio_counts_as_one(tmp_path):
    there, asked = village(tmp_path, 3), question(**RATIOS, support=2)
    done = there.run(reading(asked), collaboration="product")
    where = support_of(TEXT, 2)[1:].astype(int)
    got = combined(asked, public_rows(), done.sums, where)
    for row, p0, on in zip(got, np.exp(public_rows()), where, strict=True):
        off = np.setdiff1d(np.arange(SYMBOLS), on)
        assert np.allclose(row[off] / row[off].sum(), p0[off] / p0[off].sum())


def test_labels_are_the_mixture_on_the_support_and_all_else(tmp_path):
    there, asked = village(tmp_path, 3), question(support=3)
    texts = (TEXT, TEXT[::-1], (0, 0, 0, 5))
    task = reading(asked, *texts, given=1)
    rows = np.concatenate([PUBLIC.logs[[t[0], *t[:-1]]] for t in texts])
    public = np.take_along_axis(rows, task.support.astype(int), 1).astype(np.float32)
    made = there.run(Distill(task, public), collaboration="distill")
    wholes = [naive("mixture", asked, experts(there), t) for t in texts]
    where = np.concatenate([support_of(t, 3)[1:] for t in texts]).astype(int)
    inside = np.take_along_axis(np.concatenate(wholes), where, 1)
    assert np.allclose(made.labels[:, :-1], inside, atol=1e-6)
    assert np.allclose(made.labels.sum(1), 1)


@pytest.mark.parametrize("bits", [16, 24, 32])
@pytest.mark.parametrize("name", COLLABORATIONS)
def test_the_secure_sum_is_the_plain_sum_of_the_same_integers_bit_for_bit(name, bits, tmp_path):
    """Words that are added up under masks, and the same integers that each expert alone would have encoded."""
    there, asked = village(tmp_path, 4), COLLABORATIONS[name]
    terms = Terms(Mode.STRICT, smallest_crowd=3, colluding=1, bits=bits)
    task = reading(asked, TEXT[:5], terms=terms)
    done = there.run(task, collaboration=name)
    spec = asked.spec(terms, 4, 4)
    one = Asked(asked, task.tokens[:1], task.told[:1], task.tokens[1:4], task.told[1:4], support_of(TEXT, 0))
    context, drafts = [TEXT[0]], list(TEXT[1:4])
    public, plain = PUBLIC.block(context, drafts), np.zeros(spec.length, np.int64)
    for model in experts(there):
        plain += spec.encode(entries(one, 0, model.block(context, drafts), public, spec.scale).ravel())
    assert np.array_equal(done.sums.ravel(), plain * (1 / spec.scale))
    real = sum(entries(one, 0, m.block(context, drafts), public).ravel() for m in experts(there))
    assert np.abs(done.sums.ravel() - real).max() <= 4 * 0.51 / spec.scale  # half a step for each of four


def test_every_expert_of_a_member_counts_as_one_of_all(tmp_path):
    there, asked = village(tmp_path, 3), question(**RATIOS, experts=5)
    there.houses["m1"].thinkers.own += (bigram(77), bigram(78))
    done = there.run(reading(asked), collaboration="product")
    got = combined(asked, public_rows(), done.sums, support_of(TEXT, 0))
    assert np.allclose(got, naive("product", asked, experts(there)), atol=1e-7)


def test_a_model_that_finds_a_symbol_impossible_adds_a_bounded_number(tmp_path):
    there = village(tmp_path, 3)
    for house in there.houses.values():
        house.thinkers.own[0].table[:, 2] = -1e5
    for number, name in enumerate(COLLABORATIONS):
        asked = COLLABORATIONS[name]
        done = there.run(reading(asked), session=f"{number:04x}", collaboration=name)
        bound = 3 * (asked.clip * (1 + asked.lean) if asked.sends is Sends.RATIOS else math.exp(asked.weight_bound))
        assert np.abs(done.sums).max() <= bound + 1e-3


def test_what_crosses_is_masked_and_looks_alike_whatever_the_models_say(tmp_path):
    """The same seat at two crowds: one member's words are no function of its models that can be seen."""
    heard: list[bytes] = []
    there = village(tmp_path, 3, tap=lambda m, w, data: heard.append(data) if m == "m1" else None)
    asked = question(most=2000, block=60)
    there.run(reading(asked, TEXT * 4), collaboration="mixture")
    wire = Wire(Upload)
    words = []
    for sealed in heard:
        try:
            upload = wire.decode(unseal(sealed, there.houses["m1"].identity.public).body)
        except PeerError:  # the coordinator's letters, and those that open the sum
            continue
        words.append(np.asarray(upload.words))
    found = np.concatenate(words)
    assert found.size > 1000
    counts = np.bincount(found, minlength=256)
    chi = ((counts - found.size / 256) ** 2 / (found.size / 256)).sum()
    assert chi < 255 + 6 * math.sqrt(2 * 255)  # six deviations


@pytest.mark.parametrize(
    "changes",
    [
        {"given": 0},
        {"lengths": (4, 4)},
        {"lengths": (10, 0)},
        {"lengths": ()},
        {"told": np.zeros(3, np.float32)},
        {"support": np.zeros((10, 2), np.uint32)},
        {"question": question(most=8, block=2)},
    ],
)
def test_a_reading_that_was_not_planned_to_its_end_does_not_begin(changes, tmp_path):
    there = village(tmp_path, 3)
    with pytest.raises(LocalError):
        there.run(replace(reading(), **changes), collaboration="mixture")
    assert not any(list(h.ledger.entries()) for h in there.houses.values())


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"symbols": 1}, "symbols"),
        ({"alphabet": Alphabet.BYTES}, "symbols"),
        ({"support": 1}, "support"),
        ({"support": SYMBOLS + 1}, "support"),
        ({"block": 0}, "block"),
        ({"block": 65}, "block"),
        ({"most": 2**21}, "most"),
        ({"symbols": 2**22, "block": 64}, "block"),
        ({"symbols": 2**17, "support": 64, "block": 1024, "most": 1024}, "block"),  # rows are over all symbols
        ({"experts": 0}, "experts"),
        ({"seed": -1}, "seed"),
        ({"weight_bound": math.nan}, "weight_bound"),
        ({"decay": 1.1}, "decay"),
        ({"clip": 0.0}, "clip"),
        ({"lean": 1.1}, "lean"),
        ({"lean": 0.5, "sends": Sends.RATIOS, "noise_multiplier": 8.0}, "lean"),
        ({"grain": -0.1}, "grain"),
        ({"clip": 1.0, "grain": 1.1}, "grain"),
        ({"temperature": math.inf}, "temperature"),
        ({"strength": -1.0}, "strength"),
        ({"plausible": 1.5}, "plausible"),
        ({"noise_multiplier": 1.0}, "noise_multiplier"),
        ({"sends": Sends.RATIOS, "noise_multiplier": math.nan}, "noise_multiplier"),
        ({"sends": Sends.RATIOS, "noise_multiplier": 1.0, "central": True}, "noise_multiplier"),
        ({"sends": Sends.VOTES}, "noise_multiplier"),
        ({"central": True}, "central"),
        ({"sends": Sends.MIXED}, "central"),
        ({"sends": Sends.MIXED, "central": True, "experts": 1}, "experts"),
        ({"sends": Sends.MIXED, "central": True, "radius": 0.0}, "radius"),
    ],
)
def test_a_question_that_contradicts_itself_is_not_made_and_says_which_field(changes, named):
    with pytest.raises(ValueError, match=named):
        question(**changes)


def test_a_question_is_written_whole_for_whoever_approves_it():
    plan = question(unit=Unit.GROUP).plan
    for field in Question.__dataclass_fields__:
        assert f'"{field}":' in plan
