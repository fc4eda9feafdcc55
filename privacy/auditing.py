"""Check an audit trail against the heads that were signed for it, with public keys alone.

What a signed head fixes cannot be deleted, inserted, reordered, edited or cut off without `check` saying where.
What no head and no witness speaks of cannot be missed: lines after the newest head may have been taken away.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from privacy.trail import GENESIS, KINDS, LONGEST_LINE, Head, SignedHead, grow, leaf, link, parse, root

Verify = Callable[[str, bytes, bytes], bool]  # (key, data, signature)
MOST_FAULTS = 100


@dataclass(frozen=True, slots=True)
class Fault:
    """Say what is wrong, and the first line that it can be wrong of; 0 where no line is meant."""

    seq: int
    what: str

    def __str__(self) -> str:
        """Return one line for a reader."""
        return f"line {self.seq}: {self.what}" if self.seq else self.what


@dataclass(frozen=True, slots=True)
class Report:
    """Say what was read, how much of it is under a verified signature, and all that is wrong.

    `head` stands for the lines that were followed; `signed` is how many of them a verified head covers, by one of
    `keys`. What comes after is in the right form and order, and could still be changed by whoever holds the file.
    """

    head: Head
    signed: int
    keys: tuple[str, ...]
    signatures: int
    faults: tuple[Fault, ...]

    @property
    def sound(self) -> bool:
        """Return whether nothing is wrong."""
        return not self.faults


def check(
    lines: Iterable[str],
    heads: Sequence[SignedHead],
    verify: Verify,
    witnesses: Sequence[SignedHead] = (),
    *,
    trail: str,
    every_signature: bool = False,
    links: Iterable[bytes] | None = None,
) -> Report:
    """Follow the lines of `trail` from the first to the last, and hold them against every head and every witness.

    Every head's link is compared. Signatures are verified of the newest head of each key and of witnesses; of all
    heads with `every_signature`, and where those do not hold. `verify` says whether a key is one that the caller
    trusts and the signature its own. A witness is a head that was kept elsewhere: it finds what was cut off together
    with the heads that spoke of it. `links` are those stored beside the lines: they say which line was edited.

    Trusts: the holders of the keys not to have signed two histories; a witness from the other one shows it.
    """
    everything = [*heads, *witnesses]
    asked = list(heads) if every_signature else _newest(heads)
    walk = _Walk({h.head.seq for h in everything}, {h.head.seq for h in (*asked, *witnesses)})
    walk.follow(lines, links)
    judged = _Judged(walk, trail, verify, everything)
    judged.kept(heads)
    judged.signatures(asked)
    judged.witnesses(witnesses)
    judged.lines()
    return judged.report()


class _Walk:
    """Follow the lines, and keep what is wrong with each and what a head over them would say."""

    def __init__(self, wanted: set[int], rooted: set[int]) -> None:
        self.seq, self.at, self.chain = 0, "", GENESIS
        self.peaks: list[bytes] = []
        self.marks: dict[int, tuple[str, bytes, bytes | None]] = {0: ("", GENESIS, root(()))}
        self.faults: list[Fault] = []
        self.broken = False
        self.rules = _Rules()
        self._wanted, self._rooted = wanted, rooted

    def follow(self, lines: Iterable[str], links: Iterable[bytes] | None) -> None:
        """Go on until the end, or a line that is none or has another number: what follows it cannot be placed."""
        stored = iter(links) if links is not None else None
        for text in lines:
            seq, seen = self.seq + 1, _read(text)
            if seen is None or seen.seq != seq:
                self.faults.append(Fault(seq, "not a canonical line" if seen is None else f"line {seen.seq} is here"))
                self.broken = True
                return
            if seen.at < self.at:
                self.faults.append(Fault(seq, "time runs backwards"))
            self.seq, self.at, self.chain = seq, seen.at, link(self.chain, text)
            grow(self.peaks, seq - 1, leaf(text))
            if (wrong := self.rules.broken_by(seen)) is not None:
                self.faults.append(Fault(seq, wrong))
            if seq in self._wanted:
                self.marks[seq] = self.at, self.chain, root(self.peaks) if seq in self._rooted else None
            if stored is not None and next(stored, None) != self.chain:
                self.faults.append(Fault(seq, "it is not what was linked to the line before"))
                stored = None  # from here on all differ

    def head(self, trail: str) -> Head:
        """Return what stands for all that was followed."""
        return Head(trail, self.seq, self.at, self.chain, root(self.peaks))


class _Seen(NamedTuple):
    """Hold what the rules ask of a line; texts are in quotes, as the line has them."""

    seq: int
    at: str
    kind: str
    account: str | None
    session: str | None
    number: str | None
    of: str | None
    answer: str | None
    what: str | None
    event: str | None


class _Rules:
    """Say which line breaks the order of a release: paid for first, then out, once, and always the same."""

    def __init__(self) -> None:
        self._charged: set[tuple[str | None, ...]] = set()
        self._entitled: set[tuple[str, str]] = set()
        self._paid: set[str] = set()  # numbers of lines
        self._left: dict[str, tuple[str, int]] = {}  # of a line that paid for several answers: the session, how many
        self._emitted: dict[tuple[str, str], str] = {}
        self.last_emitted = 0

    def broken_by(self, seen: _Seen) -> str | None:
        """Return what is wrong with this line after those before it, if anything."""
        if seen.kind not in _RULED:
            return None
        if seen.session is None or seen.number is None:
            return f"{seen.kind} on no occasion"
        key = seen.session, seen.number
        if seen.kind == "emitted":
            self.last_emitted = seen.seq
            return self._out(key, seen.answer)
        self._entitled.add(key)
        if key in self._emitted:
            return f"{seen.kind} after the answer was emitted"
        return self._pay(seen, key)

    def _pay(self, seen: _Seen, key: tuple[str, str]) -> str | None:
        match seen.kind:
            case "derived":
                return None if seen.of in self._paid else "derived from a line that was not charged"
            case "continued":
                return self._go_on(seen, key)
            case "charged":
                return self._charge(seen, key)
        return None

    def _out(self, key: tuple[str, str], answer: str | None) -> str | None:
        if answer is None:
            return "emitted, and no digest of what"
        if self._emitted.setdefault(key, answer) != answer:
            return "a second answer was emitted on one occasion"
        return None if key in self._entitled else "emitted, and never charged, disclosed or said"

    def _charge(self, seen: _Seen, key: tuple[str, str]) -> str | None:
        paid = (seen.account, *key, seen.what if seen.what in _APART else None)
        if paid in self._charged:
            return "one occasion was charged twice"
        self._charged.add(paid)
        self._paid.add(str(seen.seq))
        if (several := _REPEATED(seen.event or "")) is not None:
            self._left[str(seen.seq)] = key[0], int(several[1]) - 1
        return None

    def _go_on(self, seen: _Seen, key: tuple[str, str]) -> str | None:
        session, left = self._left.get(seen.of or "", ("", 0))
        if session != key[0] or left < 1:
            return "continued, and no line of its session paid for it"
        self._left[seen.of or ""] = session, left - 1
        return None


class _Judged:
    """Hold heads against what was followed, and collect what is wrong."""

    def __init__(self, walk: _Walk, trail: str, verify: Verify, heads: Sequence[SignedHead]) -> None:
        self.faults = list(walk.faults)
        self._walk, self._trail, self._verify = walk, trail, verify
        self._ours = sorted((h for h in heads if h.head.trail == trail), key=lambda h: h.head.seq)
        self._genuine: dict[SignedHead, bool] = {}

    def kept(self, heads: Sequence[SignedHead]) -> None:
        """Say that the heads kept with the lines are of one trail, and in order."""
        if any(h.head.trail != self._trail for h in heads):
            self.faults.append(Fault(0, "a head of another trail"))
        if any(one.head.seq > next_.head.seq for one, next_ in pairwise(heads)):
            self.faults.append(Fault(0, "the heads are not in order"))

    def signatures(self, asked: Sequence[SignedHead]) -> None:
        """Verify these heads' signatures."""
        for head in asked:
            if not self._holds(head):
                self.faults.append(Fault(head.head.seq, "the signature of the head over it does not verify"))

    def witnesses(self, heads: Sequence[SignedHead]) -> None:
        """Verify these heads' signatures: one that does not hold says nothing about the lines, for or against."""
        if any(h.head.trail != self._trail or not self._holds(h) for h in heads):
            self.faults.append(Fault(0, "the witness is of another trail, or by a key that was not named"))

    def lines(self) -> None:
        """Say from which line on the lines are not those that were signed, and which are missing."""
        walk, signed = self._walk, self._signed()
        reached = [h for h in self._ours if h.head.seq <= walk.seq]
        changed = next((h.head.seq for h in reached if not self._fits(h.head) and self._holds(h)), None)
        if changed is not None and changed <= signed:
            self.faults.append(Fault(changed, "two histories were signed"))
        elif changed is not None:
            self.faults.append(Fault(signed + 1, f"a line from here to {changed} is not as it was signed"))
        elif any(h.head.seq > signed for h in reached):
            self.faults.append(Fault(signed + 1, "no signature holds from here on"))
        missing = [h.head.seq for h in reversed(self._ours) if h.head.seq > walk.seq and self._holds(h)][:1]
        if missing and not walk.broken:
            self.faults.append(Fault(walk.seq + 1, f"lines up to {missing[0]} were signed, and are missing"))
        if walk.rules.last_emitted > signed:
            self.faults.append(
                Fault(signed + 1, "something was emitted from here on, and no head that holds says so")
            )

    def report(self) -> Report:
        """Return everything, the faults in the order of the lines."""
        return Report(
            head=self._walk.head(self._trail),
            signed=self._signed(),
            keys=tuple(sorted({h.key for h, genuine in self._genuine.items() if genuine and self._fits(h.head)})),
            signatures=sum(self._genuine.values()),
            faults=tuple(sorted(self.faults, key=lambda f: f.seq)[:MOST_FAULTS]),
        )

    def _signed(self) -> int:
        """Return how many lines the newest head covers that fits them and is genuine."""
        fitting = (h for h in reversed(self._ours) if self._fits(h.head))
        return next((h.head.seq for h in fitting if self._holds(h)), 0)

    def _holds(self, signed: SignedHead) -> bool:
        if signed not in self._genuine:
            self._genuine[signed] = self._verify(signed.key, signed.head.signed_bytes(), signed.signature)
        return self._genuine[signed]

    def _fits(self, head: Head) -> bool:
        if head.seq not in self._walk.marks:
            return False
        at, chain, top = self._walk.marks[head.seq]
        return (head.at, head.chain) == (at, chain) and top in (None, head.root)


