"""Attacks on the keys of a session, 1 to 7 and 9 of the list: refused before anything is masked with them."""

from dataclasses import replace

import pytest
from byhand import ANNOUNCE, announced, changed, hand, opened, refused, resigned
from crowd import SESSION, One, crowd
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from privacy.refusal import CrowdTooSmall, RosterNotApproved
from protocols.faults import PeerError, WireError
from protocols.keys import Identity
from protocols.roster import Roster
from protocols.secure_sum.messages import Acknowledge, Introduced, agreement, label
from protocols.secure_sum.session import Place
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import MemberId

FIRST, LAST = "m000", "m003"


def fresh_exchange_key() -> bytes:
    return X25519PrivateKey.generate().public_key().public_bytes_raw()


# 1 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["exchange_key", "kem_key"])
def test_a_coordinator_that_puts_its_own_key_in_a_members_announcement_is_refused(field):
    at = hand(4)
    key = {
        "exchange_key": fresh_exchange_key(),
        "kem_key": MLKEM768PrivateKey.generate().public_key().public_bytes_raw(),
    }
    own = One("m001", Identity.generate(), at.names, at["m001"].values)  # the coordinator, in the member's name
    forged = resigned(own, at.introduced["m001"], **{field: key[field]})
    kept = replace(forged, signature=at.introduced["m001"].signature)
    for lie, victim in ((forged, FIRST), (kept, LAST)):
        with refused(PeerError, "a signature of m001 does not verify", at[victim]):
            at[victim].acknowledge(at.manifest(m001=lie))


def test_a_member_that_announces_keys_in_the_name_of_another_is_refused():
    at = hand(4)
    forged = resigned(at["m002"], at.introduced["m001"], exchange_key=fresh_exchange_key())
    with refused(PeerError, "a signature of m001 does not verify", at[FIRST]):
        at[FIRST].acknowledge(at.manifest(m001=forged))


def test_every_flipped_bit_of_an_announcement_or_its_signature_is_refused():
    at = hand(3)
    right = at.introduced["m001"]
    for part in range(0, len(right.announcement), 97):
        with pytest.raises((PeerError, RosterNotApproved)):
            at.introduce_again(FIRST).acknowledge(
                at.manifest(m001=replace(right, announcement=changed(right.announcement, part)))
            )
    for part in (0, 31, 32, 63):
        with refused(PeerError, "does not verify"):
            at.introduce_again(FIRST).acknowledge(
                at.manifest(m001=replace(right, signature=changed(right.signature, part)))
            )


@pytest.mark.parametrize("signature", [b"", bytes(63), bytes(64), bytes(65), bytes(10_000)], ids=len)
def test_a_signature_of_zeros_or_of_another_length_is_refused(signature):
    at = hand(3)
    with refused(PeerError, "does not verify", at[FIRST]):
        at[FIRST].acknowledge(at.manifest(m001=replace(at.introduced["m001"], signature=signature)))


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xc1", bytes(100), b"\x92" * 1000], ids=len)
def test_an_announcement_that_is_no_message_is_refused(data):
    at = hand(3)
    with refused(WireError, "not a|not msgpack", at[FIRST]):
        at[FIRST].acknowledge(at.manifest(m001=Introduced(data, at["m001"].identity.sign(ANNOUNCE, data))))


# 2 ------------------------------------------------------------------------------------------------------------


def test_an_organisation_that_is_not_in_the_approved_roster_is_refused():
    at = hand(4)
    stranger = One("zed", Identity.generate(), at.names, at[FIRST].values)
    lie = resigned(stranger, at.introduced["m003"], member="zed", exchange_key=fresh_exchange_key())
    del at.introduced["m003"]
    with refused(RosterNotApproved, "not in the approved roster", at[FIRST]):
        at[FIRST].acknowledge(at.manifest(zed=lie))


def test_a_session_in_which_a_stranger_is_to_take_part_makes_no_keys():
    there = crowd(4)
    one = there.members[FIRST]
    one.everyone = (*one.everyone, "zed")
    with refused(RosterNotApproved, "1 of 5 members are not in the approved roster", one):
        one.introduce(there.terms)


def test_a_member_of_the_roster_that_was_not_named_in_the_session_is_refused():
    at = hand(4)
    at[FIRST].everyone = ("m000", "m001", "m002")
    at.introduce_again(FIRST)
    del at.introduced["m002"]
    with refused(RosterNotApproved, "not in the approved roster", at[FIRST]):
        at[FIRST].acknowledge(at.manifest())


def test_a_home_without_all_members_in_its_roster_makes_no_keys():
    there = crowd(4)
    one = there.members[FIRST]
    one.roster = Roster(tuple(entry for entry in one.roster.keys if entry[0] != "m002"))
    with refused(RosterNotApproved, "1 of 4 members", one):
        one.introduce(there.terms)


# 3 ------------------------------------------------------------------------------------------------------------


