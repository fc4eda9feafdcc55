"""A stream on loopback: TLS, the hub, real mailboxes behind desks that dial, a road; and who attacks it."""

import asyncio
import contextlib
import dataclasses
import logging
import os
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
from deployment import until
from streaming import Line, Town
from village import COORDINATOR, task
from websockets.exceptions import ConnectionClosed, InvalidStatus

from client.stream import MOST_STREAMS
from client.stream import Hub as Door
from protocols.carriers import stream_road as wire
from protocols.carriers.stream_road import MOST_FRAME_BYTES, PIECE_BYTES, Pieces, frames
from protocols.faults import PeerError
from protocols.keys import Identity
from protocols.session import MemberId
from protocols.stream import OpenStream
from server import authority, hub
from server.hub import Silence
from server.superlink import tls

M0, M1, M2 = (MemberId(f"m{n}") for n in range(3))


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    made = Town.make(tmp_path_factory.mktemp("town"))
    made.up()
    yield made
    made.stop()


def code_of(line: Line) -> int:
    """Return with which code the hub hangs up."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            line.recv(5)
    return closed.value.rcvd.code if closed.value.rcvd else 1006


def letter(town: Town, session: str, number: int = 0) -> bytes:
    """Return a real sealed letter to m0, the first of an average's session."""
    caught: list[bytes] = []

    def road(letters):
        caught.append(letters[M0])
        return {}

    outbox = town.there.outbox(session, "average", road)
    outbox.number = number
    from protocols.catalog import CATALOG

    entry = CATALOG["average"]
    asks = next(entry.coordinate(sorted(town.there.houses), task(plain=True)))
    outbox({m: entry.wire.encode(ask) for m, ask in asks.items()})
    return caught[0]


