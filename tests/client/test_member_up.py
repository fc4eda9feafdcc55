"""`parley member up` as real processes: what is wrong is said at once, and nothing is left running."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from client.cli import app
from client.folder import Folder
from client.init import Wishes, init
from client.up import _daemon_environment
from protocols.carriers.processes import alive

ROOT = Path(__file__).parents[2]
PARLEY = [sys.executable, "-c", "from client.cli import app; app()"]
Invite = Callable[..., Path]


@pytest.fixture
def home(invite: Invite, model_folder: Path, records: Path, tmp_path: Path) -> Path:
    init(tmp_path / "home", Wishes(invite(address="127.0.0.1:1"), str(model_folder), records))
    return tmp_path / "home"


class Up:
    """A running `parley member up`."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home, self.folder = home, Folder(home)
        self.log = home.parent / "up.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*PARLEY, "up", str(home), *arguments], env=_environment(), stdout=log, stderr=log
            )

    def status(self) -> dict[str, object]:
        transport = httpx.HTTPTransport(uds=str(self.home / "run/operator.sock"))
        with httpx.Client(transport=transport) as http:
            return dict(http.get("http://daemon/status").json())

    def is_loaded(self) -> bool:
        try:
            return bool(self.status()["loaded"])
        except httpx.TransportError:
            return False

    def daemon(self) -> int:
        return int((self.folder.run / "daemon.pid").read_text().split()[0])

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 110
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)


@pytest.fixture
def up(home: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*arguments: str) -> Up:
        started.append(Up(home, *arguments))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.process.terminate()
            running.process.wait(30)


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def _parley(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PARLEY, *arguments], env=_environment(), capture_output=True, text=True, timeout=60, check=False
    )


def _said(*arguments: str) -> Result:
    """Run `parley member` in this process: for what ends by itself, and starts no other."""
    return CliRunner().invoke(app, arguments)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_daemon_comes_up_while_the_coordinator_is_away_and_ends_with_ctrl_c(up: Callable[..., Up]) -> None:
    running = up()
    running.until(running.is_loaded)
    first = running.daemon()
    second_up = _parley("up", str(running.home))
    assert (second_up.returncode, second_up.stderr.strip()) == (2, f"{running.home}: is up already")
    assert "127.0.0.1:1 cannot be reached" in running.log.read_text()
    assert not (running.folder.road.run / "supernode.pid").exists()  # not before it is enrolled
    shown = json.loads(_parley("status", str(running.home), "--json").stdout)
    assert (shown["member"], shown["daemon"], shown["enrolled"]) == ("clinic", "up", False)
    assert len(str(shown["model_digest"])) == 64
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(30) == 0
    assert not alive(first)
    assert not list(running.folder.run.glob("*.pid"))
    assert json.loads(_parley("status", str(running.home), "--json").stdout)["daemon"] == "down"


@pytest.mark.slow
def test_the_running_daemon_shows_the_operator_what_the_command_line_shows(up: Callable[..., Up], home: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with Folder(home).settings.open("a") as settings:
        settings.write(f"[page]\nport = {port}\n")
    running = up("--only", "daemon")
    running.until(running.is_loaded)
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(home / "run/operator.sock"))) as http:
        shown = http.get("http://daemon/ledger.json").json()
        assert "notes" in http.get("http://daemon/").text
        assert "parley_model_loaded 1\n" in http.get("http://daemon/metrics").text
    assert shown == json.loads(_parley("ledger", str(home), "--json").stdout)
    assert shown["accounts"][0]["dataset"] == "notes"
    assert "notes: epsilon 0.00 of 8 spent" in _parley("ledger", str(home)).stdout
    address = json.loads(_parley("status", str(home), "--json").stdout)["page"]
    assert address.startswith(f"http://127.0.0.1:{port}/?token=")
    with httpx.Client(follow_redirects=True) as browser:
        assert "notes" in browser.get(address).text
    Folder(home).policy.write_text("version = 1\n")  # broken: said in words, and nothing of the ledger
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(home / "run/operator.sock"))) as http:
        assert http.get("http://daemon/ledger.json").status_code == 503
        assert "It cannot be read" in http.get("http://daemon/").text


