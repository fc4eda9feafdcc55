"""Lay out a coordinator's folder: its certificates, keys, store and runs, for its owner's eyes only."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from privacy.config import ConfigError, read_config
from protocols.keys import Identity
from server import authority

_SOCKET_PATH_LIMIT = 100  # the kernel allows 107 bytes


@dataclass(frozen=True, slots=True)
class Address:
    """Hold a host and a port; the text form is HOST:PORT, with brackets around an IPv6 host."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read HOST:PORT. Raises: ValueError, which names what was expected."""
        host, _, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if not host or any(c in host for c in " /@#?\n\"'") or not port.isascii() or not port.isdigit():
            raise ValueError("expected HOST:PORT")
        if not 1 <= int(port) <= 65535:
            raise ValueError("expected a port between 1 and 65535")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Settings:
    """Be coordinator.toml: `address` is what members dial, `listen` what to bind where that differs."""

    version: int
    address: str
    listen: str = ""

    def __post_init__(self) -> None:
        if self.version != 1:
            raise ValueError("version: expected 1")
        for key in ("address", "listen"):
            with _named(key):
                Address.parse(getattr(self, key) or self.address)


@dataclass(frozen=True, slots=True)
class Folder:
    """Name every file of a coordinator's folder."""

    root: Path

    @classmethod
    def open(cls, root: Path) -> Folder:
        """Return an existing coordinator's folder. Raises: ConfigError if `init` has not made one there."""
        folder = cls(root.absolute())
        if not folder.settings_file.is_file():
            raise ConfigError(folder.settings_file, "", "no such file: run `parley coordinator init` first")
        if len(os.fsencode(folder.control_socket)) > _SOCKET_PATH_LIMIT:
            raise ConfigError(folder.root, "", "a shorter path: Unix socket paths end at 100 bytes")
        return folder

    @property
    def settings_file(self) -> Path:
        """Return coordinator.toml."""
        return self.root / "coordinator.toml"

    @property
    def settings(self) -> Settings:
        """Read coordinator.toml. Raises: ConfigError."""
        return read_config(Settings, self.settings_file)

    @property
    def address(self) -> Address:
        """Return the public address."""
        return Address.parse(self.settings.address)

    @property
    def listen(self) -> Address:
        """Return the address to bind."""
        settings = self.settings
        return Address.parse(settings.listen or settings.address)

    @property
    def ca_key(self) -> Path:
        """Return the local CA's private key."""
        return self.root / "ca.key"

    @property
    def ca_certificate(self) -> Path:
        """Return the local CA's certificate, which every invitation carries."""
        return self.root / "ca.crt"

    @property
    def server_key(self) -> Path:
        """Return the TLS key of the front and of the SuperLink."""
        return self.root / "server.key"

    @property
    def server_certificate(self) -> Path:
        """Return the TLS certificate of the front and of the SuperLink."""
        return self.root / "server.crt"

    @property
    def identity_key(self) -> Path:
        """Return the Ed25519 key that signs letters and stands in every invitation."""
        return self.root / "identity.key"

    @property
    def superexec_secret(self) -> Path:
        """Return the secret that the SuperLink and its SuperExec share."""
        return self.root / "superexec.secret"

    @property
    def store(self) -> Path:
        """Return the SQLite file of members, invitations and runs."""
        return self.root / "store.db"

    @property
    def flower_home(self) -> Path:
        """Return the private FLWR_HOME."""
        return self.root / "flwr"

    @property
    def flower_state(self) -> Path:
        """Return the SuperLink's SQLite file; it holds messages in clear."""
        return self.root / "flwr" / "superlink.db"

    @property
    def run(self) -> Path:
        """Return the folder of logs, pid files and sockets."""
        return self.root / "run"

    @property
    def runs(self) -> Path:
        """Return the folder with one folder for each run."""
        return self.root / "runs"

    @property
    def streams(self) -> Path:
        """Return the folder with a file for each open stream; they hold tickets."""
        return self.root / "streams"

    @property
    def control_socket(self) -> Path:
        """Return the Unix socket of the control service."""
        return self.root / "run" / "control.sock"

    def identity(self) -> Identity:
        """Read the coordinator's identity. Raises: ConfigError."""
        try:
            return Identity.from_pem(self.identity_key.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(self.identity_key, "", f"an Ed25519 key ({type(error).__name__})") from None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder alone. Raises: ConfigError if another coordinator runs in it."""
        self.run.mkdir(mode=0o700, exist_ok=True)
        with (self.run / "lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(self.root, "", "a folder in which no coordinator runs yet") from None
            yield


def init(root: Path, address: str, listen: str = "") -> Folder:
    """Make a coordinator's folder: local CA, server certificate, identity, secret. Never overwrites.

    Raises: ConfigError for a folder that already holds something, or an address that is none.
    """
    folder = Folder(root.absolute())
    for option, text in (("--address", address), ("--listen", listen or address)):
        try:
            Address.parse(text)
        except ValueError as wrong:
            raise ConfigError("command line", option, str(wrong)) from None
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ConfigError(root, "", "a folder that is empty or does not exist yet")
    for made in (folder.root, folder.flower_home, folder.run, folder.runs):
        made.mkdir(mode=0o700, parents=True, exist_ok=True)
        made.chmod(0o700)
    ca = authority.make_ca()
    server = authority.make_server(ca, _names(Address.parse(address).host))
    write_private(folder.ca_key, ca.key_pem)
    write_private(folder.ca_certificate, ca.certificate_pem)
    write_private(folder.server_key, server.key_pem)
    write_private(folder.server_certificate, server.certificate_pem)
    write_private(folder.identity_key, Identity.generate().to_pem())
    write_private(folder.superexec_secret, secrets.token_hex(32).encode())
    lines = [f'address = "{address}"  # what members dial'] + [f'listen = "{listen}"'] * bool(listen)
    write_private(folder.settings_file, "\n".join(["version = 1", *lines, ""]).encode())
    return folder


def write_private(file: Path, data: bytes) -> None:
    """Write a new file that only its owner can read. Raises: FileExistsError."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(data)


def _names(host: str) -> tuple[str, ...]:
    """Return the names the server certificate is good for: the public one and those of loopback."""
    return tuple(dict.fromkeys((host, "127.0.0.1", "localhost")))


def is_ip(host: str) -> bool:
    """Say whether a host is an IP address rather than a name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


@contextlib.contextmanager
def _named(key: str) -> Iterator[None]:
    try:
        yield
    except ValueError as wrong:
        raise ValueError(f"{key}: {wrong}") from None
