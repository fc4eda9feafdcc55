"""Coordinators and members that lie together, drop out anywhere (37 of the list), or send what nobody asked for."""

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest
from byhand import Hand, changed, hand, opened, refused
from crowd import CONTEXT, PURPOSE, Crowd, One, crowd, integers

from protocols.faults import Abort, PeerError
from protocols.keys import Identity
from protocols.roster import Roster
from protocols.secure_sum import graph, messages, seat
from protocols.secure_sum.coordinate import DeadSum
from protocols.secure_sum.layout import ASSUMED_DROPOUT, layout_of
from protocols.secure_sum.messages import (
    Acknowledge,
    Agree,
    Introduce,
    Introduced,
    Request,
    Reveal,
    Revealed,
    Slip,
    Upload,
)
from protocols.secure_sum.recovery import recovered
from protocols.secure_sum.terms import Mode, Terms
from protocols.session import MemberId
from protocols.weights import average
from protocols.wire import Wire

ME = "m001"


def exact(there, summed, spec) -> bool:
    return np.array_equal(summed.words.astype(np.uint64), integers(there, spec, summed.members))


# 37: everybody may be gone from any moment on -----------------------------------------------------------------

STAGES = ("Introduce", "Acknowledge", "Request", "Agree", "Reveal", "never")


def outcome(there: Crowd, fate: dict[str, int], opened_, query: int) -> None:
    """A sum whose members are gone from `fate` on: exact and of all who uploaded, or dead, as the counts say."""
    there.lost = lambda stage, _q, m: STAGES.index(stage) >= fate[m]
    here = [[m for m in opened_.members if fate[m] > stage] for stage in range(len(STAGES))]
    spec, least = there.spec(len(opened_.members)), there.terms.threshold(len(opened_.members))
    if there.terms.mode is Mode.STRICT:
        lives = here[2] == list(opened_.members)
    else:
        lives = len(here[2]) >= max(3, least) and len(here[3]) >= least and len(here[4]) >= least
    if lives:
        summed = there.sum(opened_, query, spec=spec)
        assert summed.members == tuple(here[2])
        assert exact(there, summed, spec)
    else:
        with pytest.raises(DeadSum):
            there.sum(opened_, query, spec=spec)
    there.lost = lambda *_: False


@pytest.mark.parametrize(
    ("mode", "count"),
    [(Mode.RESILIENT, 4), pytest.param(Mode.RESILIENT, 5, marks=pytest.mark.slow), (Mode.STRICT, 5)],
)
def test_whoever_drops_out_at_whatever_stage_of_a_sum_it_is_exact_or_dead(mode, count):
    there = crowd(count, mode, length=3)
    opened_ = there.open()
    stages = (2, 3, 4, 5) if mode is Mode.RESILIENT else (2, 5)
    for query, fate in enumerate(itertools.product(stages, repeat=count)):
        outcome(there, dict(zip(there.members, fate, strict=True)), opened_, query)


@pytest.mark.parametrize("mode", Mode)
def test_whoever_drops_out_at_whatever_stage_of_a_session_the_sum_of_the_others_is_exact_or_dead(mode):
    for fate in itertools.product(range(len(STAGES)), repeat=3):
        there = crowd(3, mode, length=3)
        gone = dict(zip(there.members, fate, strict=True))
        there.lost = lambda stage, _q, m, gone=gone: STAGES.index(stage) >= gone[m]
        if min(fate) < 2:
            with pytest.raises(Abort, match=r"of 3 members (introduced themselves|acknowledged the others), need 3"):
                there.open()
        else:
            outcome(there, gone, there.open(), 0)


def test_six_members_of_whom_any_are_missing_at_each_of_three_stages():
    """All ways to lose two of six at stages of their own, and all to lose one at each stage."""
    there = crowd(6, Mode.RESILIENT, length=3)
    opened_, query = there.open(), itertools.count()
    for pair in itertools.combinations(there.members, 2):
        for stages in itertools.product((2, 3, 4), repeat=2):
            fate = dict.fromkeys(there.members, 5) | dict(zip(pair, stages, strict=True))
            outcome(there, fate, opened_, next(query))


# messages that are out of place ---------------------------------------------------------------------------------


