"""Our own policy said no: nothing was charged, nothing left."""


class Refused(Exception):
    """Say that a release was refused; its text holds names, counts and limits, never values."""


class BudgetExceeded(Refused):
    """The account's budget does not cover the release."""


class LevelForbidden(Refused):
    """The policy does not allow this partner, level or collaboration."""


class CrowdTooSmall(Refused):
    """Fewer members take part than the policy asks for."""


class NotRedacted(Refused):
    """Text was about to leave that no redactor had seen."""


class LedgerUnavailable(Refused):
    """The ledger could not be written, so nothing may leave."""


class NotEncodable(Refused):
    """The values cannot be encoded: not finite, or of another shape."""


class RosterNotApproved(Refused):
    """The operator has approved no roster, or another one than the session's."""


class Incomparable(Refused):
    """The event, or its unit or relation, cannot be added to this account."""


class NotApproved(Refused):
    """The operator has to approve this first, and has not yet."""


class RateExceeded(Refused):
    """More releases, disclosures or bytes than the policy allows."""


class Expired(Refused):
    """The permission has run out."""


class RolledBack(LedgerUnavailable):
    """The ledger is older than what it was seen to hold: a copy was put back, or lines were taken away."""
