"""Write one release: charged, then emitted, each once for an occasion; and what was refused, never without bounds."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from privacy.accounting.accountant import ZERO, Cost
from privacy.books.accounts import (
    Account,
    Held,
    HeldShare,
    add,
    add_bytes,
    add_to_share,
    cost_at,
    find,
    found_or_opened,
    fresh,
    require_count,
    require_epsilon,
    require_rate,
    share_of,
    whose,
)
from privacy.books.approvals import awaited, plan_digest
from privacy.books.book import DAY, Book
from privacy.books.joining import joined
from privacy.books.statement import guarantee
from privacy.limits import Limits
from privacy.occasion import Occasion
from privacy.refusal import NotApproved, RateExceeded, Refused
from privacy.trail import Field, Head, SignedHead
from privacy.units import Kind

REFUSED_AN_HOUR = 60  # lines for one partner; the rest are counted in the next line
MOST_SAID_A_DAY = 50_000  # messages of keys, to one partner at one level by one collaboration
_MOST_PARTNERS = 64  # with a count of their own; the others share one
_APART = frozenset({Kind.COUNT.value, Kind.METRIC.value, Kind.TIMING.value, Kind.CAPABILITY.value})
_ANSWER, _EMITTED, _RECEIPT = "answer", "emitted", "receipt"
_AS_PAID = ("account", "summed", "crowd", "members", "plan", "purpose", "redaction")  # the letter knows of no sum
_AFTER = frozenset({_EMITTED, _RECEIPT})


@dataclass(frozen=True, slots=True)
class Receipt:
    """Prove that an entry is on disk. `event` is canonical JSON, or None for what has no epsilon."""

    seq: int
    session: str
    number: int
    event: str | None


@dataclass(frozen=True, slots=True)
class Release:
    """Describe what is about to leave: charged with an event, disclosed, or said, which tells nothing of the data."""

    account: Account
    occasion: Occasion
    limits: Limits
    what: str
    kind: str
    event: str | None

    @property
    def slot(self) -> str:
        """Return which slot of the occasion this fills: figures beside the answer have each their own."""
        return self.what if self.what in _APART else _ANSWER


@dataclass(frozen=True, slots=True)
class Filled:
    """Hold one line of an occasion."""

    seq: int
    share: int | None
    fields: Mapping[str, Any]


def filled(db: sqlite3.Connection, session: str, number: int) -> dict[str, Filled]:
    """Return the lines that this occasion has, by slot."""
    rows = db.execute(
        "SELECT slot, seq, share, line FROM entries WHERE session = ? AND number = ? AND slot IS NOT NULL",
        (session, number),
    )
    return {slot: Filled(seq, share, json.loads(line)) for slot, seq, share, line in rows}


def enter(book: Book, release: Release) -> Receipt | NotApproved:
    """Charge the release and return its receipt; for the same release again the receipt it had.

    Raises: Refused, and then nothing was charged. NotApproved is returned: that it waits has to be on disk.
    """
    slots = filled(book.db, *release.occasion.key)
    if _EMITTED in slots:
        raise Refused("an answer has left on this occasion: another would be a second look at the data")
    known = slots.get(release.slot)
    if known is not None:
        _require_same(known, release)
        return Receipt(known.seq, *release.occasion.key, release.event)
    if release.limits.approval:
        refusal = awaited(book, release.occasion, lambda: _price(book, release, "this letter alone"))
        if refusal is not None:
            return refusal
    share = _said(book, release) if release.kind == "said" else _charged(book, release)
    seq = book.append(release.kind, _fields(release), release.slot, release.occasion.key, share[0])
    for other in share[1]:
        book.db.execute("INSERT INTO belongs VALUES (?, ?)", (other, seq))
    return Receipt(seq, *release.occasion.key, release.event)


def rehearse(book: Book, release: Release) -> NotApproved | None:
    """Return None if the release would be charged now, or was; nothing is. Raises: Refused if it would not fit."""
    slots = filled(book.db, *release.occasion.key)
    if release.slot in slots:
        return None
    if release.limits.approval:
        refusal = awaited(book, release.occasion, lambda: _price(book, release, "the whole run"))
        if refusal is not None:
            return refusal
    book.rehearse(lambda book: _charged(book, release))
    return None


def emit(
    book: Book, occasion: Occasion, asked: bytes, answer: bytes, size: int, sign: Callable[[bytes], bytes], key: str
) -> SignedHead:
    """Write down that this answer leaves, and sign the trail that says so. Raises: Refused."""
    if len(asked) != 32 or len(answer) != 32 or size < 0:
        raise ValueError("digests of 32 bytes, and a size of at least 0")
    slots = filled(book.db, *occasion.key)
    known = slots.get(_EMITTED)
    if known is not None and known.fields["answer"] != answer.hex():
        raise Refused("another answer has left on this occasion")
    release = slots.get(_ANSWER) or next((slots[slot] for slot in slots if slot not in _AFTER), None)
    if release is None:
        raise Refused("nothing was charged, disclosed or said on this occasion")
    if known is None:
        if release.share is not None:
            add_bytes(book, release.share, size)
        fields = common(occasion) | {name: release.fields.get(name) for name in _AS_PAID}
        fields |= {"asked": asked.hex(), "answer": answer.hex(), "size": size}
        book.append("emitted", fields, _EMITTED, occasion.key, release.share)
    return signed(book, sign, key)


def signed(book: Book, sign: Callable[[bytes], bytes], key: str) -> SignedHead:
    """Return the trail's head, signed; the signature is kept."""
    head = book.head()
    row = book.db.execute("SELECT signature FROM heads WHERE seq = ? AND key = ?", (head.seq, key)).fetchone()
    if row is not None:
        return SignedHead(head, key, row[0])
    signature = sign(head.signed_bytes())
    book.db.execute("INSERT INTO heads VALUES (?, ?, ?, ?)", (head.seq, key, head.root, signature))
    return SignedHead(head, key, signature)


