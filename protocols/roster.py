"""Name who may take part, with their public keys, in a form that two operators can compare by one digest."""

import hashlib
from dataclasses import dataclass

from protocols.keys import PublicKey
from protocols.session import MemberId


@dataclass(frozen=True, slots=True)
class Roster:
    """Hold the members of one consortium and their keys; order does not matter, duplicates are refused.

    Trusts:  whoever approves it. Compare `digest` over a channel that the coordinator does not control.
    """

    keys: tuple[tuple[MemberId, PublicKey], ...]

    def __post_init__(self) -> None:
        names = [m for m, _ in self.keys]
        if len(set(names)) < len(names) or len({k.raw for _, k in self.keys}) < len(names):
            raise ValueError("a member or a key stands twice in the roster")
        object.__setattr__(self, "keys", tuple(sorted(self.keys, key=lambda entry: entry[0])))

    def key(self, member: MemberId) -> PublicKey:
        """Return the member's key. Raises: KeyError."""
        return dict(self.keys)[member]

    @property
    def members(self) -> tuple[MemberId, ...]:
        """Return the names in order."""
        return tuple(m for m, _ in self.keys)

    @property
    def digest(self) -> str:
        """Return 64 hex characters that change with every name and every key."""
        lines = "".join(f"{member}\t{key}\n" for member, key in self.keys)
        return hashlib.sha256(b"parley/v1/roster\0" + lines.encode()).hexdigest()
