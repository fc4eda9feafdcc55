"""A server of the organisation writes: whatever it does, there is a text in time, or silence that quotes nothing."""

import gzip
import json
import logging

import pytest
from loopback import completion, pieces, response, sending

from client.speaking import server as speaking
from client.speaking.prompts import Prompt
from client.speaking.server import Address, ServerSpeaker
from client.speaking.speaker import Bounds, Silent
from protocols.text.talk import Step

KEY = "sk-canary-of-a-key"
SECRET = "the question of Zanzibar"
PROMPT = Prompt(Step.ANSWER, SECRET, notes=("a note of Zanzibar",))
BUSY = response(b"Zanzibar", "503 Service Unavailable")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(speaking, "_PAUSE_S", 0.01)


def speaker(server, seconds: float = 20.0, **changes) -> ServerSpeaker:
    given = {"key": KEY, "retries": 2, "stream": False} | changes
    return ServerSpeaker(Address(server.url, "mine", **given), Bounds(7, seconds))


def silence(made: ServerSpeaker) -> str:
    """Return why it is silent; neither prompt nor key is in that, nor what the server sent."""
    with pytest.raises(Silent) as error:
        made.say(PROMPT)
    words = str(error.value) + repr(error.value) + repr(made._address)
    assert "Zanzibar" not in words
    assert KEY not in words
    return str(error.value)


def test_it_asks_for_a_completion_as_every_such_server_knows_them(server):
    server.answers = [sending(response(completion("  it is so \n")))]
    assert speaker(server).say(PROMPT) == "it is so"
    (head, body) = server.asked[0]
    assert head.startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    assert f"authorization: bearer {KEY}" in head.lower()
    assert body == {"model": "mine", "messages": PROMPT.messages, "max_tokens": 7, "temperature": 0, "stream": False}


def test_it_reads_a_text_as_it_is_written(server):
    server.answers = [sending(pieces("it ", "is", " só", ""))]
    assert speaker(server, stream=True).say(PROMPT) == "it is só"
    assert server.asked[0][1]["stream"] is True


def test_a_stream_that_is_cut_anywhere_is_put_together(server):
    def drop_by_drop(connection):
        for byte in pieces("it ", "is ", "só"):
            connection.sendall(bytes([byte]))

    server.answers = [drop_by_drop]
    assert speaker(server, stream=True).say(PROMPT) == "it is só"


def test_a_server_that_does_not_stream_when_asked_is_understood(server):
    server.answers = [sending(response(completion("it is so")))]
    assert speaker(server, stream=True).say(PROMPT) == "it is so"


def test_no_content_is_an_empty_text(server):
    server.answers = [sending(response(completion(None)))]
    assert speaker(server).say(PROMPT) == ""


