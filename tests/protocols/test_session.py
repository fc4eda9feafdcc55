"""`drive` and its asyncio twin run the same coordinator to the same result; garbage and strangers are silence."""

import asyncio
from dataclasses import dataclass

import pytest

from protocols.faults import Abort, LocalError
from protocols.session import MemberId, adrive, drive
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
