"""Only the fleet routes, health and enrolment exist on the public address, however a path is written."""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from server import authority, front
from server.enrolment import Reply
from server.folder import Folder, init
from server.front import Front
from server.superlink import tls
from server.up import Server

CONTROL = ("start-run", "list-runs", "stop-run", "register-node", "unregister-node", "list-nodes", "stream-logs")
RUNTIME = ("acquire-task", "push-messages", "pull-messages", "pull-task-input")
TRICKS = (
    "/v1/control/start-run", "//v1/fleet/pull-messages", "/v1//fleet/pull-messages", "/v1/fleet//pull-messages",
    "/v1/fleet/../control/start-run", "/v1/fleet/%2e%2e/control/start-run", "/v1/fleet/..%2fcontrol/start-run",
    "/v1/fleet/%2E%2E%2Fcontrol%2Fstart-run", "/v1/fleet/./../control/start-run", "/v1/Fleet/pull-messages",
    "/V1/fleet/pull-messages", "/v1/fleet/pull-messages/", "/v1/fleet/pull-messages?x=1", "/v1/fleet/",
    "/v1/fleet", "/v1/fleet/pull-messages;/../../control/start-run", "/v1/fleet/pull_messages",
    "/v1/fleet\\..\\control\\start-run", "/v1/%66leet/pull-messages", "/v1/fleet/pull-messages#/v1/control",
    "http://127.0.0.1/v1/control/start-run", "http://127.0.0.1/v1/fleet/pull-messages", "*", "/health/", "/docs",
    "/openapi.json", "/", "/v1/runtime/acquire-task", "/parley/enrol/", "/parley/enrol?x", "/Parley/enrol",
    "/v1/fleet/pull-messages%00", "/v1/fleet/a/b", "/health/../v1/control/start-run", "@/v1/fleet/pull-messages",
)  # fmt: skip


@dataclass
class SuperLinkLike:
    """A small real ASGI server behind the front: it notes what reaches it, and echoes bodies as they come."""

    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    first_piece: threading.Event = field(default_factory=threading.Event)
    pieces: list[int] = field(default_factory=list)

    async def __call__(self, scope, receive, send) -> None:
        headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        self.seen.append((scope["method"], scope["raw_path"].decode(), headers))
        reply = [(b"x-kept", b"yes"), (b"server", b"secret/1.0")]
        await send({"type": "http.response.start", "status": 200, "headers": reply})
        more = True
        while more:
            event = await receive()
            self.first_piece.set()
            self.pieces.append(len(event.get("body", b"")))
            more = event.get("more_body", False)
            await send({"type": "http.response.body", "body": event.get("body", b""), "more_body": True})
        await send({"type": "http.response.body", "body": b""})


@dataclass
class Town:
    folder: Folder
    upstream: SuperLinkLike
    public: tuple[str, int]
    enrolled: list[bytes]

    def client(self) -> httpx.Client:
        return httpx.Client(verify=tls(self.folder), base_url=f"https://127.0.0.1:{self.public[1]}", timeout=10)

    def dial(self) -> ssl.SSLSocket:
        plain = socket.create_connection(self.public, timeout=10)
        return tls(self.folder).wrap_socket(plain, server_hostname="127.0.0.1")

    def raw(self, request: bytes) -> bytes:
        """Send bytes as they are; return the response's bytes."""
        with self.dial() as secure:
            secure.sendall(request)
            return b"".join(iter(lambda: secure.recv(65_536), b""))


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = init(tmp_path_factory.mktemp("front") / "c", "127.0.0.1:1")
    upstream, enrolled = SuperLinkLike(), []
    files = (folder.server_certificate, folder.server_key)
    inner, outer = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))

    async def enrol(body: bytes) -> Reply:
        enrolled.append(body)
        return Reply(200, b'{"enrolled": true}')

    def make() -> Front:
        base = f"https://127.0.0.1:{inner.getsockname()[1]}"
        return Front(httpx.AsyncClient(base_url=base, verify=tls(folder), trust_env=False), enrol, largest=2**20)

    servers = [Server(lambda: upstream, inner, *files), Server(make, outer, *files)]
    for server in servers:
        server.start()
    yield Town(folder, upstream, outer.getsockname(), enrolled)
    for server in servers:
        server.stop()


@pytest.mark.parametrize("path", [f"/v1/control/{r}" for r in CONTROL] + [f"/v1/runtime/{r}" for r in RUNTIME])
def test_the_control_and_runtime_routes_do_not_exist(town: Town, path: str) -> None:
    before = len(town.upstream.seen)
    with town.client() as client:
        assert [client.request(method, path).status_code for method in ("POST", "GET", "PUT")] == [404] * 3
    assert len(town.upstream.seen) == before


@pytest.mark.parametrize("path", TRICKS)
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_no_way_of_writing_a_path_reaches_another_route(town: Town, path: str, method: str) -> None:
    before = len(town.upstream.seen)
    request = f"{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    status = town.raw(request.encode()).split(b" ")[1]
    assert status in (b"404", b"400")
    assert len(town.upstream.seen) == before


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"])
def test_fleet_routes_take_nothing_but_post(town: Town, method: str) -> None:
    with town.client() as client:
        assert client.request(method, "/v1/fleet/pull-messages").status_code == 404