def signed_heads(db: sqlite3.Connection, trail: str) -> tuple[SignedHead, ...]:
    """Return every head that was signed, oldest first."""
    rows = db.execute(
        "SELECT h.seq, json_extract(e.line, '$.at'), e.hash, h.root, h.key, h.signature FROM heads h"
        " JOIN entries e ON e.seq = h.seq ORDER BY h.seq, h.key"
    )
    return tuple(SignedHead(Head(trail, seq, at, chain, root), key, s) for seq, at, chain, root, key, s in rows)


def keep_receipt(book: Book, session: str, number: int, answer: bytes, signature: bytes, partner: str) -> None:
    """Keep a counterpart's word that it has an answer, once. Raises: Refused if that answer did not leave."""
    slots = filled(book.db, session, number)
    if _EMITTED not in slots or slots[_EMITTED].fields["answer"] != answer.hex():
        raise Refused("a receipt for an answer that did not leave")
    if _RECEIPT not in slots:
        fields: dict[str, Field] = {"session": session, "number": number, "partner": partner}
        fields |= {"answer": answer.hex(), "signature": signature.hex()}
        book.append("receipt", fields, _RECEIPT, (session, number))


def refuse(book: Book, occasion: Occasion, why: str) -> None:
    """Append a refusal, or only count it where a partner has had its lines for this hour."""
    if not why.isidentifier() or len(why) > 64:
        raise ValueError("a refusal is named by its class")
    hour = book.minute // 60
    book.db.execute("DELETE FROM refusals WHERE hour < ? AND folded = 0", (hour,))
    partner = _counted_as(book.db, occasion.partner)
    row = book.db.execute("SELECT hour, lines, folded FROM refusals WHERE partner = ?", (partner,)).fetchone()
    then, lines, folded = row or (hour, 0, 0)
    lines = lines if then == hour else 0
    if lines < REFUSED_AN_HOUR:
        fields = common(occasion) | {"why": why, "count": folded + 1}
        book.append("refused", fields, None, occasion.key)
        lines, folded = lines + 1, -1
    book.db.execute("INSERT OR REPLACE INTO refusals VALUES (?, ?, ?, ?)", (partner, hour, lines, folded + 1))


