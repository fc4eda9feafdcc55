"""A round over Flower's grid takes no longer than its deadline, and whoever does not answer properly is missing."""

import time
from collections.abc import Callable, Iterable, Iterator

import httpx
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.app.error import Error
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from protocols.carriers.flower_road import BYTES, FAULT_RECORD, LETTER, LETTER_RECORD, NO_ANSWER, WORD
from protocols.session import MemberId
from server.grid import GridCarrier, await_nodes

ALICE, BOB, CAROL = MemberId("alice"), MemberId("bob"), MemberId("carol")
NODES = {ALICE: 2**63 + 1, BOB: 22, CAROL: 33}
Reply = Callable[[Message], Message | None]


def letter(data: bytes) -> RecordDict:
    return RecordDict({LETTER_RECORD: ArrayRecord({BYTES: Array(np.frombuffer(data, np.uint8))})})


def echo(message: Message) -> Message:
    data = message.content.array_records[LETTER_RECORD][BYTES].numpy().tobytes()
    return Message(letter(data[::-1]), reply_to=message)


class OneProcess(Grid):
    """Flower's grid without its network: real messages, pushed and pulled, answered by what each node is told."""

    def __init__(self, replies: dict[int, Reply], failures: int = 0) -> None:
        self.replies, self.failures = replies, failures
        self.pushed: list[Message] = []
        self.waiting: dict[str, Message] = {}

    def set_run(self, run) -> None: ...
    @property
    def run(self): ...
    def create_message(self, *a, **k): ...
    def get_nodes(self): ...
    def send_and_receive(self, messages, *, timeout=None): ...

    def get_node_ids(self) -> Iterable[int]:
        return list(self.replies)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self._fail()
        ids = []
        for message in messages:
            self.pushed.append(message)
            message.metadata.__dict__["_message_id"] = identity = f"m{len(self.pushed)}"
            ids.append(identity)
            reply = self.replies.get(message.metadata.dst_node_id, lambda _: None)(message)
            if reply is not None:
                self.waiting[identity] = reply
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        self._fail()
        return [self.waiting.pop(i) for i in message_ids if i in self.waiting]

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise httpx.ConnectError("the SuperLink restarts")