def test_a_session_over_a_stream_ends_as_on_any_road_and_its_logs_hold_nothing_of_it(town, stream, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    with town.road(stream) as road:
        result = town.there.run(task(rounds=2), session="s1", road=road)
    assert result.adapter.shape == (5,)
    assert road.silent == {}
    assert all(list(h.ledger.entries()) for h in town.there.houses.values())
    for secret in (town.ticket(stream, "m0"), letter(town, "s1")[:16], COORDINATOR.to_pem()[30:60]):
        assert not [form for form in (secret.hex(), secret.hex(" "), repr(secret)[2:-1]) if form in caplog.text]


def test_several_sessions_share_one_stream_at_once(town: Town, stream: str) -> None:
    done = []

    def one(name: str) -> None:
        with town.road(stream) as road:
            done.append(town.there.run(task(plain=True, rounds=2), session=name, road=road))

    threads = [threading.Thread(target=one, args=(f"at once {n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(done) == 3


def test_no_answer_is_silence_at_a_whole_grain_and_the_line_stands(town: Town, stream: str) -> None:
    with town.road(stream) as road:
        began = time.monotonic()
        assert road({M0: b"garbage", MemberId("m9"): b"to nobody"}) == {}
        assert road.silent == {"m0": "no-answer", "m9": "unknown"}
        assert time.monotonic() - began >= 0.5  # not sooner: when it was refused tells nothing
        assert town.there.run(task(plain=True, rounds=1), session="after", road=road)


# Who may be on a stream


def test_whoever_cannot_sign_as_the_member_is_refused(town: Town) -> None:
    stream = town.open()
    with pytest.raises(ConnectionClosed) as closed:
        town.greeted(stream, "m0", identity=Identity.generate())
    assert closed.value.rcvd.code == wire.REFUSED
    with pytest.raises(ConnectionClosed):  # m1, with its own key, under m0's name and even with its ticket
        town.greeted(stream, "m0", identity=town.there.houses[M1].identity)
    assert town.here(stream) == ()


@pytest.mark.parametrize("wrong", ["ticket", "others-ticket", "stream", "member", "certificate", "nonce"])
def test_without_the_ticket_for_this_channel_nothing_is_signed_and_all_look_alike(town: Town, wrong: str) -> None:
    stream = town.open()
    changes = {
        "ticket": {"ticket": bytes(32)}, "others-ticket": {"ticket": town.ticket(stream, "m1")},
        "stream": {"stream": "0" * 32}, "member": {"member": "m9"}, "certificate": {"certificate": bytes(32)},
    }.get(wrong, {})  # fmt: skip
    given = {"ticket": town.ticket(stream, "m0")} | changes
    line = town.socket()
    hello = town.channel(stream, "m0", **given).hello(os.urandom(16 if wrong == "nonce" else 32))
    line.send(wire.WIRE.encode(hello))
    assert code_of(line) == wire.REFUSED


def test_a_greeting_that_was_recorded_opens_nothing(town: Town) -> None:
    stream, nonce = town.open(), os.urandom(32)
    channel, identity = town.channel(stream, "m0"), town.there.houses[M0].identity
    first, second = town.socket(), town.socket()
    first.send(hello := wire.WIRE.encode(channel.hello(nonce)))
    challenge = wire.WIRE.decode(first.recv(5))
    recorded = wire.WIRE.encode(channel.proof(nonce, challenge, COORDINATOR.public, identity))
    second.send(hello)
    assert wire.WIRE.decode(second.recv(5)).nonce != challenge.nonce
    second.send(recorded)
    assert code_of(second) == wire.REFUSED
    first.close()
    assert town.here(stream) == ()


def test_a_member_proves_nothing_to_a_hub_that_is_not_its_coordinator(own_town: Town, caplog) -> None:
    caplog.set_level(logging.INFO)
    other = Door(str(own_town.folder.address), own_town.folder.ca_certificate, Identity.generate().public)
    own_town.dial_from("m0", door=other)
    stream = own_town.open()
    own_town.there.run(own_town.tickets(stream), collaboration="stream")
    until(lambda: own_town.here(stream) == ("m1", "m2"))
    until(lambda: "a stream does not stand (PeerError)" in caplog.text)
    assert own_town.here(stream) == ("m1", "m2")


@pytest.mark.parametrize("authority_is", ["the coordinator's", "another"])
def test_nobody_with_another_certificate_can_stand_in_between(
    town: Town, authority_is: str, tmp_path, caplog
) -> None:
    """A relay that shows a certificate of its own, of the coordinator's authority (a stolen one) or of another."""
    caplog.set_level(logging.INFO)
    own = authority.Issued(town.folder.ca_key.read_bytes(), town.folder.ca_certificate.read_bytes())
    issued = authority.make_server(
        own if authority_is == "the coordinator's" else authority.make_ca(), ("127.0.0.1",)
    )
    (tmp_path / "crt").write_bytes(issued.certificate_pem)
    (tmp_path / "key").write_bytes(issued.key_pem)
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    heard: list[bytes] = []
    stream = town.open()
    with relay(shown, town, heard) as port:
        door = Door(f"127.0.0.1:{port}", town.folder.ca_certificate, COORDINATOR.public)
        home = town.dial_from("m0", door=door)
        home.dial(stream, town.ticket(stream, "m0"), int(time.time() + 60))
        said = "cut (1008)" if authority_is == "the coordinator's" else "(SSLCertVerificationError)"
        until(lambda: said in caplog.text)
        home.close()
    assert town.here(stream) == ()
    assert bool(heard) is (authority_is == "the coordinator's")
    assert town.ticket(stream, "m0") not in b"".join(heard)
    town.dial_from("m0")


@contextlib.contextmanager
def relay(shown: ssl.SSLContext, town: Town, heard: list[bytes]) -> Iterator[int]:
    """Read and pass on what two ends believe to be between them."""
    address, loop = town.folder.address, asyncio.new_event_loop()

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            heard.append(data)
            sink.write(data)
        sink.close()

    async def between(near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        far, forth = await asyncio.open_connection(address.host, address.port, ssl=tls(town.folder))
        await asyncio.gather(pump(near, forth), pump(far, back), return_exceptions=True)

    server = loop.run_until_complete(asyncio.start_server(between, "127.0.0.1", 0, ssl=shown))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield server.sockets[0].getsockname()[1]
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def test_a_stream_ends_when_it_expires_and_its_ticket_with_it(town: Town) -> None:
    stream = town.dialled(lasts_s=1.5)
    ticket = town.ticket(stream, "m0")
    line = town.homes["m0"]._lines[stream]
    line.join(5)
    assert not line.is_alive()
    until(lambda: not town.here(stream))
    late = town.socket()
    late.send(wire.WIRE.encode(town.channel(stream, "m0", ticket=ticket).hello(os.urandom(32))))
    assert code_of(late) == wire.REFUSED
    with town.road("0" * 32, 0.5) as road, town.road(stream, 0.5) as old:
        assert road({M0: b"x"}) == old({M0: b"x"}) == {}


def test_a_stream_that_is_closed_is_dialled_no_more(town: Town, caplog) -> None:
    caplog.set_level(logging.INFO)
    stream = town.dialled()
    lines = [home._lines[stream] for home in town.homes.values()]
    with town.control() as control:
        assert control.delete(f"/streams/{stream}").json() == {"closed": True}
        assert control.get(f"/streams/{stream}").status_code == 404
    for line in lines:
        line.join(5)
    assert not any(line.is_alive() for line in lines)
    assert not list(town.folder.streams.glob(stream))


def test_only_who_has_enrolled_gets_a_stream_and_only_for_a_while(town: Town) -> None:
    with town.control() as control:
        for wrong in (
            {"members": ["m0", "m9"], "lasts_s": 60}, {"members": [], "lasts_s": 60}, {"members": ["m0"]}, [1],
            {"members": ["m0"], "lasts_s": 10**6}, {"members": ["m0"], "lasts_s": 0}, {"members": [1], "lasts_s": 9},
        ):  # fmt: skip
            assert control.post("/streams", json=wrong).status_code == 422


def test_the_hub_has_one_path_with_one_spelling(town: Town) -> None:
    for path in ("/parley/stream/", "/parley/stream?x", "/Parley/stream", "//parley/stream", "/parley/%73tream", "/"):
        with pytest.raises(InvalidStatus) as refused:
            town.socket(path)
        assert refused.value.response.status_code in (403, 404)


# What a member is asked to dial


def test_a_letter_can_name_no_address_and_no_stream_without_end(town: Town) -> None:
    assert {f.name for f in dataclasses.fields(OpenStream)} == {"stream", "ticket", "expires"}
    home, now = town.homes["m0"], int(time.time())
    for ticket, expires in ((b"short", now + 60), (bytes(32), now - 1), (bytes(32), now + 2 * 86_400)):
        with pytest.raises(PeerError):
            home.dial("5" * 32, ticket, expires)
    assert not any(line.is_alive() for line in home._lines.values())


def test_a_home_dials_no_more_than_four_streams_and_none_twice(town: Town) -> None:
    home, until_ = town.homes["m0"], int(time.time() + 60)
    for number in range(MOST_STREAMS):
        home.dial(f"{number}" * 32, bytes(32), until_)
    for one_more in ("0" * 32, "f" * 32):
        with pytest.raises(PeerError):
            home.dial(one_more, bytes(32), until_)
    home.close()
    town.dial_from("m0")


# Frames


@pytest.mark.parametrize(
    "garbage", ["text", b"", b"short", b"\x00" * 8, b"\xff" * 9, b"\x00" * (MOST_FRAME_BYTES + 1)]
)
def test_garbage_on_a_stream_cuts_off_who_sends_it_and_nobody_else(town: Town, stream: str, garbage) -> None:
    line = town.greeted(stream, "m0")  # in the place of the home's own line, which dials no more
    line.send(garbage)
    assert code_of(line) in (wire.REFUSED, 1009)
    with town.road(stream, 5.0) as road:
        assert road({M1: b"x"}) == {}
        assert road.silent == {"m1": "no-answer"}  # it was there


def test_pieces_of_two_letters_never_mix_and_none_grows_beyond_its_bound() -> None:
    long = os.urandom(2 * PIECE_BYTES + 3)
    sent = list(frames(7, long))
    assert [len(f) for f in sent] == [MOST_FRAME_BYTES, MOST_FRAME_BYTES, 11]
    pieces = Pieces()
    assert [pieces.add(f) for f in sent] == [None, None, (7, long)]
    assert [Pieces().add(f) for f in frames(1, b"")] == [(1, b"")]
    mixed = Pieces()
    mixed.add(sent[0])
    with pytest.raises(PeerError):
        mixed.add(next(iter(frames(8, b"x"))))
    bounded = Pieces(PIECE_BYTES + 1)
    bounded.add(sent[0])
    with pytest.raises(PeerError):
        bounded.add(sent[1])


def test_a_member_has_one_letter_at_a_time_and_a_bounded_queue(town: Town, stream: str, monkeypatch) -> None:
    monkeypatch.setattr(hub, "MOST_WAITING", 3)
    line = town.greeted(stream, "m0")
    asked = [town.hub.ask(stream, "m0", f"letter {n}".encode(), 20.0) for n in range(3)]
    until(lambda: len(town.hub._seats[stream, "m0"].letters) == 3)
    assert town.hub.ask(stream, "m0", b"one more", 20.0).result(5) is Silence.BUSY
    pieces = Pieces()
    for n in range(3):
        number, sealed = pieces.add(line.recv(5))
        assert sealed == f"letter {n}".encode()
        with pytest.raises(TimeoutError):  # nothing before the answer
            line.recv(0.05)
        for frame in frames(number, b"answer to " + sealed):
            line.send(frame)
    assert [a.result(5) for a in asked] == [f"answer to letter {n}".encode() for n in range(3)]


def test_an_answer_that_comes_too_late_harms_nobody(town: Town, stream: str) -> None:
    line, pieces = town.greeted(stream, "m0"), Pieces()
    assert town.hub.ask(stream, "m0", b"first", 0.1).result(5) is Silence.LATE
    number, sealed = pieces.add(line.recv(5))
    second = town.hub.ask(stream, "m0", b"second", 20.0)
    line.send(next(iter(frames(number, b"to the first"))))
    number, sealed = pieces.add(line.recv(5))
    assert sealed == b"second"
    line.send(next(iter(frames(number, b"to the second"))))
    assert second.result(5) == b"to the second"


# Time


def test_a_member_that_does_not_answer_keeps_nobody_waiting_beyond_the_deadline(town: Town, stream: str) -> None:
    town.greeted(stream, "m0")  # and never says a word
    stuck = town.hub.ask(stream, "m0", b"x", 20.0)
    assert town.hub.ask(stream, "m1", b"x", 20.0).result(5) is Silence.NONE
    assert not stuck.done()
    with town.road(stream, 1.0) as road:
        road({M0: b"x", M1: b"x", M2: b"x"})
    assert road.silent == {"m0": "late", "m1": "no-answer", "m2": "no-answer"}


def test_a_member_that_reads_nothing_fills_no_memory_but_its_own_letter(town: Town, stream: str) -> None:
    town.greeted(stream, "m0")  # its library stops reading behind the first frame
    big = os.urandom(8 * PIECE_BYTES)
    stuck = [town.hub.ask(stream, "m0", big, 20.0) for _ in range(3)]
    assert town.hub.ask(stream, "m1", b"x", 20.0).result(5) is Silence.NONE
    assert town.hub._seats[stream, "m0"].connection.last == 0  # the second was not put on the line
    assert not any(s.done() for s in stuck)


def test_a_letter_on_a_line_that_breaks_is_sent_again_and_gets_the_same_bytes(own_town: Town) -> None:
    answers: list[bytes] = []

    def submit(sealed: bytes) -> Future[bytes | None]:
        answer = own_town.desks["m0"].submit(sealed)
        answers.append(answer.result(10))
        if len(answers) == 2:  # the second letter: the stream's own opening came another way
            own_town.hub._seats[stream, "m0"].connection.send.__self__.transport.abort()  # as if a wire were cut
        return answer

    own_town.dial_from("m0", submit=submit)
    stream = own_town.dialled()
    with own_town.road(stream, 20.0) as road:
        assert own_town.there.run(task(plain=True, rounds=3), session="broken", road=road)
    assert len(answers) == 5  # three rounds, the letter that closes, and one of them twice
    assert answers[1] == answers[2]
    assert len(list(own_town.there.houses[M0].ledger.entries())) == 3


def test_a_member_that_dials_anew_takes_its_own_place(town: Town, stream: str) -> None:
    first = town.greeted(stream, "m0")
    asked = town.hub.ask(stream, "m0", b"letter", 20.0)
    assert Pieces().add(first.recv(5)) is not None
    second = town.greeted(stream, "m0")
    assert code_of(first) == wire.REPLACED
    number, sealed = Pieces().add(second.recv(5))
    second.send(next(iter(frames(number, b"here"))))
    assert (sealed, asked.result(5)) == (b"letter", b"here")


def test_who_is_away_is_waited_for_a_while_and_no_longer(town: Town, monkeypatch) -> None:
    monkeypatch.setattr(hub, "AWAY_S", 0.3)
    stream = town.open()
    with town.road(stream, 60.0) as road:
        assert road({M0: b"x"}) == {}
    assert road.silent == {"m0": "away"}


def test_a_restart_of_the_coordinator_in_the_middle_of_a_session_loses_nothing(own_town: Town) -> None:
    stream, done = own_town.dialled(), []
    held, go_on = threading.Event(), threading.Event()

    def slow_road(letters):
        if not held.is_set():
            held.set()
            go_on.wait(20)
        return road(letters)

    def session() -> None:
        done.append(own_town.there.run(task(plain=True, rounds=2), session="restart", road=slow_road))

    with own_town.road(stream, 30.0) as road:
        thread = threading.Thread(target=session)
        thread.start()
        held.wait(10)
        own_town.down()
        go_on.set()
        own_town.up()
        thread.join(30)
    assert len(done) == 1
    assert own_town.here(stream) == ("m0", "m1", "m2")
    assert len(list(own_town.there.houses[M0].ledger.entries())) == 2


def test_a_file_of_a_stream_that_is_garbage_or_has_expired_is_thrown_away(own_town: Town) -> None:
    stream = own_town.open(lasts_s=600)
    own_town.down()
    (own_town.folder.streams / "garbage").write_bytes(b"x")
    (own_town.folder.streams / ("0" * 32)).write_bytes((own_town.folder.streams / stream).read_bytes())  # misnamed
    assert (own_town.folder.streams / stream).stat().st_mode & 0o077 == 0
    own_town.up()
    assert [f.name for f in own_town.folder.streams.iterdir()] == [stream]