def _said(book: Book, release: Release) -> tuple[int, list[int]]:
    """Return the share whose bytes this counts with, and no other account: it tells nothing of any data."""
    held = found_or_opened(book, release.account.dataset, release.account.budget)
    share = share_of(book.db, held, whose(release.occasion))
    nothing = ZERO(held.judge.orders)
    number = share.id or add_to_share(book, held, share, whose(release.occasion), nothing, 0, 0, None)
    day = book.minute // DAY
    row = book.db.execute("SELECT count FROM said WHERE share = ? AND day = ?", (number, day)).fetchone()
    count = row[0] if row else 0
    if count >= MOST_SAID_A_DAY:  # they cost nothing, and would fill the disk
        raise RateExceeded(f"{count} messages of keys in a day")
    book.db.execute("INSERT OR REPLACE INTO said VALUES (?, ?, ?)", (number, day, count + 1))
    return number, []


def _charged(book: Book, release: Release) -> tuple[int, list[int]]:
    """Add the release to every account that it concerns, or to none; return the first's share, and the others."""
    account, limits = release.account, release.limits
    names = (account.dataset, *(also for also in account.also if also != account.dataset))
    opened = [found_or_opened(book, name, account.budget) for name in dict.fromkeys(names)]
    accounts = joined(book, opened)
    shares = [share_of(book.db, held, whose(release.occasion)) for held in accounts]
    costs = [_require(book, release, held, share) for held, share in zip(accounts, shares, strict=True)]
    ids = [
        add(book, held, share, whose(release.occasion), cost, limits, release.event)
        for held, share, cost in zip(accounts, shares, costs, strict=True)
    ]
    return ids[0], [held.id for held in accounts[1:]]


def _price(book: Book, release: Release, of: str) -> str:
    """Return what the release costs by the account's own count, to be read by whoever approves it."""
    account = release.account
    if release.event is None:
        return "no epsilon: a disclosure"
    held = find(book.db, account.dataset, account.budget) or fresh(account.dataset, account.budget)
    return f"{guarantee(account, held, cost_at(release.event, held))}, for {of}"


def _require(book: Book, release: Release, held: Held, share: HeldShare) -> Cost:
    """Return what the release costs in this account. Raises: Refused if it does not fit."""
    require_rate(book, share, release.limits)
    if release.event is None:
        require_count(held, share, release.account.budget, release.limits)
        return ZERO(held.judge.orders)
    cost = cost_at(release.event, held)
    require_epsilon(held, share, cost, release.limits)
    return cost


def _require_same(known: Filled, release: Release) -> None:
    of = ("kind", "event", "account", "partner", "level", "collaboration", "what")
    now = {"kind": release.kind} | _fields(release)
    others, paid = (json.loads(str(fields.get("also") or "[]")) for fields in (now, known.fields))
    if any(known.fields.get(name) != now.get(name) for name in of) or not set(others) <= set(paid):
        raise Refused("this letter was charged for something else already")


def _fields(release: Release) -> dict[str, Field]:
    fields = of_account(release.account) | {"what": release.what, "event": release.event}
    if release.event is None:
        fields["relation"] = None
    return common(release.occasion) | fields


def of_account(account: Account) -> dict[str, Field]:
    """Return what the line of a charge says of the account: its data, what it protects, and what else is the same."""
    also = sorted(set(account.also) - {account.dataset})
    return {
        "account": account.dataset,
        "unit": account.budget.unit.value,
        "relation": account.budget.relation.value,
        "also": json.dumps(also) if also else None,
    }


def common(occasion: Occasion) -> dict[str, Field]:
    """Return what every line of an occasion says; terms and members by their digests."""
    members = "\n".join(sorted(occasion.members))
    return {
        "session": occasion.session,
        "number": occasion.number,
        "collaboration": occasion.collaboration,
        "level": occasion.level.value,
        "partner": occasion.partner,
        "crowd": occasion.crowd,
        "members": hashlib.sha256(members.encode()).hexdigest() if members else None,
        "summed": occasion.summed,
        "purpose": occasion.purpose or None,
        "plan": plan_digest(occasion.plan) if occasion.plan else None,
        "redaction": occasion.redaction or None,
    }


def _counted_as(db: sqlite3.Connection, partner: str) -> str:
    if db.execute("SELECT 1 FROM refusals WHERE partner = ?", (partner,)).fetchone():
        return partner
    others = db.execute("SELECT count(*) FROM refusals").fetchone()[0]
    return partner if others < _MOST_PARTNERS else ""
