"""What a coordinator says when it cannot start, and what its commands print."""

import os
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from privacy.config import ConfigError
from server.cli import app
from server.control import Client
from server.folder import Folder, init
from server.store import Store
from server.superlink import free_port
from server.up import Coordinator


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return init(tmp_path / "c", f"127.0.0.1:{free_port()}")


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(w) for w in words])
    return result.exit_code, result.output


def test_a_busy_port_is_named_with_its_address_and_its_key_and_nothing_is_started(folder: Folder) -> None:
    with socket.create_server((folder.address.host, folder.address.port)):
        with pytest.raises(ConfigError) as error, Coordinator(folder):
            pass
        assert (error.value.file, error.value.key) == (str(folder.settings_file), "address")
        assert f"{folder.address} is busy" in str(error.value)
        code, said = run("up", folder.root)
    assert code == 2
    assert "is busy" in said
    assert not list(folder.run.glob("*.pid"))
    assert not folder.control_socket.exists()


def test_an_address_that_is_not_this_machines_says_so(tmp_path: Path) -> None:
    folder = init(tmp_path / "c", "coordinator.example:8443", "192.0.2.1:8443")
    with pytest.raises(ConfigError, match=r"listen.*cannot be bound"), Coordinator(folder):
        pass


def test_a_folder_without_a_coordinator_says_what_to_do(tmp_path: Path) -> None:
    for words in (("up", tmp_path), ("status", tmp_path), ("invite", tmp_path, "a", "--out", tmp_path / "x")):
        code, said = run(*words)
        assert code == 2
        assert "coordinator init" in said


def test_a_coordinator_that_is_not_up_says_so(folder: Folder) -> None:
    with pytest.raises(ConfigError, match="coordinator up"):
        Client(folder).status()
    assert run("status", folder.root)[0] == 2


def test_a_folder_too_deep_for_a_socket_says_so(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 60) / ("y" * 60)
    init(deep, "127.0.0.1:8443")
    with pytest.raises(ConfigError, match="shorter path"):
        Folder.open(deep)


def test_init_and_invite_print_the_next_step_and_no_secret(tmp_path: Path) -> None:
    code, said = run("init", tmp_path / "c", "--address", "127.0.0.1:8443")
    assert code == 0
    assert "parley coordinator invite" in said
    code, said = run("invite", tmp_path / "c", "alice", "--out", tmp_path / "alice.toml")
    assert code == 0
    token = (tmp_path / "alice.toml").read_text().split('token = "')[1].split('"')[0]
    assert token not in said
    assert [m.name for m in Store(tmp_path / "c" / "store.db").members()] == ["alice"]


def test_a_wrong_address_a_wrong_name_and_an_old_file_are_one_line_each(tmp_path: Path, folder: Folder) -> None:
    for words in (
        ("init", tmp_path / "new", "--address", "nowhere"),
        ("init", folder.root, "--address", "127.0.0.1:1"),
        ("invite", folder.root, "A b", "--out", tmp_path / "x.toml"),
        ("invite", folder.root, "a", "--out", folder.settings_file),
    ):
        code, said = run(*words)
        assert code == 2
        assert said.startswith("parley: ")
        assert len(said.splitlines()) == 1
        assert "Traceback" not in said


def test_the_commands_are_there_in_a_blink(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import sys, server.cli; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=os.getcwd()).split()
    assert not {"flwr", "fastapi", "torch", "dp_accounting", "httpx"} & set(loaded)
