"""A real deployment on loopback for the tests: a coordinator's process, members' SuperNodes, answering sockets."""

import base64
import contextlib
import http.server
import json
import os
import signal
import socketserver
import ssl
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from village import COORDINATOR, LENGTH, House, task

from protocols.carriers import processes
from protocols.carriers.flower_road import (
    ENROL_LABEL,
    ENROL_PATH,
    enrolment_bytes,
    environment,
    node_config,
    warm,
)
from protocols.carriers.processes import Child, Program
from protocols.catalog import CATALOG
from protocols.roster import Roster
from protocols.session import MemberId
from server.control import Client
from server.folder import Folder, init
from server.invitation import invite
from server.rounds import ORDERS, Order
from server.superlink import free_port

Answer = Callable[[bytes], bytes]


def order(members: list[str], deadline_s: float = 60.0, **changes: object) -> bytes:
    """Encode an order for an average of the village's tiny adapters."""
    encoded = CATALOG["average"].wire.encode(task(**changes))
    return ORDERS.encode(Order("average", tuple(members), encoded, deadline_s))


class Counter(http.server.BaseHTTPRequestHandler):
    """The daemon's end of the post office: bytes in, bytes out, on a Unix socket."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            answer = self.server.answer(body)  # type: ignore[attr-defined]
            status = 200 if answer else 503
        except ConnectionError as garbage:  # break the protocol itself, with the error's text
            self.wfile.write(f"{garbage} {garbage}\r\n{garbage}\r\n".encode())
            return
        except Exception as error:  # noqa: BLE001
            status, answer = 500, str(error).encode()  # a daemon that tells too much
        self.send_response(status, answer.decode() if status == 500 else None)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass


class Socket(socketserver.ThreadingUnixStreamServer):
    """Serve `answer` on a Unix socket, in a thread."""

    daemon_threads = True

    def __init__(self, path: Path, answer: Answer) -> None:
        self.answer = answer
        super().__init__(str(path), Counter)
        threading.Thread(target=self.serve_forever, daemon=True).start()


def supernode_key() -> tuple[bytes, str]:
    """Return a new SuperNode key: OpenSSH private bytes, OpenSSH public text."""
    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    return private, key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


@dataclass
class TestMember:
    """One member: a real mailbox behind a gate, served on a socket; a SuperNode with its SuperExec."""

    __test__ = False
    name: str
    root: Path
    coordinator: Folder
    noise_multiplier: float = 4.0
    children: list[Child] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root.mkdir(mode=0o700, parents=True)
        self.house = House(MemberId(self.name), self.root / "house", np.full(LENGTH, 0.1), self.noise_multiplier)
        private, self.public = supernode_key()
        (self.root / "node.key").write_bytes(private)
        (self.root / "node.key").chmod(0o600)
        (self.root / "secret").write_bytes(os.urandom(32).hex().encode())
        self.daemon = self.root / "daemon.sock"
        self.answer: Answer = self.house.mailbox.deliver
        self.socket = Socket(self.daemon, self._hear)
        out = self.root / "invitation.toml"
        invite(self.coordinator, self.name, out)
        self.invitation = tomllib.loads(out.read_text())

    def _hear(self, letter: bytes) -> bytes:
        self.heard.append(letter)
        return self.answer(letter)

    def enrolment(self) -> dict[str, str]:
        token, identity = self.invitation["token"], str(self.house.identity.public)
        signed = enrolment_bytes(self.name, token, self.public, identity)
        signature = base64.urlsafe_b64encode(self.house.identity.sign(ENROL_LABEL, signed)).decode()
        return {
            "member": self.name,
            "token": token,
            "supernode_key": self.public,
            "identity_key": identity,
            "signature": signature,
        }

    def enrol(self) -> httpx.Response:
        context = ssl.create_default_context(cadata=self.invitation["ca_certificate"])
        with httpx.Client(verify=context, timeout=30) as client:
            return client.post(f"https://{self.invitation['address']}{ENROL_PATH}", json=self.enrolment())

    def start(self) -> None:
        local, run = f"127.0.0.1:{free_port()}", self.root / "run"
        run.mkdir(exist_ok=True)
        secret = ("--superexec-auth-secret-file", str(self.root / "secret"))
        (self.root / "ca.crt").write_text(self.invitation["ca_certificate"])
        supernode = (
            *("flower-supernode", "--superlink", self.invitation["address"]),
            *("--root-certificates", str(self.root / "ca.crt"), "--isolation", "process", *secret),
            *("--auth-supernode-private-key", str(self.root / "node.key")),
            *("--host", "127.0.0.1", "--port", local.partition(":")[2]),
            *("--node-config", node_config(self.daemon)),
        )
        superexec = ("flower-superexec", "--insecure", "--runtime-api-address", local, *secret)
        env = environment(self.root / "flwr")
        self.children = [
            processes.start(Program("flower", warm(("flwr-clientapp",), supernode, superexec), env, run))
        ]

    def stop(self) -> None:
        processes.stop(self.children)
        self.children = []
        self.socket.shutdown()
        self.socket.server_close()


@dataclass
class Deployment:
    """A coordinator's folder and process, and members around it."""

    root: Path
    folder: Folder
    process: subprocess.Popen[bytes] | None = None
    members: list[TestMember] = field(default_factory=list)

    @classmethod
    def make(cls, root: Path) -> "Deployment":
        folder = init(root / "coordinator", f"127.0.0.1:{free_port()}")
        folder.identity_key.write_bytes(COORDINATOR.to_pem())
        return cls(root, folder)

    @property
    def client(self) -> Client:
        return Client(self.folder)

    def up(self) -> None:
        code = "import sys; from server.cli import app; app()"
        with (self.root / "coordinator.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", code, "up", str(self.folder.root)], stdout=log, stderr=log
            )

    def add(self, *names: str) -> None:
        self.members += [TestMember(name, self.root / name, self.folder) for name in names]
        roster = Roster(tuple((m.house.name, m.house.identity.public) for m in self.members))
        for member in self.members:
            member.house.roster = roster

    def enrol_and_start(self) -> None:
        for member in self.members:
            until(lambda m=member: m.enrol().status_code == 200, 60)  # type: ignore[misc]
            member.start()

    def stop(self) -> None:
        for member in self.members:
            member.stop()
        self.down(signal.SIGTERM)

    def down(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    def running(self) -> list[int]:
        """Return the processes that belong to the coordinator, by their environment or command line."""
        mine, found = str(self.folder.root).encode(), []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if int(entry.name) != os.getpid() and processes.alive(int(entry.name)):
                    said = (entry / "environ").read_bytes() + (entry / "cmdline").read_bytes()
                    found += [int(entry.name)] * (mine in said)
        return found

    def await_run(self, run: str, timeout_s: float = 120) -> dict[str, object]:
        deadline = time.monotonic() + timeout_s
        while True:
            view = dict(self.client.view(run))
            if view["state"] != "running":
                return view
            assert time.monotonic() < deadline, f"still running: {json.dumps(view)}"
            time.sleep(0.3)


def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)