def test_a_member_that_stands_twice_is_refused():
    at = hand(4)
    again = resigned(at["m001"], at.introduced["m001"], exchange_key=fresh_exchange_key())
    for twice in (at.introduced["m001"], again):
        one = at.introduce_again(FIRST)
        first, second, third, fourth = at.manifest().introduced
        for shown in ((first, second, twice, third), (first, twice, second, fourth), (first, second, third, twice)):
            with refused(PeerError, "out of order, or a member twice"):
                at.introduce_again(FIRST).acknowledge(Acknowledge((at.introduced[FIRST], *shown[1:])))
        with refused(PeerError, "more announcements than members", one):
            at.introduce_again(FIRST).acknowledge(Acknowledge((first, second, twice, third, fourth)))


@pytest.mark.parametrize("field", ["exchange_key", "kem_key"])
def test_two_members_that_announce_one_key_are_refused(field):
    at = hand(4)
    stolen = getattr(announced(at.introduced["m001"]), field)
    copy = resigned(at["m002"], at.introduced["m002"], **{field: stolen})
    with refused(PeerError, "the same key", at[FIRST]):
        at[FIRST].acknowledge(at.manifest(m002=copy))


def test_a_member_that_announces_anothers_key_in_another_encoding_can_prove_nothing_with_it():
    """The top bit of an X25519 key is ignored, so two encodings are one key: but its owner alone can use it."""
    at = hand(4)
    key = announced(at.introduced["m001"]).exchange_key
    alias = key[:31] + bytes([key[31] ^ 0x80])
    shown = at.manifest(m002=resigned(at["m002"], at.introduced["m002"], exchange_key=alias))
    for honest in ("m000", "m001", "m003"):
        at.join(honest, manifest=shown)
    stolen = replace(at.written["m001"]["m000"], member="m002")  # the owner's proof, in the thief's name
    with refused(PeerError, "m002 does not prove", at[FIRST]):
        at.ask(FIRST, at.request(), [*at.slips(FIRST), stolen])


# 4 ------------------------------------------------------------------------------------------------------------

P = 2**255 - 19
LOW_ORDER = [
    0, 1, P - 1, P, P + 1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
]  # fmt: skip


@pytest.mark.parametrize("point", LOW_ORDER)
@pytest.mark.parametrize("victim", [FIRST, LAST])
def test_a_point_of_low_order_whose_secret_everybody_knows_is_refused(point, victim):
    at = hand(4)
    lie = resigned(at["m001"], at.introduced["m001"], exchange_key=point.to_bytes(32, "little"))
    with refused(PeerError, "m001 announced a key that is none", at[victim]):
        at[victim].acknowledge(at.manifest(m001=lie))


@pytest.mark.parametrize(("field", "key"), [
    ("exchange_key", b""), ("exchange_key", bytes(31)), ("exchange_key", b"\x09" * 33),
    ("kem_key", b""), ("kem_key", bytes(1183)), ("kem_key", b"\xff" * 1184),
], ids=["none", "short", "long", "no KEM key", "short KEM key", "KEM key out of range"])  # fmt: skip
def test_a_key_of_another_length_or_out_of_range_is_refused(field, key):
    at = hand(4)
    with refused(PeerError, "m001 announced a key that is none", at[FIRST]):
        at[FIRST].acknowledge(at.manifest(m001=resigned(at["m001"], at.introduced["m001"], **{field: key})))


# 5 ------------------------------------------------------------------------------------------------------------


def test_a_member_that_has_approved_another_roster_is_refused():
    at = hand(4)
    with refused(RosterNotApproved, "m001 has approved another roster", at[FIRST]):
        at[FIRST].acknowledge(at.manifest(m001=resigned(at["m001"], at.introduced["m001"], roster="0" * 64)))


def test_a_coordinator_that_tells_two_members_other_terms_is_refused_by_both():
    there = crowd(4, Mode.RESILIENT)
    laxer = replace(there.terms, smallest_crowd=2)
    at = hand(4)
    at["m001"].sums.close()
    at.introduced["m001"] = at["m001"].introduce(laxer)
    with refused(PeerError, "m001 has been told other terms", at[FIRST]):
        at[FIRST].acknowledge(at.manifest())
    with refused(PeerError, "m000 has been told other terms", at["m001"]):
        at["m001"].acknowledge(at.manifest())


@pytest.mark.parametrize("change", [
    {"mode": Mode.STRICT}, {"smallest_crowd": 2}, {"colluding": 0}, {"bits": 16}, {"attempts": 2}, {"lifetime_s": 60},
])  # fmt: skip
def test_every_term_is_in_the_digest_that_members_compare(change):
    terms = Terms(Mode.RESILIENT, smallest_crowd=3, colluding=1)
    assert replace(terms, **change).digest != terms.digest


# 6 ------------------------------------------------------------------------------------------------------------


