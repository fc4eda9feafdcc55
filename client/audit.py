"""Audit a trail: verify it with public keys alone, prove one line of it, and reconcile two members' trails."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from client.folder import Folder
from client.opening import identity_of
from client.trails import PROOF, Trail, Unreadable, ledger_of, opened, read_head, remembered, write_export
from privacy.auditing import Fault, Report, Verify, check
from privacy.occasion import mark
from privacy.proofs import Proof, inclusion
from privacy.refusal import LedgerUnavailable
from privacy.trail import HEAD_LABEL, SignedHead, leaf, parse
from protocols.faults import PeerError
from protocols.keys import PublicKey
from protocols.post import TAKEN, taken_bytes

Fields = dict[str, str | int | bool]
_TOLD = ("collaboration", "level", "partner", "purpose", "crowd", "summed", "plan", "members")
_ENTITLED = ("charged", "disclosed", "derived", "continued", "said")


def verify(
    source: Path, keys: Collection[PublicKey] = (), witness: Path | None = None, *, every_signature: bool = False
) -> Report:
    """Return what is wrong with the trail of a home or of an exported file, held against signatures by `keys`.

    A home's own key counts as named, and the head that it kept beside its answers as a witness.
    Raises: Unreadable; ConfigError for a home that is none.
    """
    witnesses = [*_kept(source), *([read_head(witness)] if witness is not None else [])]
    with opened(source) as trail:
        named = {str(key): key for key in keys}
        if trail.end is not None:
            named.setdefault(trail.key, PublicKey.parse(trail.key))
        if not named:
            raise Unreadable(f"{source}: name the key that its heads should be signed by; the file cannot say it")
        report = _checked(trail, trusting(named.values()), witnesses, every_signature=every_signature)
        report = _ended(_headed(_covered(_explained_keys(report, trail, set(named)), trail), trail), trail.end)
    return _totalled(report, source) if report.sound and source.is_dir() else report


def trusting(keys: Collection[PublicKey]) -> Verify:
    """Return what says whether a head's signature is by one of these keys."""
    known = {str(key): key for key in keys}

    def holds(key: str, data: bytes, signature: bytes) -> bool:
        return key in known and _signed(known[key], HEAD_LABEL, data, signature)

    return holds


def export(home: Path, out: Path) -> Report:
    """Write a home's trail into a new file for an auditor, under a head signed now; return what was found wrong.

    A trail that is not sound is written as it is, and nothing new is signed: the home's key vouches for no forgery.
    Learns:  whoever reads it: who asked what and when, for which collaborations, and what it cost; no value, no text.
    Raises:  Unreadable, ConfigError, FileExistsError.
    """
    with opened(home) as trail:
        report = _ended(_checked(trail, _themselves(trail), _kept(home), every_signature=False), trail.end)
        if report.sound and trail.end is not None and report.signed < report.head.seq:
            identity = identity_of(Folder(home.absolute()))
            signature = identity.sign(HEAD_LABEL, report.head.signed_bytes())
            heads = (*trail.heads, SignedHead(report.head, str(identity.public), signature))
            trail = replace(trail, heads=heads)  # noqa: PLW2901  # the same one, under one head more
        write_export(trail, out)
    return report


def prove(source: Path, seq: int, out: Path) -> SignedHead:
    """Write a proof that line `seq` is in the trail into a new file, under its newest signed head; return that head.

    Learns:  whoever reads it: that line, and how many lines there were; nothing of the others.
    Raises:  Unreadable, also if no signed head covers the line; FileExistsError.
    """
    with opened(source) as trail:
        own = [h for h in trail.heads if not trail.key or h.key == trail.key]
        head = max(own, key=lambda h: h.head.seq, default=None)
        if head is None or not 1 <= seq <= head.head.seq:
            raise Unreadable(f"{source}: no signed head covers line {seq}")
        lines = [line for _, line in zip(range(head.head.seq), trail.lines(), strict=False)]
    if len(lines) < head.head.seq:
        raise Unreadable(f"{source}: lines are missing")
    proof = inclusion([leaf(line.encode("ascii", "replace").decode()) for line in lines], seq - 1)
    if not proof.holds(lines[seq - 1], head.head):
        raise Unreadable(f"{source}: the lines are not those that the head was signed for: verify it")
    found = {
        "format": PROOF,
        "line": lines[seq - 1],
        "path": [one.hex() for one in proof.path],
        "head": json.loads(head.to_json()),
    }
    out.touch(mode=0o600, exist_ok=False)
    out.write_text(json.dumps(found) + "\n", encoding="ascii")
    return head


@dataclass(frozen=True, slots=True)
class Proven:
    """Hold a line and the head it is under; `holds` says whether the head's signature and the proof are right."""

    line: str
    head: SignedHead
    holds: bool


