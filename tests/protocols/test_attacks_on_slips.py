"""Attacks on the proof that all members saw the same keys, 8 of the list, and on sessions beyond the list."""

from dataclasses import replace

import numpy as np
import pytest
from byhand import announced, changed, hand, opened, refused, resigned
from crowd import COORDINATOR, SESSION, crowd, integers
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from privacy.refusal import CrowdTooSmall, RosterNotApproved
from protocols.faults import PeerError
from protocols.roster import Roster
from protocols.secure_sum.messages import Acknowledged, Introduced, Slip, session_id
from protocols.secure_sum.pairs import Pair, Secrets
from protocols.secure_sum.session import Place, _proof, _root
from protocols.secure_sum.terms import Mode
from protocols.session import MemberId

FIRST = "m000"


def fresh_exchange_key() -> bytes:
    return X25519PrivateKey.generate().public_key().public_bytes_raw()


# 8 ------------------------------------------------------------------------------------------------------------


def test_two_lists_shown_to_two_halves_give_no_crowd_that_would_mask():
    """A colluding member announces two keys, one to each half; no slip is good across the halves."""
    at = hand(6, smallest_crowd=5, colluding=1)
    other = at.manifest(m005=resigned(at["m005"], at.introduced["m005"], exchange_key=fresh_exchange_key()))
    at.join("m000", "m001", "m002")
    first = at.sid
    at.join("m003", "m004", manifest=other)
    assert at.sid != first
    with refused(PeerError, "m003 does not prove that it saw the same announcements", at["m000"]):
        at.ask("m000", at.request(sid=first))
    mine = [at.written[m]["m001"] for m in ("m000", "m002")]
    with refused(PeerError, "3 members have not proved", at["m001"]):
        at.ask("m001", at.request(sid=first), mine)
    half = ("m000", "m001", "m002", "m005")
    mine = [at.written[m]["m002"] for m in ("m000", "m001")]
    with refused(PeerError, "1 members have not proved", at["m002"]):
        at.ask("m002", at.request(sid=first, members=half), mine)


def test_a_slip_is_good_from_its_author_to_its_addressee_alone():
    at = opened(4)
    reflected = replace(at.written["m000"]["m001"], member="m001")
    with refused(PeerError, "m001 does not prove", at["m000"]):
        at.ask("m000", at.request(), [reflected])
    misrouted = at.written["m000"]["m001"]
    with refused(PeerError, "m000 does not prove", at["m002"]):
        at.ask("m002", at.request(), [misrouted])
    with refused(PeerError, "a slip of somebody who announced nothing", at["m003"]):
        at.ask("m003", at.request(), [*at.slips("m003"), Slip("m003", bytes(32), b"")])


def test_a_slip_with_another_proof_or_ciphertext_is_refused():
    at = opened(4)
    right = at.written["m000"]["m003"]
    cases = [
        replace(right, proof=changed(right.proof)), replace(right, proof=b""), replace(right, proof=right.proof[:31]),
        replace(right, ciphertext=changed(right.ciphertext)), replace(right, ciphertext=right.ciphertext[:-1]),
        replace(right, ciphertext=b""), replace(right, ciphertext=at.written["m001"]["m003"].ciphertext),
    ]  # fmt: skip
    for wrong in cases:
        with pytest.raises(PeerError, match="m000 does not prove"):
            at.joined("m003").confirm([wrong])
    assert not at.joined("m003").ready.pairs


def test_a_slip_of_another_session_of_the_same_members_is_refused():
    at = opened(4)
    old = at.slips(FIRST)
    for m in at.names:
        at.introduce_again(m)
    at.join()
    with refused(PeerError, "m001 does not prove", at[FIRST]):
        at.ask(FIRST, at.request(), old)


@pytest.mark.parametrize(("author", "to", "size"), [("m000", "m003", 0), ("m003", "m000", 1088), ("m000", "m003", 9)])
def test_a_member_that_signs_for_a_ciphertext_that_is_none_or_is_not_due_is_refused(author, to, size):
    """The author lies with its own key, so its proof is right."""
    at = opened(4)
    lie = _proof(at.joined(author)._half[to][:32], author, to, bytes(size))
    with refused(PeerError, f"{author} sent a ciphertext", at[to]):
        at.ask(to, at.request(), [Slip(author, lie, bytes(size))])


def test_the_keys_of_a_pair_need_both_its_secrets_and_the_ciphertext_as_it_was_sent():
    """Whoever breaks X25519 alone, or ML-KEM alone, has none; nor does who was sent another ciphertext."""
    at = opened(3)
    waiting, sent = at.joined("m001"), at.written["m000"]["m001"].ciphertext
    classical, encapsulated = waiting._half["m000"][32:], waiting._kem.decapsulate(sent)
    both = classical + encapsulated
    assert (len(both), at.joined("m000")._half["m001"][32:]) == (64, _root(at.sid, both, "m000", "m001", sent))
    at.upload(at.request())
    for me, peer in (("m000", "m001"), ("m001", "m000")):
        expected = Pair.derive(_root(at.sid, both, me, peer, sent), me, peer)
        assert at.joined(me).ready.pairs[peer] == expected


