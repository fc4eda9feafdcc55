"""A real coordinator and real SuperNodes on loopback: who may do what, and what happens when something is killed."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from deployment import Deployment, TestMember, order, until

from privacy.config import ConfigError
from protocols.carriers import processes
from protocols.catalog import CATALOG
from protocols.post import unseal
from server.folder import Folder
from server.superlink import SuperLink, tls

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NAMES = ("alice", "bob", "carol")


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    town = Deployment.make(tmp_path_factory.mktemp("d"))
    town.add(*NAMES)
    town.up()
    try:
        until(town.folder.control_socket.exists, 60)
        town.enrol_and_start()
        town.client.await_ready(120, members=3)
        yield town
    finally:
        town.stop()


def everything(town: Deployment) -> bytes:
    """All bytes that the coordinator has on disk, its logs and Flower's database among them."""
    files = [f for f in (*town.folder.root.rglob("*"), town.root / "coordinator.log") if f.is_file()]
    return b"".join(f.read_bytes() for f in files)


def test_three_members_answer_two_rounds_of_secure_sums_after_two_trips_that_open_them(town: Deployment) -> None:
    run = town.client.submit(order(list(NAMES), rounds=2))
    view = town.await_run(run)
    assert view["state"] == "succeeded"
    assert [t["answered"] for t in view["trips"]] == [sorted(NAMES)] * 5  # the last one closes the session
    result = CATALOG["average"].wire.decode(town.client.result(run))
    assert result.answered == (3, 3)  # type: ignore[attr-defined]


def through_the_front(town: Deployment) -> SuperLink:
    """What a member holds: the address and the CA's certificate, and Flower's own client for the Control API."""
    link = SuperLink(town.folder, 1)
    link.address = str(town.folder.address)
    return link


@pytest.mark.parametrize(
    "attempt",
    [
        lambda link: link.start_run(b"PK", "/tmp"),
        lambda link: link.run(1),
        lambda link: link.stop_run(1),
        lambda link: link.register("mallory", b"key"),
        lambda link: link.nodes(),
    ],
    ids=["run", "list", "stop", "register", "nodes"],
)
def test_a_member_that_holds_only_the_ca_certificate_can_submit_nothing(
    town: Deployment, attempt: Callable[[SuperLink], object]
) -> None:
    link = through_the_front(town)
    refused: list[int] = []
    original = httpx.Client.send

    def send(self: httpx.Client, request: httpx.Request, **options: object) -> httpx.Response:
        response = original(self, request, **options)  # type: ignore[arg-type]
        refused.append(response.status_code)
        return response

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx.Client, "send", send)
        with contextlib.suppress(Exception):  # whichever way Flower's client fails
            attempt(link)
    assert refused
    assert set(refused) == {404}


def test_tasks_can_be_had_neither_through_the_front_nor_without_the_secret(town: Deployment) -> None:
    from flwr.proto.runtime_pb2 import AcquireTaskRequest
    from flwr.supercore.runtime import RuntimeHttpClient

    request = AcquireTaskRequest(supported_task_types=["flwr-serverapp", "flwr-clientapp"])
    commands = [Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in town.running()]
    port = next(words[words.index("--port") + 1] for words in commands if "--port" in words)
    for address, expected in ((str(town.folder.address), 404), (f"127.0.0.1:{port}", 401)):
        client = RuntimeHttpClient.from_server_address(address, False, str(town.folder.ca_certificate), ())
        with pytest.raises(httpx.HTTPStatusError) as refused:
            client.AcquireTask(request)
        assert refused.value.response.status_code == expected


def test_a_supernode_with_an_unknown_key_is_refused_and_ends(town: Deployment) -> None:
    before = online(town)
    mallory = TestMember("mallory", town.root / "mallory", town.folder)
    try:
        mallory.start()  # with a valid invitation in hand, but never enrolled
        until(lambda: processes.dead(mallory.children), 60)
    finally:
        mallory.stop()
    assert online(town) == before


def online(town: Deployment) -> list[tuple[str, bool]]:
    return [(m["name"], m["online"]) for m in town.client.status()["members"] if m["name"] != "mallory"]


def test_a_key_that_another_member_enrolled_with_opens_nothing_for_its_thief(town: Deployment) -> None:
    thief = TestMember("trudy", town.root / "trudy", town.folder)
    thief.public = town.members[0].public  # knows the public key, has not the private one
    try:
        assert thief.enrol().status_code == 409
    finally:
        thief.stop()