def strays() -> list:
    slip, terms = Slip(ME, bytes(32), b""), Terms(Mode.STRICT, 3, 1)
    return [
        Introduced(b"", b""), messages.Acknowledged((slip,)), Upload(0, np.zeros(0, np.uint8), b"", b"", ()),
        messages.Agreed(0, bytes(64)), Revealed(0, np.zeros((1, 16), np.uint16), ()),
        average.Contributed(0, np.zeros(1, np.float32)),
        average.Averaged(np.zeros(1, np.float32), (), ()), slip, terms,
    ]  # fmt: skip


@pytest.mark.parametrize("stray", strays(), ids=lambda m: type(m).__name__)
def test_a_message_of_another_kind_is_no_ask_and_changes_nothing(stray):
    at = opened(4)
    with refused(PeerError, "is no ask of this collaboration"):
        seat.answer(stray, at[ME])
    assert at.ask(ME, at.request()).number == 0


def test_no_state_and_no_key_is_in_a_vocabulary_that_travels():
    names = {kind.__name__ for kind in messages.KINDS} | {kind.__name__ for kind in average.WIRE.kinds}
    assert not names & {
        "Pair",
        "Joined",
        "Ready",
        "Announced",
        "Uploaded",
        "Consenting",
        "Begun",
        "Layout",
        "Recovered",
    }
    assert {f.name for f in fields(average.Idle)} == {"next_round"}  # all that outlives a crash


ORDERS = [
    p for n in (2, 3) for p in itertools.product(("introduce", "acknowledge", "upload", "agree", "reveal"), repeat=n)
]


def test_asks_in_any_other_order_than_the_right_one_are_refused_and_reveal_nothing():
    """All pairs and triples of asks after a sum was uploaded: shares come only by agree, then reveal, once."""
    right = ("agree", "reveal")
    for order in ORDERS:
        at = opened(4)
        request = at.request()
        uploads = at.upload(request)
        ask = at.survivors(request, uploads)
        signed = {m: at[m].agree(ask).signature for m in at.names if m != ME}
        said = messages.agreement(request.ctx, ask.survivors, ask.digests)
        signed[ME] = at[ME].identity.sign(messages.label("agreement"), said)
        shown = []
        for what in order:
            try:
                shown.append(play(at, what, ask, at.reveal(ME, request, uploads, signed)))
            except PeerError:
                shown.append(None)
                assert what == "introduce" or len(at[ME].sums) == 0
        revealed = [i for i, a in enumerate(shown) if isinstance(a, Revealed)]
        expected = [1] if order[:2] == right else [2] if order[1:] == right and order[0] == "upload" else []
        if order[0] == "upload":
            expected = []  # another sum was begun since
        assert revealed == expected, order


def play(at: Hand, what: str, agree: Agree, reveal: Reveal):
    one = at[ME]
    if what == "introduce":
        return seat.answer(Introduce(at.there.terms), one)
    if what == "acknowledge":
        return seat.answer(at.manifest(), one)
    if what == "upload":
        return at.ask(ME, at.request())
    return seat.answer(agree if what == "agree" else reveal, one)


# replay ------------------------------------------------------------------------------------------------------------


def test_two_sessions_of_one_member_share_nothing_although_both_are_open():
    """Another name at the home, another session: what is good in one is refused in the other."""
    at, other = opened(4), hand(4)
    for m in at.names:
        other.there.members[m] = replace_session(at[m], "other")
    other.introduce().join()
    request, uploads, signed = at.agreed()
    later, theirs, _ = other.agreed()
    wrong = other.reveal(ME, later, theirs, signed)
    with refused(PeerError, "0 signatures verify"):
        other[ME].reveal(wrong)
    with refused(PeerError, "a request of another session"):
        other.ask("m002", request)
    assert at[ME].reveal(at.reveal(ME, request, uploads, signed)).broken == ()  # the first goes on


def replace_session(one: One, session: str) -> One:
    twin = One(one.name, one.identity, one.everyone, one.values, one.roster, one.clock, session)
    twin.sums = one.sums
    return twin


def test_an_attempt_at_a_reveal_that_fails_leaves_the_other_members_sum_as_it_was():
    at = opened(6)
    request, uploads, signed = at.agreed()
    with refused(PeerError, "signatures", at[ME]):
        at[ME].reveal(Reveal(request.number, (), b"", ()))
    layout, left = layout_of(request, at.there.terms), [m for m in at.names if m != ME]
    shares = {m: at[m].reveal(at.reveal(m, request, uploads, signed)) for m in left}
    assert recovered(layout, uploads, shares).lost == 0