def _newest(heads: Sequence[SignedHead]) -> list[SignedHead]:
    """Return the heads of each key's highest number; of several, all."""
    most: dict[str, int] = {}
    for h in heads:
        most[h.key] = max(most.get(h.key, 0), h.head.seq)
    return [h for h in heads if h.head.seq == most[h.key]]


def _read(text: str) -> _Seen | None:
    """Return what the rules ask of a line, or None if it is no canonical line.

    Most lines have fields that are known here and few escapes; they match one pattern, which is the grammar of a
    canonical line: names in order, none twice, each text in its one form. All others are parsed.
    """
    if (fast := _FAST(text)) is not None and len(text) <= LONGEST_LINE and fast["kind"] in KINDS:
        account, answer, at, event, kind, number, of, seq, session, what = fast.groups()  # as in the pattern
        return _Seen(int(seq), at, kind, account, session, number, of, answer, what, event)
    return read_slowly(text)


def read_slowly(text: str) -> _Seen | None:
    """Return the same by parsing the line and writing it again."""
    try:
        found = parse(text)
    except ValueError:
        return None
    asked = [json.dumps(found[name]) if name in found else None for name in _Seen._fields[3:]]
    return _Seen(int(found["seq"]), str(found["at"]), str(found["kind"]), *asked)


