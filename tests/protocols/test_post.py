"""A letter is answered once, in order, by its addressee, to its signer; everything else is refused or silence."""

from dataclasses import replace

import msgpack
import numpy as np
import pytest
from village import COORDINATOR, LENGTH, House, Pull, Room, recipe, village

from privacy.refusal import LevelForbidden
from protocols.carriers.memory import MemoryRoad, Way
from protocols.catalog import CATALOG
from protocols.faults import LocalError, PeerError, WireError
from protocols.keys import Identity
from protocols.post import Letter, seal, unseal
from protocols.session import MemberId
from protocols.weights.average import Contribute

WIRE = CATALOG["average"].wire


def ask(round_: int = 0) -> bytes:
    return WIRE.encode(Contribute(recipe(), round_, np.zeros(LENGTH, np.float32), None, ()))


def letter(**changes) -> Letter:
    given = {
        "session": "5e55", "collaboration": "average", "number": 0, "sender": "coordinator",
        "recipient": "m1", "members": ("m0", "m1", "m2"), "body": ask(),
    }  # fmt: skip
    return Letter(**(given | changes))


@pytest.fixture
def house(tmp_path) -> House:
    return House(MemberId("m1"), tmp_path, np.ones(LENGTH))


def test_a_letter_delivered_twice_gets_the_same_bytes_and_one_charge(house):
    sealed = seal(letter(), COORDINATOR)
    first = house.mailbox.deliver(sealed)
    assert house.mailbox.deliver(sealed) == first
    assert len(house.opened) == 1
    assert house.ledger.statement(house.account).charges == 1


def test_a_crash_after_the_charge_and_before_the_answer_is_charged_once(house):
    sealed = seal(letter(), COORDINATOR)
    kept, calls = house.shelf.keep, []

    def crash(session, shelved):
        calls.append(shelved)
        if shelved.answer is not None and len(calls) == 2:
            raise OSError("the machine stops here")
        kept(session, shelved)

    house.shelf.keep = crash
    with pytest.raises(OSError, match="stops here"):
        house.mailbox.deliver(sealed)
    assert house.ledger.statement(house.account).charges == 1
    house.mailbox.deliver(sealed)
    assert house.ledger.statement(house.account).charges == 1


def test_a_letter_whose_draw_breaks_is_charged_once_and_never_drawn_again(house):
    """Else whether a draw breaks could be asked for ever, for one charge."""
    sealed, draws = seal(letter(), COORDINATOR), []

    class Broken(Pull):
        def draw(self, randomness):
            draws.append(1)
            raise IndexError("a token that the model does not know")

    class BrokenRoom(Room):
        def contribution(self, recipe, round_, adapter):
            broken = Broken(self.house.point, adapter, 4.0)
            return self.house.gate.release(broken, self.house.account, self.occasion)

    house.open_home = lambda occasion: BrokenRoom(house, occasion)
    with pytest.raises(IndexError):
        house.mailbox.deliver(sealed)
    for _ in range(3):
        with pytest.raises(PeerError, match="failed here before"):
            house.mailbox.deliver(sealed)
    assert (len(draws), house.ledger.statement(house.account).charges) == (1, 1)
    del house.open_home
    house.mailbox.deliver(seal(letter(number=1), COORDINATOR))  # the next letter is answered


def test_a_refused_letter_may_be_asked_again_once_the_operator_has_changed_his_mind(house):
    sealed, allowed = seal(letter(), COORDINATOR), house.gate
    house.gate = replace(allowed, policy=replace(allowed.policy, allow=()))
    with pytest.raises(LevelForbidden):
        house.mailbox.deliver(sealed)
    house.gate = allowed
    house.mailbox.deliver(sealed)


def test_another_letter_under_an_accepted_number_is_refused(house):
    house.mailbox.deliver(seal(letter(), COORDINATOR))
    with pytest.raises(PeerError, match="same number"):
        house.mailbox.deliver(seal(letter(body=ask(1)), COORDINATOR))


def test_a_letter_from_the_past_is_refused(house):
    house.mailbox.deliver(seal(letter(number=4), COORDINATOR))
    for number in (3, 0, -1):
        with pytest.raises(PeerError, match="past"):
            house.mailbox.deliver(seal(letter(number=number, body=ask(1)), COORDINATOR))


def test_a_member_that_was_away_goes_on_with_the_letter_it_gets(house):
    house.mailbox.deliver(seal(letter(number=0), COORDINATOR))
    house.mailbox.deliver(seal(letter(number=2, body=ask(2)), COORDINATOR))
    assert house.ledger.statement(house.account).charges == 2


def test_an_accepted_letter_that_failed_leaves_the_state_as_it_was(house):
    with pytest.raises(PeerError, match="shape"):
        bad = Contribute(recipe(), 0, np.zeros(LENGTH + 1, np.float32), None, ())
        house.mailbox.deliver(seal(letter(body=WIRE.encode(bad)), COORDINATOR))
    house.mailbox.deliver(seal(letter(number=1), COORDINATOR))


