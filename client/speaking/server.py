"""Let a model server within the organisation write: any that speaks OpenAI's chat completions (vLLM, Ollama, ...).

Learns:  the server: the prompt as it is, the home's notes in it. So it has to be the organisation's own.
Trusts:  whoever runs the server and the way to it. No proxy is taken from the environment, and no redirect followed:
         either would carry the prompt elsewhere.
"""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx
import numpy as np

from client.speaking.prompts import Prompt
from client.speaking.speaker import Bounds, Shares, Silent

_LONGEST = 2**22  # bytes of one response
_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_PAUSE_S = 0.5
_CHOOSE = (
    "\n\nOptions:\n{}\n\nReply with the number of the option that answers the question, and nothing else;"
    " with 0 if you are not sure."
)


@dataclass(frozen=True, slots=True)
class Address:
    """Say where the server is, which of its models is asked, and with which key if any; how often it is tried again.

    With `stream` the text is read as it is written, so that a server that hangs in the middle is noticed.
    """

    url: str
    model: str
    key: str | None = None
    retries: int = 2
    stream: bool = True

    def __repr__(self) -> str:
        """Leave out the key."""
        return f"Address({self.url!r}, {self.model!r})"


class ServerSpeaker:
    """Ask a server for texts. Each has `bounds.seconds`, tries and pauses included."""

    def __init__(self, address: Address, bounds: Bounds, transport: httpx.BaseTransport | None = None) -> None:
        self._address, self._bounds = address, bounds
        headers = {"Accept-Encoding": "identity"}
        if address.key is not None:
            headers["Authorization"] = f"Bearer {address.key}"
        self._client = httpx.Client(
            base_url=address.url.rstrip("/") + "/", headers=headers, trust_env=False, follow_redirects=False,
            timeout=bounds.seconds, transport=transport, limits=httpx.Limits(max_keepalive_connections=0),
        )  # fmt: skip

    def say(self, prompt: Prompt) -> str:
        """Return what the server's model writes. Raises: Silent."""
        return self._completed(prompt.messages).strip()

    def weigh(self, prompt: Prompt, options: Sequence[str]) -> Shares:
        """Return 1 for the option that the server's model names, if it names one. Raises: Silent."""
        system, user = prompt.messages
        listed = "\n".join(f"{i}) {' '.join(option.split())}" for i, option in enumerate(options, start=1))
        said = self._completed([system, {**user, "content": user["content"] + _CHOOSE.format(listed)}])
        shares = np.zeros(len(options))
        named = re.match(r"\W*(\d{1,4})\b", said)
        if named and 1 <= int(named[1]) <= len(options):
            shares[int(named[1]) - 1] = 1.0
        return shares

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _completed(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the text, trying again what may pass. Raises: Silent."""
        body = {
            "model": self._address.model, "messages": list(messages), "max_tokens": self._bounds.tokens,
            "temperature": 0, "stream": self._address.stream,
        }  # fmt: skip
        deadline, wrong = time.monotonic() + self._bounds.seconds, "did not answer in time"
        for attempt in range(self._address.retries + 1):
            if attempt:
                time.sleep(min(_PAUSE_S * 2 ** (attempt - 1), max(0.0, deadline - time.monotonic())))
            if time.monotonic() >= deadline:
                break
            try:
                return self._tried(body, deadline)
            except _Passing as passing:
                wrong = str(passing)
            except httpx.TimeoutException:
                wrong = "did not answer in time"
            except httpx.HTTPError as error:  # its text may hold the address, and what was sent
                if time.monotonic() < deadline:
                    wrong = f"cannot be reached ({type(error).__name__})"
        raise Silent(f"the text server {wrong}")

    def _tried(self, body: Mapping[str, Any], deadline: float) -> str:
        left = max(0.001, deadline - time.monotonic())
        with (
            _Cutting(left) as cutting,
            self._client.stream(
                "POST", "chat/completions", json=body, timeout=left, extensions={"trace": cutting.trace}
            ) as response,
        ):
            if response.status_code in _AGAIN:
                raise _Passing(f"answered {response.status_code}")
            if response.status_code != httpx.codes.OK:
                raise Silent(f"the text server answered {response.status_code}")
            if response.headers.get("content-type", "").startswith("text/event-stream"):
                return "".join(_pieces(_bounded(response, deadline)))
            return _content(b"".join(_bounded(response, deadline)), "message")


class _Cutting:
    """Cut a connection when its time is up: httpx bounds each read by itself, and a server may drip its headers."""

    def __init__(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True
        self._socket: socket.socket | None = None

    def __enter__(self) -> "_Cutting":
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Remember the connection, when httpx says that there is one."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")

    def _cut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # it is closed already
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Passing(Exception):
    """A server said that it may be otherwise soon; the text says what, in a code."""


def _bounded(response: httpx.Response, deadline: float) -> Iterator[bytes]:
    """Yield a response's bytes, while there is time and it is not too long. Raises: _Passing, Silent."""
    size = 0
    for piece in response.iter_raw():
        size += len(piece)
        if size > _LONGEST:
            raise Silent(f"the text server sent more than {_LONGEST} bytes")
        if time.monotonic() > deadline:
            raise _Passing("did not answer in time")
        yield piece
    if time.monotonic() > deadline:  # it did not end: it was cut
        raise _Passing("did not answer in time")


def _pieces(parts: Iterator[bytes]) -> Iterator[str]:
    """Yield the pieces of text in a stream of server-sent events. Raises: Silent, also if it breaks off."""
    rest = b""
    for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            data = line.strip().removeprefix(b"data:").strip()
            if not line.startswith(b"data:") or not data:
                continue
            if data == b"[DONE]":
                return
            yield _content(data, "delta")
    raise Silent("the text server broke off in the middle of a text")


def _content(data: bytes, where: str) -> str:
    """Return the text in a completion, or in a piece of one. Raises: Silent."""
    try:
        choices = json.loads(data)["choices"]
        content = choices[0][where].get("content") if choices else ""
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise Silent("the text server sent what is no completion") from None
    if not isinstance(content, str | None):
        raise Silent("the text server sent what is no text")
    return content or ""