# members that lie about each other ------------------------------------------------------------------------------


def quarrelling(there, liar: str, *victims: str):
    """Have `liar` commit to another mask than it shares with each of `victims`."""

    def alter(stage, m, answer):
        if stage != "Request" or m != liar:
            return answer
        peers, said = [p for p in there.members if p != liar], answer.commitments
        for victim in victims:
            said = changed(said, 32 * peers.index(victim))
        return replace(answer, commitments=said)

    there.alter = alter


@pytest.mark.parametrize("liar", ["m000", "m002", "m005"])
def test_a_member_that_quarrels_with_many_is_left_out_and_the_sum_is_exact(liar):
    there = crowd(6, Mode.RESILIENT)
    quarrelling(there, liar, *(m for m in there.members if m != liar))
    spec = there.spec(6)
    summed = there.sum(there.open(), spec=spec)
    assert liar not in summed.members
    assert len(summed.members) == 5
    assert exact(there, summed, spec)


@pytest.mark.parametrize(("liar", "victim"), [("m000", "m005"), ("m005", "m000")])
def test_a_member_that_quarrels_with_one_costs_the_sum_the_two_at_the_most(liar, victim):
    """Nobody can tell who of the two lied; whoever stays must be able to be unmasked."""
    there = crowd(6, Mode.RESILIENT)
    quarrelling(there, liar, victim)
    spec = there.spec(6)
    summed = there.sum(there.open(), spec=spec)
    assert set(there.members) - set(summed.members) <= {liar, victim}
    assert exact(there, summed, spec)


def test_a_dealer_that_seals_garbage_for_a_holder_does_not_make_a_liar_of_it():
    """m000 deals m005 a share that fits no polynomial. m005 then loses its say on all others' masks."""
    at = opened(7)
    request, uploads, signed = at.agreed()
    layout = layout_of(request, at.there.terms)
    shares = {m: at[m].reveal(at.reveal(m, request, uploads, signed)) for m in uploads}
    rows = shares["m005"].shares.copy()
    rows[0] = (rows[0] + 1) % 65521  # what m005 found in the box of m000: the dealer's doing
    shares["m005"] = replace(shares["m005"], shares=rows)
    found = recovered(layout, uploads, shares)
    assert found.lost == 0
    assert "m005" not in found.liars


def test_a_dealer_and_a_holder_that_lie_together_do_not_silence_enough_honest_holders_to_end_the_sum():
    """Of nine six are needed: m000 deals three garbage, m005 lies about all the others, and seven honest are left."""
    at = opened(9, colluding=2)
    request, uploads, signed = at.agreed()
    layout = layout_of(request, at.there.terms)
    assert layout.threshold == 6
    shares = {m: at[m].reveal(at.reveal(m, request, uploads, signed)) for m in uploads}
    for framed in ("m006", "m007", "m008"):
        rows = shares[framed].shares.copy()
        rows[0] = (rows[0] + 1) % 65521
        shares[framed] = replace(shares[framed], shares=rows)
    rows = shares["m005"].shares.copy()
    rows[1:] = (rows[1:] + 1) % 65521
    shares["m005"] = replace(shares["m005"], shares=rows)
    assert recovered(layout, uploads, shares).lost == 0


def test_a_dealer_whose_shares_fit_nothing_ends_the_sum_and_nobody_elses_mask_is_named_lost():
    at = opened(6)
    request, uploads, signed = at.agreed()
    uploads = {**uploads, "m000": replace(uploads["m000"], own=bytes(32))}
    layout = layout_of(request, at.there.terms)
    shares = {m: at[m].reveal(at.reveal(m, request, uploads, signed)) for m in uploads}
    found = recovered(layout, uploads, shares)
    assert found.lost == 1
    assert not found.liars


