"""`drive` and its asyncio twin run the same coordinator to the same result; garbage and strangers are silence."""

import asyncio
from dataclasses import dataclass

import pytest

from protocols.faults import Abort, LocalError
from protocols.keys import Identity
from protocols.post import Outbox, unseal
from protocols.session import Encoded, MemberId, adrive, drive
from protocols.wire import Message, Wire


@dataclass(frozen=True, slots=True)
class Number(Message):
    value: int


WIRE = Wire(Number)
A, B, C = MemberId("a"), MemberId("b"), MemberId("c")


def add_up(members, trips):
    total = 0
    for trip in range(trips):
        answers = yield {m: Number(trip) for m in members}
        if not answers:
            raise Abort("0 answered")
        total += sum(n.value for n in answers.values())
    return total


def echo(asks):
    return {m: WIRE.encode(Number(WIRE.decode(data).value + 1)) for m, data in asks.items()}


async def aecho(asks):
    await asyncio.sleep(0)
    return echo(asks)


def test_a_session_runs_to_its_result_both_ways():
    assert drive(add_up([A, B], 3), echo, WIRE) == 12
    assert asyncio.run(adrive(add_up([A, B], 3), aecho, WIRE)) == 12


@pytest.mark.parametrize("bad", [b"", b"garbage", WIRE.encode(Number(1))[:-1]])
def test_garbage_and_strangers_count_as_silence(bad):
    def carrier(asks):
        return {**echo(asks), B: bad, C: WIRE.encode(Number(100))}

    assert drive(add_up([A, B], 1), carrier, WIRE) == 1


def test_an_abort_reaches_the_caller_and_closes_the_coordinator():
    closed = []

    def coordinator():
        try:
            yield from add_up([A], 1)
        finally:
            closed.append(True)

    with pytest.raises(Abort):
        drive(coordinator(), lambda _asks: {}, WIRE)
    assert closed == [True]


def test_a_failing_road_closes_the_coordinator():
    closed = []

    def coordinator():
        try:
            yield {A: Number(1)}
        finally:
            closed.append(True)

    def broken(_asks):
        raise ConnectionError("road")

    with pytest.raises(ConnectionError):
        drive(coordinator(), broken, WIRE)
    assert closed == [True]


def test_asking_nobody_is_our_bug():
    def nobody():
        yield {}

    with pytest.raises(LocalError, match="somebody"):
        drive(nobody(), echo, WIRE)


def test_the_same_ask_to_many_is_encoded_once():
    count = []

    class Counting(Wire):
        def encode(self, message):
            count.append(1)
            return super().encode(message)

    def once():
        ask = Number(1)
        yield dict.fromkeys((A, B, C), ask)

    drive(once(), echo, Counting(Number))
    assert len(count) == 1


def test_asks_and_letters_are_made_when_they_are_looked_up_and_are_the_same_each_time():
    identity, kept = Identity.generate(), []
    same, other = Number(1), Number(2)
    encoded = Encoded({A: same, B: same, C: other}, WIRE)
    assert encoded[A] is encoded[B]
    assert [WIRE.decode(encoded[m]) for m in (C, A)] == [other, same]

    def road(letters):
        kept.append(letters)
        return {}

    outbox = Outbox(road, identity, "coordinator", "5e55", "average", dict.fromkeys((A, B, C), identity.public))
    outbox(encoded)
    outbox({A: b"later"})
    first, second = kept
    assert list(first) == [A, B, C]
    assert first[B] == first[B]
    opened = unseal(first[B], identity.public)  # after the outbox has gone on to another number
    assert (opened.number, opened.recipient, opened.body) == (0, B, encoded[B])
    assert unseal(second[A], identity.public).number == 1
