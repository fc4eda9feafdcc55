"""Name the occasion of a release: who asked, in which session, for what."""

import hashlib
from dataclasses import dataclass

from privacy.units import Level


@dataclass(frozen=True, slots=True)
class Occasion:
    """Identify one answer of one member, for the policy and the ledger.

    (session, number) is unique: the mailbox lets at most one answer out for it, so a repeated charge under
    the same key is the same release. `crowd` is how many members take part, `members` their names; `summed` says
    that nobody outside sees more than the sum over the crowd. `purpose` is what the partner says it is for; `plan`
    the public terms of the work as canonical JSON; `redaction` the profile by which text was redacted.
    """

    session: str
    number: int
    collaboration: str
    level: Level
    partner: str
    crowd: int
    members: tuple[str, ...] = ()
    summed: bool = False
    purpose: str = ""
    plan: str = ""
    redaction: str = ""

    @property
    def key(self) -> tuple[str, int]:
        """Return what the ledger holds unique."""
        return self.session, self.number


def mark(partner: str, member: str, identity: str) -> str:
    """Return what a home adds to a session's name: no other partner, and no other home on a ledger, has the same.

    A coordinator chooses its session's name and, by its invitations, a home's too; `identity` is the home's key.
    """
    return hashlib.sha256(f"{partner}\n{member}\n{identity}".encode()).hexdigest()[:16]
