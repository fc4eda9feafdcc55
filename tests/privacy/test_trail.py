"""A trail says where it was tampered with, whoever holds the file; a head proves a line and shows no other."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from dp_accounting import GaussianDpEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.auditing import _FAST, Report, _read, check, read_slowly
from privacy.ledger import Account, Ledger
from privacy.occasion import Occasion
from privacy.policy import Budget
from privacy.proofs import Growth, Proof, growth, inclusion
from privacy.trail import (
    GENESIS,
    HEAD_LABEL,
    KINDS,
    LONGEST_LINE,
    Field,
    Head,
    Peaks,
    SignedHead,
    leaf,
    line,
    link,
    parse,
    stamp,
)
from privacy.units import Level
from protocols.faults import PeerError
from protocols.keys import Identity, PublicKey

ID, OTHER = "ab" * 16, "cd" * 16
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
AT = stamp(NOON)
OWNER, STRANGER = Identity.generate(), Identity.generate()


def trusting(*keys: PublicKey) -> Callable[[str, bytes, bytes], bool]:
    def verify(key: str, data: bytes, signature: bytes) -> bool:
        if key not in map(str, keys):
            return False
        try:
            PublicKey.parse(key).verify(HEAD_LABEL, data, signature)
        except PeerError:
            return False
        return True

    return verify


def head_of(lines: Sequence[str], trail: str = ID) -> Head:
    peaks, chain = Peaks(), GENESIS
    for text in lines:
        peaks, chain = peaks.added(text), link(chain, text)
    return Head(trail, len(lines), json.loads(lines[-1])["at"] if lines else "", chain, peaks.root())


def signed(lines: Sequence[str], by: Identity = OWNER, trail: str = ID) -> SignedHead:
    head = head_of(lines, trail)
    return SignedHead(head, str(by.public), by.sign(HEAD_LABEL, head.signed_bytes()))


@dataclass(frozen=True)
class Kept:
    """A trail that somebody holds, honest or not."""

    lines: list[str]
    heads: list[SignedHead]

    def report(self, *witnesses: SignedHead, keys: Iterable[PublicKey] = (OWNER.public,), **more: object) -> Report:
        more.setdefault("trail", ID)
        return check(self.lines, self.heads, trusting(*keys), witnesses, **more)  # type: ignore[arg-type]

    def first(self, *witnesses: SignedHead, **more: object) -> int:
        """The first line that is said to be wrong."""
        report = self.report(*witnesses, **more)
        assert not report.sound
        return next(fault.seq for fault in report.faults)


def release(seq: int, number: int, kind: str, at: datetime, **fields: Field) -> str:
    common: dict[str, Field] = {"session": "s@1", "number": number, "partner": "p", "level": "weights", "crowd": 3}
    return line(seq, stamp(at), kind, common | fields)


def honest(releases: int = 6) -> Kept:
    """Charged, emitted, charged, emitted ...; a signed head after each that is emitted."""
    lines, heads = [line(1, AT, "opened", {"account": "notes"})], []
    for n in range(releases):
        at = NOON + timedelta(seconds=n)
        lines.append(release(len(lines) + 1, n, "charged", at, account="notes", event='{"kind":"gaussian"}'))
        lines.append(release(len(lines) + 1, n, "emitted", at, asked="00", answer=f"{n:064x}", size=9))
        heads.append(signed(lines))
    return Kept(lines, heads)


GOOD = honest()


def renumbered(lines: Iterable[str]) -> list[str]:
    """The lines with numbers that fit, as a forger writes them."""
    found = []
    for seq, text in enumerate(lines, 1):
        fields = json.loads(text)
        own = fields.pop("seq"), fields.pop("at"), fields.pop("kind")
        found.append(line(seq, own[1], own[2], fields))
    return found


def rebuilt(lines: list[str], heads: Iterable[SignedHead]) -> list[SignedHead]:
    """The heads over other lines, under the signatures that there are."""
    return [replace(h, head=head_of(lines[: h.head.seq])) for h in heads]


# Lines.

texts = st.text(max_size=20) | st.text('\\"/\b\n\x7f\x00 é\U0001f600', max_size=8)
fields_ = st.dictionaries(
    st.sampled_from(["account", "session", "answer", "number", "event", "why", "purpose", "a_new_field"]),
    texts | st.integers(-(10**20), 10**20) | st.booleans() | st.none(),
)


@given(st.integers(1, 10**12), st.sampled_from(sorted(KINDS)), fields_)
def test_what_is_written_is_read_back_and_has_one_form(seq: int, kind: str, fields: dict[str, Field]) -> None:
    text = line(seq, AT, kind, fields)
    kept = {name: value for name, value in fields.items() if value is not None}
    assert parse(text) == {"seq": seq, "at": AT, "kind": kind, **kept}
    assert text.isascii()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def test_a_line_has_the_bytes_that_it_had_when_the_format_was_fixed() -> None:
    text = line(7, "2026-05-01T12:00:00.000000Z", "said", {"session": 'é"', "number": 0, "summed": True, "why": None})
    assert (
        text == '{"at":"2026-05-01T12:00:00.000000Z","kind":"said","number":0,"seq":7,'
        '"session":"\\u00e9\\"","summed":true}'
    )
    assert link(GENESIS, text).hex() == "e531332e390135ceb25cd4ef5fe78ffef528bcee39b1400942c206521539cbd8"
    head = Head(ID, 7, "2026-05-01T12:00:00.000000Z", bytes(32), bytes(range(32)))
    assert (
        hashlib.sha256(head.signed_bytes()).hexdigest()
        == "f3138d4712cdcaf9add282bed1f3900c2a91cdb993c9849aa5ec5574a17c1611"
    )


@pytest.mark.parametrize(
    "edit",
    [
        lambda t: t.replace(":", ": ", 1),
        lambda t: t + " ",
        lambda t: t + "\n",
        lambda t: t + t,
        lambda t: t[:-1] + ",",
        lambda t: t[:-1],
        lambda t: t.replace(',"', '}"', 1),
        lambda t: t.replace(',"seq"', '}"seq"'),
        lambda t: t.replace('"kind":"charged"', '"kind":"charged","kind":"charged"'),
        lambda t: t.replace('"crowd":3', '"crowd":03'),
        lambda t: t.replace('"crowd":3', '"crowd":3.0'),
        lambda t: t.replace('"crowd":3', '"crowd":-0'),
        lambda t: t.replace('"crowd":3', '"crowd":NaN'),
        lambda t: t.replace('"crowd":3', '"crowd":null'),
        lambda t: t.replace('"crowd":3', '"crowd":[3]'),
        lambda t: t.replace('"crowd":3', '"crowd":{"a":3}'),
        lambda t: t.replace('"crowd":3', '"crowd":' + "[" * 20_000),
        lambda t: t.replace('"partner":"p"', '"partner":"\\u0070"'),
        lambda t: t.replace('"partner":"p"', '"partner":"\\/"'),
        lambda t: t.replace('"partner":"p"', '"partner":"é"'),
        lambda t: t.replace('"partner":"p"', '"partner":"\\u00E9"'),
        lambda t: t.replace('"partner":"p"', '"partner":"\t"'),
        lambda t: t.replace('"partner":"p"', '"partner":"\\ud83d"'),
        lambda t: t.replace('"charged"', '"paid"'),
        lambda t: t.replace("Z", "+00:00"),
        lambda t: t.replace("2026", "٢٠٢٦"),
        lambda t: t.replace('"partner"', '"Partner"'),
        lambda t: t.replace('"partner"', '"partner1"'),
        lambda t: t.replace('"seq":1', '"seq":0'),
        lambda t: t.replace('"seq":1', '"seq":-1'),
        lambda t: t.replace('"seq":1', '"seq":true'),
        lambda t: t.replace('"partner":"p"', '"partner":"' + "p" * LONGEST_LINE + '"'),
        lambda t: "{" + ",".join(reversed(t[1:-1].split(","))) + "}",
        lambda _: "",
        lambda _: "null",
        lambda _: "[]",
    ],
)
def test_a_line_in_any_other_form_is_no_line(edit: Callable[[str], str]) -> None:
    text = release(1, 0, "charged", NOON, account="notes")
    assert edit(text) != text
    with pytest.raises(ValueError, match="not a canonical line"):
        parse(edit(text))
    assert _read(edit(text)) is None
    report = Kept([edit(text)], []).report()
    assert [f.seq for f in report.faults] == [1]


@settings(max_examples=300)
@given(st.sampled_from(GOOD.lines), st.data())
def test_the_fast_way_to_read_a_line_says_what_the_slow_one_says(text: str, data: st.DataObject) -> None:
    assert _FAST(text) is not None  # else this would say nothing
    at = data.draw(st.integers(0, len(text) - 1))
    put = data.draw(st.sampled_from(['"', "\\", ",", "}", "{", ":", "0", "1", "a", " ", "\n", "\x7f", "é", "-", ""]))
    for changed in (text, text[:at] + put + text[at:], text[:at] + put + text[at + 1 :]):
        assert _read(changed) == read_slowly(changed)


@given(st.integers(1, 10**12), st.sampled_from(sorted(KINDS)), fields_)
def test_both_ways_agree_on_every_line_that_can_be_written(seq: int, kind: str, fields: dict[str, Field]) -> None:
    text = line(seq, AT, kind, fields)
    assert _read(text) == read_slowly(text) is not None


@pytest.mark.parametrize(
    ("seq", "at", "kind", "fields"),
    [
        (0, AT, "said", {}),
        (True, AT, "said", {}),
        (1, "2026-05-01", "said", {}),
        (1, AT, "sung", {}),
        (1, AT, "said", {"seq": 2}),
        (1, AT, "said", {"At": "now"}),
        (1, AT, "said", {"crowd": 0.5}),
        (1, AT, "said", {"crowd": [1]}),
        (1, AT, "said", {"purpose": "canary" * LONGEST_LINE}),
        (1, AT, "said", {"purpose": "canary\ud83d\ude00"}),
    ],
)
def test_what_is_no_line_is_not_written_and_not_quoted(
    seq: int, at: str, kind: str, fields: dict[str, Field]
) -> None:
    with pytest.raises(ValueError, match=r"line|field|text") as refused:
        line(seq, at, kind, fields)
    assert "canary" not in str(refused.value)


# The tree.


def naive_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def test_the_tree_has_the_roots_that_certificate_transparency_publishes() -> None:
    entries = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ]
    assert leaf("x") == hashlib.sha256(b"\0x").digest()
    peaks = Peaks()
    assert peaks.root().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for entry, root in zip(entries, roots, strict=True):
        peaks = peaks.added_leaf(hashlib.sha256(b"\0" + bytes.fromhex(entry)).digest())
        assert peaks.root().hex() == root


@given(st.integers(0, 70))
def test_a_tree_that_grows_has_the_root_of_the_whole_and_survives_the_disk(size: int) -> None:
    leaves = [leaf(str(n)) for n in range(size)]
    peaks = Peaks()
    for one in leaves:
        peaks = Peaks.from_bytes(peaks.added_leaf(one).to_bytes())
    assert peaks.root() == naive_root(leaves)


@pytest.mark.parametrize(
    "data", [b"", bytes(7), bytes(9), bytes(7) + b"\1", bytes(8) + bytes(32), bytes(7) + b"\3" + bytes(32)]
)
def test_peaks_that_are_no_tree_are_not_read(data: bytes) -> None:
    with pytest.raises(ValueError, match="peaks"):
        Peaks.from_bytes(data)


def trail(size: int) -> list[str]:
    return [line(n + 1, AT, "said", {"number": n}) for n in range(size)]


@pytest.mark.parametrize("size", [*range(1, 20), 33, 64, 65])
def test_every_line_is_proven_and_no_other_line_or_place_or_head(size: int) -> None:
    lines = trail(size)
    leaves, head = [leaf(text) for text in lines], head_of(lines)
    for index, text in enumerate(lines):
        proof = inclusion(leaves, index)
        assert len(proof.path) <= size.bit_length()
        assert proof.holds(text, head)
        assert not proof.holds(line(index + 1, AT, "said", {"number": index + 1}), head)
        assert not replace(proof, seq=index + 2).holds(text, head)
        assert not replace(proof, path=(*proof.path, bytes(32))).holds(text, head)
        assert not proof.path or not replace(proof, path=proof.path[1:]).holds(text, head)
        assert not proof.holds(text, replace(head, root=bytes(32)))
        assert not proof.holds(text, head_of(trail(size + 1)))
        assert not proof.holds(text + " ", head)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 16, 21])
def test_a_head_goes_on_from_every_earlier_one_and_from_no_other(size: int) -> None:
    lines = trail(size)
    leaves, new = [leaf(text) for text in lines], head_of(lines)
    for seq in range(size + 1):
        old, found = head_of(lines[:seq]), growth(leaves, seq)
        assert found.holds(old, new)
        assert not replace(found, path=(*found.path, bytes(32))).holds(old, new)
        assert not found.holds(replace(old, trail=OTHER), new)
        if seq:
            assert not found.holds(replace(old, root=bytes(32)), new)
            assert not found.holds(old, replace(new, root=bytes(32)))
        if found.path:
            assert not Growth(seq, size, found.path[1:]).holds(old, new)


@pytest.mark.parametrize("index", [-1, 3])
def test_no_proof_is_made_for_a_line_that_is_not_there(index: int) -> None:
    with pytest.raises(ValueError, match="no such"):
        inclusion([leaf(text) for text in trail(3)], index)
    with pytest.raises(ValueError, match="no such"):
        growth([leaf(text) for text in trail(2)], index)
    assert not Proof(index, 3, ()).holds(trail(3)[0], head_of(trail(3)))


# Tampering.


def test_an_honest_trail_is_sound_and_says_how_much_of_it_is_signed() -> None:
    for every in (False, True):
        report = GOOD.report(every_signature=every)
        assert report.sound
        assert report.signed == report.head.seq == len(GOOD.lines)
        assert report.head == GOOD.heads[-1].head
        assert report.keys == (str(OWNER.public),)
        assert report.signatures == (len(GOOD.heads) if every else 1)
    more = Kept([*GOOD.lines, release(14, 6, "charged", NOON + timedelta(hours=1))], GOOD.heads).report()
    assert more.sound
    assert more.signed == more.head.seq - 1


def test_an_empty_trail_is_sound_and_proves_nothing() -> None:
    assert Kept([], []).report().sound
    assert Kept([], []).report().signed == 0


@pytest.mark.parametrize("at", range(len(GOOD.lines)))
def test_a_line_that_was_deleted_is_missed(at: int) -> None:
    rest = GOOD.lines[:at] + GOOD.lines[at + 1 :]
    assert Kept(rest, GOOD.heads).first() == at + 1
    forged = renumbered(rest)
    assert Kept(forged, GOOD.heads).first() <= at + 1
    if at + 1 < len(GOOD.lines):  # the last with its head: only a witness knows
        assert Kept(forged, rebuilt(forged, GOOD.heads[:-1])).first() <= at + 1


@pytest.mark.parametrize("at", range(len(GOOD.lines)))
def test_a_line_that_was_inserted_is_found(at: int) -> None:
    extra = line(at + 1, json.loads(GOOD.lines[at])["at"], "refused", {"why": "Expired", "count": 1})
    more = [*GOOD.lines[:at], extra, *GOOD.lines[at:]]
    assert Kept(more, GOOD.heads).first() <= at + 2
    forged = renumbered(more)
    assert Kept(forged, GOOD.heads).first() <= at + 1
    assert Kept(forged, rebuilt(forged, GOOD.heads)).first() <= at + 1


@pytest.mark.parametrize("at", range(len(GOOD.lines) - 1))
def test_lines_in_another_order_are_found(at: int) -> None:
    lines = list(GOOD.lines)
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
    assert Kept(lines, GOOD.heads).first() == at + 1
    assert Kept(renumbered(lines), GOOD.heads).first() <= at + 1


@pytest.mark.parametrize("at", range(len(GOOD.lines)))
def test_a_line_that_was_edited_is_found_between_the_heads_beside_it(at: int) -> None:
    fields = json.loads(GOOD.lines[at]) | {"partner": "q"}
    own = fields.pop("seq"), fields.pop("at"), fields.pop("kind")
    lines = [*GOOD.lines[:at], line(*own, fields), *GOOD.lines[at + 1 :]]
    before = max((h.head.seq for h in GOOD.heads if h.head.seq <= at), default=0)
    assert Kept(lines, GOOD.heads).first() == before + 1
    assert Kept(lines, rebuilt(lines, GOOD.heads)).first() <= at + 1
    chain, stored = GENESIS, []
    for text in GOOD.lines:
        stored.append(chain := link(chain, text))
    report = Kept(lines, GOOD.heads).report(links=stored)
    assert at + 1 in {f.seq for f in report.faults}  # the links beside the lines say which it was
    assert not report.sound


def test_where_no_signature_holds_the_first_line_without_one_is_named() -> None:
    lines = [line(n + 1, AT, "started", {"number": n}) for n in range(6)]
    heads = [signed(lines[:3]), signed(lines)]
    lines[3] = line(4, AT, "started", {"number": 99})
    assert Kept(lines, rebuilt(lines, heads)).first() == 4


@settings(max_examples=200)
@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=1))
def test_any_byte_that_was_changed_is_found(at: int, byte: bytes) -> None:
    data = bytearray("\n".join(GOOD.lines).encode())
    at %= len(data)
    data[at : at + 1] = byte
    lines = data.decode("ascii", "replace").split("\n")
    assert Kept(lines, GOOD.heads).report().sound == (lines == GOOD.lines)


@pytest.mark.parametrize("left", range(len(GOOD.lines)))
def test_a_trail_that_was_cut_short_is_missed_by_its_newest_head(left: int) -> None:
    cut = GOOD.lines[:left]
    assert Kept(cut, GOOD.heads).first() == left + 1
    remaining = [h for h in GOOD.heads if h.head.seq <= left]
    if (
        not left or left % 2
    ):  # a cut that takes the heads along is an older state, and only somebody else knows better
        assert Kept(cut, remaining).report().sound
    assert Kept(cut, remaining).first(GOOD.heads[-1]) == left + 1


def test_what_was_emitted_under_no_head_is_found() -> None:
    assert Kept(GOOD.lines, GOOD.heads[:-1]).first() == 12
    assert Kept(GOOD.lines, []).first() == 1


def test_signatures_that_were_swapped_are_found() -> None:
    a, b, *_, last = GOOD.heads
    swapped = [replace(a, signature=b.signature), replace(b, signature=a.signature), *GOOD.heads[2:]]
    assert not Kept(GOOD.lines, swapped).report(every_signature=True).sound
    swapped = [replace(a, signature=last.signature), *GOOD.heads[1:-1], replace(last, signature=a.signature)]
    assert not Kept(GOOD.lines, swapped).report().sound
    assert not Kept(GOOD.lines, [b, a, *GOOD.heads[2:]]).report().sound


def test_a_head_that_another_key_signed_counts_for_nothing() -> None:
    forged = [*GOOD.heads[:-1], signed(GOOD.lines, STRANGER)]
    report = Kept(GOOD.lines, forged).report()
    assert not report.sound
    assert report.signed == GOOD.heads[-2].head.seq
    posing = replace(forged[-1], key=str(OWNER.public))
    assert not Kept(GOOD.lines, [*GOOD.heads[:-1], posing]).report().sound
    assert Kept(GOOD.lines, forged).report(keys=(OWNER.public, STRANGER.public)).sound


def test_a_whole_trail_that_another_key_signed_is_signed_by_nobody() -> None:
    lines = GOOD.lines[:-2]
    assert Kept(lines, [signed(lines, STRANGER)]).report().signed == 0
    assert Kept(lines, [signed(lines, STRANGER)]).first() == 1


def test_the_trail_of_another_ledger_is_noticed() -> None:
    report = Kept(GOOD.lines, GOOD.heads).report(trail=OTHER)
    assert not report.sound
    assert report.signed == 0
    assert not Kept(GOOD.lines, GOOD.heads).report(signed(GOOD.lines[:2], trail=OTHER)).sound


def test_time_that_runs_backwards_is_noticed_whoever_signed_it() -> None:
    lines = [line(1, stamp(NOON + timedelta(microseconds=1)), "started", {}), line(2, AT, "started", {})]
    assert Kept(lines, [signed(lines)]).first() == 2


def test_a_head_with_another_time_than_its_line_is_none_of_this_trail() -> None:
    head = replace(GOOD.heads[-1].head, at=stamp(NOON + timedelta(days=1)))
    later = SignedHead(head, str(OWNER.public), OWNER.sign(HEAD_LABEL, head.signed_bytes()))
    assert not Kept(GOOD.lines, [*GOOD.heads[:-1], later]).report().sound


def test_two_histories_that_share_a_beginning_are_both_sound_until_one_meets_the_other() -> None:
    fork = GOOD.lines[:5]
    for n in range(9, 12):
        fork.append(release(len(fork) + 1, n, "charged", NOON + timedelta(minutes=n)))
        fork.append(release(len(fork) + 1, n, "emitted", NOON + timedelta(minutes=n), answer="ff", asked="0", size=1))
    other = Kept(fork, [*GOOD.heads[:2], signed(fork)])
    assert other.report().sound
    for witness in GOOD.heads[2:]:
        report = other.report(witness)
        assert not report.sound
        assert report.faults[0].seq in range(6, witness.head.seq + 1) or "two histories" in report.faults[0].what
    assert GOOD.report(other.heads[-1]).faults[0].what == "two histories were signed"
    assert other.report(GOOD.heads[1]).sound  # from before they parted


def test_a_root_that_is_not_the_lines_is_found_where_its_signature_is() -> None:
    head = replace(GOOD.heads[-1].head, root=bytes(32))
    wrong = SignedHead(head, str(OWNER.public), OWNER.sign(HEAD_LABEL, head.signed_bytes()))
    assert not Kept(GOOD.lines, [*GOOD.heads[:-1], wrong]).report().sound


# The order of a release.


def written(*events: tuple[str, int, dict[str, Field]]) -> Kept:
    lines = [release(seq, number, kind, NOON, **more) for seq, (kind, number, more) in enumerate(events, 1)]
    return Kept(lines, [signed(lines)])


CHARGED = ("charged", 0, {"account": "a", "what": "value"})


@pytest.mark.parametrize(
    ("events", "seq"),
    [
        ([("emitted", 0, {"answer": "aa"})], 1),
        ([CHARGED, ("emitted", 1, {"answer": "aa"})], 2),
        ([CHARGED, ("emitted", 0, {"answer": "aa"}), ("emitted", 0, {"answer": "ab"})], 3),
        ([CHARGED, ("emitted", 0, {})], 2),
        ([CHARGED, CHARGED], 2),
        ([CHARGED, ("emitted", 0, {"answer": "aa"}), ("charged", 0, {"account": "b"})], 3),
        ([CHARGED, ("emitted", 0, {"answer": "aa"}), ("disclosed", 0, {"account": "b"})], 3),
        ([CHARGED, ("emitted", 0, {"answer": "aa", "session": None})], 2),
    ],
)
def test_what_left_unpaid_twice_or_differently_is_found_whoever_signed_it(
    events: list[tuple[str, int, dict[str, Field]]], seq: int
) -> None:
    assert written(*events).first() == seq


@pytest.mark.parametrize("kind", ["charged", "disclosed", "said"])
def test_what_was_charged_disclosed_or_said_may_be_emitted_and_the_same_bytes_again(kind: str) -> None:
    out: tuple[str, int, dict[str, Field]] = ("emitted", 0, {"answer": "aa"})
    assert written((kind, 0, {"account": "a"}), out, out).report().sound


def test_a_figure_beside_the_answer_and_another_account_have_charges_of_their_own() -> None:
    assert (
        written(CHARGED, ("charged", 0, {"account": "a", "what": "count"}), ("charged", 0, {"account": "b"}))
        .report()
        .sound
    )


# A trail that the ledger wrote.


def test_a_trail_that_the_ledger_wrote_is_sound_and_loses_nothing_unnoticed(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.db")
    account = Account("notes", Budget(8.0, 1e-5))
    try:
        for n in range(8):
            occasion = Occasion(f"s@{n % 2}", n, "average", Level.WEIGHTS, "p", 3, ("a", "b", "c"), purpose="é")
            if n % 4 == 3:
                ledger.disclose(account, occasion)
            else:
                ledger.charge(account, GaussianDpEvent(20.0 + n), occasion)
            ledger.refuse(occasion, "Expired")
            answer = hashlib.sha256(str(n).encode()).digest()
            sign: Callable[[bytes], bytes] = lambda data: OWNER.sign(HEAD_LABEL, data)  # noqa: E731
            ledger.emit(occasion, bytes(32), answer, 100, sign, str(OWNER.public))
        kept = Kept(list(ledger.lines()), list(ledger.heads()))
        own = ledger.head()
    finally:
        ledger.close()
    report = kept.report(every_signature=True, trail=own.trail)
    assert report.faults == ()
    assert report.head == own == kept.heads[-1].head
    assert report.signed == len(kept.lines)
    assert all(parse(text)["seq"] == n for n, text in enumerate(kept.lines, 1))
    for at in range(len(kept.lines)):
        rest = kept.lines[:at] + kept.lines[at + 1 :]
        assert Kept(rest, kept.heads).first(trail=own.trail) == at + 1
        assert Kept(renumbered(rest), kept.heads).first(trail=own.trail) <= at + 1
    proof = inclusion([leaf(text) for text in kept.lines], 4)
    assert proof.holds(kept.lines[4], own)
    assert growth([leaf(text) for text in kept.lines], kept.heads[2].head.seq).holds(kept.heads[2].head, own)
