"""Name every file of a member's home, and write each so that only its owner can read it."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Road:
    """Name the files that the SuperNode needs; nothing in here is private to the data.

    The folder may be moved and given to another user of the machine, who then runs the SuperNode and can
    read nothing of the home.
    """

    root: Path

    @property
    def settings(self) -> Path:
        """Where the SuperNode dials, and which socket its letters go to."""
        return self.root / "road.toml"

    @property
    def ca(self) -> Path:
        """The one authority that the coordinator's certificate may come from."""
        return self.root / "ca.crt"

    @property
    def supernode_key(self) -> Path:
        """The SuperNode's private key, OpenSSH."""
        return self.root / "supernode.key"

    @property
    def local_certificate(self) -> Path:
        """The certificate of the SuperNode's own API on loopback."""
        return self.root / "local.crt"

    @property
    def local_key(self) -> Path:
        """Its private key."""
        return self.root / "local.key"

    @property
    def secret(self) -> Path:
        """What the SuperNode and its SuperExec know each other by."""
        return self.root / "superexec.secret"

    @property
    def flower_home(self) -> Path:
        """Flower's own folder, private to this member."""
        return self.root / "flwr"

    @property
    def run(self) -> Path:
        """Logs, pid files, and empty working folders."""
        return self.root / "run"


@dataclass(frozen=True, slots=True)
class Folder:
    """Name the files of a home."""

    root: Path

    @property
    def settings(self) -> Path:
        """The model, the data and the coordinator: home.toml."""
        return self.root / "home.toml"

    @property
    def policy(self) -> Path:
        """What the operator agrees to: policy.toml."""
        return self.root / "policy.toml"

    @property
    def roster(self) -> Path:
        """The roster that the operator has approved, if any: roster.toml."""
        return self.root / "roster.toml"

    @property
    def identity(self) -> Path:
        """The member's long-term key, which never leaves."""
        return self.root / "identity.key"

    @property
    def supernode_public(self) -> Path:
        """The public half of the SuperNode's key, for enrolling."""
        return self.root / "supernode.key.pub"

    @property
    def invitation(self) -> Path:
        """The invitation, until it has been used."""
        return self.root / "invitation.toml"

    @property
    def ca(self) -> Path:
        """The one authority that the coordinator's certificate may come from."""
        return self.root / "ca.crt"

    @property
    def mailbox(self) -> Path:
        """The letters that were answered, and the states of open sessions."""
        return self.root / "mailbox.db"

    @property
    def adapters(self) -> Path:
        """The adapters that were trained here and stay here, a folder for each."""
        return self.root / "adapters"

    @property
    def vaults(self) -> Path:
        """What tokens stand for in the prompts that were let go from here, sealed: see `client/vault.py`."""
        return self.root / "vaults"

    @property
    def state(self) -> Path:
        """What training remembers between the letters of a session: see `client/state.py`."""
        return self.root / "state"

    @property
    def personal(self) -> Path:
        """The adapter beside the shared one, which never leaves: see `client/personal.py`."""
        return self.root / "personal"

    @property
    def run(self) -> Path:
        """The daemon's socket, log and pid file."""
        return self.root / "run"

    @property
    def page_token(self) -> Path:
        """What a browser must bring to see the operator's page; another one each time the daemon starts."""
        return self.run / "page.token"

    @property
    def road(self) -> Road:
        """What the SuperNode needs."""
        return Road(self.root / "road")


def make_private_folder(path: Path) -> None:
    """Make a folder that only its owner can enter."""
    path.mkdir(mode=0o700)
    path.chmod(0o700)  # whatever the umask left out


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read, down to the disk; never over another one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, in one step: whatever happens, the old or the new one is there."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        write_private(beside, content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # the name, too
    finally:
        os.close(folder)