@pytest.mark.slow
def test_a_daemon_that_was_killed_is_started_again(up: Callable[..., Up]) -> None:
    running = up("--only", "daemon")
    running.until(running.is_loaded)
    first = running.daemon()
    os.kill(first, signal.SIGKILL)
    running.until(lambda: (running.folder.run / "daemon.pid").exists() and running.daemon() != first)
    running.until(running.is_loaded)


@pytest.mark.slow
def test_when_up_itself_is_killed_its_daemon_ends_too(up: Callable[..., Up]) -> None:
    running = up("--only", "daemon")
    running.until((running.folder.run / "daemon.pid").exists)
    daemon = running.daemon()
    running.process.kill()
    running.process.wait(30)
    running.until(lambda: not alive(daemon))


@pytest.mark.slow
def test_a_model_that_does_not_load_ends_up_with_one_line_that_says_why(up: Callable[..., Up], home: Path) -> None:
    folder = Folder(home)
    folder.settings.write_text(folder.settings.read_text().replace("[model]\nname = ", '[model]\nname = "/gone" # '))
    running = up("--only", "daemon")
    assert running.process.wait(60) == 1
    assert "the daemon cannot serve clinic: the home does not open: /gone: model: no such folder" in (
        running.log.read_text()
    )


@pytest.mark.parametrize(
    ("file", "old", "new", "words"),
    [
        ("home.toml", "declared_tokens", "declared_token", "home.toml: data.declared_token: unknown key"),
        (
            "policy.toml",
            "epsilon =",
            "epsilom =",
            "policy.toml: budget.epsilom: unknown key (nearest known: epsilon)",
        ),
        ("policy.toml", "epsilon = 8.0", 'epsilon = "much"', "policy.toml: budget.epsilon: expected"),
        ("road/road.toml", "socket =", "sockett =", "road.toml: sockett: unknown key (nearest known: socket)"),
        ("home.toml", "notes.jsonl", "gone.jsonl", "data.path: no such file"),
    ],
)
def test_a_mistake_in_a_file_is_named_before_anything_is_started(
    home: Path, file: str, old: str, new: str, words: str
) -> None:
    text = (home / file).read_text()
    assert old in text
    (home / file).write_text(text.replace(old, new, 1))
    done = _said("up", str(home))
    assert done.exit_code == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list((home / "run").glob("*.pid"))


def test_a_road_that_was_moved_out_of_its_home_is_enough_for_the_supernode(home: Path, tmp_path: Path) -> None:
    moved = (home / "road").rename(tmp_path / "moved")
    text = (moved / "road.toml").read_text()
    (moved / "road.toml").write_text(text.replace("address", "adress"))
    done = _said("up", str(moved), "--only", "supernode")
    assert (done.exit_code, "road.toml: adress: unknown key (nearest known: address)" in done.stderr) == (2, True)
    (moved / "road.toml").write_text(text)
    running = Up(moved, "--only", "supernode")
    try:
        running.until((moved / "run" / "supernode.pid").exists)
    finally:
        running.process.terminate()
        assert running.process.wait(30) == 0
    assert not list((moved / "run").glob("*.pid"))


@pytest.mark.slow
@pytest.mark.parametrize("gone", ["mailbox.db", "ledger.db"])
def test_a_home_whose_memory_of_what_left_is_gone_does_not_come_up(
    up: Callable[..., Up], home: Path, gone: str
) -> None:
    for file in home.glob(f"{gone}*"):
        file.unlink()
    running = up("--only", "daemon")
    assert running.process.wait(90) == 1
    assert "restore it" in running.log.read_text()
    assert not (home / gone).exists()


def test_policy_and_ledger_are_shown_and_checked(home: Path) -> None:
    shown = _said("policy", str(home)).stdout
    assert "epsilon 8 at delta 1e-05, per record" in shown
    assert "average at level weights" in shown
    ledger = json.loads(_said("ledger", str(home), "--json").stdout)
    assert (ledger["last"], ledger["lines"]) == ([], 0)
    assert ledger["accounts"][0]["epsilon"] == 0
    policy = Folder(home).policy
    policy.write_text(policy.read_text().replace("delta = 1e-5", "delta = 9e-3"))
    assert "warning: delta is not below" in _said("policy", str(home)).stdout


def test_the_daemons_environment_holds_no_secret_of_the_operators_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLOUD_SECRET", "x")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    environment = _daemon_environment()
    assert "CLOUD_SECRET" not in environment
    assert "HTTPS_PROXY" not in environment
    assert environment["HF_HUB_OFFLINE"] == "1"
