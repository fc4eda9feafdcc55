"""The distinguishing game against real homes: mailboxes, gates, ledgers, masks; one shard of one home differs."""

from dataclasses import replace

import numpy as np
import pytest
from dp_accounting import SelfComposedDpEvent
from test_logits_speaking import Speaker, said
from thinkers import PLAIN, SYMBOLS, Bigram, question
from village import Village, village

from client.homes.logits import sampled
from privacy.accounting.accountant import Filter, default_orders, price
from privacy.policy import Budget, Policy
from privacy.randomness import SystemRandomness
from privacy.units import Relation
from protocols.logits import speaking
from protocols.logits.question import Sends
from protocols.logits.sampling import combined
from simulations.attacks.distinguishing import Played, epsilon_at_least

DELTA, EPSILON, TRIALS = 1e-5, 1.0, 60
ASKED = question(sends=Sends.RATIOS, clip=0.5, central=True, experts=3, most=4, block=4, strength=0.34)
HALF = np.where(np.arange(SYMBOLS) < SYMBOLS // 2, 15.0, -15.0)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Chance(Speaker):
    """Draw by the system's randomness."""

    def uniform(self) -> float:
        return float(SystemRandomness().uniform(1)[0])


def world(folder, sign: float) -> Village:
    """Raise three homes whose ledgers have room for all trials; the first one's expert is `sign` times another."""
    there = village(folder, 3)
    first = there.houses[min(there.houses)]
    first.thinkers = replace(first.thinkers, own=(Bigram(np.tile(sign * HALF, (SYMBOLS, 1))),))
    for house in there.houses.values():
        room = Policy(1, Budget(epsilon=999.0, delta=DELTA), house.gate.policy.allow)
        house.gate = replace(house.gate, policy=room)
    return there


def play(there: list[Village]) -> Played:
    """Have each world answer so often; the score is how many symbols are of the first half, less the others'."""
    scores = []
    for village_ in there:
        answers = [said(village_, "private_predict", ASKED, Chance(), session=f"{n:032x}") for n in range(TRIALS)]
        scores.append(np.array([float(np.sign(HALF[list(a.symbols)]).sum()) for a in answers]))
    return epsilon_at_least(scores[0], scores[1], DELTA)


def test_sessions_of_real_homes_are_told_apart_no_better_than_each_ledger_was_charged(tmp_path, monkeypatch):
    orders = default_orders(EPSILON, DELTA)
    event = SelfComposedDpEvent(sampled(ASKED, 1, ASKED.spec(PLAIN, 3, 4)), ASKED.most)
    promised = Filter(orders, DELTA).epsilon(price(event, orders, Relation.ADD_OR_REMOVE))
    assert 0.8 < promised < EPSILON
    there = [world(tmp_path / name, sign) for name, sign in (("one", 1.0), ("other", -1.0))]
    found = play(there)
    print(promised, found)  # noqa: T201
    assert found.epsilon <= promised

    def pushed(asked, *rest):
        return combined(replace(asked, strength=40 * asked.strength), *rest)

    monkeypatch.setattr(speaking, "combined", pushed)  # a coordinator that draws from more than it has said
    pushing = [world(tmp_path / f"pushed-{name}", sign) for name, sign in (("one", 1.0), ("other", -1.0))]
    found = play(pushing)
    print(found)  # noqa: T201
    assert found.epsilon > promised