# large crowds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "colluding"), [(129, 13), (150, 15), (150, 40), (300, 30)])
def test_a_large_crowd_masks_along_a_graph_that_falls_apart_for_nobody_who_may_try_many_numbers(count, colluding):
    """A coordinator chooses a sum's number, and of whom to say that they dropped out: 40 bits more, and `whole`.

    Else it could have the sum of a part unmasked, of fewer than the smallest crowd, with fewer members' noise. A
    member holds a share of its own secrets besides its neighbours: one share more.
    """
    names = tuple(f"m{i:03d}" for i in range(count))
    terms = Terms(Mode.RESILIENT, smallest_crowd=count // 2, colluding=colluding)
    request = Request(bytes(32), 0, PURPOSE, names, crowd(2).spec(count), CONTEXT, 0, 0)
    layout = layout_of(request, terms)
    safe = graph.parameters(count, colluding / count, ASSUMED_DROPOUT, security=80, whole=True)
    assert {len(n) for n in layout.neighbours.values()} == {safe.degree}
    assert layout.threshold == safe.threshold + 1
    assert all(m in layout.dealing(m).holders for m in names)
    assert layout_of(replace(request, number=1), terms).neighbours != layout.neighbours


# names and sizes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [
    ("a", "a-", "a-a", "a0", "aa"), ("0", "00", "1", "10", "2"), ("b", "ab", "a", "ba", "aab"),
    ("m-1", "m1", "m-10", "m10", "m"),
], ids=" ".join)  # fmt: skip
@pytest.mark.parametrize("mode", Mode)
def test_members_whose_names_begin_alike_or_sort_oddly_sum_exactly(mode, names):
    people = {
        n: One(n, Identity.generate(), tuple(sorted(names)), np.full(7, i, np.float32)) for i, n in enumerate(names)
    }
    roster = Roster(tuple((MemberId(n), p.identity.public) for n, p in people.items()))
    for one in people.values():
        one.roster = roster
    there = Crowd(people, Terms(mode, 3, 1), 7)
    opened_, spec = there.open(), there.spec(5)
    assert exact(there, there.sum(opened_, spec=spec), spec)
    if mode is Mode.RESILIENT:
        there.lost = lambda stage, _q, m: stage == "Request" and m == names[1]
        assert exact(there, there.sum(opened_, 1, spec=spec), spec)


def test_names_that_run_together_give_other_keys_boxes_and_agreements():
    from protocols.secure_sum.boxes import _about
    from protocols.secure_sum.pairs import Pair

    assert Pair.derive(bytes(32), "ab", "c") != Pair.derive(bytes(32), "a", "bc")
    assert Pair.derive(bytes(32), "a", "b").sealing == Pair.derive(bytes(32), "b", "a").opening
    assert Pair.derive(bytes(32), "a", "b").sealing != Pair.derive(bytes(32), "a", "b").opening
    assert _about("ab", "c", bytes(32)) != _about("a", "bc", bytes(32))
    said = {
        messages.agreement(bytes(32), names, bytes(64))
        for names in (("ab", "c"), ("a", "bc"), ("abc",), ("a", "b", "c"))
    }
    assert len(said) == 4


def test_huge_tuples_are_refused_and_quickly():
    at = opened(4)
    request, uploads, signed = at.agreed()
    many = 60_000
    right = at.reveal(ME, request, uploads, signed)
    lies = [
        replace(right, signers=right.signers * (many // 4), signatures=right.signatures * (many // 4)),
        replace(right, boxes=(b"",) * many),
    ]
    for lie, m in zip(lies, (ME, "m002"), strict=True):
        with refused(PeerError, "signers|boxes", at[m]):
            at[m].reveal(lie)
    at = opened(4)
    with refused(PeerError, "members out of order|sized", at[ME]):
        at.ask(ME, at.request(members=at.names * (many // 4), spec=at.spec(4)), spec=at.spec(4))


def test_a_list_of_more_announcements_than_members_is_refused_before_its_signatures_are_checked():
    at = hand(4)
    shown = at.manifest().introduced
    lie = replace(shown[1], signature=bytes(64))  # would be found by whoever checks it
    with refused(PeerError, "order|twice|more", at["m000"]):
        at["m000"].acknowledge(Acknowledge((*shown, lie)))


def test_an_ask_survives_the_wire_only_as_it_is():
    wire = Wire(*messages.KINDS)
    at = opened(4)
    request, uploads, signed = at.agreed()
    for message in (at.survivors(request, uploads), at.reveal(ME, request, uploads, signed), at.manifest()):
        assert wire.decode(wire.encode(message)) == message
    upload = wire.decode(wire.encode(uploads[ME]))
    assert upload.digest(request.ctx) == uploads[ME].digest(request.ctx)
    assert np.array_equal(upload.words, uploads[ME].words)