@pytest.mark.parametrize(
    "change",
    [
        {"recipient": "m2"},
        {"members": ("m0", "m2")},
        {"members": ("m0", "m1", "m1")},
        {"collaboration": "nothing"},
        {"body": b"garbage"},
        {"body": b""},
    ],
)
def test_a_letter_that_is_wrong_is_refused_before_anything_is_charged(house, change):
    with pytest.raises(PeerError):
        house.mailbox.deliver(seal(letter(**change), COORDINATOR))
    assert house.opened == []
    assert list(house.ledger.entries()) == []


def test_a_letter_of_another_signer_is_refused_whatever_it_says(house):
    with pytest.raises(PeerError, match="does not verify"):
        house.mailbox.deliver(seal(letter(), Identity.generate()))


def test_every_flipped_bit_of_a_sealed_letter_is_refused(house):
    sealed = seal(letter(), COORDINATOR)
    for position in range(0, len(sealed), 7):
        damaged = bytearray(sealed)
        damaged[position] ^= 1
        with pytest.raises(PeerError):
            house.mailbox.deliver(bytes(damaged))
    assert house.opened == []


@pytest.mark.parametrize("field", ["session", "collaboration", "sender"])
def test_a_name_that_would_fill_the_disk_is_refused_and_kept_nowhere(house, field):
    with pytest.raises(ValueError, match="256"):
        letter(**{field: "x" * 257})
    long = [("x" * 257 if name == field else getattr(letter(), name)) for name in Letter.__dataclass_fields__]
    data = msgpack.packb(["Letter", *long])
    with pytest.raises(WireError):
        house.mailbox.deliver(COORDINATOR.sign(b"parley/v1/letter", data) + data)
    assert house.shelf.sessions == {}


@pytest.mark.parametrize("sealed", [b"", b"short", b"\0" * 64, b"\0" * 200])
def test_bytes_that_are_no_letter_are_refused(house, sealed):
    with pytest.raises(PeerError):
        house.mailbox.deliver(sealed)


def test_an_answer_of_another_member_or_session_or_number_counts_as_silence(tmp_path):
    there = village(tmp_path, 3)
    m0, m1 = MemberId("m0"), MemberId("m1")
    real = there.houses[m1]
    answered = there.outbox()({m1: ask()})
    assert set(answered) == {m1}

    def replying(reply: bytes):
        return there.outbox("5e55", road=lambda _letters: {m1: reply})({m1: ask()})

    true = real.mailbox.deliver(seal(letter(), COORDINATOR))
    assert set(replying(true)) == {m1}
    inside = unseal(true, real.identity.public)
    for forged in (
        seal(inside, there.houses[m0].identity),
        seal(replace(inside, session="other"), real.identity),
        seal(replace(inside, number=1), real.identity),
        seal(replace(inside, sender="m0"), real.identity),
        seal(replace(inside, recipient="m0"), real.identity),
        seal(replace(inside, collaboration="x"), real.identity),
        b"",
        true[:-1],
    ):
        assert replying(forged) == {}


def test_a_reply_nobody_asked_for_is_ignored(tmp_path):
    there = village(tmp_path, 2)
    m0, m1 = MemberId("m0"), MemberId("m1")
    reply = there.houses[m1].mailbox.deliver(seal(letter(members=("m0", "m1")), COORDINATOR))
    assert there.outbox(road=lambda _letters: {m1: reply})({m0: ask()}) == {}


def test_the_same_session_seals_the_same_bytes(tmp_path):
    there, seen = village(tmp_path, 2), []

    def watching(letters):
        seen.append(dict(letters))
        return {}

    for _ in range(2):
        there.outbox(road=watching)({MemberId("m0"): ask()})
    assert seen[0] == seen[1]


def test_a_coordinator_that_asks_a_stranger_is_our_bug(tmp_path):
    with pytest.raises(LocalError, match="1 members"):
        village(tmp_path, 2).outbox()({MemberId("stranger"): ask()})


def test_the_tap_sees_every_byte_both_ways_and_lost_letters_stay_lost(tmp_path):
    heard = []
    there = village(
        tmp_path,
        2,
        tap=lambda member, way, data: heard.append((member, way, len(data))),
        lost=lambda trip, member, way: member == "m0" and way is Way.BACK,
    )
    assert set(there.outbox()({m: ask() for m in there.houses})) == {"m1"}
    assert [(m, w) for m, w, _ in heard] == [("m0", Way.OUT), ("m0", Way.BACK), ("m1", Way.OUT), ("m1", Way.BACK)]
    assert isinstance(there.road, MemoryRoad)


def test_a_letter_whose_signature_is_right_and_content_is_not_a_letter_is_refused():
    data = b"\x91\xa6Nobody"
    with pytest.raises(WireError):
        unseal(COORDINATOR.sign(b"parley/v1/letter", data) + data, COORDINATOR.public)
