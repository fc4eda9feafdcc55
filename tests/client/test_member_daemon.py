"""The daemon as a real process on a Unix socket: letters in, letters out, and nothing of what is inside."""

import grp
import importlib.util
import os
import secrets
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from client.daemon import GRAIN_S, MOST_WAITING
from client.mailbox import SqliteShelf
from client.serve import listen, offer_page
from client.window import COOKIE
from privacy.config import ConfigError
from protocols.keys import Identity
from protocols.post import Letter, seal, unseal

ROOT = Path(__file__).parents[2]


def _echo_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("echo_daemon", Path(__file__).with_name("echo_daemon.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["echo_daemon"] = module
    spec.loader.exec_module(module)
    return module


echo = _echo_module()
SILENCE = (503, b"no-answer", {"content-type": "text/plain; charset=utf-8", "content-length": "9"})


class Daemon:
    """A running echo daemon, its coordinator's key, and its log."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.socket, self.log = folder, folder / "daemon.sock", folder / "daemon.log"
        self.operator_socket = folder / "operator.sock"
        self.coordinator, self.identity = Identity.generate(), Identity.generate()
        (folder / "identity.key").write_bytes(self.identity.to_pem())
        SqliteShelf.create(folder / "mailbox.db")
        self.http = httpx.Client(transport=httpx.HTTPTransport(uds=str(self.socket)), timeout=60)
        self.operator = httpx.Client(transport=httpx.HTTPTransport(uds=str(self.operator_socket)), timeout=60)
        self.start()

    def start(self, *limits: str) -> None:
        command = [sys.executable, str(ROOT / "tests/client/echo_daemon.py"), str(self.folder)]
        command += [str(self.folder / "mailbox.db"), str(self.folder / "identity.key"), str(self.coordinator.public)]
        command += limits
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=log, stderr=log
            )
        deadline = time.monotonic() + 60
        while not self.is_loaded():
            assert time.monotonic() < deadline, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def is_loaded(self) -> bool:
        try:
            return bool(self.status()["loaded"])
        except httpx.TransportError:
            return False

    def status(self) -> dict[str, Any]:
        return dict(self.operator.get("http://daemon/status").json())

    def page(self) -> str:
        return f"http://127.0.0.1:{(self.folder / 'page.port').read_text()}"

    def token(self) -> str:
        return (self.folder / "page.token").read_text()

    def reason(self, letter: bytes) -> str:
        """Post a letter that gets no answer, and return the one reason that was counted for it."""
        before = self.status()["silent"]
        assert _seen(self.post(letter)) == SILENCE
        after = self.status()["silent"]
        (reason,) = [name for name, count in after.items() if count != before.get(name, 0)]
        return str(reason)

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)
        self.process.wait(30)

    def letter(self, words: str, session: str | None = None, number: int = 0) -> bytes:
        body = echo.ECHO.wire.encode(echo.Say(words))
        session = session or secrets.token_hex(16)
        letter = Letter(session, "echo", number, "coordinator", "clinic", ("bank", "clinic"), body)
        return seal(letter, self.coordinator)

    def post(self, body: bytes) -> httpx.Response:
        return self.http.post("http://daemon/letter", content=body)

    def read(self, reply: httpx.Response) -> object:
        assert reply.status_code == 200
        return echo.ECHO.wire.decode(unseal(reply.content, self.identity.public).body)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with tempfile.TemporaryDirectory() as folder:
        running = Daemon(Path(folder))
        yield running
        running.stop()


def test_a_letter_is_answered_and_the_same_letter_gets_the_same_bytes(daemon: Daemon) -> None:
    letter = daemon.letter("good morning")
    first, second = daemon.post(letter), daemon.post(letter)
    assert daemon.read(first).words == "good morning"  # type: ignore[attr-defined]
    assert first.content == second.content


@pytest.mark.slow
def test_a_letter_gets_the_same_bytes_after_the_daemon_was_killed_and_started_again(daemon: Daemon) -> None:
    session, interrupted = secrets.token_hex(16), daemon.letter("sleep 1")
    letter = daemon.letter("good morning", session)
    first = daemon.post(letter)
    thread = threading.Thread(target=_post_and_lose, args=(daemon, interrupted))
    thread.start()
    time.sleep(0.4)
    daemon.stop(signal.SIGKILL)  # in the middle of the other letter
    thread.join()
    daemon.start()
    assert daemon.post(letter).content == first.content
    after = daemon.read(daemon.post(daemon.letter("again", session, 1)))
    assert after.nth == 2  # type: ignore[attr-defined]  # the state survived too
    retried, again = daemon.post(interrupted), daemon.post(interrupted)
    assert daemon.read(retried).nth == 1  # type: ignore[attr-defined]
    assert retried.content == again.content


def test_the_words_of_an_exception_are_in_no_answer_and_in_no_log(daemon: Daemon) -> None:
    canary = f"canary-{secrets.token_hex(8)}"
    reply = daemon.post(daemon.letter(f"boom {canary}"))
    assert _seen(reply) == SILENCE
    log = daemon.log.read_text()
    assert "RuntimeError at echo_daemon.py" in log
    assert "ValueError at echo_daemon.py" in log
    assert canary not in log + reply.text + str(reply.headers)


def test_a_refusal_a_bug_and_garbage_look_the_same_and_only_the_operator_is_told_which_it_was(daemon: Daemon) -> None:
    assert daemon.reason(daemon.letter("refuse")) == "BudgetExceeded"
    assert daemon.reason(daemon.letter("fill")) == "Fault"
    assert daemon.reason(b"garbage") == "PeerError"
    assert daemon.reason(b"") == "PeerError"
    assert daemon.reason(daemon.letter("boom")) == "Fault"


def test_a_letter_that_somebody_else_sealed_is_not_answered(daemon: Daemon) -> None:
    body = echo.ECHO.wire.encode(echo.Say("good morning"))
    letter = Letter("5e55", "echo", 0, "coordinator", "clinic", ("bank", "clinic"), body)
    assert daemon.reason(seal(letter, Identity.generate())) == "PeerError"


def test_a_letter_beyond_the_limit_is_turned_away_before_it_is_read_and_with_the_same_word(daemon: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(daemon.socket))
        raw.sendall(b"POST /letter HTTP/1.1\r\nHost: daemon\r\nContent-Length: 1099511627776\r\n\r\n")
        reply = b""
        while not reply.endswith(b"no-answer") and (piece := raw.recv(65536)):  # headers and word may come apart
            reply += piece
    assert reply.startswith(b"HTTP/1.1 503")
    assert reply.endswith(b"no-answer")
    assert daemon.status()["silent"]["TooLarge"] == 1


def test_a_busy_daemon_looks_like_one_that_refuses(daemon: Daemon) -> None:
    slow = threading.Thread(target=daemon.post, args=(daemon.letter("sleep 4"),))
    slow.start()
    time.sleep(0.3)
    with ExitStack() as held:
        crowd = [held.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(MOST_WAITING + 4)]
        for raw in crowd:
            raw.connect(str(daemon.socket))
            raw.sendall(b"POST /letter HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 7\r\n\r\ngarbage")
        replies = {b"".join(iter(lambda raw=raw: raw.recv(65536), b"")) for raw in crowd}  # type: ignore[misc]
    slow.join()
    assert len(replies) == 1
    assert replies.pop().endswith(b"no-answer")
    assert daemon.status()["silent"]["Busy"] >= 1


def test_how_long_a_letter_was_looked_at_before_it_was_refused_is_told_only_in_grains(daemon: Daemon) -> None:
    def seconds(letter: bytes) -> float:
        begun = time.monotonic()
        assert _seen(daemon.post(letter)) == SILENCE
        return time.monotonic() - begun

    at_once, later = seconds(b"garbage"), seconds(daemon.letter(f"refuse {GRAIN_S / 4}"))
    assert GRAIN_S <= at_once < 1.5 * GRAIN_S
    assert GRAIN_S <= later < 1.5 * GRAIN_S


def test_the_status_is_coarse_and_there_while_a_letter_takes_its_time(daemon: Daemon) -> None:
    slow = threading.Thread(target=daemon.post, args=(daemon.letter("sleep 2"),))
    slow.start()
    time.sleep(0.2)
    begun = time.monotonic()
    status = daemon.status()
    assert time.monotonic() - begun < 1
    assert set(status) == {"member", "loaded", "letters", "silent", "uptime_s"}
    slow.join()


def test_two_letters_at_once_are_both_answered_one_after_the_other(daemon: Daemon) -> None:
    session = secrets.token_hex(16)
    letter = daemon.letter("sleep 0.5", session)
    replies: list[bytes] = []

    def post() -> None:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(daemon.socket)), timeout=60) as http:
            replies.append(http.post("http://daemon/letter", content=letter).content)

    threads = [threading.Thread(target=post) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(replies) == 3
    assert len(set(replies)) == 1


def test_only_the_owner_may_open_the_socket(daemon: Daemon) -> None:
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(daemon.operator_socket.stat().st_mode) == 0o600


def test_the_socket_of_letters_tells_nothing_but_answers(daemon: Daemon) -> None:
    for path in ("/", "/status", "/ledger.json", "/metrics", "/docs", "/openapi.json", "/redoc", "/letter"):
        for method in ("GET", "PUT", "OPTIONS", "HEAD"):
            reply = daemon.http.request(method, f"http://daemon{path}")
            assert (reply.status_code, dict(reply.headers)) == (SILENCE[0], SILENCE[2])
            assert reply.content == (b"" if method == "HEAD" else SILENCE[1])


def test_the_operators_socket_has_the_page_the_ledger_and_the_metrics_and_nothing_that_changes_anything(
    daemon: Daemon,
) -> None:
    for path, kind in (("/", "text/html"), ("/ledger.json", "application/json"), ("/metrics", "text/plain")):
        reply = daemon.operator.get(f"http://daemon{path}")
        assert (reply.status_code, reply.headers["cache-control"]) == (200, "no-store")
        assert reply.headers["content-type"].startswith(kind)
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert daemon.operator.request(method, f"http://daemon{path}").status_code == 405
    assert "default-src 'none'" in daemon.operator.get("http://daemon/").headers["content-security-policy"]
    for path in ("/docs", "/openapi.json", "/redoc"):
        assert daemon.operator.get(f"http://daemon{path}").status_code == 404


def test_a_browser_gets_the_page_with_the_token_once_and_a_cookie_from_then_on(daemon: Daemon) -> None:
    with httpx.Client(base_url=daemon.page()) as browser:
        assert browser.get("/").status_code == 403
        entered = browser.get("/", params={"token": daemon.token()})
        assert (entered.status_code, entered.headers["location"]) == (303, "/")  # the token leaves the address
        assert {"HttpOnly", "SameSite=Strict"} <= set(entered.headers["set-cookie"].split("; "))
        assert entered.headers["referrer-policy"] == "no-referrer"
        assert browser.get("/").status_code == 200
        assert browser.get("/metrics").status_code == 200
        assert browser.post("/").status_code == 403


def test_a_site_whose_name_points_to_the_loopback_gets_nothing_even_with_the_cookie(daemon: Daemon) -> None:
    port = daemon.page().rpartition(":")[2]
    kept = {"cookie": f"{COOKIE}={daemon.token()}"}
    with httpx.Client(base_url=daemon.page()) as browser:
        assert browser.get("/", headers=kept).status_code == 200
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{int(port) + 1}", ""):
            assert browser.get("/", headers=kept | {"host": host}).status_code in (400, 403)
            assert browser.get("/", params={"token": daemon.token()}, headers={"host": host}).status_code in (
                400,
                403,
            )


def test_another_page_in_the_same_browser_gets_nothing(daemon: Daemon) -> None:
    kept = {"cookie": f"{COOKIE}={daemon.token()}"}
    with httpx.Client(base_url=daemon.page()) as browser:
        for site in ("cross-site", "same-site"):
            assert browser.get("/", headers=kept | {"sec-fetch-site": site}).status_code == 403
        reply = browser.get("/", headers=kept | {"sec-fetch-site": "same-origin", "origin": "http://evil.example"})
        assert not [name for name in reply.headers if name.startswith("access-control")]


@pytest.mark.slow
def test_no_token_but_the_whole_one_opens_the_page_and_none_survives_the_daemon(daemon: Daemon) -> None:
    token = daemon.token()
    wrong = ["", token[:-1], token + "x", token.swapcase(), "\u00e9" * len(token)]
    with httpx.Client(base_url=daemon.page()) as browser:
        assert [browser.get("/", params={"token": t}).status_code for t in wrong] == [403] * len(wrong)
        assert browser.get("/", headers={"cookie": f"{COOKIE}="}).status_code == 403
    assert stat.S_IMODE((daemon.folder / "page.token").stat().st_mode) == 0o600
    daemon.stop()
    daemon.start()
    with httpx.Client(base_url=daemon.page()) as browser:
        assert browser.get("/", params={"token": token}).status_code == 403


def test_a_token_is_in_no_log(daemon: Daemon) -> None:
    with httpx.Client(base_url=daemon.page()) as browser:
        browser.get("/", params={"token": daemon.token()})
    assert daemon.token() not in daemon.log.read_text()


def test_a_port_that_is_taken_is_named_by_its_key(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match=r"page\.port: cannot be had"):
            offer_page(tmp_path / "home.toml", tmp_path / "page.token", taken.getsockname()[1])
    assert not (tmp_path / "page.token").exists()


def test_no_letter_goes_in_by_the_operators_socket(daemon: Daemon) -> None:
    reply = daemon.operator.post("http://daemon/letter", content=daemon.letter("good morning"))
    assert reply.status_code == 404


@pytest.mark.slow
def test_a_full_disk_looks_like_a_refusal_and_the_letter_is_answered_once_there_is_room(daemon: Daemon) -> None:
    letter = daemon.letter("good morning " * 40_000)
    daemon.stop()
    daemon.start("300000")
    assert daemon.reason(letter) == "ShelfUnavailable"
    assert "ShelfUnavailable" in daemon.log.read_text()
    daemon.stop()
    daemon.start()
    first, second = daemon.post(letter), daemon.post(letter)
    assert first.status_code == 200
    assert first.content == second.content


def test_a_group_may_open_the_socket_if_the_operator_says_so(tmp_path: Path) -> None:
    name = grp.getgrgid(os.getgid()).gr_name
    with tempfile.TemporaryDirectory() as folder, listen(Path(folder) / "d.sock", name) as listener:
        assert stat.S_IMODE((Path(folder) / "d.sock").stat().st_mode) == 0o660
        assert listener.family == socket.AF_UNIX
    with tempfile.TemporaryDirectory() as folder, pytest.raises(ConfigError, match="no such group"):
        listen(Path(folder) / "d.sock", "no-such-group")


def test_the_daemon_ends_at_once_on_sigterm_even_in_the_middle_of_a_letter(daemon: Daemon) -> None:
    thread = threading.Thread(target=_post_and_lose, args=(daemon, daemon.letter("sleep 30")))
    thread.start()
    time.sleep(0.3)
    begun = time.monotonic()
    daemon.stop(signal.SIGTERM)
    thread.join()
    assert time.monotonic() - begun < 10


def _post_and_lose(daemon: Daemon, letter: bytes) -> None:
    """Post a letter to a daemon that will end before it answers."""
    transport = httpx.HTTPTransport(uds=str(daemon.socket))
    with httpx.Client(transport=transport, timeout=60) as http, pytest.raises(httpx.TransportError):
        http.post("http://daemon/letter", content=letter)


def _seen(reply: httpx.Response) -> tuple[int, bytes, dict[str, str]]:
    """Return all that is seen from outside."""
    return reply.status_code, reply.content, dict(reply.headers)