@pytest.fixture(autouse=True)
def in_a_task() -> Iterator[None]:
    """Messages can be made only within a Flower task."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_task_id", "_run_id", "_node_id"):
            patch.setattr(TaskIdentity, name, 1)
        yield


def carry(replies: dict[int, Reply], deadline_s: float = 5.0, **options: int) -> tuple[dict, dict, OneProcess]:
    grid = OneProcess(replies, **options)
    carrier = GridCarrier(grid, NODES, deadline_s, poll_s=0.01)
    answers = carrier({ALICE: b"abc", BOB: b"", CAROL: b"xyz" * 1000})
    return answers, carrier.silent, grid


def test_letters_go_to_their_own_members_and_answers_come_back_as_bytes() -> None:
    answers, silent, grid = carry(dict.fromkeys(NODES.values(), echo))
    assert answers == {ALICE: b"cba", BOB: b"", CAROL: b"zyx" * 1000}
    assert silent == {}
    assert {m.metadata.message_type for m in grid.pushed} == {LETTER}
    assert {m.metadata.dst_node_id for m in grid.pushed} == set(NODES.values())
    assert {m.metadata.ttl for m in grid.pushed} == {5.0}


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4, 5, 6, 7, 8, 99])
def test_any_error_of_flowers_is_silence_and_its_reason_is_not_looked_at(code: int) -> None:
    def fail(message: Message) -> Message:
        return Message(Error(code=code, reason="canary-1c3d"), reply_to=message)

    answers, silent, _ = carry({NODES[ALICE]: echo, NODES[BOB]: fail, NODES[CAROL]: echo})
    assert sorted(answers) == [ALICE, CAROL]
    assert silent == {BOB: f"flower-{code}"}


def replying(content: RecordDict) -> Reply:
    return lambda message: Message(content, reply_to=message)


def array(value: np.ndarray) -> RecordDict:
    return RecordDict({LETTER_RECORD: ArrayRecord({BYTES: Array(value)})})


def spoiled(**changes: object) -> RecordDict:
    good = Array(np.frombuffer(b"abc", np.uint8))
    fields = {"dtype": good.dtype, "shape": good.shape, "stype": good.stype, "data": good.data} | changes
    return RecordDict({LETTER_RECORD: ArrayRecord({BYTES: Array(**fields)})})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "content",
    [
        RecordDict(),
        RecordDict({"other": ConfigRecord({"a": 1})}),
        RecordDict({LETTER_RECORD: ConfigRecord({"bytes": b"x"})}),
        RecordDict({LETTER_RECORD: MetricRecord({"bytes": 1})}),
        RecordDict({LETTER_RECORD: ArrayRecord({"other": Array(np.zeros(3, np.uint8))})}),
        array(np.zeros(3, np.float32)),
        array(np.zeros((2, 2), np.uint8)),
        array(np.array(3, np.uint8)),
        spoiled(data=b"no npy"),
        spoiled(data=b""),
        spoiled(stype="pickle"),
        spoiled(dtype="uint8", shape=(3,), data=b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False}"),
        RecordDict({FAULT_RECORD: ConfigRecord({WORD: "something with canary-1c3d"})}),
        RecordDict({FAULT_RECORD: ConfigRecord({WORD: "refused"})}),
        RecordDict({FAULT_RECORD: ConfigRecord({})}),
        RecordDict({FAULT_RECORD: ConfigRecord({WORD: 7})}),
    ],
)
def test_an_answer_that_is_no_bytes_is_silence(content: RecordDict) -> None:
    answers, silent, _ = carry({NODES[ALICE]: echo, NODES[BOB]: replying(content), NODES[CAROL]: echo})
    assert sorted(answers) == [ALICE, CAROL]
    assert silent == {BOB: "garbled"}


def test_the_one_fixed_word_is_silence() -> None:
    content = RecordDict({FAULT_RECORD: ConfigRecord({WORD: NO_ANSWER})})
    _, silent, _ = carry({NODES[ALICE]: echo, NODES[BOB]: replying(content), NODES[CAROL]: echo})
    assert silent == {BOB: "no-answer"}


def test_a_member_that_is_late_is_missing_and_the_round_ends_at_its_deadline() -> None:
    began = time.monotonic()
    answers, silent, _ = carry({NODES[ALICE]: echo, NODES[CAROL]: echo}, deadline_s=0.5)
    assert sorted(answers) == [ALICE, CAROL]
    assert silent == {BOB: "late"}
    assert 0.4 < time.monotonic() - began < 2


def test_a_superlink_that_restarts_in_between_costs_time_and_no_answer() -> None:
    answers, _, _ = carry(dict.fromkeys(NODES.values(), echo), failures=3)
    assert sorted(answers) == [ALICE, BOB, CAROL]


def test_a_superlink_that_stays_away_leaves_everybody_missing() -> None:
    answers, silent, _ = carry(dict.fromkeys(NODES.values(), echo), deadline_s=0.3, failures=10**6)
    assert answers == {}
    assert set(silent) == {ALICE, BOB, CAROL}


def test_a_member_without_a_node_is_missing_and_nobody_else_gets_its_letter() -> None:
    grid = OneProcess(dict.fromkeys(NODES.values(), echo))
    carrier = GridCarrier(grid, {ALICE: NODES[ALICE]}, 5.0, poll_s=0.01)
    assert carrier({ALICE: b"a", BOB: b"b"}) == {ALICE: b"a"}
    assert carrier.silent == {BOB: "unknown"}
    assert [m.metadata.dst_node_id for m in grid.pushed] == [NODES[ALICE]]


def test_an_answer_to_another_message_is_nobodys() -> None:
    class Confused(OneProcess):
        def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
            found = list(super().pull_messages(message_ids))
            for reply in found:
                reply.metadata.__dict__["_reply_to_message_id"] = "another"
            return found

    carrier = GridCarrier(Confused(dict.fromkeys(NODES.values(), echo)), NODES, 0.3, poll_s=0.01)
    assert carrier({ALICE: b"a"}) == {}


def test_nodes_are_waited_for_but_not_for_ever() -> None:
    grid = OneProcess({1: echo, 2: echo})
    assert await_nodes(grid, [1, 2], 5, 0.01) == {1, 2}
    assert await_nodes(grid, [1, 3], 0.2, 0.01) == {1}
