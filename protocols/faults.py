"""Say whose fault it is. A fault's text holds names, counts and limits, never values, since it can travel."""


class ProtocolError(Exception):
    """Something about the conversation is wrong."""


class LocalError(ProtocolError):
    """We broke the rules: a bug, never caught."""


class PeerError(ProtocolError):
    """They broke the rules."""


class OtherBase(PeerError):
    """They mean another base model than the one that is here."""


class WireError(PeerError):
    """They sent bytes that are no message."""


class Abort(ProtocolError):
    """Nobody's fault: the session cannot finish. Says how many of how many were there."""
