"""What is not exactly a message of the vocabulary is a WireError, and says nothing of what it was."""

import tracemalloc
from dataclasses import dataclass
from enum import Enum

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from protocols.faults import LocalError, WireError
from protocols.wire import Message, Wire


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True)
class Inner(Message):
    count: int


@dataclass(frozen=True, slots=True)
class Everything(Message):
    count: int
    rate: float
    flag: bool
    name: str
    data: bytes
    maybe: float | None
    names: tuple[str, ...]
    inner: Inner
    colour: Colour
    vector: NDArray[np.float32]
    words: NDArray[np.uint32]


WIRE = Wire(Everything, Inner)


def everything(**changes) -> Everything:
    given_ = {
        "count": 1,
        "rate": 0.5,
        "flag": True,
        "name": "n",
        "data": b"d",
        "maybe": None,
        "names": ("a", "b"),
        "inner": Inner(3),
        "colour": Colour.BLUE,
        "vector": np.arange(6, dtype=np.float32).reshape(2, 3),
        "words": np.array([2**32 - 1], dtype=np.uint32),
    }
    return Everything(**(given_ | changes))


def test_a_message_survives_the_wire():
    got = WIRE.decode(WIRE.encode(everything()))
    assert isinstance(got, Everything)
    assert np.array_equal(got.vector, everything().vector)
    assert got.vector.dtype == np.float32
    assert got.words[0] == 2**32 - 1
    assert (got.count, got.rate, got.flag, got.name, got.data) == (1, 0.5, True, "n", b"d")
    assert (got.maybe, got.names, got.inner, got.colour) == (None, ("a", "b"), Inner(3), Colour.BLUE)


def test_a_decoded_array_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        WIRE.decode(WIRE.encode(everything())).vector[0] = 1


@given(st.binary(max_size=300))
def test_no_bytes_whatever_raise_anything_but_a_wire_error(data):
    try:
        WIRE.decode(data)
    except WireError:
        pass


@given(st.integers(0, 10_000), st.integers(0, 255))
def test_one_changed_byte_is_a_message_or_a_wire_error(position, value):
    data = bytearray(WIRE.encode(everything()))
    data[position % len(data)] = value
    try:
        WIRE.decode(bytes(data))
    except WireError:
        pass


def test_every_truncation_and_a_byte_after_the_end_are_refused():
    data = WIRE.encode(everything())
    for end in range(len(data)):
        with pytest.raises(WireError):
            WIRE.decode(data[:end])
    with pytest.raises(WireError):
        WIRE.decode(data + b"\x00")


PLAIN = msgpack.unpackb(WIRE.encode(everything()))
ARRAY = ["<f4", [1], np.zeros(1, np.float32).tobytes()]


@pytest.mark.parametrize(
    "tree",
    [
        PLAIN[:-1],
        [*PLAIN, 1],
        ["Nobody", 1],
        ["Inner"],
        ["Inner", 1, 2],
        ["Inner", True],
        ["Inner", 1.0],
        ["Inner", "1"],
        ["Inner", None],
        ["Inner", 2**63],
        {"Inner": 1},
        [],
        [["Inner"], 1],
        "Inner",
        None,
        ["os.system", "true"],
    ],
)
def test_a_tree_of_another_shape_is_refused(tree):
    with pytest.raises(WireError):
        WIRE.decode(msgpack.packb(tree))


@pytest.mark.parametrize(
    ("field", "plain"),
    [
        (2, float("nan")),
        (2, float("inf")),
        (2, 1),
        (3, 1),
        (6, float("nan")),
        (7, "ab"),
        (7, [1]),
        (8, {"count": 1}),
        (9, "green"),
        (9, ["red"]),
        (10, ARRAY[:2]),
        (10, ["<f8", [1], b"\0" * 8]),
        (10, ["|O8", [1], b"\0" * 8]),
        (10, ["<f4", [2], b"\0" * 4]),
        (10, ["<f4", [-1], b""]),
        (10, ["<f4", [2**62, 4], b""]),
        (10, ["<f4", [1] * 65, b"\0" * 4]),
        (10, ["<f4", [1], "text"]),
        (10, ["<f4", [1], np.array([np.nan], np.float32).tobytes()]),
        (10, ["<f4", [1], np.array([np.inf], np.float32).tobytes()]),
    ],
)
def test_a_field_of_another_type_is_refused(field, plain):
    tree = list(PLAIN)
    tree[field] = plain
    with pytest.raises(WireError) as error:
        WIRE.decode(msgpack.packb(tree))
    assert "green" not in str(error.value)


def test_our_own_mistakes_are_ours():
    for wrong in (
        everything(rate=float("nan")),
        everything(count=2**64),
        everything(vector=np.array([np.nan], np.float32)),
        everything(vector=np.zeros(1, np.float64)),
        everything(names=["a"]),
        everything(inner=None),
    ):
        with pytest.raises(LocalError):
            WIRE.encode(wrong)
    with pytest.raises(LocalError, match="vocabulary"):
        Wire(Inner).encode(everything())


def test_too_many_bytes_are_refused_before_they_are_read():
    small = Wire(Inner, max_bytes=8)
    with pytest.raises(WireError, match="9 bytes, the limit is 8"):
        small.decode(b"\x00" * 9)


def test_a_class_that_is_not_frozen_is_no_message():
    @dataclass
    class Loose(Message):
        count: int

    with pytest.raises(LocalError, match="frozen"):
        Wire(Loose)


def test_a_deeply_nested_bomb_is_refused():
    with pytest.raises(WireError):
        WIRE.decode(b"\x91" * 100_000)


def test_a_megabyte_that_would_become_lists_of_seventy_is_refused_before_it_has():
    wide = b"\xdd" + (2**20).to_bytes(4, "big") + b"\x90" * 2**20
    row = b"\xdc" + (1000).to_bytes(2, "big") + b"\x90" * 1000
    deep = b"\xdc" + (1000).to_bytes(2, "big") + row * 1000
    for bomb in (wide, deep, b"\xdf" + (2**16).to_bytes(4, "big") + b"\xa0\xc0" * 2**16):
        tracemalloc.start()
        with pytest.raises(WireError, match="not msgpack"):
            WIRE.decode(bomb)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**25