def check_proof(file: Path, keys: Collection[PublicKey]) -> Proven:
    """Return what a proof shows to whoever has these keys. Raises: Unreadable."""
    try:
        found = json.loads(file.read_text(encoding="ascii"))
        if found["format"] != PROOF or not isinstance(found["line"], str):
            raise ValueError("not a proof")
        head = SignedHead.from_fields(found["head"])
        seq = int(parse(found["line"])["seq"])
        proof = Proof(seq, head.head.seq, tuple(bytes.fromhex(one) for one in found["path"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as wrong:
        raise Unreadable(f"{file}: not a proof that parley wrote, or broken ({type(wrong).__name__})") from None
    genuine = trusting(keys)(head.key, head.head.signed_bytes(), head.signature)
    return Proven(found["line"], head, genuine and proof.holds(found["line"], head.head))


@dataclass(frozen=True, slots=True)
class Difference:
    """Say on which occasion two members were told different things, or whose evidence does not hold."""

    session: str
    number: int
    what: str


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Hold what two trails came to: on how many occasions both answered, and where they contradict each other.

    `alone` are the occasions of a session of both on which one trail alone has an answer, with whose that is: a
    member was away, or lines are missing.
    """

    both: int
    differences: tuple[Difference, ...]
    alone: tuple[Difference, ...] = ()


def reconcile(one: Path, other: Path, keys: Collection[PublicKey] = ()) -> Reconciled:
    """Hold two homes' trails against each other, and each against the coordinator's receipts.

    Without `keys` each trail is held against the key that the file itself names: good only among those who know it.
    That there was nothing to compare is a difference. Raises: Unreadable, ConfigError.
    """
    with opened(one) as a, opened(other) as b:
        differences = [*_unsound(a, keys), *_unsound(b, keys)]
        mine, theirs = _Told.by(a), _Told.by(b)
    both = sorted(mine.told.keys() & theirs.told.keys())
    for session, number, kind in both:
        for name in _TOLD:
            left, right = (one.told[session, number, kind].get(name) for one in (mine, theirs))
            if left is not None and right is not None and left != right:
                differences.append(Difference(session, number, f"{name} is not the same in the two trails"))
    differences += [*mine.broken, *theirs.broken]
    if not both:
        differences.append(Difference("", 0, "the two trails have no occasion in common: nothing was compared"))
    alone = [*mine.without(theirs), *theirs.without(mine)]
    return Reconciled(len({key[:2] for key in both}), tuple(differences), tuple(sorted(alone, key=_place)))


def _place(one: Difference) -> tuple[str, int]:
    return one.session, one.number


@dataclass
class _Told:
    """Collect what one member was told on each occasion, and which receipts do not hold."""

    whose: str
    told: dict[tuple[str, int, str], dict[str, set[str | int | bool]]] = field(default_factory=dict)
    broken: list[Difference] = field(default_factory=list)

    @classmethod
    def by(cls, trail: Trail) -> "_Told":
        """Read a trail of one home; other homes' sessions on the same ledger are left out."""
        found, answers = cls(trail.member or trail.id), dict[tuple[str, int], str]()
        others = 0
        for fields in _occasions(trail):
            if not _is_own(trail, fields):
                others += 1
                continue
            session, number = str(fields["session"]), int(fields["number"])
            key = session.rpartition("@")[0] or session, number
            if fields["kind"] == "emitted":
                answers[key] = str(fields.get("answer"))
            elif fields["kind"] == "receipt":
                found._receipt(trail, fields, key, answers.get(key))
            else:
                told = found.told.setdefault((*key, str(fields["kind"])), defaultdict(set))
                for name in _TOLD:
                    if name in fields:
                        told[name].add(fields[name])
        if others and not found.told:
            what = f"{found.whose}: no line is of the home that this trail names as its own"
            found.broken.append(Difference("", 0, what))
        return found

    def without(self, other: "_Told") -> Iterator[Difference]:
        """Give the occasions that only this trail has, of the sessions that both have."""
        shared = {key[0] for key in self.told} & {key[0] for key in other.told}
        for session, number in {key[:2] for key in self.told} - {key[:2] for key in other.told}:
            if session in shared:
                yield Difference(session, number, f"only {self.whose} has it")

    def _receipt(self, trail: Trail, fields: Fields, key: tuple[str, int], answer: str | None) -> None:
        if fields.get("answer") != answer or answer is None:
            self.broken.append(Difference(*key, f"{trail.member}: a receipt for an answer that never left"))
        elif trail.member and not _receipt_holds(trail.member, fields, key, answer):
            self.broken.append(Difference(*key, f"{trail.member}: a receipt whose signature does not verify"))


def _receipt_holds(member: str, fields: Fields, key: tuple[str, int], answer: str) -> bool:
    try:
        partner = PublicKey.parse(str(fields["partner"]))
        signature, digest = bytes.fromhex(str(fields["signature"])), bytes.fromhex(answer)
        signed = taken_bytes(*key, member, digest)
    except (ValueError, KeyError, OverflowError):
        return False
    return _signed(partner, TAKEN, signed, signature)


def _occasions(trail: Trail) -> Iterator[Fields]:
    """Give the lines of occasions; a line that is none is left to `check`."""
    for line in trail.lines():
        try:
            fields = parse(line)
        except ValueError:
            continue
        if fields["kind"] in (*_ENTITLED, "emitted", "receipt") and {"session", "number"} <= fields.keys():
            yield fields


def _is_own(trail: Trail, fields: Fields) -> bool:
    """Return whether the line is of the home that the trail was taken from, and not of another on its ledger."""
    session = str(fields["session"])
    who = mark(str(fields.get("partner", "")), trail.member, trail.key)
    return not trail.member or "@" not in session or session.rpartition("@")[2] == who


def _signed(key: PublicKey, label: bytes, data: bytes, signature: bytes) -> bool:
    try:
        key.verify(label, data, signature)
    except PeerError:
        return False
    return True


def _checked(trail: Trail, verify_: Verify, witnesses: list[SignedHead], *, every_signature: bool) -> Report:
    links = trail.links() if trail.links is not None else None
    return check(
        trail.lines(), trail.heads, verify_, witnesses, trail=trail.id, every_signature=every_signature, links=links
    )


def _kept(source: Path) -> list[SignedHead]:
    head = remembered(source) if source.is_dir() else None
    return [] if head is None else [head]


def _themselves(trail: Trail) -> Verify:
    """Return what trusts the keys that the heads themselves name: for the one who wrote them."""
    keys = []
    for key in {trail.key, *(h.key for h in trail.heads)}:
        with suppress(ValueError):
            keys.append(PublicKey.parse(key))
    return trusting(keys)


def _explained_keys(report: Report, trail: Trail, named: set[str]) -> Report:
    """Add which keys signed heads and were not named."""
    others = sorted({h.key for h in trail.heads} - named)
    faults = [Fault(0, f"signed by {printable(key)}, which was not named") for key in others]
    return replace(report, faults=(*faults, *report.faults))


def _covered(report: Report, trail: Trail) -> Report:
    """Add that an exported file has lines under no signature: an export is signed to its last line."""
    if trail.end is not None or report.faults or report.signed == report.head.seq:
        return report
    fault = Fault(report.signed + 1, "no signature covers the lines from here on, and an export's does")
    return replace(report, faults=(fault,))


def _headed(report: Report, trail: Trail) -> Report:
    """Add that an exported file names a home that signed nothing in it: another name was put over it."""
    if trail.end is not None or report.faults or not report.head.seq or trail.key in {h.key for h in trail.heads}:
        return report
    return replace(report, faults=(Fault(0, "the key that the file names as its home's signed no head in it"),))


def _ended(report: Report, end: tuple[int, bytes] | None) -> Report:
    """Add that a ledger's own end is not where its lines end."""
    if end is None or report.faults or end == (report.head.seq, report.head.chain):
        return report
    missing = end[0] > report.head.seq
    what = f"lines up to {end[0]} were written, and are missing" if missing else "lines that the ledger never wrote"
    return replace(report, faults=(Fault(min(end[0], report.head.seq) + 1, what),))


def _totalled(report: Report, home: Path) -> Report:
    """Add that what the ledger decides by is not what the lines say that it keeps."""
    with closing(ledger_of(home)) as ledger:
        try:
            wrong = ledger.contradiction()
        except LedgerUnavailable as broken:
            wrong = str(broken)
    return replace(report, faults=(Fault(0, f"not what the ledger's own lines say: {wrong}"),)) if wrong else report


def _unsound(trail: Trail, keys: Collection[PublicKey]) -> list[Difference]:
    try:
        trusted = [*keys] or [PublicKey.parse(key) for key in ({trail.key} if trail.key else set())]
    except ValueError:
        raise Unreadable("an export that names no key of its own") from None
    report = _headed(_covered(_checked(trail, trusting(trusted), [], every_signature=False), trail), trail)
    whose = trail.member or trail.id
    return [Difference("", 0, f"{whose}: the trail is not sound: {fault}") for fault in report.faults[:1]]


def printable(text: str, longest: int = 64) -> str:
    """Return a name that somebody else chose, if it can do no harm on a terminal."""
    return text[:longest] if text.isascii() and text.isprintable() else "a name that cannot be printed"
