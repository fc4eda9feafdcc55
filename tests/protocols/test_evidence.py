"""What leaves is written down and signed first; what was lost, put back or forged is noticed, and answers nothing."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from village import COORDINATOR, LENGTH, House, Room, recipe, task, village

from privacy.cleared import Cleared
from privacy.evidence import Evidence
from privacy.ledger import Ledger
from privacy.refusal import LedgerUnavailable, LevelForbidden, RolledBack
from privacy.trail import HEAD_LABEL
from protocols.catalog import CATALOG
from protocols.faults import LocalError, PeerError
from protocols.keys import Identity, PublicKey
from protocols.post import TAKEN, Letter, MemoryShelf, Shelved, Taken, seal, taken_bytes, unseal
from protocols.session import MemberId
from protocols.weights.average import Contribute

WIRE = CATALOG["average"].wire


def ask(round_: int = 0) -> bytes:
    return WIRE.encode(Contribute(recipe(), round_, np.zeros(LENGTH, np.float32), None, ()))


def letter(number: int = 0, **changes) -> Letter:
    given = {
        "session": "5e55", "collaboration": "average", "number": number, "sender": "coordinator",
        "recipient": "m1", "members": ("m0", "m1", "m2"), "body": ask(number),
    }  # fmt: skip
    return Letter(**(given | changes))


def receipt(number: int, answer: bytes, identity: Identity = COORDINATOR, member: str = "m1") -> Taken:
    digest = hashlib.sha256(answer).digest()
    return Taken(number, digest, identity.sign(TAKEN, taken_bytes("5e55", number, member, digest)))


def lines(house: House, *kinds: str) -> list[dict]:
    return [found for text in house.ledger.lines() if (found := json.loads(text))["kind"] in kinds]


@pytest.fixture
def house(tmp_path) -> House:
    return House(MemberId("m1"), tmp_path, np.ones(LENGTH))


def test_every_answer_has_a_line_with_its_digest_and_size_and_a_signed_head(house):
    answer = house.mailbox.deliver(sealed := seal(letter(), COORDINATOR))
    (line,) = lines(house, "emitted")
    assert (line["answer"], line["size"]) == (hashlib.sha256(answer).hexdigest(), len(answer))
    assert line["asked"] == hashlib.sha256(sealed).hexdigest()
    head = list(house.ledger.heads())[-1]
    assert head.key == str(house.identity.public)
    PublicKey.parse(head.key).verify(HEAD_LABEL, head.head.signed_bytes(), head.signature)
    assert head.head.seq == line["seq"]


def test_the_evidence_is_on_disk_before_the_bytes_are_out(house, monkeypatch):
    def full(*_args, **_kwargs):
        raise LedgerUnavailable("ledger.db: the disk is full")

    sealed = seal(letter(), COORDINATOR)
    with monkeypatch.context() as broken:
        broken.setattr(Ledger, "emit", full)
        with pytest.raises(LedgerUnavailable):
            house.mailbox.deliver(sealed)
    assert lines(house, "emitted") == []
    answer = house.mailbox.deliver(sealed)  # from the shelf: nothing is drawn again
    assert len(house.opened) == 1
    assert lines(house, "emitted")[0]["answer"] == hashlib.sha256(answer).hexdigest()


def test_the_same_letter_again_adds_no_line(house):
    sealed = seal(letter(), COORDINATOR)
    house.mailbox.deliver(sealed)
    before = list(house.ledger.lines())
    house.mailbox.deliver(sealed)
    assert list(house.ledger.lines()) == before


def test_an_answer_that_no_gate_let_go_is_never_encoded(house, monkeypatch):
    class Smuggler(Room):
        def contribution(self, recipe, round_, adapter):
            raw = self.house.point.astype(np.float32)

            class NotCleared:
                def then(self, wrap):
                    return wrap(raw)

            return NotCleared()

    house.open_home = lambda occasion: Smuggler(house, occasion)
    with pytest.raises(LocalError, match="no gate let go"):
        house.mailbox.deliver(seal(letter(), COORDINATOR))
    assert lines(house, "emitted", "charged", "disclosed", "said") == []


def test_a_cleared_that_the_gate_did_not_make_does_not_leave(house):
    """The type alone opens nothing: the ledger has to know of the occasion."""

    class Forger(Room):
        def contribution(self, recipe, round_, adapter):
            return Cleared(self.house.point.astype(np.float32), None)

    house.open_home = lambda occasion: Forger(house, occasion)
    sealed = seal(letter(), COORDINATOR)
    for error in (LocalError, PeerError):  # and it is not asked a second time
        with pytest.raises(error):
            house.mailbox.deliver(sealed)
    assert lines(house, "emitted") == []


def test_what_was_let_go_for_another_letter_does_not_leave_on_a_letter_that_paid_for_nothing(house):
    class Hoarder(Room):
        """Keep what was released, and answer with it again where only keys were paid for."""

        def contribution(self, recipe, round_, adapter):
            if hoard:
                self.say(lambda: b"")
                return hoard[0]
            hoard.append(super().contribution(recipe, round_, adapter))
            return hoard[0]

    hoard: list[Cleared] = []
    house.open_home = lambda occasion: Hoarder(house, occasion)
    house.mailbox.deliver(seal(letter(), COORDINATOR))
    with pytest.raises(LocalError, match="another occasion"):
        house.mailbox.deliver(seal(letter(1), COORDINATOR))
    assert len(lines(house, "emitted")) == 1


def test_an_answer_that_was_kept_and_never_left_does_not_leave_once_the_policy_forbids_it(house, monkeypatch):
    sealed, forbidden = seal(letter(), COORDINATOR), []

    def full(*_args, **_kwargs):
        raise LedgerUnavailable("ledger.db: the disk is full")

    def allowed(occasion):
        if forbidden:
            raise LevelForbidden("the operator has thought again")

    def deliver():
        mailbox = house.mailbox
        mailbox.evidence = replace(mailbox.evidence, allowed=allowed)
        return mailbox.deliver(sealed)

    with monkeypatch.context() as broken:
        broken.setattr(Ledger, "emit", full)
        with pytest.raises(LedgerUnavailable):
            deliver()
    forbidden.append(True)
    with pytest.raises(LevelForbidden):
        deliver()
    assert lines(house, "emitted") == []
    forbidden.clear()
    answer = deliver()
    forbidden.append(True)
    assert deliver() == answer  # it is out: the same bytes tell nothing more


def test_a_shelf_that_was_put_back_gets_no_second_draw(house):
    sealed = seal(letter(), COORDINATOR)
    house.mailbox.deliver(sealed)
    house.shelf = MemoryShelf()  # as from an old copy of mailbox.db
    for _ in range(2):
        with pytest.raises(RolledBack, match=r"mailbox\.db"):
            house.mailbox.deliver(sealed)
    assert len(house.opened) == 1
    assert len(lines(house, "charged")) == len(lines(house, "emitted")) == 1


def test_a_shelf_that_forgot_only_the_answer_gets_no_second_draw(house):
    sealed = seal(letter(), COORDINATOR)
    house.mailbox.deliver(sealed)
    kept = house.shelf.sessions["5e55"]
    house.shelf.keep("5e55", Shelved(kept.number, kept.digest, None, None))
    with pytest.raises(RolledBack):
        house.mailbox.deliver(sealed)
    assert len(lines(house, "emitted")) == 1


def test_ledger_and_shelf_put_back_together_are_noticed_by_the_coordinators_receipt(house, tmp_path):
    house.ledger.close()
    file = tmp_path / "ledger.db"
    old, shelf = tmp_path / "old.db", {}
    shutil.copy(file, old)
    house.ledger = Ledger(file)
    house.gate = replace(house.gate, ledger=house.ledger)
    answer = house.mailbox.deliver(seal(letter(), COORDINATOR))
    house.ledger.close()
    for rest in tmp_path.glob("ledger.db*"):
        rest.unlink()
    shutil.copy(old, file)
    house.ledger = Ledger(file)
    house.gate = replace(house.gate, ledger=house.ledger)
    house.shelf = MemoryShelf(shelf)
    with pytest.raises(RolledBack, match="newest"):
        house.mailbox.deliver(seal(letter(1, taken=receipt(0, answer)), COORDINATOR))
    assert lines(house, "charged") == []


def test_a_receipt_is_kept_with_its_signature(house):
    answer = house.mailbox.deliver(seal(letter(), COORDINATOR))
    house.mailbox.deliver(seal(letter(1, taken=receipt(0, answer)), COORDINATOR))
    (line,) = lines(house, "receipt")
    digest = hashlib.sha256(answer).digest()
    assert (line["number"], line["answer"]) == (0, digest.hex())
    COORDINATOR.public.verify(TAKEN, taken_bytes("5e55", 0, "m1", digest), bytes.fromhex(line["signature"]))


@pytest.mark.parametrize("forge", [
    lambda answer: receipt(0, answer, Identity.generate()), lambda answer: receipt(0, answer, member="m0"),
    lambda answer: replace(receipt(0, answer), number=1), lambda answer: receipt(1, answer),
    lambda answer: replace(receipt(0, answer), number=-1), lambda answer: replace(receipt(0, answer), signature=b""),
    lambda answer: replace(receipt(0, answer), answer=b"short"),
])  # fmt: skip
def test_a_receipt_that_is_forged_or_for_another_answer_is_refused_with_its_letter(house, forge):
    answer = house.mailbox.deliver(seal(letter(), COORDINATOR))
    with pytest.raises(PeerError):
        house.mailbox.deliver(seal(letter(1, taken=forge(answer)), COORDINATOR))
    assert lines(house, "receipt") == []
    assert len(lines(house, "charged")) == 1


def test_a_refusal_leaves_a_line_with_its_class_and_nothing_else(house):
    house.gate = replace(house.gate, policy=replace(house.gate.policy, allow=()))
    with pytest.raises(LevelForbidden):
        house.mailbox.deliver(seal(letter(), COORDINATOR))
    (line,) = lines(house, "refused")
    assert line["why"] == "LevelForbidden"
    assert lines(house, "charged", "emitted") == []


def test_the_end_of_a_session_brings_the_last_receipt_and_drops_its_keys(tmp_path):
    there = village(tmp_path, 3)
    there.run(task(rounds=2))
    for name, house in there.houses.items():
        emitted, kept = lines(house, "emitted"), lines(house, "receipt")
        assert [e["answer"] for e in emitted[:-1]] == [r["answer"] for r in kept], name  # all but the farewell's
        assert len(house.sums) == 0


def test_a_session_that_never_began_cannot_be_closed(house):
    with pytest.raises(PeerError, match="never began"):
        house.mailbox.deliver(seal(letter(body=b""), COORDINATOR))
    assert house.opened == []


def test_a_receipt_is_sent_again_until_there_is_a_newer_one(tmp_path):
    there, sent = village(tmp_path, 2), []
    outbox = there.outbox(
        road=lambda letters: sent.append(letters) or (there.road(letters) if len(sent) == 1 else {})
    )
    for round_ in range(3):
        outbox({m: ask(round_) for m in there.houses})
    asked = [unseal(letters[MemberId("m0")], COORDINATOR.public) for letters in sent]
    assert [a.taken and a.taken.number for a in asked] == [None, 0, 0]


def test_the_purpose_that_a_coordinator_states_is_in_every_line(tmp_path):
    there = village(tmp_path, 2)
    outbox = there.outbox()
    outbox.purpose = "to try it out"
    outbox({m: ask() for m in there.houses})
    for house in there.houses.values():
        assert {line["purpose"] for line in lines(house, "charged", "emitted")} == {"to try it out"}


def test_evidence_by_another_name_stays_apart(house):
    """A coordinator's session name is its own; the ledger knows it by a name that no other home's session has."""
    evidence = Evidence(
        house.ledger, lambda _: bytes(64), "ed25519:x", lambda o: replace(o, session=o.session + "@1")
    )
    answer = house.mailbox.deliver(seal(letter(), COORDINATOR))
    assert house.ledger.emitted("5e55", 0) == hashlib.sha256(answer).digest()
    evidence.require_unanswered(house.opened[0])