def test_health_is_forwarded_and_answers_get_only(town: Town) -> None:
    with town.client() as client:
        assert client.get("/health").status_code == 200
        assert client.post("/health").status_code == 404


def test_what_a_node_signs_with_is_forwarded_and_what_could_mislead_is_not(town: Town) -> None:
    dropped = {"x-forwarded-for": "1.2.3.4", "forwarded": "for=1.2.3.4", "authorization": "x", "cookie": "a=b"}
    with town.client() as client:
        response = client.post("/v1/fleet/pull-messages", headers={"flwr-public-key": "k", **dropped}, content=b"ab")
    _, path, headers = town.upstream.seen[-1]
    assert (path, headers["flwr-public-key"], headers["content-length"]) == ("/v1/fleet/pull-messages", "k", "2")
    assert not dropped.keys() & headers.keys()
    assert (response.content, response.headers["x-kept"]) == (b"ab", "yes")
    assert "server" not in response.headers


def test_a_body_reaches_the_superlink_before_its_end_has_been_sent(town: Town) -> None:
    town.upstream.first_piece.clear()
    head = b"POST /v1/fleet/push-object HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\nconnection: close\r\n\r\n"
    with town.dial() as secure:
        secure.sendall(head + b"abc")
        assert town.upstream.first_piece.wait(5)
        secure.sendall(b"def")
        assert b"".join(iter(lambda: secure.recv(65_536), b"")).endswith(b"0\r\n\r\n")


def test_a_body_that_says_it_is_too_long_is_refused_before_it_is_read(town: Town) -> None:
    before = len(town.upstream.seen)
    head = f"POST /v1/fleet/push-object HTTP/1.1\r\nhost: x\r\ncontent-length: {2**20 + 1}\r\n\r\n"
    with town.dial() as secure:
        secure.sendall(head.encode())
        assert secure.recv(100).startswith(b"HTTP/1.1 413")
    assert len(town.upstream.seen) == before


def test_a_chunked_body_that_grows_too_long_is_cut_off(town: Town) -> None:
    town.upstream.pieces.clear()
    with town.client() as client, pytest.raises(httpx.HTTPError):
        client.post("/v1/fleet/push-object", content=(bytes(65_536) for _ in range(64))).raise_for_status()
    assert sum(town.upstream.pieces) <= 2**20


def test_enrolment_is_answered_here_and_only_up_to_its_size(town: Town) -> None:
    before = len(town.upstream.seen)
    with town.client() as client:
        assert client.post("/parley/enrol", content=b"{}").json() == {"enrolled": True}
        assert client.post("/parley/enrol", content=bytes(20_000)).status_code == 413
        assert client.get("/parley/enrol").status_code == 404
    assert town.enrolled == [b"{}"]
    assert len(town.upstream.seen) == before


def test_a_client_that_does_not_trust_our_ca_gets_nowhere(town: Town) -> None:
    with httpx.Client(base_url=f"https://127.0.0.1:{town.public[1]}") as client, pytest.raises(httpx.ConnectError):
        client.get("/health")


def test_a_superlink_that_is_down_is_a_fault_that_flower_tries_again(tmp_path: Path) -> None:
    async def ask() -> list[int]:
        statuses: list[int] = []

        async def send(event) -> None:
            statuses.extend([event["status"]] if "status" in event else [])

        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"type": "http", "method": "POST", "raw_path": b"/v1/fleet/pull-messages", "headers": []}
        async with httpx.AsyncClient(base_url="http://127.0.0.1:9", trust_env=False) as client:
            await Front(client, lambda _: None)(scope, receive, send)  # type: ignore[arg-type, return-value]
        return statuses

    assert asyncio.run(ask()) == [502]


def test_a_client_that_falls_silent_in_mid_body_is_let_go(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "PATIENCE_S", 0.3)
    began = time.monotonic()
    head = b"POST /parley/enrol HTTP/1.1\r\nhost: x\r\ncontent-length: 6\r\nconnection: close\r\n\r\nabc"
    assert town.raw(head).startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began < 5


def test_server_certificates_are_good_for_their_names_and_no_others() -> None:
    ca = authority.make_ca()
    issued = authority.make_server(ca, ("coordinator.example", "127.0.0.1", "localhost"))
    context = ssl.create_default_context(cadata=ca.certificate_pem.decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    assert handshake(issued, context, "coordinator.example")
    assert handshake(issued, context, "127.0.0.1")
    assert not handshake(issued, context, "elsewhere.example")
    assert not handshake(authority.make_server(authority.make_ca(), ("localhost",)), context, "localhost")


def handshake(issued: authority.Issued, context: ssl.SSLContext, name: str) -> bool:
    """Do a TLS handshake in memory; say whether the client is content."""
    import tempfile

    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as pem:
        pem.write(issued.certificate_pem + issued.key_pem)
        pem.flush()
        server.load_cert_chain(pem.name)
    pipes = [ssl.MemoryBIO() for _ in range(2)]
    ends = [
        context.wrap_bio(pipes[0], pipes[1], server_hostname=name),
        server.wrap_bio(pipes[1], pipes[0], server_side=True),
    ]
    for end in ends * 4:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError:
            return False
    return True
