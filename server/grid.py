"""Carry one round of letters over Flower's grid: bytes in, bytes out, and who is silent is missing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import httpx
import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.serverapp import Grid

from protocols.carriers.flower_road import (
    BYTES,
    FAULT_RECORD,
    LETTER,
    LETTER_RECORD,
    NO_ANSWER,
    PARTITION,
    WHEREABOUTS,
    WORD,
)
from protocols.session import MemberId

log = logging.getLogger("parley.grid")
T = TypeVar("T")

POLL_S = 0.2
LARGEST_ANSWER = 512 * 2**20


class GridCarrier:
    """Be a carrier over Flower's grid. One call takes at most `deadline_s`, and never raises for a silent member.

    Flower's errors (2 the app raised, 3 too late, 5 node gone, 8 app crashed, and any other), a fixed word, an answer
    that is no bytes: all count as silence.
    """

    def __init__(self, grid: Grid, nodes: Mapping[MemberId, int], deadline_s: float, poll_s: float = POLL_S) -> None:
        self._grid = grid
        self._nodes = nodes
        self.deadline_s = deadline_s
        self._poll_s = poll_s
        self.silent: dict[MemberId, str] = {}  # of the last call: why, in a fixed word or Flower's code

    def __call__(self, letters: Mapping[MemberId, bytes]) -> dict[MemberId, bytes]:
        """Send each member its letter, and return what came back in time."""
        self.silent = {m: "unknown" for m in letters if m not in self._nodes}
        deadline = time.monotonic() + self.deadline_s
        messages = {
            self._nodes[m]: Message(_letter(data), self._nodes[m], LETTER, ttl=self.deadline_s)
            for m, data in letters.items()
            if m in self._nodes
        }
        members = {self._nodes[m]: m for m in letters if m in self._nodes}
        replies = exchange(self._grid, messages, deadline, self._poll_s)
        answers: dict[MemberId, bytes] = {}
        for node, member in members.items():
            data, why = _opened(replies.get(node))
            if data is None:
                self.silent[member] = why
            else:
                answers[member] = data
        return answers


def exchange(
    grid: Grid, messages: Mapping[int, Message], deadline: float, poll_s: float = POLL_S
) -> dict[int, Message]:
    """Send one message to each node, and return what came back before `deadline` (monotonic), by node."""
    pushed = _insist(lambda: list(grid.push_messages(messages.values())), deadline, poll_s) or []
    waiting = {message: node for message, node in zip(pushed, messages, strict=False) if message}
    replies: dict[int, Message] = {}
    while waiting and time.monotonic() < deadline:
        arrived: Iterable[Message] = _insist(lambda: list(grid.pull_messages(list(waiting))), deadline, poll_s) or []
        for reply in arrived:
            node = waiting.pop(reply.metadata.reply_to_message_id, None)
            if node is not None:
                replies[node] = reply
        if waiting:
            time.sleep(poll_s)
    return replies


def await_nodes(grid: Grid, nodes: Iterable[int], patience_s: float, poll_s: float = POLL_S) -> frozenset[int]:
    """Wait until all `nodes` are connected, at most `patience_s`; return those that are."""
    wanted, deadline = frozenset(nodes), time.monotonic() + patience_s
    while True:
        here = wanted & frozenset(_insist(lambda: list(grid.get_node_ids()), deadline, poll_s) or [])
        if here == wanted or time.monotonic() >= deadline:
            return here
        time.sleep(poll_s)


def partitions(grid: Grid, count: int, patience_s: float) -> dict[int, int]:
    """Return node ids by partition, in a simulation of `count` nodes."""
    deadline = time.monotonic() + patience_s
    while len(nodes := list(grid.get_node_ids())) < count and time.monotonic() < deadline:
        time.sleep(POLL_S)
    asked = {n: Message(RecordDict(), n, WHEREABOUTS, ttl=patience_s) for n in nodes}
    found: dict[int, int] = {}
    for node, reply in exchange(grid, asked, deadline).items():
        if reply.has_content() and PARTITION in reply.content.config_records:
            found[int(str(reply.content.config_records[PARTITION][PARTITION]))] = node
    return found


def _insist(call: Callable[[], T], deadline: float, poll_s: float) -> T | None:
    """Try until the SuperLink answers or time is up: it may be restarting."""
    while True:
        try:
            return call()
        except httpx.HTTPError as error:
            log.warning("the SuperLink does not answer (%s)", type(error).__name__)
        if time.monotonic() >= deadline:
            return None
        time.sleep(poll_s)


def _letter(data: bytes) -> RecordDict:
    return RecordDict({LETTER_RECORD: ArrayRecord({BYTES: Array(np.frombuffer(data, np.uint8))})})


def _opened(reply: Message | None) -> tuple[bytes | None, str]:
    """Return the bytes of an answer, or why there are none."""
    if reply is None:
        return None, "late"
    if reply.has_error():
        return None, f"flower-{int(reply.error.code)}"  # never its reason: that is the member's text
    try:
        if FAULT_RECORD in reply.content.config_records:
            word = reply.content.config_records[FAULT_RECORD][WORD]
            return None, NO_ANSWER if word == NO_ANSWER else "garbled"  # a stranger's word is not passed on
        array = reply.content.array_records[LETTER_RECORD][BYTES]
        if array.dtype != "uint8" or len(array.shape) != 1 or len(array.data) > LARGEST_ANSWER:
            return None, "garbled"
        return array.numpy().tobytes(), ""
    except (KeyError, ValueError, TypeError, EOFError, OSError):
        return None, "garbled"