@pytest.mark.parametrize("kind", [ValueError, ConnectionError], ids=["tells too much", "breaks the protocol"])
def test_an_exception_in_a_member_carries_no_text_to_the_coordinator(town: Deployment, kind: type[Exception]) -> None:
    canary = f"canary-{os.urandom(8).hex()}"
    member = town.members[2]

    def boom(_: bytes) -> bytes:
        raise kind(canary)

    member.answer = boom
    try:
        view = town.await_run(town.client.submit(order(list(NAMES), plain=True, rounds=1)))
    finally:
        member.answer = member.house.mailbox.deliver
    assert view["state"] == "succeeded"
    assert view["trips"][0]["answered"] == ["alice", "bob"]  # type: ignore[index]
    assert view["trips"][0]["silent"] == {"carol": "no-answer"}  # type: ignore[index]
    assert canary.encode() not in everything(town)


def test_a_member_that_refuses_looks_like_one_that_cannot_answer(town: Deployment) -> None:
    member = town.members[1]
    member.answer = lambda _: b""
    try:
        view = town.await_run(town.client.submit(order(list(NAMES), plain=True, rounds=1)))
    finally:
        member.answer = member.house.mailbox.deliver
    assert view["trips"][0]["silent"] == {"bob": "no-answer"}  # type: ignore[index]


def test_no_secret_lies_in_a_log_or_in_a_database(town: Deployment) -> None:
    folder = town.folder
    secrets = [folder.superexec_secret.read_bytes(), *(m.invitation["token"].encode() for m in town.members)]
    keys = (folder.identity_key, folder.ca_key, folder.server_key)
    secrets += [line for f in keys for line in f.read_bytes().splitlines()[1:-1]]
    places = [f for f in folder.root.rglob("*") if f.is_file() and f.suffix in {".log", ".db", ".json", ".jsonl"}]
    held = b"".join(f.read_bytes() for f in (*places, town.root / "coordinator.log"))
    assert len(places) >= 4
    assert not [s for s in secrets if s in held]


def test_a_second_coordinator_in_the_folder_says_so_and_starts_nothing(town: Deployment) -> None:
    from server.up import Coordinator

    before = town.running()
    with pytest.raises(ConfigError, match="no coordinator runs yet"), Coordinator(Folder.open(town.folder.root)):
        pass
    assert town.running() == before


def test_a_coordinator_that_is_killed_in_mid_run_resumes_from_its_journal(town: Deployment) -> None:
    heard = {m.name: len(m.heard) for m in town.members}
    run = town.client.submit(order(list(NAMES), plain=True, rounds=4))
    until(lambda: len(town.client.view(run)["trips"]) >= 2, 60)
    town.down(signal.SIGKILL)
    until(lambda: not town.running(), 20)  # the kernel told them; nothing outlives its parent
    kept = len(list((town.folder.runs / run / "journal").glob("*.trip")))
    assert 2 <= kept < 4
    town.up()
    until(town.folder.control_socket.exists, 60)
    town.client.await_ready(120, members=3)
    view = town.await_run(run)
    assert view["state"] == "succeeded"
    assert view["attempts"] == 2
    assert [t["answered"] for t in view["trips"]] == [sorted(NAMES)] * 5  # type: ignore[attr-defined]
    for member in town.members:
        letters = member.heard[heard[member.name] :]
        numbers = {unseal(letter, member.house.mailbox.coordinator).number: letter for letter in letters}
        assert sorted(numbers) == [0, 1, 2, 3, 4]
        assert set(letters) == set(numbers.values())  # a number came always as the same bytes
        entries = [e for e in member.house.ledger.entries() if e.session == run]
        assert len(entries) == 4  # and was charged once


def test_a_superlink_that_is_killed_in_mid_run_is_started_again_and_the_run_goes_on(town: Deployment) -> None:
    run = town.client.submit(order(list(NAMES), plain=True, rounds=3))
    until(lambda: len(town.client.view(run)["trips"]) >= 1, 60)
    os.killpg(int((town.folder.run / "flower.pid").read_text().split()[0]), signal.SIGKILL)
    view = town.await_run(run, 180)
    assert view["state"] == "succeeded"
    assert [t["answered"] for t in view["trips"]] == [sorted(NAMES)] * 4  # type: ignore[attr-defined]


def test_a_round_goes_on_without_a_supernode_that_was_killed(town: Deployment) -> None:
    carol = town.members[2]
    for child in carol.children:
        os.killpg(child.pid, signal.SIGKILL)
    began = time.monotonic()
    view = town.await_run(town.client.submit(order(list(NAMES), plain=True, deadline_s=15.0, rounds=1)), 120)
    assert view["trips"][0]["answered"] == ["alice", "bob"]  # type: ignore[index]
    assert set(view["trips"][0]["silent"]) == {"carol"}  # type: ignore[index]
    assert time.monotonic() - began < 100


def test_ctrl_c_leaves_nothing_running(town: Deployment) -> None:
    assert town.running()
    town.down(signal.SIGINT)
    assert town.running() == []
    with pytest.raises(httpx.ConnectError), httpx.Client(verify=tls(town.folder)) as client:
        client.get(f"https://{town.folder.address}/health")
