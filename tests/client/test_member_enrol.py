"""Enrolling over real TLS: only the invited authority is believed, and only the keys' owner is believed back."""

import base64
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from client.enrol import Enrolment, NotEnrolled, Unreachable, enrol, enrol_home, enrol_with_patience
from client.folder import Folder
from protocols.carriers.flower_road import ENROL_LABEL, ENROL_PATH, enrolment_bytes
from protocols.keys import Identity, PublicKey


@dataclass
class Front:
    """A coordinator's public address over TLS that checks a signature and answers what it is told to."""

    address: str = ""
    status: int = 200
    body: bytes = b'{"enrolled": true}'
    seen: list[dict[str, str]] = field(default_factory=list)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        self.seen.append(json.loads(message["body"]))
        assert scope["path"] == ENROL_PATH
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": self.body})


@pytest.fixture
def front(tmp_path: Path, authority: Any) -> Iterator[Front]:
    certificate, key = authority.server(tmp_path)
    app = Front()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    app.address = f"127.0.0.1:{listener.getsockname()[1]}"
    config = uvicorn.Config(app, ssl_certfile=certificate, ssl_keyfile=key, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield app
    server.should_exit = True
    thread.join()


def _request(identity: Identity | None = None) -> dict[str, str]:
    identity = identity or Identity.generate()
    return Enrolment("clinic", "t" * 43, "ecdsa-sha2-nistp384 AAAA", str(identity.public)).signed(identity)


def test_an_enrolment_is_signed_by_the_key_that_it_introduces(front: Front, authority: Any) -> None:
    enrol(front.address, authority.pem, _request())
    (seen,) = front.seen
    signature = base64.urlsafe_b64decode(seen.pop("signature"))
    PublicKey.parse(seen["identity_key"]).verify(ENROL_LABEL, enrolment_bytes(**seen), signature)


@pytest.mark.parametrize(("status", "words"), [(403, "token"), (409, "other keys"), (422, "version"), (404, "404")])
def test_a_refusal_says_what_to_do(front: Front, authority: Any, status: int, words: str) -> None:
    front.status = status
    with pytest.raises(NotEnrolled, match=words):
        enrol(front.address, authority.pem, _request())


def test_a_two_hundred_that_does_not_say_enrolled_is_not_believed(front: Front, authority: Any) -> None:
    front.body = b"<html>welcome to the airport</html>"
    with pytest.raises(NotEnrolled, match="unexpected"):
        enrol(front.address, authority.pem, _request())


def test_a_server_whose_certificate_another_authority_signed_sees_no_token(front: Front, authority: Any) -> None:
    stranger = type(authority)()
    with pytest.raises(Unreachable, match="certificate"):
        enrol(front.address, stranger.pem, _request())
    assert front.seen == []


def test_a_coordinator_that_is_away_or_not_ready_is_tried_again(front: Front, authority: Any) -> None:
    front.status = 503
    said: list[str] = []

    def pause(_seconds: float) -> bool:
        front.status = 200
        return False

    request = _request()
    assert enrol_with_patience(lambda: enrol(front.address, authority.pem, request), pause, said.append)
    assert len(front.seen) == 2
    assert "not ready" in said[0]


def test_waiting_for_a_coordinator_ends_when_it_is_told_to() -> None:
    delays: list[float] = []

    def away() -> None:
        raise Unreachable("away")

    def pause(seconds: float) -> bool:
        delays.append(seconds)
        return len(delays) == 70

    said: list[str] = []
    assert not enrol_with_patience(away, pause, said.append)
    assert [round(d) for d in delays] == [1] * 61 + [2, 4, 8, 16, 32, 60, 60, 60, 60]
    assert said == ["away; trying again"]


def test_enrolling_a_home_uses_the_invitation_up(
    front: Front, authority: Any, invite: Callable[..., Path], tmp_path: Path
) -> None:
    folder = Folder(tmp_path / "home")
    folder.root.mkdir()
    identity = Identity.generate()
    folder.identity.write_bytes(identity.to_pem())
    folder.supernode_public.write_text("ecdsa-sha2-nistp384 AAAA\n")
    folder.invitation.write_bytes(invite(address=front.address).read_bytes())
    assert enrol_home(folder, lambda _seconds: True, lambda _line: None)
    assert not folder.invitation.exists()
    assert front.seen[0]["supernode_key"] == "ecdsa-sha2-nistp384 AAAA"


def test_an_unreachable_address_leaves_the_invitation_in_place(invite: Callable[..., Path], tmp_path: Path) -> None:
    folder = Folder(tmp_path / "home")
    folder.root.mkdir()
    folder.identity.write_bytes(Identity.generate().to_pem())
    folder.supernode_public.write_text("ecdsa-sha2-nistp384 AAAA\n")
    folder.invitation.write_bytes(invite(address="127.0.0.1:1").read_bytes())
    said: list[str] = []
    assert not enrol_home(folder, lambda _seconds: True, said.append)
    assert folder.invitation.exists()
    assert "127.0.0.1:1 cannot be reached" in said[0]
