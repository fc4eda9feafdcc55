"""Introduce a member to its coordinator, once, with the token of its invitation.

    member                                         coordinator
      | POST /parley/enrol: token, two public keys, |
      |   a signature with the identity key         |
      |-------------------------------------------->|  token right, keys new or the same
      |<--------------------------------------------|  {"enrolled": true}

Learns: the coordinator: the member's name and its two public keys.
Trusts: the certificate authority in the invitation, and no other.
"""

import base64
import json
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import count

import httpx

from client.folder import Folder
from client.invitation import Invitation
from privacy.config import ConfigError
from protocols.carriers.flower_road import ENROL_LABEL, ENROL_PATH, enrolment_bytes
from protocols.keys import Identity

_ANSWERS = {
    403: "the coordinator does not know this invitation: its token is wrong, spent or withdrawn; ask for a new one",
    409: "this member is enrolled with other keys; ask the coordinator to withdraw them and for a new invitation",
    422: "the coordinator could not read the enrolment; do both sides run the same version of parley?",
}


class NotEnrolled(Exception):
    """The coordinator answered, and said no; trying again changes nothing."""


class Unreachable(Exception):
    """The coordinator could not be reached; trying again may help."""


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Hold what a member shows to be let in."""

    member: str
    token: str
    supernode_key: str
    identity_key: str

    def signed(self, identity: Identity) -> dict[str, str]:
        """Return the request's fields with the proof that `identity` is the sender's own."""
        signature = identity.sign(ENROL_LABEL, enrolment_bytes(**asdict(self)))
        return asdict(self) | {"signature": base64.urlsafe_b64encode(signature).decode()}


def enrol_home(folder: Folder, pause: Callable[[float], bool], say: Callable[[str], None]) -> bool:
    """Enrol the home in `folder` and put its invitation away; return False if `pause` says to stop.

    Raises: NotEnrolled; ConfigError for an invitation or a key that is not as `init` left it.
    """
    invitation = Invitation.read(folder.invitation)
    try:
        identity = Identity.from_pem(folder.identity.read_bytes())
    except ValueError as wrong:
        raise ConfigError(folder.identity, "", str(wrong)) from None
    public = folder.supernode_public.read_text(encoding="ascii").strip()
    request = Enrolment(invitation.member, invitation.token, public, str(identity.public)).signed(identity)

    def once() -> None:
        enrol(invitation.address, invitation.ca_certificate, request)

    enrolled = enrol_with_patience(once, pause, say)
    if enrolled:
        folder.invitation.unlink()  # its token is spent
    return enrolled


def enrol(address: str, ca_certificate: str, request: dict[str, str], timeout_s: float = 30.0) -> None:
    """Enrol at `address` over TLS that only `ca_certificate` can vouch for; the same request twice is once.

    Raises: NotEnrolled for a refusal; Unreachable for the road, including a certificate of somebody else.
    """
    context = ssl.create_default_context(cadata=ca_certificate)
    try:
        with httpx.Client(verify=context, timeout=timeout_s) as http:
            answer = http.post(f"https://{address}{ENROL_PATH}", json=request)
    except httpx.TransportError as road:
        raise Unreachable(_why(road, address)) from None
    if answer.status_code >= 500:
        raise Unreachable(f"the coordinator at {address} is not ready (HTTP {answer.status_code})")
    if answer.status_code != 200 or not _says_enrolled(answer):
        raise NotEnrolled(_ANSWERS.get(answer.status_code, f"unexpected answer (HTTP {answer.status_code})"))


def enrol_with_patience(once: Callable[[], None], pause: Callable[[float], bool], say: Callable[[str], None]) -> bool:
    """Call `once` until it succeeds, with growing pauses; return False if `pause` says to stop.

    What is in the way is said once, not every second.

    Raises: NotEnrolled, at once.
    """
    said = ""
    for delay in _delays():
        started = time.monotonic()
        try:
            once()
        except Unreachable as road:
            if str(road) != said:
                said = str(road)
                say(f"{said}; trying again")
        else:
            return True
        if pause(max(0.0, delay - (time.monotonic() - started))):
            return False
    raise AssertionError  # _delays never ends


def _delays(first_s: float = 1.0, patient: int = 60, most_s: float = 60.0) -> Iterator[float]:
    """Yield short delays while a coordinator may be starting, then longer and longer ones."""
    return (min(most_s, first_s * 2.0 ** max(0, min(n, 2 * patient) - patient)) for n in count())


def _says_enrolled(answer: httpx.Response) -> bool:
    try:
        return bool(answer.json() == {"enrolled": True})
    except (json.JSONDecodeError, UnicodeDecodeError):
        return False


def _why(road: httpx.TransportError, address: str) -> str:
    if "CERTIFICATE_VERIFY_FAILED" in str(road):
        return f"{address} shows a certificate that the invitation's authority did not sign"
    return f"the coordinator at {address} cannot be reached"