def test_what_pairs_were_made_of_is_gone_when_the_last_peer_is_confirmed():
    at = opened(4)
    assert at.joined(FIRST)._kem is not None
    at.upload(at.request())
    done = at.joined(FIRST)
    assert (len(done._half), done._kem, len(done.ready.pairs)) == (0, None, 3)


def test_secrets_are_found_by_name_alone_and_have_one_width():
    secrets = Secrets.of({"b": b"2222", "a": b"1111", "cc": b"3333"}, 4)
    assert dict(secrets) == {"a": b"1111", "b": b"2222", "cc": b"3333"}
    for stranger in ("", "aa", "c", "d"):
        with pytest.raises(KeyError):
            secrets[stranger]
    for wrong in ({"a": b"1", "b": b"1234567"}, {"a": b"12345"}):
        with pytest.raises(ValueError, match="4 bytes"):
            Secrets.of(wrong, 4)


def test_a_second_slip_of_a_peer_changes_no_key():
    at = opened(4)
    at.upload(at.request())
    before = at.joined(FIRST).ready.pairs["m001"]
    at.ask(FIRST, at.request(), [Slip("m001", bytes(32), b"")])
    assert at.joined(FIRST).ready.pairs["m001"] == before


# beyond the list ----------------------------------------------------------------------------------------------


def test_a_session_that_is_introduced_twice_loses_its_keys():
    at = opened(4)
    with refused(PeerError, "open already", at[FIRST]):
        at[FIRST].introduce(at.there.terms)
    with refused(PeerError, "no such session here"):
        at.ask(FIRST, at.request())


def test_a_roster_approved_since_ends_the_session_at_the_next_request():
    at = opened(4)
    assert at[FIRST].sums.terms(SESSION, at[FIRST].roster) == at.there.terms
    without = Roster(tuple(entry for entry in at[FIRST].roster.keys if entry[0] != "m003"))
    with refused(RosterNotApproved, "another roster has been approved since", at[FIRST]):
        at[FIRST].sums.terms(SESSION, without)


def test_a_list_shown_twice_closes_the_session():
    at = opened(4)
    with refused(PeerError, "not at that stage", at[FIRST]):
        at[FIRST].acknowledge(at.manifest())


def test_a_crowd_too_small_for_the_terms_makes_no_keys():
    there = crowd(3, Mode.STRICT, smallest_crowd=4, colluding=1)
    with refused(CrowdTooSmall, "3 members, 4 needed", there.members[FIRST]):
        there.members[FIRST].introduce(there.terms)


def test_a_home_keeps_a_bounded_number_of_sessions_and_forgets_the_oldest():
    there = crowd(3)
    one = there.members[FIRST]
    place = Place(MemberId(FIRST), COORDINATOR, SESSION, one.everyone)
    for i in range(70):
        one.sums.introduce(f"s{i}", place, there.terms, one.roster)
    assert len(one.sums) == 64
    assert one.sums.closed == {"too many": 6}
    with refused(PeerError, "no such session here"):
        one.sums.terms("s5", one.roster)


def test_sessions_have_other_keys_although_members_terms_and_clock_are_the_same():
    first, second = hand(3), hand(3)
    assert first[FIRST].clock.at == second[FIRST].clock.at
    keys = [announced(i).exchange_key for at in (first, second) for i in at.introduced.values()]
    nonces = [announced(i).nonce for at in (first, second) for i in at.introduced.values()]
    assert len(set(keys)) == len(set(nonces)) == 6
    assert session_id(first.manifest().introduced) != session_id(second.manifest().introduced)


# what an honest coordinator does with a member that lies while the session opens: it opens without that one ---------


def without(there, stage: str, lie) -> None:
    """m001 lies at this stage: it is left out, and the sum of the others is exact."""
    there.alter = lambda now, m, answer: lie(answer) if (now, m) == (stage, "m001") else answer
    opened_ = there.open()
    assert opened_.members == ("m000", "m002", "m003", "m004")
    spec = there.spec(4)
    summed = there.sum(opened_, spec=spec)
    assert np.array_equal(summed.words.astype(np.uint64), integers(there, spec, opened_.members))


@pytest.mark.parametrize("mode", Mode)
def test_a_member_that_introduces_itself_by_garbage_or_as_another_or_by_another_roster_is_left_out(mode):
    for lie in (
        lambda a: replace(a, announcement=b""),
        lambda a: replace(a, announcement=a.announcement[:-1]),
        lambda a: Acknowledged(()),
    ):
        without(crowd(5, mode), "Introduce", lie)
    there = crowd(5, mode)
    without(there, "Introduce", lambda a: resigned(there.members["m001"], a, member="m002"))
    there = crowd(5, mode)
    without(there, "Introduce", lambda a: resigned(there.members["m001"], a, roster="f" * 64))


@pytest.mark.parametrize("lie", [
    lambda a: replace(a, slips=a.slips[1:]), lambda a: replace(a, slips=()),
    lambda a: replace(a, slips=(*a.slips, Slip("zed", bytes(32), b""))),
    lambda a: replace(a, slips=(*a.slips, Slip("m001", bytes(32), b""))), lambda a: Introduced(b"", b""),
])  # fmt: skip
def test_a_member_that_acknowledges_too_few_or_strangers_is_left_out(lie):
    without(crowd(5, Mode.RESILIENT), "Acknowledge", lie)