@pytest.mark.parametrize("code", [408, 409, 425, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(code, server):
    server.answers = [sending(response(b"", f"{code} No")), sending(response(completion("so")))]
    assert speaker(server).say(PROMPT) == "so"
    assert len(server.asked) == 2


def test_it_is_tried_as_often_as_its_settings_say(server):
    server.answers = [sending(BUSY)]
    assert silence(speaker(server)) == "the text server answered 503"
    assert len(server.asked) == 3
    assert silence(speaker(server, retries=0)) == "the text server answered 503"
    assert len(server.asked) == 4


@pytest.mark.parametrize("code", [400, 401, 404, 418])
def test_what_does_not_pass_is_not_tried_again(code, server):
    server.answers = [sending(response(SECRET.encode(), f"{code} {SECRET}"))]
    assert silence(speaker(server)) == f"the text server answered {code}"
    assert len(server.asked) == 1


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_carries_the_prompt_nowhere(code, server):
    elsewhere = [response(b"", f"{code} Moved", Location=server.url + "/elsewhere"), response(completion("so"))]
    server.answers = [sending(data) for data in elsewhere]
    assert silence(speaker(server)) == f"the text server answered {code}"
    assert len(server.asked) == 1


def test_no_proxy_is_taken_from_the_environment(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    server.answers = [sending(response(completion("so")))]
    assert speaker(server).say(PROMPT) == "so"


def hang(server):
    return lambda _connection: server.closing.wait(60)


def drip(server, head: bytes):
    """Send one byte after the other, for longer than anybody waits, and each well within a read's time."""

    def answer(connection):
        for byte in head:
            connection.sendall(bytes([byte]))
        while not server.closing.wait(0.05):
            connection.sendall(b"x")

    return answer


SLOW = {
    "hangs": hang,
    "drips its head": lambda server: drip(server, b"HTTP/1.1 200 OK\r\nX: "),
    "drips its body": lambda server: drip(server, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"),
    "drips without end": lambda server: drip(server, b"HTTP/1.1 200 OK\r\n\r\n"),
    "drips a stream": lambda server: drip(
        server, b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: "
    ),
    "hangs in the middle": lambda server: lambda c: (c.sendall(pieces("it is", done=False)), server.closing.wait(60)),
}


@pytest.mark.parametrize("how", SLOW)
def test_a_server_that_is_too_slow_is_silent_when_the_time_is_up(how, server):
    server.answers = [SLOW[how](server)]
    assert silence(speaker(server, 0.4, stream=True)) == "the text server did not answer in time"
    assert not server.closing.is_set()


def test_a_server_that_hangs_up_is_tried_again(server):
    server.answers = [lambda _connection: None, sending(response(completion("so")))]
    assert speaker(server).say(PROMPT) == "so"


def test_nobody_there_is_silence(server):
    server.stop()
    assert silence(speaker(server)) == "the text server cannot be reached (ConnectError)"


BROKEN = {
    "no json": response(SECRET.encode()),
    "not utf-8": response(b'{"choices": [{"message": {"content": "\xff\xfe"}}]}'),
    "a list": response(b"[]"),
    "a number": response(b"7"),
    "nothing": response(b""),
    "null": response(b"null"),
    "no choices": response(b'{"error": "Zanzibar"}'),
    "choices of text": response(b'{"choices": "Zanzibar"}'),
    "no message": response(b'{"choices": [{}]}'),
    "a message of null": response(b'{"choices": [{"message": null}]}'),
    "content of numbers": response(b'{"choices": [{"message": {"content": [1, 2]}}]}'),
    "deep": response(b"[" * 100_000),
    "a long number": response(b"1" * 100_000),
    "packed": response(gzip.compress(completion("so")), Content_Encoding="gzip"),
    "too long": response(completion("x" * 2**22)),
    "a stream that breaks off": pieces("it is ", done=False),
    "a stream of no json": pieces().replace(b'"choices"', b"Zanzibar"),
    "a stream too long": pieces("x" * 2**22),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_completion_is_silence_and_quoted_nowhere(name, server):
    server.answers = [sending(BROKEN[name])]
    assert silence(speaker(server)).startswith(("the text server sent ", "the text server broke off"))
    assert len(server.asked) == 1


def test_a_body_shorter_than_it_said_is_no_text(server):
    server.answers = [sending(response(completion("it is so")).replace(b"Content-Length: ", b"Content-Length: 9"))]
    assert "cannot be reached (RemoteProtocolError)" in silence(speaker(server, retries=1))
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("said", "named"),
    [
        ("2", 1),
        (" 2) two", 1),
        ("**3**", 2),
        ("(1)", 0),
        ("0", None),
        ("4", None),
        ("Zanzibar", None),
        ("99999", None),
    ],
)
def test_the_option_that_it_names_has_its_vote(said, named, server):
    server.answers = [sending(response(completion(said)))]
    shares = speaker(server).weigh(PROMPT, ("one", "two\n3) three", "three"))
    assert shares.tolist() == [float(i == named) for i in range(3)]
    user = server.asked[0][1]["messages"][1]["content"]
    assert "\n1) one\n2) two 3) three\n3) three\n" in user  # an option makes no line of its own


def test_neither_prompt_nor_answer_nor_key_is_in_a_log(server, caplog):
    caplog.set_level(logging.DEBUG)
    server.answers = [sending(BUSY), sending(response(completion(SECRET))), sending(BROKEN["no json"])]
    made = speaker(server)
    assert made.say(PROMPT) == SECRET
    silence(made)
    made.close()
    assert "Zanzibar" not in caplog.text
    assert KEY not in caplog.text
    assert caplog.records  # what httpx says of itself was heard


def test_a_text_is_the_same_in_every_alphabet(server):
    text = "naïve 漢字 🙂 \u2028 x"
    server.answers = [sending(response(json.dumps({"choices": [{"message": {"content": text}}]}).encode("utf-16")))]
    assert speaker(server).say(PROMPT) == text
    assert len(server.asked) == 1
