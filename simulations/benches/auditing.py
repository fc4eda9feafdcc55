"""Measure how fast an auditor reads a trail that a ledger wrote: `parley bench ledger`."""

import hashlib
import json
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent

from client.audit import trusting
from privacy.auditing import check
from privacy.ledger import Account, Ledger
from privacy.occasion import Occasion
from privacy.policy import Budget
from privacy.proofs import inclusion
from privacy.trail import HEAD_LABEL, SignedHead, leaf
from privacy.units import Level
from protocols.keys import Identity
from simulations.benches.rows import Row, at_least, batched, in_turns

RELEASES = 5_000  # two lines each, charged and emitted, with a signed head
_ALL = 500  # heads whose signatures are all verified
_MEMBERS = tuple(f"member-{n}" for n in range(8))


def auditing() -> list[Row]:
    """Measure lines a second: form, order, chain, tree and rules of every line, and the newest signature.

    Beside it, with every signature verified; and how long one line's proof takes to check.
    """
    identity = Identity.generate()
    with TemporaryDirectory() as folder:
        trail, lines, heads = _written(Path(folder) / "ledger.db", identity)
    verify = trusting([identity.public])
    some = lines[: heads[_ALL - 1].head.seq]

    def newest() -> None:
        _require(check(lines, heads, verify, trail=trail).sound)

    def every() -> None:
        _require(check(some, heads[:_ALL], verify, trail=trail, every_signature=True).sound)

    whole_ms, every_ms = in_turns(5, newest, every)
    leaves = [leaf(text) for text in lines]
    proof, head = inclusion(leaves, len(lines) // 2), heads[-1].head
    return [
        at_least("audit_entries_per_s", len(lines) / whole_ms * 1e3, 50_000, "1/s"),
        Row("audit_entries_per_s_every_signature", len(some) / every_ms * 1e3, "1/s", goal="for comparison"),
        Row("audit_entry_bytes", sum(map(len, lines)) / len(lines), "B", goal="for comparison"),
        Row("audit_proof_check_us", batched(5, 200, lambda: _require(proof.holds(lines[proof.seq - 1], head))) * 1e3,
            "us", goal="for comparison"),
        Row("audit_proof_bytes", len(json.dumps([one.hex() for one in proof.path])), "B", goal="for comparison"),
    ]  # fmt: skip


def _written(file: Path, identity: Identity) -> tuple[str, list[str], tuple[SignedHead, ...]]:
    """Return a trail as the ledger writes it: of DP-SGD runs, each charged, then emitted under a signed head."""
    account = Account("notes", Budget(900.0, 1e-5))
    event = SelfComposedDpEvent(PoissonSampledDpEvent(0.001, GaussianDpEvent(1.1)), 10)
    key = str(identity.public)
    with closing(Ledger(file, durable=False)) as ledger:
        for n in range(RELEASES):
            session = f"2026-spring-{n // 50}@0123456789abcdef"
            occasion = Occasion(
                session, n % 50, "average", Level.WEIGHTS, key, 8, _MEMBERS, True, "research", '{"rounds":50}'
            )
            ledger.charge(account, event, occasion)
            answer = hashlib.sha256(str(n).encode()).digest()
            ledger.emit(occasion, bytes(32), answer, 10_000, lambda d: identity.sign(HEAD_LABEL, d), key)
        return ledger.head().trail, list(ledger.lines()), ledger.heads()


def _require(sound: bool) -> None:
    if not sound:
        raise AssertionError("an honest trail was found wrong: what was measured is not the check")