def test_an_announcement_that_has_expired_or_would_live_too_long_is_refused():
    at = hand(4)
    now, life = int(at[FIRST].clock()), at.there.terms.lifetime_s
    for expires in (now - 1, 0, -1, now + life + 301, 2**62):
        lie = resigned(at["m001"], at.introduced["m001"], expires=expires)
        with refused(PeerError, "expired, or that live longer than the terms allow"):
            at.introduce_again(FIRST).acknowledge(at.manifest(m001=lie))


def test_keys_are_of_no_use_once_they_have_expired():
    at = opened(4)
    at.upload(at.request())
    at[FIRST].clock.at += at.there.terms.lifetime_s + 1
    with refused(PeerError, "the keys of this session have expired", at[FIRST]):
        at.ask(FIRST, at.request())


@pytest.mark.parametrize("change", [{"session": "another"}, {"coordinator": "ed25519:another"}, {"version": 2}])
def test_an_announcement_for_another_session_coordinator_or_version_is_refused(change):
    at = hand(4)
    with refused(PeerError, "m001 announced itself for another session", at[FIRST]):
        at[FIRST].acknowledge(at.manifest(m001=resigned(at["m001"], at.introduced["m001"], **change)))


def test_an_announcement_made_to_another_coordinator_of_a_session_of_this_name_is_refused():
    """The other coordinator's member is honest; its announcement is replayed here."""
    at = hand(4)
    other = at["m001"]
    place = Place(MemberId("m001"), "ed25519:other", SESSION, at.names)
    elsewhere = other.sums.introduce("elsewhere", place, at.there.terms, other.roster)
    with refused(PeerError, "m001 announced itself for another session", at[FIRST]):
        at[FIRST].acknowledge(at.manifest(m001=elsewhere))


def test_the_announcement_of_a_member_that_has_lost_its_keys_brings_nobody_to_mask_for_it():
    """Replayed within its life, it is accepted; but nobody has the key with which its slip would be made."""
    at = hand(4)
    at["m001"].sums.close()
    fresh = at["m001"].introduce(at.there.terms)
    at.join("m000", "m002", "m003")
    with refused(PeerError, "my own announcement is missing or changed", at["m001"]):
        at["m001"].acknowledge(at.manifest())
    assert fresh != at.introduced["m001"]
    with refused(PeerError, "1 members have not proved", at[FIRST]):
        at.ask(FIRST, at.request())


@pytest.mark.parametrize("nonce", [b"", bytes(31), bytes(33)])
def test_a_nonce_of_another_length_is_refused(nonce):
    at = hand(4)
    with refused(PeerError, "a nonce of another length", at[FIRST]):
        at[FIRST].acknowledge(at.manifest(m001=resigned(at["m001"], at.introduced["m001"], nonce=nonce)))


# 7 ------------------------------------------------------------------------------------------------------------


def test_a_list_without_my_own_announcement_or_with_another_of_mine_is_refused():
    at = hand(4)
    older, others = at.introduced[FIRST], at.manifest().introduced[1:]
    at.introduce_again(FIRST)
    with refused(PeerError, "my own announcement is missing or changed", at[FIRST]):
        at[FIRST].acknowledge(replace(at.manifest(), introduced=(older, *others)))
    at.introduce_again(FIRST)
    with refused(PeerError, "my own announcement is missing or changed", at[FIRST]):
        at[FIRST].acknowledge(replace(at.manifest(), introduced=others))


def test_a_list_in_another_order_is_refused():
    at = hand(4)
    with refused(PeerError, "out of order", at[FIRST]):
        at[FIRST].acknowledge(replace(at.manifest(), introduced=tuple(reversed(at.manifest().introduced))))


def test_a_list_of_too_few_is_refused():
    at = hand(4)
    del at.introduced["m001"], at.introduced["m002"]
    with refused(CrowdTooSmall, "2 members announced, 3 needed", at[FIRST]):
        at[FIRST].acknowledge(at.manifest())


# 9 ------------------------------------------------------------------------------------------------------------


def test_a_signature_made_for_another_kind_of_message_is_no_announcement():
    at = hand(4)
    right = at.introduced["m001"]
    for what in (label("agreement"), label("upload"), b"parley/v1/letter", b"parley/v1/enrolment"):
        other = replace(right, signature=at["m001"].identity.sign(what, right.announcement))
        with refused(PeerError, "a signature of m001 does not verify"):
            at.introduce_again(FIRST).acknowledge(at.manifest(m001=other))


def test_a_signature_on_an_announcement_agrees_to_nothing():
    at = opened(4)
    request, uploads, signed = at.agreed()
    ask = at.survivors(request, uploads)
    data = agreement(request.ctx, ask.survivors, ask.digests)
    wrong = {m: at[m].identity.sign(ANNOUNCE, data) for m in at.names}
    with refused(PeerError, "0 signatures verify, 3 needed", at[FIRST]):
        at[FIRST].reveal(at.reveal(FIRST, request, uploads, wrong))
    assert at["m001"].reveal(at.reveal("m001", request, uploads, signed)).shares.shape == (4, 16)