def _pattern() -> str:
    own = {
        "at": r'"(?P<at>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z)"',
        "kind": r'"(?P<kind>[a-z]{1,32})"',
        "seq": r"(?P<seq>[1-9][0-9]{0,17})",
    }
    value = r'(?:"(?:[ !#-\[\]-~]++|\\["\\])*+"|[1-9][0-9]{0,17}|0|true|false)'
    ends = '(?:,(?=")|}(?!.))'  # another field follows, or the line is at its end
    parts = []
    for name in sorted(_FIELDS | set(own)):
        kept = own.get(name) or (f"(?P<{name}>{value})" if name in _ASKED else value)
        parts.append(f'"{name}":{kept}{ends}' if name in own else f'(?:"{name}":{kept}{ends})?+')
    return "{" + "".join(parts)


_RULED = frozenset({"charged", "disclosed", "derived", "continued", "said", "emitted"})
_ASKED = frozenset(_Seen._fields[3:])
_APART = frozenset({'"count"', '"metric"', '"timing"', '"capability"'})  # what may be charged beside the answer
_FIELDS = _ASKED | frozenset(  # others are allowed, and slower
    (
        "also",
        "artefact",
        "asked",
        "collaboration",
        "count",
        "crowd",
        "dataset",
        "delta",
        "digest",
        "epsilon",
        "level",
        "limit",
        "members",
        "partner",
        "plan",
        "purpose",
        "redaction",
        "relation",
        "signature",
        "size",
        "summed",
        "unit",
        "why",
    )
)
_REPEATED = re.compile(r'"\{\\"count\\":([1-9][0-9]{0,17}),\\"kind\\":\\"repeat\\"').match  # as a line has it
_FAST = re.compile(_pattern(), re.ASCII).fullmatch
