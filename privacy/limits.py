"""Say what the policy wants checked in the very transaction that charges."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bound what one partner may get at one level by one collaboration; None does not bound.

    Units:  epsilon at the account's delta, of this share alone; days are any 24 hours; `disclosures` ever.
    """

    epsilon: float | None = None
    releases_per_day: int | None = None
    bytes_per_day: int | None = None
    disclosures: int | None = None
    approval: bool = False


NO_LIMITS = Limits()
